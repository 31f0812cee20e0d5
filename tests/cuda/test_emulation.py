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
SANITIZED = BUILD / "sanitized"


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
    """Python with the kernels that are compiled with AddressSanitizer and UndefinedBehaviorSanitizer."""
    compiler = os.environ.get("CXX", "c++")
    environment = {
        **os.environ,
        "GATTN_EMULATION": str(SANITIZED),
        "LD_PRELOAD": f"{_library(compiler, 'libasan.so')} {_library(compiler, 'libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_an_index_out_of_bounds_is_stopped() -> None:
    load = "import sys; sys.path.insert(0, sys.argv[1]); import gattn_emulated as e; "
    code = load + "print(e.sanitized, e.read_at(7), e.neighbours_are_right(True), e.neighbours_are_right(False))"
    result = _run_sanitized("-c", code, str(SANITIZED))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["True", "0", "True", "False"]
    result = _run_sanitized("-c", load + "e.read_at(8)", str(SANITIZED))
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("test_matrix.py", "every_width"),
        ("test_matrix.py", "every_dtype or every_option or degenerate"),
        ("test_sort.py", "bits or columns"),
    ],
)
def test_kernels_keep_to_their_memory(file: str, tests: str) -> None:
    """Every score in all groups, by whole accesses and single channels, and the sort; nothing is out of bounds."""
    path = str(Path(__file__).with_name(file))
    result = _run_sanitized("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-k", tests, path)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-6000:]
    assert "no emulated kernels" not in result.stdout
