"""The reference itself: against loops over one target at a time that follow the formulas, and against PyG's layers.

Every other test trusts the reference; here nothing of it is used but its results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GATv2Conv, TransformerConv

from gattn import Graph, Lipschitz, ops, reference

Function = Callable[..., Any]
Tensors = dict[str, Tensor]
TIGHT = {"rtol": 1e-11, "atol": 1e-12}
SLOPE, CLIP, GAMMA, DECAY_SLOPE = 0.3, 0.8, 0.6, 0.1


def raw_score(op: str, t: Tensors, e: int, j: int, i: int) -> Tensor:
    """``t_ij`` ``[H]``."""
    if op == "edge_softmax":
        return t["logits"][e]
    if op == "gat":
        return t["a_src"][j] + t["a_dst"][i] + t["a_edge"][e]
    if op == "gatv2":
        return (t["att"] * F.leaky_relu(t["x_src"][j] + t["x_dst"][i] + t["x_edge"][e], SLOPE)).sum(-1)
    root = math.sqrt(t["q"].size(-1))
    if op == "dot":
        return (t["q"][i] * (t["k"][j] + t["edge"][e])).sum(-1) / root
    return (t["k"][j] * t["q"][i] / root * t["edge"][e]).sum(-1)


def value(op: str, t: Tensors, e: int, j: int) -> Tensor:
    """``[H, C]``; for ``edge_softmax``, which has none, zeros."""
    if op == "edge_softmax":
        return torch.zeros(t["logits"].size(1), 1, dtype=torch.float64)
    values = t[{"gat": "x", "gatv2": "x_src"}.get(op, "v")][j]
    return values + t["edge"][e] if op == "dot" else values


def divisor(t: Tensors, sources: list[int], i: int) -> Tensor | float:
    """``c_i`` ``[H]``."""
    if "source_norm" in t:
        largest = t["source_norm"][sources].square().amax(0)
        return t["norm_weight"] * (t["target_norm"][i].square() + largest).sqrt() + 1e-12
    if "key_norm" in t:
        u, v, w = t["query_norm"], t["key_norm"][sources].amax(0), t["value_norm"][sources].amax(0)
        return torch.maximum(torch.maximum(u * v, u * w), v * w) + 1e-12
    return 1.0


def naive(op: str, t: Tensors, graph: Graph, distance: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """``out`` and ``alpha`` before dropout, target by target, without subtracting a maximum."""
    sources, targets = graph.edge_index.tolist()
    like = value(op, t, 0, 0)
    outs, alphas = [], [torch.empty(0)] * len(sources)
    for i in range(graph.num_dst):
        edges = [e for e in range(len(sources)) if targets[e] == i]
        weights = {}
        for e in edges:
            score = raw_score(op, t, e, sources[e], i) / divisor(t, [sources[e] for e in edges], i)
            if op == "gat":
                score = torch.where(score > 0, score, SLOPE * score)
            if op == "gt":
                score = score.clamp(-CLIP, CLIP)
            if "hop" in t:
                excess = int(distance[e]) - t["hop"]
                score = score * GAMMA ** torch.where(excess > 0, excess, DECAY_SLOPE * excess)
            weights[e] = score.exp() * (t["edge_weight"][e] if "edge_weight" in t else 1.0)
        sink = t["sink_logit"][i].exp() if "sink_logit" in t else torch.zeros(like.size(0), dtype=torch.float64)
        total = sum(weights.values(), sink + (1e-6 if op == "gt" else 0.0))
        out = torch.zeros_like(like)
        if "sink_value" in t:
            out = out + (sink / total).unsqueeze(1) * t["sink_value"]
        for e in edges:
            alphas[e] = weights[e] / total
            out = out + (alphas[e] * kept[e]).unsqueeze(1) * value(op, t, e, sources[e])
        outs.append(out)
    return torch.stack(outs), torch.stack(alphas)


@pytest.mark.parametrize("lipschitz", ["lipschitz gat", "lipschitz dot", None])
@pytest.mark.parametrize("others", [["decay", "sink value"], []], ids=["decay and sink", "plain"])
@pytest.mark.parametrize("op", ["gat", "gatv2", "dot", "gt", "edge_softmax"])
def test_formulas(
    op: str,
    others: list[str],
    lipschitz: str | None,
    graph_of: Function,
    inputs_of: Function,
    call_op: Function,
    distances_of: Function,
) -> None:
    """With edge features, dropout, and targets without edges; results and every gradient."""
    graph = graph_of("bipartite")
    modifiers = [*others, lipschitz] if lipschitz else others
    tensors = inputs_of(op, graph, 2, 3, edge=op != "edge_softmax", modifiers=modifiers)
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    own = {"gat": {"negative_slope": SLOPE}, "gatv2": {"negative_slope": SLOPE}, "gt": {"clip": CLIP}}.get(op, {})
    options = {"dropout_p": 0.25, "seed": 9, "decay": {"gamma": GAMMA, "slope": DECAY_SLOPE}, "backend": "reference"}
    kept = ops.dropout_mask(graph, 2, 0.25, 9).double() / 0.75
    out, alpha = naive(op, leaves, graph, distances_of(graph), kept)
    if op == "edge_softmax":
        got, expected = [call_op(op, leaves, graph, **options)], [alpha * kept]
    else:
        got = list(call_op(op, leaves, graph, return_attention="before_dropout", **own, **options))
        expected = [out, alpha]
    total = [sum((result * (result + 1)).sum() for result in results) for results in (got, expected)]
    gradients = [torch.autograd.grad(each, list(leaves.values())) for each in total]
    for found, wanted in zip([*got, *gradients[0]], [*expected, *gradients[1]], strict=True):
        torch.testing.assert_close(found, wanted, **TIGHT)


def heads_of(x: Tensor) -> Tensor:
    return x.view(-1, 3, 4)


@pytest.mark.parametrize("op", ["gatv2", "dot"])
def test_pyg_layers(op: str, graph_of: Function, call_op: Function) -> None:
    """The op between PyG's own linear maps gives PyG's output, attention and gradients."""
    graph = graph_of("mixed")
    torch.manual_seed(1)
    x = torch.randn(graph.num_src, 5, dtype=torch.float64, requires_grad=True)
    edge = torch.randn(graph.num_edges, 2, dtype=torch.float64, requires_grad=True)
    if op == "gatv2":
        layer = GATv2Conv(5, 4, heads=3, edge_dim=2, add_self_loops=False, bias=False).double()
        names = {"x_src": (layer.lin_l, x), "x_dst": (layer.lin_r, x), "x_edge": (layer.lin_edge, edge)}
    else:
        layer = TransformerConv(5, 4, heads=3, edge_dim=2, root_weight=False).double()
        names = {
            name: (getattr(layer, f"lin_{long}"), x) for name, long in (("q", "query"), ("k", "key"), ("v", "value"))
        }
        names["edge"] = (layer.lin_edge, edge)
    tensors = {name: heads_of(linear(given)) for name, (linear, given) in names.items()}
    if op == "gatv2":
        tensors["att"] = layer.att[0]
    got = call_op(op, tensors, graph, return_attention=True, backend="reference")
    out, (_, alpha) = layer(x, graph.edge_index, edge, return_attention_weights=True)
    expected = (heads_of(out), alpha)
    leaves = [x, edge, *(p for name, p in layer.named_parameters() if "skip" not in name)]
    pairs = [
        (*results, *torch.autograd.grad(sum(r.sin().sum() for r in results), leaves)) for results in (got, expected)
    ]
    for found, wanted in zip(*pairs, strict=True):
        torch.testing.assert_close(found, wanted, **TIGHT)


def test_gt_edge_stream_is_the_vector_whose_sum_is_the_score(graph_of: Function, inputs_of: Function) -> None:
    graph = graph_of("mixed")
    q, k, v, edge = inputs_of("gt", graph, 3, 4).values()
    source, target = graph.edge_index
    _, stream = reference.gt(q, k, v, edge, graph, clip=0.1, return_edge=True)
    torch.testing.assert_close(stream, k[source] * q[target] / 2 * edge, **TIGHT)


def test_lipschitz_bounds_the_score_of_gat(graph_of: Function) -> None:
    """With the divisor of theorem 4.1 no score is larger than 1/4."""
    graph = graph_of("mixed")
    x = 30 * torch.randn(graph.num_src, 2, 6, dtype=torch.float64)
    att_src, att_dst = torch.randn(2, 2, 6, dtype=torch.float64)
    norms = x.norm(dim=-1)
    modifier = Lipschitz.gat(norms, norms, 4 * torch.cat([att_src, att_dst], 1).norm(dim=1))
    source, target = graph.edge_index
    score = (x[source] * att_src).sum(-1) + (x[target] * att_dst).sum(-1)
    rows = [norms[source[target == i]] for i in range(graph.num_dst)]
    largest = torch.stack([row.amax(0) if len(row) else torch.zeros(2, dtype=torch.float64) for row in rows])
    assert (score / modifier.divisor([largest])[target]).abs().max() <= 0.25


@pytest.mark.parametrize("form", ["gat", "dot"])
def test_zero_norms_have_finite_gradients(form: str) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1], [1, 1]]), 2)
    norms = [torch.zeros(2, 1, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    lipschitz = Lipschitz.gat(*norms, weight) if form == "gat" else Lipschitz.dot(weight, *norms)
    logits = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    out = reference.edge_softmax(logits, graph, lipschitz=lipschitz)
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.square().sum(), [*norms, weight, logits]))
