"""The ops of the sweep: ``gat`` and ``edge_softmax``."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from gattn import reference
from gattn.check.registry import OPS, Draw, Drawn, Op, Tensors, register, sum_rows
from gattn.graph import Graph

__all__ = ["OPS"]


def _draw_gat(draw: Draw) -> Drawn:
    graph, random = draw.graph, draw.random
    tensors = {"x": draw.values(graph.num_src), "a_src": draw.logits(graph.num_src)}
    if random.chance(0.85):
        tensors["a_dst"] = draw.logits(graph.num_dst)
    if random.chance(0.4):
        tensors["a_edge"] = draw.logits(graph.num_edges)
    return Drawn(tensors, {"negative_slope": random.choice((0.2, 0.2, 0.0, 0.01, 1.0, -0.5))})


def _call_gat(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    result = library.gat(t["x"], t["a_src"], t.get("a_dst"), graph, t.get("a_edge"), **options)
    return {"out": result} if isinstance(result, Tensor) else dict(zip(("out", "alpha"), result, strict=True))


def _softmax_terms(alpha: Tensor, kept: Tensor, gradient: Tensor, graph: Graph) -> Tensor:
    """Sizes of the terms of ``kept * d - alpha * sum(kept * d)``, the scores' gradient.

    ``kept`` is ``alpha`` after dropout, ``gradient`` the size of ``d``, the gradient of ``kept``.
    """
    target = graph.edge_index[1]
    direct = kept * gradient
    return direct + alpha * sum_rows(direct, target, graph.num_dst)[target]


def _gat_terms(t: Tensors, grads: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    source, target = graph.edge_index
    options = {**options, "return_attention": True}
    kept = _call_gat(reference, t, graph, options)["alpha"]
    alpha = _call_gat(reference, t, graph, {**options, "dropout_p": 0.0})["alpha"]
    x, grad_out = t["x"].abs()[source], grads["out"].abs()[target]
    gradient = (grad_out * x).sum(-1)
    if "alpha" in grads:
        gradient = gradient + grads["alpha"].abs()
    score = _softmax_terms(alpha, kept, gradient, graph) * max(1.0, abs(options["negative_slope"]))
    return {
        "out": sum_rows(kept.unsqueeze(-1) * x, target, graph.num_dst),
        "alpha": kept,
        "grad x": sum_rows(kept.unsqueeze(-1) * grad_out, source, graph.num_src),
        "grad a_src": sum_rows(score, source, graph.num_src),
        "grad a_dst": sum_rows(score, target, graph.num_dst),
        "grad a_edge": score,
    }


def _draw_edge_softmax(draw: Draw) -> Drawn:
    return Drawn({"logits": draw.logits(draw.graph.num_edges)})


def _call_edge_softmax(library: ModuleType, t: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    return {"alpha": library.edge_softmax(t["logits"], graph, **options)}


def _edge_softmax_terms(t: Tensors, grads: Tensors, graph: Graph, options: dict[str, Any]) -> Tensors:
    kept = _call_edge_softmax(reference, t, graph, options)["alpha"]
    alpha = _call_edge_softmax(reference, t, graph, {**options, "dropout_p": 0.0})["alpha"]
    return {"alpha": kept, "grad logits": _softmax_terms(alpha, kept, grads["alpha"].abs(), graph)}


register(Op("gat", _draw_gat, _call_gat, _gat_terms, wide=("a_src", "a_dst", "a_edge")))
register(Op("edge_softmax", _draw_edge_softmax, _call_edge_softmax, _edge_softmax_terms, without=("attention",)))
