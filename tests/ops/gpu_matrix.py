"""What kernels for GPUs are tested with where there is none: ``tests/cuda`` and ``tests/triton`` take the tests here,
with fixtures of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from .test_against_reference import OPS, PATHS, options_of, prepare

Function = Callable[..., Any]
OPTIONS = [(op, options) for op in OPS for options in options_of(op)]
EVERYTHING = [path for path in PATHS if path[1] == "everything"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def check_case(graph_of: Function, inputs_of: Function, check: Function) -> Function:
    """Compares one op with one set of options on one graph."""

    def check_case(
        op: str, options: str, kind: str, heads: int, channels: int, dtype: torch.dtype = torch.float64
    ) -> None:
        if op == "gat_layer" and kind in ("bipartite", "no sources", "no targets"):
            pytest.skip("gat_layer takes graphs with one set of nodes")
        graph = graph_of(kind)
        inputs, keywords = prepare(op, options)
        check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)

    return check_case


@pytest.mark.parametrize(("op", "options"), OPTIONS)
def test_every_option(op: str, options: str, check_case: Function) -> None:
    """Small rows; with all options, and in a layer, a hub and a middle row too."""
    check_case(op, options, "grouped" if options == "everything" or op == "gat_layer" else "small", 2, 3)


@pytest.mark.parametrize("kind", ["edgeless", "empty", "no sources", "no targets", "one edge", "duplicates"])
@pytest.mark.parametrize("op", OPS)
def test_degenerate_graphs(op: str, kind: str, graph_of: Function, inputs_of: Function, check: Function) -> None:
    if op == "gat_layer" and kind in ("no sources", "no targets"):
        pytest.skip("gat_layer takes graphs with one set of nodes")
    graph = graph_of(kind)
    modifiers = [] if op == "gat_layer" else ["lipschitz gat", "decay", "sink value"]
    if op == "gt" and graph.num_edges == 0:  # its epsilon leaves the sink a gradient of 1e-6 of what it is taken from
        modifiers.remove("sink value")
    check(op, inputs_of(op, graph, 2, 3, edge=op != "edge_softmax", modifiers=modifiers), graph)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "heads", "channels"), [("grouped", 3, 5), ("mixed", 2, 32), ("bipartite", 6, 3)])
@pytest.mark.parametrize(("op", "options"), OPTIONS)
def test_every_combination(
    op: str, options: str, kind: str, heads: int, channels: int, dtype: torch.dtype, check_case: Function
) -> None:
    check_case(op, options, kind, heads, channels, dtype)
