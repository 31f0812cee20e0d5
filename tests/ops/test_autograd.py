"""Gradients against finite differences, second derivatives, and the ops as torch.library sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gattn import Graph, ops
from gattn.ops.attention import Call
from gattn.reference.attention import Inputs, Settings

Function = Callable[..., Any]
RICH = {"edge": True, "bias": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no target part": ({"dst": False}, {}),
    "all": (RICH, {"dropout_p": 0.3, "seed": 4, "return_attention": True}),
    "modified": (
        {**RICH, "modifiers": ["lipschitz gat", "decay", "sink value"]},
        {"dropout_p": 0.3, "seed": 4, "return_attention": "before_dropout"},
    ),
    "lipschitz dot": ({"modifiers": ["lipschitz dot"]}, {}),
    "lipschitz": ({**RICH, "modifiers": ["lipschitz gat"]}, {"dropout_p": 0.3, "seed": 4, "return_attention": True}),
    "lipschitz layer": (RICH, {"lipschitz": True, "dropout_p": 0.3, "seed": 4, "return_attention": True}),
    "edge stream": (RICH, {"clip": 0.8, "return_edge": True}),
}
OP_CASES = [(op, case) for op in ("gat", "gat_layer", "gatv2", "dot", "gt") for case in ("plain", "all")]
OP_CASES += [(op, case) for op in ("gat", "gatv2", "dot", "gt") for case in ("modified", "lipschitz dot")]
OP_CASES += [("gat", "lipschitz"), ("gat_layer", "lipschitz layer")]
OP_CASES += [("gat", "no target part"), ("gt", "edge stream"), ("edge_softmax", "all"), ("edge_softmax", "modified")]


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
            inputs = {name: value for name, value in inputs.items() if name == "modifiers"}
            options = {"dropout_p": 0.3, "seed": 4}
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
    """Along random directions; entry by entry takes seconds a case."""
    assert gradgradcheck(*function(op, case), nondet_tol=0.0, fast_mode=True)


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


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("gat", {"return_attention": True}),
        ("gatv2", {"return_attention": True}),
        ("dot", {"return_attention": "before_dropout"}),
        ("gt", {"return_attention": True, "return_edge": True}),
    ],
)
def test_each_result_alone_can_be_differentiated(
    op: str, options: dict[str, Any], graph: Graph, inputs_of: Function, call_op: Function
) -> None:
    modifiers = [] if op == "gat" else ["sink value"]
    leaves = {n: t.requires_grad_() for n, t in inputs_of(op, graph, 2, 3, edge=True, modifiers=modifiers).items()}

    def grads(backend: str, which: int) -> tuple[Tensor, ...]:
        result = call_op(op, leaves, graph, dropout_p=0.4, seed=6, backend=backend, **options)
        total = result[which].sin().sum()
        return torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)

    for which in range(1 + len(options)):
        for got, expected in zip(grads("cpu", which), grads("reference", which), strict=True):
            torch.testing.assert_close(got, expected)


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
        x, a_src, a_dst, a_edge, None, graph.data, None, graph.num_dst, graph.num_edges, 0.2, 0.0, True
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


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype).requires_grad_()


def saved(graph: Graph, *, half: bool, rich: bool) -> dict[str, Any]:
    """Arguments of the ops behind ``gat`` and ``gat_layer``, backward ops with what their forwards returned."""
    n, e, h, c = graph.num_dst, graph.num_edges, 2, 3
    x = draw(n, h, c, dtype=torch.bfloat16 if half else torch.float32)
    a_src, a_dst, a_edge = draw(n, h), draw(n, h), draw(e, h)
    att_src, att_dst, bias = draw(h, c), draw(h, c), draw(h * c)
    seed, p = (torch.tensor(5), 0.5) if rich else (None, 0.0)
    a_edge, bias, last = (a_edge, bias, a_dst) if rich else (None, None, None)
    data = graph.data
    divisor, weight = (draw(n, h).abs() + 1, draw(h).abs() + 1) if rich else (None, None)
    gat = (x, a_src, last, a_edge, divisor, data, seed, n, e, 0.2, p, rich)
    layer = (x, att_src, att_dst, a_edge, bias, weight, data, seed, e, 0.2, p, rich)
    with torch.no_grad():
        out, lse, alpha = torch.ops.gattn.gat(*gat)
        l_out, *l_terms, l_stats, l_alpha = torch.ops.gattn.gat_layer(*layer)
    g_out, g_alpha = draw(n, h, c, dtype=x.dtype), draw(e, h)
    alpha, l_alpha, g_weights = (alpha, l_alpha, g_alpha) if rich else (None, None, None)
    return {
        "gat": gat,
        "gat_backward": (
            *(g_out, g_weights, x, a_src, last, a_edge, divisor, data, seed, out, lse, alpha, 0.2, p),
            *(rich, rich, rich),
        ),
        "gat_layer": layer,
        "gat_layer_backward": (
            *(g_out, g_weights, x, att_src, att_dst, a_edge, bias, weight, data, seed, l_out, *l_terms),
            *(l_stats, l_alpha, 0.2, p, rich),
        ),
    }


def attention_arguments(score: str, graph: Graph, *, half: bool) -> dict[str, Any]:
    """Arguments of the op behind the other scores and of its backward."""
    n, e, h, c = graph.num_dst, graph.num_edges, 2, 3
    dtype = torch.bfloat16 if half else torch.float32
    given = {
        "gat": Inputs(v=draw(n, h, c, dtype=dtype), a_src=draw(n, h), a_dst=draw(n, h), a_edge=draw(e, h)),
        "gatv2": Inputs(q=draw(n, h, c, dtype=dtype), k=draw(n, h, c, dtype=dtype), att=draw(h, c)),
        "dot": Inputs(*(draw(rows, h, c, dtype=dtype) for rows in (n, n, n, e))),
        "gt": Inputs(*(draw(rows, h, c, dtype=dtype) for rows in (n, n, n, e)), edge_weight=draw(e, h).abs()),
        "edge_softmax": Inputs(a_edge=draw(e, h)),
    }[score]
    has_values = score != "edge_softmax"
    given = given._replace(divisor=draw(n, h).abs() + 1, sink_logit=draw(n, h), hop=draw(h), distance=torch.arange(e))
    settings = Settings(score, 0.2, clip=0.5, epsilon=1e-6, gamma=0.5, dropout_p=0.5, undropped=True)
    thresholds = [2.0, 10.0] if score in ("gatv2", "dot", "gt") else None
    call = Call(e, n, True, score == "gt", thresholds, (), "cpu")
    forward = (graph.data, None, *given, torch.tensor(5), *settings, *call)
    with torch.no_grad():
        out, row_stats, alpha, edge, *_ = torch.ops.gattn.attention(*forward)
    grads = (draw(*out.shape, dtype=out.dtype) if has_values else None, draw(*alpha.shape))
    grad_edge = draw(*edge.shape, dtype=edge.dtype) if score == "gt" else None
    needs = [x is not None for x in given[:-1]]
    backward = (graph.data, None, *given, torch.tensor(5), row_stats, None, *grads, grad_edge, *settings, *call, needs)
    return {"attention": forward, "attention_backward": backward}


QUICK = ["test_schema", "test_autograd_registration", "test_faketensor"]  # the check that traces takes seconds
NAMES = ("gat", "gat_backward", "gat_layer", "gat_layer_backward")


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str, graph: Graph) -> None:
    torch.library.opcheck(getattr(torch.ops.gattn, name).default, saved(graph, half=False, rich=True)[name])


@pytest.mark.parametrize("name", NAMES)
def test_opcheck_without_options_in_half_precision(name: str, graph: Graph) -> None:
    arguments = saved(graph, half=True, rich=False)[name]
    torch.library.opcheck(getattr(torch.ops.gattn, name).default, arguments, test_utils=QUICK)


@pytest.mark.parametrize("name", ["attention", "attention_backward"])
@pytest.mark.parametrize("score", ["gat", "gatv2", "dot", "gt", "edge_softmax"])
def test_opcheck_of_every_score(score: str, name: str, graph: Graph) -> None:
    op = getattr(torch.ops.gattn, name).default
    torch.library.opcheck(op, attention_arguments(score, graph, half=True)[name], test_utils=QUICK)
    if score == "gt":
        torch.library.opcheck(op, attention_arguments(score, graph, half=False)[name])


def test_opcheck_of_the_neighbourhoods_maximum(graph: Graph) -> None:
    arguments = (torch.rand(graph.num_src, 2), graph.data, None, graph.num_edges, graph.num_dst, (), "cpu")
    torch.library.opcheck(torch.ops.gattn.first_largest.default, arguments)
