"""The kernels give the reference's results and gradients: every score with every option, dtype, width and group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from .conftest import load_shared

Function = Callable[..., Any]
cases = load_shared("test_against_reference")
OPTIONS = [(op, options) for op in cases.OPS for options in cases.options_of(op)]
EVERYTHING = [path for path in cases.PATHS if path[1] == "everything"]
#: One head and several, in blocks of their own too; channels one by one and by 16 bytes, within a tile and beyond.
WIDTHS = [(1, 1), (3, 5), (6, 33), (33, 1), (1, 260), (2, 8), (3, 64), (1, 1032)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("op", "options"), OPTIONS)
def test_every_option(op: str, options: str, graph_of: Function, inputs_of: Function, check: Function) -> None:
    """Small rows; with all options, and in a layer, a hub and a middle row too."""
    graph = graph_of("grouped" if options == "everything" or op == "gat_layer" else "small")
    inputs, keywords = cases.prepare(op, options)
    check(op, inputs_of(op, graph, 2, 3, **inputs), graph, **keywords)


@pytest.mark.parametrize("channels", [5, 8])
@pytest.mark.parametrize(("op", "options"), cases.PATHS)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_every_dtype(
    op: str,
    options: str,
    dtype: torch.dtype,
    channels: int,
    graph_of: Function,
    inputs_of: Function,
    check: Function,
) -> None:
    inputs, keywords = cases.prepare(op, options)
    graph = graph_of("grouped")
    check(op, inputs_of(op, graph, 4, channels, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize(("heads", "channels"), WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("op", "options"), EVERYTHING)
def test_every_width(
    op: str,
    options: str,
    dtype: torch.dtype,
    heads: int,
    channels: int,
    graph_of: Function,
    inputs_of: Function,
    check: Function,
) -> None:
    graph = graph_of("small")
    inputs, keywords = cases.prepare(op, options)
    check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize("kind", ["edgeless", "empty", "no sources", "no targets", "one edge", "duplicates"])
@pytest.mark.parametrize("op", cases.OPS)
def test_degenerate_graphs(op: str, kind: str, graph_of: Function, inputs_of: Function, check: Function) -> None:
    if op == "gat_layer" and kind in ("no sources", "no targets"):
        pytest.skip("gat_layer takes graphs with one set of nodes")
    graph = graph_of(kind)
    modifiers = [] if op == "gat_layer" else ["lipschitz gat", "decay", "sink value"]
    if op == "gt" and graph.num_edges == 0:  # its epsilon leaves the sink a gradient of 1e-6 of what it is taken from
        modifiers.remove("sink value")
    check(op, inputs_of(op, graph, 2, 3, edge=op != "edge_softmax", modifiers=modifiers), graph)


@pytest.mark.whole
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "heads", "channels"), [("grouped", 3, 5), ("mixed", 2, 32), ("bipartite", 6, 3)])
@pytest.mark.parametrize(("op", "options"), OPTIONS)
def test_whole_matrix(
    op: str,
    options: str,
    kind: str,
    heads: int,
    channels: int,
    dtype: torch.dtype,
    graph_of: Function,
    inputs_of: Function,
    check: Function,
) -> None:
    if op == "gat_layer" and kind == "bipartite":
        pytest.skip("gat_layer takes graphs with one set of nodes")
    graph = graph_of(kind)
    inputs, keywords = cases.prepare(op, options)
    check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)
