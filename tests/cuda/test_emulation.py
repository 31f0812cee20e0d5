"""What the emulation shows: a barrier that is missing, threads that wait in vain, an index out of bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import BUILD

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_barrier_gives_wrong_numbers(seed: int, emulated: ModuleType) -> None:
    emulated.set_seed(seed)
    assert emulated.neighbours_are_right(True)
    assert not emulated.neighbours_are_right(False)


def test_threads_that_wait_in_vain_end_the_launch(emulated: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="barriers or exchanges that others never reach"):
        emulated.diverge()
    assert emulated.neighbours_are_right(True)  # the next launch starts afresh


def _library(compiler: str, name: str) -> str:
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def _run_sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the emulated kernels built by 'make emulation-asan', under AddressSanitizer and UBSan."""
    build = BUILD.with_name("emulation-asan")
    if not list(build.glob("gattn_emulated*.so")):
        pytest.skip(f"no emulated kernels in {build}: run 'make emulation-asan'")
    compiler = os.environ.get("CXX", "c++")
    environment = {
        **os.environ,
        "GATTN_EMULATION": str(build),
        "LD_PRELOAD": f"{_library(compiler, 'libasan.so')} {_library(compiler, 'libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_an_index_out_of_bounds_is_stopped() -> None:
    load = "import sys; sys.path.insert(0, sys.argv[1]); import gattn_emulated as e; "
    build = str(BUILD.with_name("emulation-asan"))
    result = _run_sanitized("-c", load + "print(e.read_at(7), e.neighbours_are_right(True))", build)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", "True"]
    result = _run_sanitized("-c", load + "e.read_at(8)", build)
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr


@pytest.mark.slow
def test_kernels_keep_to_their_memory() -> None:
    """Every score with everything, in all groups, whole accesses and single channels; nothing is out of bounds."""
    here = Path(__file__).parent
    tests = "every_dtype and everything or every_width and everything and (33 or 1032)"
    result = _run_sanitized(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", tests, str(here / "test_matrix.py"), "--tb=short"
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-6000:]
    assert "passed" in result.stdout
    assert "skipped" not in result.stdout
