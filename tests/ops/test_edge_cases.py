"""Extreme and missing numbers, memory layouts, and rows that must not be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph, ops

Function = Callable[..., Any]
OPS = ("gat", "gat_layer", "edge_softmax")
INFINITY, NAN = float("inf"), float("nan")


def one_target(sources: int) -> Graph:
    """``sources`` nodes, all neighbours of node 0."""
    return Graph.from_edge_index(torch.stack([torch.arange(sources), torch.zeros(sources, dtype=torch.int64)]), sources)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every floating-point tensor allocated from Python without a value is full of NaN."""

    def poison(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def poisoned_allocate(*args: Any, **kwargs: Any) -> Tensor:
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(NAN) if tensor.is_floating_point() else tensor

        return poisoned_allocate

    for owner, name in [(torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")]:
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


@pytest.mark.parametrize("kind", ["mixed", "bipartite", "hubs", "edgeless", "one edge"])
@pytest.mark.parametrize("op", OPS)
def test_every_row_is_written(
    op: str, kind: str, poisoned: None, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of(kind)
    if op == "gat_layer" and graph.num_src != graph.num_dst:
        pytest.skip("gat_layer takes graphs with one set of nodes")
    inputs = {} if op == "edge_softmax" else {"edge": True, "bias": True}
    options = {} if op == "edge_softmax" else {"return_attention": True}
    for dtype in (torch.float32, torch.float16):
        tensors = inputs_of(op, graph, 3, 5, dtype=dtype, **inputs)
        for name, value in run_op(op, tensors, graph, backend="cpu", **options).items():
            assert value.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_large_logits_do_not_overflow(size: float, dtype: torch.dtype, graph_of: Function, inputs_of: Function) -> None:
    """exp(logits) would overflow, and one log-sum-exp a row would round the weights by eps * size."""
    for kind in ("mixed", "hubs"):
        graph = graph_of(kind)
        logits = size * inputs_of("edge_softmax", graph, 4, 1, dtype=dtype)["logits"].sign()
        tolerance = {"rtol": 16 * torch.finfo(dtype).eps, "atol": 1e-30}
        expected = ops.edge_softmax(logits, graph, backend="reference")
        torch.testing.assert_close(ops.edge_softmax(logits, graph, backend="cpu"), expected, **tolerance)
        x = inputs_of("gat", graph, 4, 3, dtype=dtype)["x"]
        nodes = torch.zeros(graph.num_src, 4, dtype=dtype)
        out = ops.gat(x, nodes, nodes, graph, logits, negative_slope=1.0, backend="cpu")
        expected = ops.gat(x, nodes, nodes, graph, logits, negative_slope=1.0, backend="reference")
        torch.testing.assert_close(out, expected, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("masked", [1, 2, 3])
def test_a_logit_of_minus_infinity_masks_an_edge(masked: int) -> None:
    """The other edges share the weight, and the masked ones get neither weight nor gradient."""
    graph = one_target(4)
    a_src = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64).view(4, 1)
    a_src[:masked] = -INFINITY
    x = torch.randn(4, 1, 3, dtype=torch.float64)
    leaves = [x.requires_grad_(), a_src.requires_grad_()]
    out, alpha = ops.gat(x, a_src, None, graph, return_attention=True, backend="cpu")
    rest = Graph.from_edge_index(graph.edge_index[:, masked:], 4)
    expected, rest_alpha = ops.gat(x, a_src, None, rest, return_attention=True, backend="cpu")
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(alpha, torch.cat([torch.zeros(masked, 1, dtype=torch.float64), rest_alpha]))
    grads = torch.autograd.grad(out[0].sin().sum(), leaves)
    for got, wanted in zip(grads, torch.autograd.grad(expected[0].sin().sum(), leaves), strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_masked_segment_of_a_hub_has_no_weight(graph_of: Function) -> None:
    """A whole segment of a row that is cut may be masked; the maximum of such a segment is -inf."""
    graph = graph_of("hubs")
    logits = torch.randn(graph.num_edges, 2)
    degrees = graph.rowptr.diff()
    longest = int(degrees.argmax())
    first = int(graph.rowptr[longest])
    slots = slice(first, first + int(degrees[longest]) - 50)
    logits[graph.edge_id[slots].long()] = -INFINITY
    got = ops.edge_softmax(logits, graph, backend="cpu")
    torch.testing.assert_close(got, ops.edge_softmax(logits, graph, backend="reference"))
    assert not got[graph.edge_id[slots].long()].any()


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_a_feature_that_is_no_number_stays_in_its_rows(
    value: float, dtype: torch.dtype, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of("mixed")
    tensors = inputs_of("gat", graph, 2, 33, dtype=dtype)
    clean = run_op("gat", tensors, graph, return_attention=True)
    tensors["x"][0, 1, 7] = value
    got = run_op("gat", tensors, graph, return_attention=True)
    source, target = graph.edge_index
    touched = torch.zeros_like(got["out"], dtype=torch.bool)
    touched[target[source == 0], 1, 7] = True
    assert torch.equal(got["out"][~touched], clean["out"][~touched])
    assert not got["out"][touched].isfinite().any()
    assert torch.equal(got["alpha"], clean["alpha"])
    near = torch.zeros(graph.num_src, dtype=torch.bool)  # sources that share a target with source 0
    near[source[torch.isin(target, target[source == 0])]] = True
    assert torch.equal(got["grad a_src"][~near], clean["grad a_src"][~near])
    assert torch.equal(got["grad a_src"][:, 0], clean["grad a_src"][:, 0])
    assert torch.equal(got["grad x"], clean["grad x"])


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_a_logit_that_is_no_number_reaches_its_targets(value: float, graph_of: Function, inputs_of: Function) -> None:
    graph = graph_of("mixed")
    logits = inputs_of("edge_softmax", graph, 2, 1)["logits"]
    clean = ops.edge_softmax(logits, graph)
    logits[3, 1] = value
    got, expected = (ops.edge_softmax(logits, graph, backend=backend) for backend in ("cpu", "reference"))
    assert torch.equal(got.isnan(), expected.isnan())
    assert got[3, 1].isnan()
    assert torch.equal(got[~got.isnan()], clean[~got.isnan()])


def test_strided_inputs_and_gradients(graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    """Views of any layout, broadcast and expanded ones too, give what their copies give."""
    graph = graph_of("mixed")
    for op in OPS:
        inputs = {} if op == "edge_softmax" else {"edge": True}
        tensors = inputs_of(op, graph, 4, 6, **inputs)
        views = {name: t.transpose(0, -1).contiguous().transpose(0, -1) for name, t in tensors.items()}
        assert not any(view.is_contiguous() for view in views.values())
        results = []
        for given in (tensors, views):
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in given.items()}
            out = call_op(op, leaves, graph, backend="cpu")
            results.append([out, *torch.autograd.grad(out.sum(), list(leaves.values()))])  # an expanded gradient
        for got, expected in zip(*results, strict=True):
            assert torch.equal(got, expected)


def test_broadcast_features(graph_of: Function) -> None:
    graph = graph_of("mixed")
    x = torch.randn(1, 1, 5).expand(graph.num_src, 4, 5)
    zeros = torch.zeros(1, 1).expand(graph.num_src, 4)
    expected = x * (graph.rowptr.diff() > 0).view(-1, 1, 1)
    torch.testing.assert_close(ops.gat(x, zeros, zeros, graph, backend="cpu"), expected)
