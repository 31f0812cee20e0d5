"""Gradients against finite differences, second derivatives, and the ops as torch.library sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gattn import Graph, ops

Function = Callable[..., Any]
CASES = {
    "plain": ({}, {}),
    "no target part": ({"dst": False}, {}),
    "all": ({"edge": True, "bias": True}, {"dropout_p": 0.3, "seed": 4, "return_attention": True}),
}
OP_CASES = [("gat", case) for case in CASES] + [("gat_layer", "plain"), ("gat_layer", "all"), ("edge_softmax", "all")]


@pytest.fixture
def graph() -> Graph:
    """Duplicate edges, a loop, a target and a source without edges."""
    return Graph.from_edge_index(torch.tensor([[0, 0, 1, 2, 2, 0, 1], [1, 1, 1, 0, 2, 0, 0]]), 4)


@pytest.fixture
def function(graph: Graph, inputs_of: Function, call_op: Function) -> Function:
    """``(function of tensors, tensors)`` for gradcheck."""

    def make(op: str, case: str) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
        inputs, options = CASES[case]
        if op == "edge_softmax":
            inputs, options = {}, {"dropout_p": 0.3, "seed": 4}
        tensors = inputs_of(op, graph, 2, 3, **inputs)
        names = list(tensors)

        def apply(*values: Tensor) -> Any:
            return call_op(op, dict(zip(names, values, strict=True)), graph, backend="cpu", **options)

        return apply, tuple(tensor.requires_grad_() for tensor in tensors.values())

    return make


@pytest.mark.parametrize(("op", "case"), OP_CASES)
def test_gradients(op: str, case: str, function: Function) -> None:
    assert gradcheck(*function(op, case), nondet_tol=0.0)


@pytest.mark.parametrize(("op", "case"), OP_CASES)
def test_second_gradients(op: str, case: str, function: Function) -> None:
    assert gradgradcheck(*function(op, case), nondet_tol=0.0)


@pytest.mark.parametrize(("op", "case"), OP_CASES)
def test_gradients_where_only_some_are_asked_for(op: str, case: str, function: Function) -> None:
    """Each input alone gets the gradient it gets among all."""
    apply, tensors = function(op, case)

    def total(*values: Tensor) -> Tensor:
        result = apply(*values)
        return sum(r.sin().sum() for r in (result if isinstance(result, tuple) else (result,)))

    expected = torch.autograd.grad(total(*tensors), tensors)
    for i, tensor in enumerate(tensors):
        alone = [t if j == i else t.detach() for j, t in enumerate(tensors)]
        torch.testing.assert_close(torch.autograd.grad(total(*alone), tensor)[0], expected[i])


def test_each_result_alone_can_be_differentiated(graph: Graph, inputs_of: Function) -> None:
    tensors = inputs_of("gat", graph, 2, 3, edge=True)
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}

    def grads(backend: str, which: int) -> list[Tensor | None]:
        result = ops.gat(
            leaves["x"],
            leaves["a_src"],
            leaves["a_dst"],
            graph,
            leaves["a_edge"],
            return_attention=True,
            backend=backend,
        )
        return list(torch.autograd.grad(result[which].sin().sum(), list(leaves.values()), allow_unused=True))

    for which in (0, 1):
        for got, expected in zip(grads("cpu", which), grads("reference", which), strict=True):
            torch.testing.assert_close(got, torch.zeros_like(got) if expected is None else expected)


def test_without_gradients_nothing_is_recorded(graph: Graph, inputs_of: Function, call_op: Function) -> None:
    tensors = inputs_of("gat", graph, 2, 3)
    assert call_op("gat", tensors, graph).grad_fn is None
    tensors["x"].requires_grad_()
    with torch.no_grad():
        assert call_op("gat", tensors, graph).grad_fn is None
    with torch.inference_mode():
        assert call_op("gat", tensors, graph).is_inference()


def test_eager_and_dispatched_calls_agree(graph: Graph, inputs_of: Function) -> None:
    """The short way in eager mode and the way through the dispatcher give the same bits."""
    tensors = inputs_of("gat", graph, 2, 3, dtype=torch.float32, edge=True)
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    x, a_src, a_dst, a_edge = leaves
    eager = ops.gat(x, a_src, a_dst, graph, a_edge, return_attention=True)
    out, _, alpha = torch.ops.gattn.gat(
        x, a_src, a_dst, a_edge, graph.data, None, graph.num_dst, graph.num_edges, 0.2, 0.0, True
    )
    assert torch.equal(out, eager[0])
    assert torch.equal(alpha, eager[1])
    loss, expected = out.sin().sum() + alpha.sin().sum(), eager[0].sin().sum() + eager[1].sin().sum()
    for a, b in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), strict=True):
        assert torch.equal(a, b)


def test_the_graph_gets_no_gradient_and_changes_are_noticed(graph: Graph, inputs_of: Function) -> None:
    tensors = inputs_of("gat", graph, 2, 3)
    out = ops.gat(tensors["x"].requires_grad_(), tensors["a_src"], tensors["a_dst"], graph)
    tensors["a_src"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_functional_transforms_work_on_the_reference(graph: Graph, inputs_of: Function) -> None:
    tensors = inputs_of("gat", graph, 2, 3)

    def loss(x: Tensor, backend: str) -> Tensor:
        return ops.gat(x, tensors["a_src"], tensors["a_dst"], graph, backend=backend).sin().sum()

    leaf = tensors["x"].clone().requires_grad_()
    loss(leaf, "cpu").backward()
    torch.testing.assert_close(torch.func.grad(loss)(tensors["x"], "reference"), leaf.grad)


def saved(*, half: bool, rich: bool) -> dict[str, Any]:
    """Arguments of every registered op, backward ops with what their forwards returned."""
    edges = torch.tensor([[0, 0, 1, 2, 2, 0, 1], [1, 1, 1, 0, 2, 0, 0]])
    graph, generator = Graph.from_edge_index(edges, 4), torch.Generator().manual_seed(0)
    n, e, h, c = 4, 7, 2, 3

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    x = draw(n, h, c, dtype=torch.bfloat16 if half else torch.float32)
    a_src, a_dst, a_edge = draw(n, h), draw(n, h), draw(e, h)
    att_src, att_dst, bias, logits = draw(h, c), draw(h, c), draw(h * c), draw(e, h)
    seed, p = (torch.tensor(5), 0.5) if rich else (None, 0.0)
    a_edge, bias, last = (a_edge, bias, a_dst) if rich else (None, None, None)
    data = graph.data
    gat = (x, a_src, last, a_edge, data, seed, n, e, 0.2, p, rich)
    layer = (x, att_src, att_dst, a_edge, bias, data, seed, e, 0.2, p, rich)
    softmax = (logits, data, seed, n, p)
    with torch.no_grad():
        out, lse, alpha = torch.ops.gattn.gat(*gat)
        l_out, l_src, l_dst, l_lse, l_alpha = torch.ops.gattn.gat_layer(*layer)
        s_alpha, s_lse = torch.ops.gattn.edge_softmax(*softmax)
    g_out, g_alpha = draw(n, h, c, dtype=x.dtype), draw(e, h)
    alpha, l_alpha, g_weights = (alpha, l_alpha, g_alpha) if rich else (None, None, None)
    return {
        "gat": gat,
        "gat_backward": (
            *(g_out, g_weights, x, a_src, last, a_edge, data, seed, out, lse, alpha, 0.2, p),
            *(rich, rich),
        ),
        "gat_layer": layer,
        "gat_layer_backward": (
            *(g_out, g_weights, x, att_src, att_dst, a_edge, bias, data, seed, l_out, l_src, l_dst, l_lse, l_alpha),
            *(0.2, p, rich),
        ),
        "edge_softmax": softmax,
        "edge_softmax_backward": (g_alpha, logits, data, seed, s_alpha, s_lse, p),
    }


NAMES = ("gat", "gat_backward", "gat_layer", "gat_layer_backward", "edge_softmax", "edge_softmax_backward")


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.gattn, name).default, saved(half=False, rich=True)[name])


@pytest.mark.parametrize("name", NAMES)
def test_opcheck_without_options_in_half_precision(name: str) -> None:
    """Without the check that traces forward and backward, which takes seconds."""
    utilities = ["test_schema", "test_autograd_registration", "test_faketensor"]
    arguments = saved(half=True, rich=False)[name]
    torch.library.opcheck(getattr(torch.ops.gattn, name).default, arguments, test_utils=utilities)
