"""Triton's kernels in its interpreter, which must be chosen before Triton is imported: in a process of their own.

An ordinary run collects ``test_interpreted.py``, which runs this folder again with ``TRITON_INTERPRET=1``, and what
compiles kernels. By hand: ``TRITON_INTERPRET=1 pytest tests/triton``; with ``GATTN_TEST_ALL=1`` the whole matrix.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
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


def load(name: str) -> ModuleType:
    """A module of the ops' tests: their graphs, inputs, options and the comparison with the reference."""
    path = Path(__file__).parents[1] / "ops" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"triton_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if INTERPRETED:
    from gattn import Graph, groups

    # Rows of few edges in each group, for the interpreter is slow.
    groups.SMALL_DEGREE, groups.MIN_CHUNK = 8, 16

    shared = load("conftest")
    inputs_of, run_op, call_op = shared.inputs_of, shared.run_op, shared.call_op

    @pytest.fixture(autouse=True)
    def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
        """Fresh memory is full of NaN, so that what no kernel writes is seen."""
        torch.manual_seed(0)
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
        torch.use_deterministic_algorithms(True)

    @pytest.fixture
    def check() -> Callable[..., None]:
        def check(op: str, tensors: dict[str, Tensor], graph: Graph, **options: Any) -> None:
            shared.check_against_reference(op, tensors, graph, backend="triton", **options)

        return check

    def _grouped(nodes: int) -> Graph:
        """A hub of several chunks, a middle row and small ones, as targets and as sources; the last node is alone."""
        generator = torch.Generator().manual_seed(4)
        ends = torch.randint(2, nodes - 1, (2, 10), generator=generator)
        hub = torch.randint(nodes - 1, (2, 40), generator=generator)
        middle = torch.randint(2, nodes - 1, (2, 10), generator=generator)
        edges = [
            ends,
            torch.stack([hub[0], torch.zeros_like(hub[0])]),
            torch.stack([torch.zeros_like(hub[1]), hub[1]]),
            torch.stack([middle[0], torch.ones_like(middle[0])]),
            torch.stack([torch.ones_like(middle[1]), middle[1]]),
        ]
        edge_index = torch.cat(edges, dim=1)
        return Graph.from_edge_index(edge_index[:, torch.randperm(edge_index.size(1), generator=generator)], nodes)

    def make_graph(kind: str, *, wide: bool = False) -> Graph:
        """``"grouped"``, ``"small"`` (two sets of nodes, duplicates, rows without edges) or one of the ops' tests'."""
        if kind == "grouped":
            return _grouped(7)
        if kind == "small":
            edge_index = shared.random_edges(6, 8, 25)
            return Graph._build(edge_index, ((6, 8), "source_to_target", False), wide=wide)
        return shared.make_graph(kind, wide=wide)

    @pytest.fixture
    def graph_of() -> Callable[..., Graph]:
        return make_graph
