# The two set-up commands are `make demo` and `make test`; both make .venv by themselves.
# They need Python 3.10 or newer, a C++17 compiler and make.

VENV ?= .venv
TORCH ?= torch==2.13.0
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)

BIN := $(VENV)/bin
GPU_PYTHON ?= python3
# nvcc takes minutes, and nothing here runs on a GPU: `make test GATTN_CUDA=on` compiles the CUDA kernels too.
export GATTN_CUDA ?= off

.PHONY: demo test test-all build sanitize emulation lint format bench kernel-report gpu-report gpu-dry-run wheel-matrix clean

demo: $(VENV)/ready build
	$(BIN)/gattn train --dataset digits --compare --overwrite

# Threads of several test processes must not spin for the same cores.
test: $(VENV)/ready build sanitize emulation
	OMP_WAIT_POLICY=passive $(BIN)/pytest -n auto --dist worksteal

# With the whole matrix of the Triton kernels in the interpreter: hours.
test-all: $(VENV)/ready build sanitize emulation
	OMP_WAIT_POLICY=passive GATTN_TEST_ALL=1 $(BIN)/pytest -n auto --dist worksteal

# An editable install: tests and demo always see this tree, from whatever folder they are run.
$(VENV)/ready: pyproject.toml setup.py
	$(if $(PYTHON),,$(error gattn needs Python 3.10 or newer with its venv module; none of python3, python3.13 ... \
	python3.10 is one. Name yours with: make $(MAKECMDGOALS) PYTHON=/path/to/python))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(TORCH) "setuptools>=77" "pybind11>=2.11" cmake ninja
	$(BIN)/pip install --no-build-isolation $(TORCH) -e ".[dev]"
	touch $@

build: $(VENV)/ready
	$(BIN)/python setup.py -q build_ext --inplace

sanitize: $(VENV)/ready
	PATH="$(abspath $(BIN)):$$PATH" csrc/tests/sanitize.sh

# The CUDA kernels as C++ for the CPU, plain and with sanitizers, which tests/cuda runs.
emulation: $(VENV)/ready
	PATH="$(abspath $(BIN)):$$PATH" csrc/tests/cuda/build.sh

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(BIN)/clang-format -i

bench: $(VENV)/ready build
	$(BIN)/gattn bench --json build/bench.json

# What every kernel needs of a GPU, compiled ahead of time; an hour at first, minutes from Triton's cache. The CUDA
# kernels are there with GATTN_CUDA=on.
kernel-report: $(VENV)/ready build
	$(BIN)/python -m gattn.kernels.report --json bench/results/kernels.json --markdown docs/kernels.md $(KERNELS)

# On a machine with a GPU, with the Python that has its torch, after
#     pip install . --no-build-isolation --no-deps
# From another folder: here `gattn` would be the source tree, without its kernels.
gpu-report:
	cd bench/results && $(GPU_PYTHON) -m gattn.bench.gpu --results . --choices ../../gattn/gpu_choices.json $(GPU)

# Every step of it that needs no GPU; writes into a temporary folder.
gpu-dry-run: $(VENV)/ready build
	$(BIN)/python -m gattn.bench.gpu --dry-run $(GPU)

# One wheel on every torch that TORCHES names; downloads each, so it is no part of `make test`.
wheel-matrix: $(VENV)/ready
	$(BIN)/python tests/packaging/wheel_matrix.py $(TORCHES)

clean:
	rm -rf build dist .venv gattn/_C*.so *.egg-info
