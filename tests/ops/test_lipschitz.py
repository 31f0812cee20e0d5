"""LipschitzNorm from features to attention: the formulas, the bounds, gradients through the norms, heads, invariances.

Here norms are made of the features, as a layer makes them; elsewhere they are an op's independent inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph, Lipschitz, Sink, ops

Function = Callable[..., Any]
HEADS, CHANNELS = 3, 4
FORMS = ("gat", "dot")
BACKENDS = ("reference", "cpu")
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(params=["mixed", "bipartite", "hubs"])
def graph(request: pytest.FixtureRequest, graph_of: Function) -> Graph:
    found: Graph = graph_of(request.param)
    return found


def make_features(form: str, graph: Graph, heads: int = HEADS) -> list[Tensor]:
    """For ``gat`` the features of sources and targets and the attention vectors, for ``dot`` q, k and v."""
    generator = torch.Generator().manual_seed(7)
    rows = {"gat": (graph.num_src, graph.num_dst, 1, 1), "dot": (graph.num_dst, graph.num_src, graph.num_src)}[form]
    return [torch.randn(n, heads, CHANNELS, generator=generator, dtype=torch.float64) for n in rows]


def norm(form: str, features: list[Tensor], variant: Any = "paper") -> Lipschitz:
    if form == "gat":
        x_src, x_dst, att_src, att_dst = features
        weight = 4 * torch.cat([att_src, att_dst], dim=2)[0].norm(dim=1)
        return Lipschitz.gat(x_src.norm(dim=2), x_dst.norm(dim=2), weight, variant=variant)
    q, k, v = features
    u = q.norm(dim=2) if variant == "as-released" else q.square().sum((0, 2)).sqrt()
    return Lipschitz.dot(u, k.norm(dim=2), v.norm(dim=2), variant=variant)


def attend(
    form: str, features: list[Tensor], graph: Graph, backend: str, lipschitz: Lipschitz | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Output and attention; the slope of LeakyReLU is 1, so that scores can be read off the attention."""
    lipschitz = lipschitz or norm(form, features)
    common = {"lipschitz": lipschitz, "return_attention": True, "backend": backend, **options}
    if form == "dot":
        found: tuple[Tensor, Tensor] = ops.dot(*features, graph, **common)
        return found
    x_src, x_dst, att_src, att_dst = features
    found = ops.gat(x_src, (x_src * att_src).sum(-1), (x_dst * att_dst).sum(-1), graph, negative_slope=1.0, **common)
    return found


def scores(form: str, features: list[Tensor], graph: Graph, backend: str) -> Tensor:
    """``t_ij / c_i`` ``[E, H]`` as the backend has it, from what a sink about as heavy as the row leaves to an edge."""
    target, heads = graph.edge_index[1], features[0].size(1)
    logit = torch.bincount(target, minlength=graph.num_dst).clamp(min=1).double().log().unsqueeze(1).expand(-1, heads)
    _, alpha = attend(form, features, graph, backend, sink=Sink(logit.contiguous()))
    rest = 1 - torch.zeros_like(logit).index_add(0, target, alpha)
    return (alpha / rest[target]).log() + logit[target]


def naive(form: str, features: list[Tensor], graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Output, attention and scores of one head and target at a time, by the paper's formulas."""
    sources, targets = graph.edge_index.tolist()
    heads, values = features[0].size(1), features[0] if form == "gat" else features[2]
    out = [[torch.zeros(CHANNELS, dtype=torch.float64)] * heads for _ in range(graph.num_dst)]
    alpha, score = ([[torch.zeros(())] * heads for _ in sources] for _ in range(2))
    for i in range(graph.num_dst):
        edges = [e for e, target in enumerate(targets) if target == i]
        for h in range(heads if edges else 0):
            near = [sources[e] for e in edges]
            if form == "gat":
                x_src, x_dst, att_src, att_dst = (feature[:, h] for feature in features)
                largest = max((x_src[j] @ x_src[j] for j in near), key=Tensor.item)
                c = (
                    4
                    * (att_src.square().sum() + att_dst.square().sum()).sqrt()
                    * (x_dst[i] @ x_dst[i] + largest).sqrt()
                )
                t = [att_src[0] @ x_src[j] + att_dst[0] @ x_dst[i] for j in near]
            else:
                q, k, v = (feature[:, h] for feature in features)
                u = q.square().sum().sqrt()
                v_i, w_i = (max(((row[j] @ row[j]).sqrt() for j in near), key=Tensor.item) for row in (k, v))
                c = max((u * v_i, u * w_i, v_i * w_i), key=Tensor.item)
                t = [q[i] @ k[j] / math.sqrt(CHANNELS) for j in near]
            weights = [(each / (c + 1e-12)).exp() for each in t]
            for e, each, weight in zip(edges, t, weights, strict=True):
                alpha[e][h], score[e][h] = weight / sum(weights), each / c
                out[i][h] = out[i][h] + alpha[e][h] * values[sources[e], h]
    stacked = [torch.stack([torch.stack(row) for row in rows]) for rows in (out, alpha, score)]
    return stacked[0], stacked[1], stacked[2]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["mixed", "bipartite"])
def test_formula_and_gradients_through_the_norms(form: str, backend: str, kind: str, graph_of: Function) -> None:
    graph = graph_of(kind)
    features = [feature.requires_grad_() for feature in make_features(form, graph)]
    got, expected = attend(form, features, graph, backend), naive(form, features, graph)
    gradients = [torch.autograd.grad(sum(r.sin().sum() for r in results[:2]), features) for results in (got, expected)]
    for found, wanted in zip((*got, *gradients[0]), (*expected[:2], *gradients[1]), strict=True):
        torch.testing.assert_close(found, wanted, **TIGHT)
    torch.testing.assert_close(scores(form, features, graph, backend), expected[2], **TIGHT)

    fixed = norm(form, [feature.detach() for feature in features])
    without = torch.autograd.grad(sum(r.sin().sum() for r in attend(form, features, graph, backend, fixed)), features)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(gradients[0][:-1], without[:-1], strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_central_differences(form: str, backend: str, graph_of: Function) -> None:
    graph = graph_of("duplicates")
    features = [feature.requires_grad_() for feature in make_features(form, graph, heads=2)]
    assert torch.autograd.gradcheck(lambda *given: attend(form, list(given), graph, backend), features)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("form", FORMS)
def test_scores_are_bounded(form: str, size: float, backend: str, graph: Graph) -> None:
    """|t / c| <= 1/4 for GAT; |q_i . k_j| <= u v_i makes it 1 / sqrt(C) for dot products."""
    features = [size * feature for feature in make_features(form, graph)]
    features[0][::3] *= 100  # a few nodes far from the others
    bound = 0.25 if form == "gat" else CHANNELS**-0.5
    found = scores(form, features, graph, backend).abs().amax()
    assert 0.1 * bound < found <= bound * (1 + 1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_bound_of_gat_is_attained(sign: int, backend: str) -> None:
    """By a target and its farthest source along the attention vectors."""
    graph = Graph.from_edge_index(torch.tensor([[0, 1], [0, 0]]), (2, 1))
    _, _, att_src, att_dst = make_features("gat", graph)
    features = [torch.cat([5 * sign * att_src, att_src]), 5 * sign * att_dst, att_src, att_dst]
    found = scores("gat", features, graph, backend)[0]
    torch.testing.assert_close(found, torch.full((HEADS,), sign / 4, dtype=torch.float64), **TIGHT)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_heads_together_are_heads_alone(form: str, backend: str, graph: Graph) -> None:
    features = make_features(form, graph)
    features = [feature * torch.tensor([0.1, 1.0, 10.0]).view(HEADS, 1) for feature in features]
    together = attend(form, features, graph, backend)
    alone = [attend(form, [feature[:, h : h + 1] for feature in features], graph, backend) for h in range(HEADS)]
    for found, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, torch.cat(parts, dim=1), **TIGHT)


def test_the_released_program_mixes_heads_up(graph: Graph) -> None:
    """All nodes have a head's norm, so that nothing else of the program differs from the formula: it finds entry ``i``
    of the flattened maxima, which is another node's, of head ``i % H``."""
    features = make_features("gat", graph)
    sizes = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    features[:2] = [x / x.norm(dim=2, keepdim=True) * sizes.view(HEADS, 1) for x in features[:2]]
    paper, released = (norm("gat", features, variant) for variant in ("paper", "as-released"))
    (_, expected), (_, got) = (attend("gat", features, graph, "reference", each) for each in (paper, released))
    target = graph.edge_index[1]
    crowd = torch.bincount(target, minlength=graph.num_dst)[target] > 1
    own = target.unsqueeze(1) % HEADS == torch.arange(HEADS)
    by_place = torch.bincount(target, minlength=graph.num_dst)[target // HEADS] > 0  # its maximum is not of no source
    right, wrong = own & by_place.unsqueeze(1), ~own & crowd.unsqueeze(1)
    torch.testing.assert_close(got[right], expected[right], **TIGHT)
    assert ((got - expected).abs()[wrong] > 1e-6).double().mean() > 0.9

    for head in range(HEADS):  # one head alone is right
        one = [feature[:, head : head + 1] for feature in features]
        (_, expected), (_, got) = (
            attend("gat", one, graph, "reference", norm("gat", one, variant)) for variant in ("paper", "as-released")
        )
        torch.testing.assert_close(got, expected, **TIGHT)


@pytest.mark.parametrize("form", FORMS)
def test_the_released_program_differs_for_other_reasons_too(form: str, graph: Graph) -> None:
    """With one head: the edge's own source in place of the target, and ``u`` over edges."""
    features = make_features(form, graph, heads=1)
    (_, expected), (_, got) = (
        attend(form, features, graph, "reference", norm(form, features, variant))
        for variant in ("paper", "as-released")
    )
    assert (got - expected).abs().max() > 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_attention_does_not_see_the_scale_of_features(form: str, backend: str, graph: Graph) -> None:
    """Nor, in GAT, that of the attention vectors; another scale in every head."""
    features = make_features(form, graph)
    _, expected = attend(form, features, graph, backend)
    scales = torch.tensor([0.01, 3.0, 500.0], dtype=torch.float64).view(HEADS, 1)
    scaled = [scales * feature for feature in features]
    torch.testing.assert_close(attend(form, scaled, graph, backend)[1], expected, rtol=1e-6, atol=0)
    if form == "gat":
        scaled = [*features[:2], *(scales * feature for feature in features[2:])]
        torch.testing.assert_close(attend(form, scaled, graph, backend)[1], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_second_edge_like_the_first_changes_no_score(form: str, backend: str, graph: Graph) -> None:
    """A maximum does not see how often it is taken; nor does it see a source that is farther but no neighbour."""
    features = make_features(form, graph)
    expected = scores(form, features, graph, backend)
    edges, sizes = graph.edge_index, (graph.num_src, graph.num_dst)
    doubled = Graph.from_edge_index(torch.cat([edges, edges[:, ::2]], dim=1), sizes)
    torch.testing.assert_close(scores(form, features, doubled, backend)[: edges.size(1)], expected, **TIGHT)

    kept = edges[:, edges[0] != 0]
    fewer = Graph.from_edge_index(kept, sizes)
    expected = scores(form, features, fewer, backend)
    moved = [feature.clone() for feature in features]
    for sources in moved[:1] if form == "gat" else moved[1:]:
        sources[0] *= 1e3
    torch.testing.assert_close(scores(form, moved, fewer, backend), expected, **TIGHT)
