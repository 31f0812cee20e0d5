#!/usr/bin/env bash
# Builds the CUDA kernels as C++ for tests/cuda, with the Python on PATH: plain, or with AddressSanitizer and
# UndefinedBehaviorSanitizer.
#
#   build.sh [--sanitize]
set -euo pipefail
cd "$(dirname "$0")/../../.."

generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi

build() { # NAME SANITIZERS
  cmake -S . -B "build/$1" "${generator[@]}" -DGATTN_PYTHON=OFF -DGATTN_EMULATION=ON \
    -DGATTN_WERROR="${GATTN_WERROR:-OFF}" -DGATTN_SANITIZE="$2" -DPython_EXECUTABLE="$(command -v python)" \
    -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
  cmake --build "build/$1" --target gattn_emulated --parallel "$(nproc)"
}

if [[ "${1:-}" == --sanitize ]]; then
  build emulation-asan address,undefined
else
  build emulation ""
fi
