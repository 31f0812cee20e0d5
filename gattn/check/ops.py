"""The ops of the sweep: every score, ``edge_softmax``, and ``ragged_attention``."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from gattn.check import modifiers
from gattn.check.graphs import EdgeList
from gattn.check.registry import OPS, Draw, Drawn, Op, Tensors, register, sum_rows
from gattn.check.terms import attention_terms
from gattn.graph import Graph
from gattn.modifiers import Decay
from gattn.ops.ragged_attention import BACKENDS as RAGGED_BACKENDS
from gattn.ops.ragged_checks import DISTANCES
from gattn.reference.attention import Inputs, Settings
from gattn.reference.scores import GT_EPSILON

__all__ = ["OPS", "modifiers"]

SLOPES = (0.2, 0.2, 0.0, 0.01, 1.0, -0.5)
#: Options that an op returns one more result for.
RESULTS = {"alpha": "return_attention", "edge": "return_edge"}


def _results(result: Any, options: dict[str, Any]) -> Tensors:
    """An op's results by name."""
    results = (result,) if isinstance(result, Tensor) else result
    names = ["out", *(name for name, option in RESULTS.items() if options.get(option))]
    return dict(zip(names, results, strict=True))


def _terms(
    names: dict[str, str], settings: Callable[[Tensors, dict[str, Any]], Settings]
) -> Callable[[Tensors, Tensors, Graph, dict[str, Any]], Tensors]:
    """Terms of an op whose tensors the reference calls otherwise; ``names`` maps its names to the op's."""

    def terms(t: Tensors, grads: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
        inputs = Inputs(**{field: t[name] for field, name in names.items() if name in t})
        weight = t.get("edge_weight")
        if weight is not None:
            inputs = inputs._replace(edge_weight=weight if weight.dim() == 2 else weight.unsqueeze(1))
        return attention_terms(inputs, settings(t, options), names, t, grads, graph, options)

    return terms


def _draw_gat(draw: Draw) -> Drawn:
    graph, random = draw.graph, draw.random
    tensors = {"x": draw.values(graph.num_src), "a_src": draw.logits(graph.num_src)}
    if random.chance(0.85):
        tensors["a_dst"] = draw.logits(graph.num_dst)
    if random.chance(0.4):
        tensors["a_edge"] = draw.logits(graph.num_edges)
    return Drawn(tensors, {"negative_slope": random.choice(SLOPES)})


def _call_gat(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    return _results(library.gat(t["x"], t["a_src"], t.get("a_dst"), graph, t.get("a_edge"), **options), options)


def _draw_gatv2(draw: Draw) -> Drawn:
    graph, random = draw.graph, draw.random
    tensors = {"x_src": draw.values(graph.num_src), "x_dst": draw.values(graph.num_dst)}
    tensors["att"] = random.choice((1.0, 1.0, 10.0)) * draw.random.normal(draw.heads, draw.channels)
    tensors["att"] /= draw.channels**0.5
    if random.chance(0.4):
        tensors["x_edge"] = draw.values(graph.num_edges)
    return Drawn(tensors, {"negative_slope": random.choice(SLOPES)})


def _call_gatv2(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    return _results(library.gatv2(t["x_src"], t["x_dst"], t["att"], graph, t.get("x_edge"), **options), options)


def _draw_qkv(draw: Draw) -> Tensors:
    rows = {"q": draw.graph.num_dst, "k": draw.graph.num_src, "v": draw.graph.num_src}
    return {name: draw.values(count) for name, count in rows.items()}


def _draw_dot(draw: Draw) -> Drawn:
    tensors = _draw_qkv(draw)
    if draw.random.chance(0.4):
        tensors["edge"] = draw.values(draw.graph.num_edges)
    return Drawn(tensors, {"scale": draw.random.choice((None, None, 0.1))})


def _call_dot(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    return _results(library.dot(t["q"], t["k"], t["v"], graph, t.get("edge"), **options), options)


def _dot_settings(t: Tensors, options: dict[str, Any]) -> Settings:
    scale = options["scale"]
    return Settings("dot", scale=t["q"].size(-1) ** -0.5 if scale is None else scale)


def _draw_gt(draw: Draw) -> Drawn:
    """With an edge weight for every head or for all; where scores are clipped some of them are 0.

    (Without clipping an edge of weight 0 may have so large a score that all others' weights underflow.)
    """
    random, edges = draw.random, draw.graph.num_edges
    clip = random.choice((5.0, 5.0, 0.5, 1e30))
    tensors = {**_draw_qkv(draw), "edge": draw.values(edges)}
    if random.chance(0.4):
        weight = random.normal(edges, draw.heads).abs() + 0.01
        if clip <= 5.0:
            target, some = draw.graph.edge_index[1], random.integers(8, edges) > 0
            none = sum_rows(some.double(), target, draw.graph.num_dst) == 0  # gradients there are beyond fp16
            weight *= (some | none[target]).unsqueeze(1)
        tensors["edge_weight"] = random.choice((weight, weight[:, 0]))
    return Drawn(tensors, {"clip": clip, "return_edge": random.chance(0.3)})


def _call_gt(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    weight = t.get("edge_weight")
    return _results(library.gt(t["q"], t["k"], t["v"], t["edge"], graph, edge_weight=weight, **options), options)


def _gt_settings(t: Tensors, options: dict[str, Any]) -> Settings:
    return Settings("gt", scale=t["q"].size(-1) ** -0.5, clip=options["clip"], epsilon=GT_EPSILON)


def _draw_edge_softmax(draw: Draw) -> Drawn:
    return Drawn({"logits": draw.logits(draw.graph.num_edges)})


def _call_edge_softmax(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    return {"alpha": library.edge_softmax(t["logits"], graph, **options)}


def _draw_ragged(draw: Draw) -> Drawn:
    """Graphs of its own, some of them empty, mostly with distances."""
    random = draw.random
    sizes = torch.tensor([random.choice((0, 1, 2, 5, 16, 17, 30, 60)) for _ in range(random.integer(1, 5))])
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).to(random.choice((torch.int32, torch.int64)))
    tensors = {name: draw.values(int(ptr[-1])) for name in ("q", "k", "v")}
    options: dict[str, Any] = {"scale": random.choice((None, None, 0.1))}
    constants = {"ptr": ptr}
    if random.chance(0.7):
        dtype, pairs = random.choice(DISTANCES), int(sizes.square().sum())
        distance = random.integers(random.choice((2, 6, 128)), pairs)
        if dtype != torch.int8 and random.chance(0.3):
            distance[random.integers(max(pairs, 1), pairs // 4)] = random.choice((510, 510, 4000))
        constants["distance"] = distance.to(dtype)
        hop = 2 * random.normal(draw.heads) + 1
        tensors["hop"] = hop.round() if random.chance(0.3) else hop
        options |= {"gamma": random.choice((0.3, 0.7, 0.95, 1.0)), "slope": random.choice((0.0, 0.0, 0.1, 0.2))}
    return Drawn(tensors, options, constants)


def _call_ragged(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    return {"out": library.ragged_attention(t["q"], t["k"], t["v"], hop=t.get("hop"), **options)}


def _ragged_terms(t: Tensors, grads: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    """Those of score ``dot`` over all pairs as edges, in their order, which have the pairs' dropout too."""
    ptr = options["ptr"].long()
    sizes, nodes = ptr.diff(), int(ptr[-1])
    rows = sizes.repeat_interleave(sizes)  # pairs of each query
    target = torch.arange(nodes).repeat_interleave(rows)
    place = torch.arange(len(target)) - (rows.cumsum(0) - rows)[target]
    source = place + ptr[:-1].repeat_interleave(sizes)[target]
    pairs = EdgeList("pairs", torch.stack([source, target]), nodes, nodes)
    if "hop" in t:
        options = {**options, "decay": Decay(options["distance"], t["hop"], options["gamma"], options["slope"])}
    names = {name: name for name in ("q", "k", "v")}
    inputs = Inputs(**{name: t[name] for name in names})
    return attention_terms(inputs, _dot_settings(t, options), names, t, grads, cast(Graph, pairs), options)


def _register(
    name: str,
    draw: Callable[[Draw], Drawn],
    call: Callable[[ModuleType, Tensors, Graph, dict[str, Any]], Tensors],
    names: dict[str, str],
    settings: Callable[[Tensors, dict[str, Any]], Settings],
    **particulars: Any,
) -> None:
    register(Op(name, draw, call, _terms(names, settings), **particulars))


QKV = {"q": "q", "k": "k", "v": "v", "edge": "edge"}
LOGITS = ("a_src", "a_dst", "a_edge")
_register(
    "gat",
    _draw_gat,
    _call_gat,
    {"v": "x", **{name: name for name in LOGITS}},
    lambda t, options: Settings("gat", options["negative_slope"]),
    wide=LOGITS,
)
_register(
    "gatv2",
    _draw_gatv2,
    _call_gatv2,
    {"q": "x_dst", "k": "x_src", "edge": "x_edge", "att": "att"},
    lambda t, options: Settings("gatv2", options["negative_slope"]),
    wide=("att",),
)
_register("dot", _draw_dot, _call_dot, QKV, _dot_settings)
_register("gt", _draw_gt, _call_gt, QKV, _gt_settings, wide=("edge_weight",))
_register(
    "edge_softmax",
    _draw_edge_softmax,
    _call_edge_softmax,
    {"a_edge": "logits"},
    lambda t, options: Settings("edge_softmax"),
    without=("attention",),
    has_values=False,
)
register(
    Op(
        "ragged_attention",
        _draw_ragged,
        _call_ragged,
        _ragged_terms,
        wide=("hop",),
        without=("attention", "lipschitz", "decay", "sink"),
        constants=("ptr", "distance"),
        backends=RAGGED_BACKENDS,
    )
)
