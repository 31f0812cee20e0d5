"""Every instruction set that this machine has passes the tests against the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gattn import _C


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own: the instruction set is chosen once in a process."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("isa", _C.isas())
def test_instruction_set(isa: str) -> None:
    """MALLOC_PERTURB_ fills all fresh memory, the kernels' own too, with huge numbers: nothing may read them."""
    tests = [
        str(Path(__file__).with_name(f"test_{name}.py"))
        for name in ("against_reference", "ragged", "activation_stats", "attention_stats")
    ]
    options = ["-q", "-p", "no:cacheprovider", "--tb=short"]
    result = run_python("-m", "pytest", *tests, *options, GATTN_CPU_ISA=isa, MALLOC_PERTURB_="128")
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_unknown_instruction_set_is_refused() -> None:
    code = "import gattn; print(gattn.backends()['cpu'])"
    result = run_python("-c", code, GATTN_CPU_ISA="sse9")
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: Expected GATTN_CPU_ISA to name an instruction set"), last
    assert "got 'sse9'" in last
    assert "unset it" in last


def test_empty_name_means_the_best() -> None:
    result = run_python("-c", "from gattn import _C; print(_C.isa())", GATTN_CPU_ISA="")
    assert result.stdout.strip() == _C.isas()[0], result.stderr
