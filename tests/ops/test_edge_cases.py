"""Extreme and missing numbers, memory layouts, and rows that must not be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph, Sink, ops

Function = Callable[..., Any]
MODIFIERS = ["lipschitz dot", "decay", "sink value"]
#: Every kernel, with modifiers where it takes them.
OPS = [("gat", []), ("gat_layer", []), *((op, MODIFIERS) for op in ("gat", "gatv2", "dot", "gt", "edge_softmax"))]
SCORES = ("gat", "gatv2", "dot", "gt")
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
@pytest.mark.parametrize(("op", "modifiers"), OPS)
def test_every_row_is_written(
    op: str, modifiers: list[str], kind: str, poisoned: None, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of(kind)
    if op == "gat_layer" and graph.num_src != graph.num_dst:
        pytest.skip("gat_layer takes graphs with one set of nodes")
    inputs = {} if op == "edge_softmax" else {"edge": True, "bias": True}
    options = {} if op == "edge_softmax" else {"return_attention": True}
    if op == "gt":
        options["return_edge"] = True
    for dtype in (torch.float32, torch.float16):
        tensors = inputs_of(op, graph, 3, 5, dtype=dtype, modifiers=modifiers, **inputs)
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


@pytest.mark.parametrize(("op", "modifiers"), OPS)
def test_strided_inputs_and_gradients(
    op: str, modifiers: list[str], graph_of: Function, inputs_of: Function, call_op: Function
) -> None:
    """Views of any layout, broadcast and expanded ones too, give what their copies give."""
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 4, 6, edge=op != "edge_softmax", modifiers=modifiers)
    views = {name: torch.stack([t, t], dim=-1)[..., 1] for name, t in tensors.items()}
    views |= {n: t.transpose(0, -1).contiguous().transpose(0, -1) for n, t in tensors.items() if t.dim() > 1}
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("op", ["gatv2", "dot", "gt"])
def test_large_scores_do_not_overflow(
    op: str, dtype: torch.dtype, graph_of: Function, inputs_of: Function, call_op: Function
) -> None:
    graph = graph_of("hubs")
    tensors = inputs_of(op, graph, 4, 3, dtype=dtype)
    tensors["att" if op == "gatv2" else "q"] *= 1e4
    options = {"clip": INFINITY} if op == "gt" else {}
    got, expected = (call_op(op, tensors, graph, backend=backend, **options) for backend in ("cpu", "reference"))
    assert got.isfinite().all()
    torch.testing.assert_close(got, expected, rtol=1e-2 if dtype == torch.float32 else 1e-10, atol=1e-3)


@pytest.mark.parametrize("op", SCORES)
def test_a_feature_that_is_no_number_reaches_only_its_targets(
    op: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 2, 5, modifiers=["decay", "sink value"])
    clean = run_op(op, tensors, graph)
    tensors[{"gat": "a_src", "gatv2": "x_src"}.get(op, "k")][0] = NAN
    got = run_op(op, tensors, graph)
    source, target = graph.edge_index
    touched = torch.zeros(graph.num_dst, dtype=torch.bool)
    touched[target[source == 0]] = True
    assert torch.equal(got["out"][~touched], clean["out"][~touched])
    assert got["out"][touched].isnan().all()
    far = torch.ones(graph.num_src, dtype=torch.bool)  # sources that share no target with source 0
    far[source[touched[target]]] = False
    name = {"gat": "grad x", "gatv2": "grad x_src"}.get(op, "grad v")
    assert torch.equal(got[name][far], clean[name][far])


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("form", ["lipschitz gat", "lipschitz dot"])
@pytest.mark.parametrize("op", SCORES)
def test_a_tied_maximum_gives_its_gradient_to_the_first_edge(
    op: str, form: str, heads: int, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    """First in the caller's order, which is neither that of the sources nor that of the adjacency."""
    edge_index = torch.tensor([[4, 2, 0, 2, 3, 1, 3], [1, 0, 1, 1, 0, 1, 3]])
    for graph in (Graph.from_edge_index(edge_index, 5), graph_of("hubs")):
        tensors = inputs_of(op, graph, heads, 4, modifiers=[form])
        names = ["source_norm"] if form == "lipschitz gat" else ["key_norm", "value_norm"]
        for name in names:
            tensors[name] = torch.ones_like(tensors[name])
        got, expected = (run_op(op, tensors, graph, backend=backend) for backend in ("cpu", "reference"))
        first = torch.zeros(graph.num_src, dtype=torch.bool)
        for i in graph.edge_index[1].unique():
            first[graph.edge_index[0, graph.edge_index[1] == i][0]] = True
        for name in names:
            torch.testing.assert_close(got[f"grad {name}"], expected[f"grad {name}"], rtol=1e-10, atol=1e-13)
            assert not got[f"grad {name}"][~first].any()
        assert any(got[f"grad {name}"][first].any() for name in names)


@pytest.mark.parametrize("op", ["gat", "gatv2"])
def test_the_slope_at_a_score_of_zero_is_the_negative_one(
    op: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    """As for ``torch.nn.functional.leaky_relu``, and with modifiers too."""
    graph = graph_of("mixed")
    for modifiers in ([], MODIFIERS):
        tensors = inputs_of(op, graph, 2, 3, edge=True, modifiers=modifiers)
        for name in {"a_src", "a_dst", "a_edge", "x_src", "x_dst", "x_edge"} & tensors.keys():
            tensors[name] = tensors[name].round()  # sums of exactly zero are common
        got, expected = (run_op(op, tensors, graph, backend=backend) for backend in ("cpu", "reference"))
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=1e-10, atol=1e-13)


def test_the_gradient_at_the_clip_is_that_of_clamp(graph_of: Function, inputs_of: Function, run_op: Function) -> None:
    """Scores of exactly ``clip`` still move; beyond it they do not."""
    graph = graph_of("mixed")
    tensors = inputs_of("gt", graph, 2, 4)
    for name in ("q", "k", "edge"):
        tensors[name] = tensors[name].sign()  # scores are -2, -1, 0, 1 and 2
    got, expected = (run_op("gt", tensors, graph, clip=1.0, backend=backend) for backend in ("cpu", "reference"))
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-10, atol=1e-13)


def test_edges_of_weight_zero_get_no_attention_and_a_gradient(
    graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of("mixed")
    tensors = inputs_of("gt", graph, 3, 4, edge=True)
    tensors["edge_weight"][::3] = 0.0
    tensors["edge_weight"][graph.edge_index[1] == 1] = 0.0  # a target with nothing but those
    got, expected = (run_op("gt", tensors, graph, return_attention=True, backend=b) for b in ("cpu", "reference"))
    assert not got["alpha"][::3].any()
    assert not got["out"][1].any()
    assert got["grad edge_weight"][::3].any()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sink", [None, -1.0])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_an_edge_of_weight_zero_does_not_hide_the_others(backend: str, sink: float | None) -> None:
    """Its score may lie beyond what exponentials reach above theirs; a row may have none but such edges."""
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 2, 0, 1], [0, 0, 0, 1, 1]]), 3)
    scores, weights = torch.tensor([1.0, 300, 2, 300, -300]), torch.tensor([0.5, 0, 2, 0, 0])
    v = torch.randn(3, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    edge = scores.view(5, 1, 1).clone().requires_grad_()
    one = torch.ones(3, 1, 1)
    modifier = None if sink is None else Sink(torch.full((3, 1), sink))
    out, alpha = ops.gt(
        *(one, one, v, edge, graph),
        clip=INFINITY,
        edge_weight=weights,
        sink=modifier,
        return_attention=True,
        backend=backend,
    )
    terms = weights[[0, 2]].double() * scores[[0, 2]].double().exp()
    total = terms.sum() + 1e-6 + (0 if sink is None else torch.tensor(sink).double().exp())
    expected = torch.zeros(5)
    expected[[0, 2]] = (terms / total).float()
    torch.testing.assert_close(alpha.flatten(), expected)
    grads = torch.autograd.grad(out.sum(), (v, edge))
    torch.testing.assert_close(grads[0].flatten(), torch.stack([expected[0], torch.tensor(0.0), expected[2]]))
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert (grads[1].flatten()[[1, 3, 4]] == 0).all()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("op", ["gat", "gatv2", "dot", "gt", "edge_softmax"])
def test_a_sink_of_logit_minus_infinity_is_no_sink(
    op: str, backend: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    """For targets without edges too."""
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 3, 4, modifiers=["sink value"])
    tensors["sink_logit"].fill_(-INFINITY)
    options = {} if op == "edge_softmax" else {"return_attention": True}
    got = run_op(op, tensors, graph, backend=backend, **options)
    plain = {name: x for name, x in tensors.items() if not name.startswith("sink")}
    for name, expected in run_op(op, plain, graph, backend=backend, **options).items():
        torch.testing.assert_close(got[name], expected)
    assert not got["grad sink_logit"].any()
    assert op == "edge_softmax" or not got["grad sink_value"].any()


@pytest.mark.parametrize("op", ["gat", "dot"])
def test_a_sink_that_leaves_little_has_the_gradient_of_what_it_leaves(
    op: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    """The difference of its own dalpha and the row's mean would lose it to rounding."""
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 3, 8, dtype=torch.float32, modifiers=["sink value"])
    tensors["sink_logit"].fill_(14.0)
    got = run_op(op, tensors, graph, backend="cpu")
    exact = run_op(op, {name: x.double() for name, x in tensors.items()}, graph, backend="reference")
    with_edges = graph.rowptr.diff() > 0
    torch.testing.assert_close(
        got["grad sink_logit"][with_edges].double(), exact["grad sink_logit"][with_edges], rtol=1e-4, atol=0.0
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("sink", [None, -INFINITY, 0.0])
def test_a_row_of_masked_edges_has_weights_only_beside_a_sink(
    sink: float | None, backend: str, graph_of: Function, call_op: Function
) -> None:
    graph = graph_of("mixed")
    tensors = {"logits": torch.full((graph.num_edges, 2), -INFINITY)}
    if sink is not None:
        tensors["sink_logit"] = torch.full((graph.num_dst, 2), sink)
    alpha = call_op("edge_softmax", tensors, graph, backend=backend)
    assert bool((alpha == 0).all() if sink == 0.0 else alpha.isnan().all())


def test_one_weight_an_edge_is_the_same_weight_for_every_head(
    graph_of: Function, inputs_of: Function, call_op: Function
) -> None:
    graph = graph_of("bipartite")
    tensors = inputs_of("gt", graph, 3, 4, edge=True)
    weight = tensors["edge_weight"][:, 0].clone().requires_grad_()
    by_head = weight.detach().unsqueeze(1).repeat(1, 3).requires_grad_()
    out, same = (call_op("gt", {**tensors, "edge_weight": given}, graph) for given in (weight, by_head))
    assert torch.equal(out, same)
    (grad,) = torch.autograd.grad(out.sin().sum(), weight)
    (expected,) = torch.autograd.grad(same.sin().sum(), by_head)
    torch.testing.assert_close(grad, expected.sum(1))


@pytest.mark.parametrize("logit", [1e4, -1e4, -INFINITY])
@pytest.mark.parametrize("op", SCORES)
def test_extreme_sinks(op: str, logit: float, graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    """One that is far below all scores changes nothing, one far above them takes everything."""
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 2, 3, edge=True, modifiers=["sink value"])
    isolated = (graph.rowptr.diff() == 0).view(-1, 1, 1)
    tensors["sink_logit"].fill_(logit)
    got = call_op(op, tensors, graph, backend="cpu")
    plain = call_op(op, {n: t for n, t in tensors.items() if not n.startswith("sink")}, graph, backend="cpu")
    full = tensors["sink_value"].expand_as(got)
    if logit > 0:
        torch.testing.assert_close(got, full)
    else:
        torch.testing.assert_close(got[~isolated.expand_as(got)], plain[~isolated.expand_as(got)])
