"""Triton's kernels in its interpreter, which must be chosen before Triton is imported: in a process of their own.

An ordinary run collects ``test_interpreted.py``, which runs this folder again with ``TRITON_INTERPRET=1``, and what
compiles kernels. By hand: ``TRITON_INTERPRET=1 pytest tests/triton``; with ``GATTN_TEST_ALL=1`` the whole matrix.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
COMPILED = ("test_interpreted.py", "test_compiled.py")

collect_ignore = list(COMPILED)
if not INTERPRETED:
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in COMPILED]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "whole: part of the whole matrix, which GATTN_TEST_ALL=1 runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("whole") and not os.environ.get("GATTN_TEST_ALL"):
            item.add_marker(pytest.mark.skip(reason="set GATTN_TEST_ALL=1 to run the whole matrix"))


@pytest.fixture(autouse=True)
def _needs_triton() -> None:
    pytest.importorskip("triton", reason="the package triton is not installed")


if INTERPRETED:
    from gattn import Graph, groups

    from ..ops.conftest import call_op, check_against_reference, graph_of, inputs_of, run_op  # noqa: F401 - fixtures
    from ..ops.gpu_matrix import check_case  # noqa: F401

    # Rows of few edges in each group, for the interpreter is slow.
    groups.SMALL_DEGREE, groups.MIN_CHUNK = 8, 16

    @pytest.fixture(autouse=True)
    def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
        """Fresh memory is full of NaN, so that what no kernel writes is seen."""
        torch.manual_seed(0)
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler

    @pytest.fixture
    def check() -> Callable[..., None]:
        def check(op: str, tensors: dict[str, Tensor], graph: Graph, **options: Any) -> None:
            check_against_reference(op, tensors, graph, backend="triton", **options)

        return check
