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
SCORES = ("gatv2", "dot", "gt")
OPS = ("gat", "gat_layer", *SCORES, "edge_softmax")
# Heads with and without a kernel of their own, and more than fit one vector; channels below, at and beyond vectors.
WIDTHS = [(1, 1), (1, 16), (1, 257), (2, 3), (2, 33), (3, 7), (4, 5), (4, 8), (4, 32), (6, 3), (8, 1), (8, 8), (8, 64)]
WIDTHS += [(12, 2), (16, 3), (16, 16), (32, 5), (33, 1)]
SHARED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "edge": ({"edge": True}, {}),
    "dropout": ({"edge": True}, {"dropout_p": 0.4, "seed": -3}),
    "attention": ({"edge": True}, {"return_attention": True}),
    "all": ({"edge": True, "bias": True}, {"dropout_p": 0.3, "seed": 2**62 + 1, "return_attention": True}),
}
MODIFIED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "attention before dropout": ({}, {"dropout_p": 0.4, "seed": 8, "return_attention": "before_dropout"}),
    "lipschitz gat": ({"modifiers": ["lipschitz gat"]}, {}),
    "lipschitz dot": ({"modifiers": ["lipschitz dot"]}, {}),
    "lipschitz with all": (
        {"edge": True, "modifiers": ["lipschitz gat"]},
        {"dropout_p": 0.3, "seed": 6, "return_attention": True},
    ),
    "decay": ({"modifiers": ["decay"]}, {}),
    "sink": ({"modifiers": ["sink"]}, {}),
    "sink value": ({"edge": True, "modifiers": ["sink value"]}, {"dropout_p": 0.3, "seed": 7}),
    "everything": (
        {"edge": True, "modifiers": ["lipschitz gat", "decay", "sink value"]},
        {"dropout_p": 0.3, "seed": 2, "return_attention": True},
    ),
}
OPTIONS = {
    **SHARED,
    **MODIFIED,
    "no target part": ({"dst": False}, {}),
    "bias": ({"bias": True}, {"negative_slope": 0.01}),
    "lipschitz": ({}, {"lipschitz": True}),
    "lipschitz, ReLU": ({"bias": True}, {"lipschitz": True, "negative_slope": 0.0}),
    "bias, lipschitz with all": (
        {"edge": True, "bias": True},
        {"lipschitz": True, "dropout_p": 0.3, "seed": 5, "return_attention": True},
    ),
    "slope": ({"edge": True}, {"negative_slope": 0.7}),
    "scale": ({"edge": True}, {"scale": 1.5}),
    "edge stream": ({}, {"return_edge": True, "clip": 0.5}),
    "no clip": ({"edge": True}, {"clip": float("inf"), "return_edge": True, "return_attention": True}),
}
OWN = {
    "gat": ("no target part",),
    "gat_layer": ("bias", "lipschitz", "lipschitz, ReLU", "bias, lipschitz with all"),
    "gatv2": ("slope",),
    "dot": ("scale",),
    "gt": ("edge stream", "no clip"),
}


#: Every kernel with the options that use most of it.
PATHS = [("gat", "all"), ("gat", "lipschitz with all"), ("gat_layer", "all"), ("gat_layer", "bias, lipschitz with all")]
PATHS += [("edge_softmax", "dropout")]
PATHS += [(op, "everything") for op in ("gat", *SCORES, "edge_softmax")]


def options_of(op: str) -> list[str]:
    """What ``op`` is tested with."""
    if op == "edge_softmax":
        return ["plain", "dropout", *(name for name in MODIFIED if name not in ("attention before dropout", "sink"))]
    return [*SHARED, *(MODIFIED if op != "gat_layer" else ()), *OWN[op]]


def prepare(op: str, options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs' and the op's keywords."""
    inputs, keywords = OPTIONS[options]
    if op == "edge_softmax":
        inputs = {name: value for name, value in inputs.items() if name == "modifiers"}
        keywords = {name: value for name, value in keywords.items() if name != "return_attention"}
    return inputs, keywords


def test_the_instruction_set_asked_for_is_in_use() -> None:
    assert _C.isa() == os.environ.get("GATTN_CPU_ISA", _C.isas()[0])


@pytest.mark.parametrize(
    ("dtype", "heads", "channels"),
    [*((torch.float32, *width) for width in WIDTHS), *((torch.float64, h, c) for h, c in WIDTHS if h * c <= 66)],
    ids=str,
)
@pytest.mark.parametrize(
    ("op", "options"), [path for path in PATHS if path[0] != "edge_softmax" and path != ("gat", "everything")]
)
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
    graph = graph_of("mixed")
    inputs, keywords = prepare(op, options)
    check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("heads", sorted({heads for heads, _ in WIDTHS}))
@pytest.mark.parametrize(
    ("op", "options"), [("edge_softmax", "dropout"), ("edge_softmax", "everything"), ("gat", "everything")]
)
def test_every_number_of_heads(
    op: str, options: str, heads: int, dtype: torch.dtype, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    graph = graph_of("mixed")
    inputs, keywords = prepare(op, options)
    check(op, inputs_of(op, graph, heads, 3, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize(("kind", "heads", "channels"), [("bipartite", 3, 5), ("mixed", 2, 31), ("hubs", 4, 2)])
@pytest.mark.parametrize(("op", "options"), [(op, options) for op in OPS for options in options_of(op)])
def test_every_option(
    op: str,
    options: str,
    kind: str,
    heads: int,
    channels: int,
    graph_of: Function,
    inputs_of: Function,
    check: Function,
) -> None:
    if op == "gat_layer" and kind == "bipartite":
        pytest.skip("gat_layer takes graphs with one set of nodes")
    graph = graph_of(kind)
    inputs, keywords = prepare(op, options)
    check(op, inputs_of(op, graph, heads, channels, **inputs), graph, **keywords)


@pytest.mark.parametrize("kind", ["mixed", "hubs"])
@pytest.mark.parametrize(("op", "options"), PATHS)
def test_a_graph_packed_in_int64_gives_the_same_bits(
    op: str, options: str, kind: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    narrow, wide = graph_of(kind), graph_of(kind, wide=True)
    assert (narrow.data.dtype, wide.data.dtype) == (torch.int32, torch.int64)
    inputs, keywords = prepare(op, options)
    for dtype in (torch.float32, torch.float64):
        tensors = inputs_of(op, narrow, 4, 5, dtype=dtype, **inputs)
        expected, got = run_op(op, tensors, narrow, **keywords), run_op(op, tensors, wide, **keywords)
        assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("kind", "heads", "channels"), [("mixed", 1, 3), ("mixed", 6, 33), ("hubs", 4, 8)])
@pytest.mark.parametrize(("op", "options"), PATHS)
def test_every_dtype(
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
    graph = graph_of(kind)
    inputs, keywords = prepare(op, options)
    check(op, inputs_of(op, graph, heads, channels, dtype=dtype, **inputs), graph, **keywords)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("op", "options"), PATHS)
def test_small_tensors_in_float32_beside_features_in_half(
    op: str, options: str, dtype: torch.dtype, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    """Parts of logits, parameters and the modifiers' tensors, in the dtype that they are computed in."""
    if op == "edge_softmax":
        pytest.skip("edge_softmax has no features")
    graph = graph_of("mixed")
    inputs, keywords = prepare(op, options)
    tensors = inputs_of(op, graph, 4, 8, dtype=torch.float32, **inputs)
    for name in {"x", "x_src", "x_dst", "x_edge", "q", "k", "v", "edge"} & tensors.keys():
        tensors[name] = tensors[name].to(dtype)
    check(op, tensors, graph, **keywords)


@pytest.mark.parametrize("slope", [0.0, 0.9, -0.5, 1.7])
@pytest.mark.parametrize("op", ["gat", "gatv2"])
def test_every_negative_slope(op: str, slope: float, graph_of: Function, inputs_of: Function, check: Function) -> None:
    graph = graph_of("mixed")
    check(op, inputs_of(op, graph, 4, 8, edge=True), graph, negative_slope=slope, return_attention=True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(("gamma", "slope"), [(0.6, 0.0), (0.3, 0.2), (0.9, -0.5), (1.0, 0.1)])
@pytest.mark.parametrize("op", ["dot", "gat"])
def test_every_distance_dtype_and_decay(
    op: str,
    gamma: float,
    slope: float,
    dtype: torch.dtype,
    graph_of: Function,
    inputs_of: Function,
    check: Function,
) -> None:
    graph = graph_of("bipartite")
    tensors = inputs_of(op, graph, 3, 2, modifiers=["decay"])
    tensors["hop"][0] = 2.0  # a distance for itself, where rho has a kink
    check(op, tensors, graph, decay={"gamma": gamma, "slope": slope, "distance_dtype": dtype})


@pytest.mark.parametrize(
    "kind", ["empty", "edgeless", "no sources", "no targets", "one edge", "one loop", "duplicates"]
)
@pytest.mark.parametrize(
    ("op", "options"), sorted({*((op, "plain") for op in OPS), *PATHS, *((op, "lipschitz dot") for op in SCORES)})
)
def test_small_graphs(
    op: str, options: str, kind: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of(kind)
    if op == "gat_layer" and graph.num_src != graph.num_dst:
        pytest.skip("gat_layer takes graphs with one set of nodes")
    inputs, keywords = prepare(op, options)
    tensors = inputs_of(op, graph, 4, 3, **inputs)
    got = run_op(op, tensors, graph, backend="cpu", **keywords)
    expected = run_op(op, tensors, graph, backend="reference", **keywords)
    for name in expected:
        torch.testing.assert_close(
            got[name], expected[name], rtol=1e-12, atol=1e-14, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("modifiers", [[], ["lipschitz dot", "decay"], ["sink"], ["sink value"]], ids=", ".join)
@pytest.mark.parametrize("op", OPS[:-1])
def test_targets_without_edges_get_zeros_or_the_bias_or_the_sink(
    op: str, modifiers: list[str], graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    if op == "gat_layer" and modifiers:
        pytest.skip("gat_layer takes no tensors of modifiers")
    graph = graph_of("mixed")
    isolated = graph.rowptr.diff() == 0
    assert isolated.any()
    tensors = inputs_of(op, graph, 4, 3, bias=True, modifiers=modifiers)
    found = run_op(op, tensors, graph, dropout_p=0.5, seed=3)
    given = tensors.get("sink_value", tensors.get("bias", torch.zeros(12))).double().view(1, 4, 3)
    out = found["out"][isolated]
    # Score gt adds 1e-6 to the sum of the weights, which takes a little from the sink.
    tolerance = {"rtol": 0.0, "atol": 1e-4 if op == "gt" else 0.0}
    torch.testing.assert_close(out, given.expand_as(out), **tolerance)
    for name in {"x_dst", "q", "target_norm", "sink_logit"} & tensors.keys():
        grad = found[f"grad {name}"][isolated]
        torch.testing.assert_close(grad, torch.zeros_like(grad), **tolerance)
