"""The same input gives the same bits: run after run, with any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from gattn import _C, Graph

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def heavy_tailed() -> Graph:
    """1500 nodes whose degrees fall off as a power law on both sides, with rows that are cut into segments."""
    generator = torch.Generator().manual_seed(3)
    edge_index = (1500 * torch.rand(2, 24_000, generator=generator).pow(6)).long()
    graph = Graph.from_edge_index(edge_index, 1500)
    assert graph.rowptr.diff().max() > 2 * _C.HUB_DEGREE
    assert graph.colptr.diff().max() > 2 * _C.HUB_DEGREE
    return graph


MODIFIERS = ["lipschitz gat", "decay", "sink value"]
OPS = [
    ("gat", []),
    ("gat", ["lipschitz gat"]),
    ("gat_layer", []),
    ("gat_layer", ["lipschitz"]),
    *((op, MODIFIERS) for op in ("gat", "gatv2", "dot", "gt", "edge_softmax")),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("op", "modifiers"), OPS)
def test_bits_do_not_depend_on_run_or_threads(
    op: str, modifiers: list[str], dtype: torch.dtype, heavy_tailed: Graph, inputs_of: Function, run_op: Function
) -> None:
    inputs = {} if op == "edge_softmax" else {"edge": True, "bias": True}
    options = {} if op == "edge_softmax" else {"return_attention": True}
    if op == "gat_layer" and modifiers:
        options["lipschitz"], modifiers = True, []
    tensors = inputs_of(op, heavy_tailed, 3, 5, dtype=dtype, modifiers=modifiers, **inputs)
    expected = None
    for repeat in range(7):
        torch.set_num_threads(repeat % 3 + 1)
        got = run_op(op, tensors, heavy_tailed, dropout_p=0.2, seed=9, backend="cpu", **options)
        expected = expected or got
        for name, value in got.items():
            assert torch.equal(value, expected[name]), f"{name}, run {repeat}"


@pytest.mark.parametrize("op", ["gat", "gatv2", "dot", "gt"])
def test_manual_seed_reproduces_dropout(op: str, graph_of: Function, inputs_of: Function, run_op: Function) -> None:
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 4, 3)

    def draw(seed: int, backend: str) -> torch.Tensor:
        torch.manual_seed(seed)
        return run_op(op, tensors, graph, dropout_p=0.5, backend=backend)["out"]

    assert torch.equal(draw(1, "cpu"), draw(1, "cpu"))
    assert not torch.equal(draw(1, "cpu"), draw(2, "cpu"))
    torch.testing.assert_close(draw(1, "cpu"), draw(1, "reference"))
