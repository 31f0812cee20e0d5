"""The compiled kernels give the reference's results and gradients.

This file is also what every instruction set is tested with (``test_instruction_sets.py``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gattn import _C

Function = Callable[..., Any]
OPS = ("gat", "gat_layer", "edge_softmax")
# Heads with and without a kernel of their own, and more than fit one vector; channels below, at and beyond vectors.
WIDTHS = [(1, 1), (1, 16), (1, 257), (2, 3), (2, 33), (3, 7), (4, 5), (4, 8), (4, 32), (6, 3), (8, 1), (8, 8), (8, 64)]
WIDTHS += [(12, 2), (16, 3), (16, 16), (32, 5), (33, 1)]
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "edge": ({"edge": True}, {}),
    "no target part": ({"dst": False}, {}),
    "bias": ({"bias": True}, {"negative_slope": 0.01}),
    "dropout": ({"edge": True, "bias": True}, {"dropout_p": 0.4, "seed": -3}),
    "attention": ({"edge": True}, {"return_attention": True}),
    "all": ({"edge": True, "bias": True}, {"dropout_p": 0.3, "seed": 2**62 + 1, "return_attention": True}),
}


def usable(op: str, options: str, kind: str = "mixed") -> bool:
    """Whether ``op`` has what ``options`` ask for and takes such a graph."""
    inputs, _ = OPTIONS[options]
    if op == "edge_softmax":
        return options in ("plain", "dropout")
    if op == "gat":
        return options != "bias"
    return inputs.get("dst", True) and kind != "bipartite"


def prepare(op: str, options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs' and the op's keywords."""
    inputs, keywords = OPTIONS[options]
    return ({} if op == "edge_softmax" else inputs), keywords


def test_the_instruction_set_asked_for_is_in_use() -> None:
    assert _C.isa() == os.environ.get("GATTN_CPU_ISA", _C.isas()[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("heads", "channels"), WIDTHS)
@pytest.mark.parametrize("op", ["gat", "gat_layer"])
def test_every_width(
    op: str, heads: int, channels: int, dtype: torch.dtype, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    graph = graph_of("mixed")
    inputs, keywords = prepare(op, "all")
    check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("heads", sorted({heads for heads, _ in WIDTHS}))
def test_every_number_of_heads(
    heads: int, dtype: torch.dtype, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    graph = graph_of("mixed")
    check("edge_softmax", inputs_of("edge_softmax", graph, heads, 1, dtype=dtype), graph, dropout_p=0.4, seed=1)


@pytest.mark.parametrize("kind", ["mixed", "bipartite", "hubs"])
@pytest.mark.parametrize(("op", "options"), [(op, options) for op in OPS for options in OPTIONS if usable(op, options)])
def test_every_option(
    op: str, options: str, kind: str, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    if not usable(op, options, kind):
        pytest.skip("gat_layer takes graphs with one set of nodes")
    graph = graph_of(kind)
    inputs, keywords = prepare(op, options)
    check(op, inputs_of(op, graph, 3, 5, **inputs), graph, **keywords)
    check(op, inputs_of(op, graph, 4, 2, **inputs), graph, **keywords)


@pytest.mark.parametrize("kind", ["mixed", "hubs"])
@pytest.mark.parametrize("op", OPS)
def test_a_graph_packed_in_int64_gives_the_same_bits(
    op: str, kind: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    narrow, wide = graph_of(kind), graph_of(kind, wide=True)
    assert (narrow.data.dtype, wide.data.dtype) == (torch.int32, torch.int64)
    inputs, keywords = prepare(op, "dropout" if op == "edge_softmax" else "all")
    for dtype in (torch.float32, torch.float64):
        tensors = inputs_of(op, narrow, 4, 5, dtype=dtype, **inputs)
        expected, got = run_op(op, tensors, narrow, **keywords), run_op(op, tensors, wide, **keywords)
        assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("kind", "heads", "channels"), [("mixed", 1, 3), ("mixed", 6, 33), ("mixed", 8, 64), ("hubs", 4, 8)]
)
@pytest.mark.parametrize("op", OPS)
def test_every_dtype(
    op: str,
    kind: str,
    heads: int,
    channels: int,
    dtype: torch.dtype,
    graph_of: Function,
    inputs_of: Function,
    check: Function,
) -> None:
    graph = graph_of(kind)
    inputs, keywords = prepare(op, "dropout" if op == "edge_softmax" else "all")
    check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", ["gat", "gat_layer"])
def test_logits_in_float32_beside_features_in_half(
    op: str, dtype: torch.dtype, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 4, 8, dtype=torch.float32, edge=True, bias=True)
    tensors["x"] = tensors["x"].to(dtype)
    check(op, tensors, graph, return_attention=True)


@pytest.mark.parametrize("slope", [0.0, 0.9, -0.5, 1.7])
def test_every_negative_slope(slope: float, graph_of: Function, inputs_of: Function, check: Function) -> None:
    graph = graph_of("mixed")
    check("gat", inputs_of("gat", graph, 4, 8, edge=True), graph, negative_slope=slope, return_attention=True)


@pytest.mark.parametrize(
    "kind", ["empty", "edgeless", "no sources", "no targets", "one edge", "one loop", "duplicates"]
)
@pytest.mark.parametrize("options", ["plain", "all"])
@pytest.mark.parametrize("op", OPS)
def test_small_graphs(
    op: str, options: str, kind: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of(kind)
    if op == "gat_layer" and graph.num_src != graph.num_dst:
        pytest.skip("gat_layer takes graphs with one set of nodes")
    inputs, keywords = prepare(op, "dropout" if op == "edge_softmax" and options == "all" else options)
    tensors = inputs_of(op, graph, 4, 3, **inputs)
    got = run_op(op, tensors, graph, backend="cpu", **keywords)
    expected = run_op(op, tensors, graph, backend="reference", **keywords)
    for name in expected:
        torch.testing.assert_close(
            got[name], expected[name], rtol=1e-12, atol=1e-14, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_targets_without_edges_get_zeros_or_the_bias(graph_of: Function, inputs_of: Function, run_op: Function) -> None:
    graph = graph_of("mixed")
    isolated = graph.rowptr.diff() == 0
    assert isolated.any()
    assert not run_op("gat", inputs_of("gat", graph, 4, 3), graph)["out"][isolated].any()
    tensors = inputs_of("gat_layer", graph, 4, 3, bias=True)
    out = run_op("gat_layer", tensors, graph)["out"][isolated]
    assert torch.equal(out, tensors["bias"].view(1, 4, 3).expand_as(out))
