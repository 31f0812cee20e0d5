#!/usr/bin/env bash
# Builds the CUDA kernels as C++ for tests/cuda, with the Python on PATH: build/emulation has them plain,
# build/emulation/sanitized under AddressSanitizer and UndefinedBehaviorSanitizer.
set -euo pipefail
cd "$(dirname "$0")/../../.."

generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi

cmake -S . -B build/emulation "${generator[@]}" -DGATTN_PYTHON=OFF -DGATTN_EMULATION=ON \
  -DGATTN_WERROR="${GATTN_WERROR:-OFF}" -DPython_EXECUTABLE="$(command -v python)" \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
cmake --build build/emulation --target gattn_emulated gattn_emulated_sanitized --parallel "$(nproc)"
