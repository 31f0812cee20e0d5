"""The optional arguments of the sweep: dropout, returned attention, LipschitzNorm, decay, a sink."""

from __future__ import annotations

from typing import Any

import torch

from gattn.check.registry import MODIFIERS, Draw, Drawn, Modifier, Tensors, register
from gattn.modifiers import Decay, Lipschitz, Sink

__all__ = ["MODIFIERS"]

DISTANCES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _draw_dropout(draw: Draw) -> Drawn:
    p = draw.random.choice((0.1, 0.5, 0.9))
    return Drawn(options={"dropout_p": p, "seed": draw.random.integer(0, 2**62)})


def _draw_attention(draw: Draw) -> Drawn:
    return Drawn(options={"return_attention": draw.random.choice((True, True, "before_dropout"))})


def _draw_lipschitz(draw: Draw) -> Drawn:
    """Norms of about one size, far apart, or all equal, which makes every maximum a tie."""
    form = draw.random.choice(("gat", "dot"))
    spread, offset = draw.random.choice(((1.0, 0.01), (1.0, 0.01), (30.0, 0.5), (0.0, 2.0)))
    graph, heads = draw.graph, draw.heads
    by_node = {"gat": (("source_norm", graph.num_src), ("target_norm", graph.num_dst))}.get(
        form, (("key_norm", graph.num_src), ("value_norm", graph.num_src))
    )
    tensors = {name: spread * draw.random.normal(rows, heads).abs() + offset for name, rows in by_node}
    tensors["norm_weight" if form == "gat" else "query_norm"] = draw.random.normal(heads).abs() + 0.1
    return Drawn(tensors)


def _lipschitz(t: Tensors, options: dict[str, Any]) -> dict[str, Any]:
    if "source_norm" in t:
        return {"lipschitz": Lipschitz.gat(t["source_norm"], t["target_norm"], t["norm_weight"])}
    return {"lipschitz": Lipschitz.dot(t["query_norm"], t["key_norm"], t["value_norm"])}


def _draw_decay(draw: Draw) -> Drawn:
    """Distances of a few hops, sometimes unreachable ones; ``hop`` sometimes a distance, where rho has a kink."""
    random, edges = draw.random, draw.graph.num_edges
    dtype = random.choice(DISTANCES)
    distance = random.integers(random.choice((2, 6, 128)), edges)
    if dtype not in (torch.uint8, torch.int8) and random.chance(0.3):
        distance[random.integers(max(edges, 1), edges // 4)] = 510
    hop = 2 * random.normal(draw.heads) + 1
    if random.chance(0.3):
        hop = hop.round()
    options = {"gamma": random.choice((0.3, 0.7, 0.95, 1.0)), "slope": random.choice((0.0, 0.0, 0.1, 0.2))}
    return Drawn({"hop": hop}, options, {"distance": distance.to(dtype)})


def _decay(t: Tensors, options: dict[str, Any]) -> dict[str, Any]:
    return {"decay": Decay(t["distance"], t["hop"], options["gamma"], options["slope"])}


def _draw_sink(draw: Draw) -> Drawn:
    tensors = {"sink_logit": draw.logits(draw.graph.num_dst)}
    if draw.has_values and draw.random.chance(0.6):
        tensors["sink_value"] = draw.random.normal(draw.heads, draw.channels)
    return Drawn(tensors)


def _sink(t: Tensors, options: dict[str, Any]) -> dict[str, Any]:
    return {"sink": Sink(t["sink_logit"], t.get("sink_value"))}


register(Modifier("dropout", 0.4, _draw_dropout))
register(Modifier("attention", 0.4, _draw_attention))
register(Modifier("lipschitz", 0.25, _draw_lipschitz, _lipschitz))
register(Modifier("decay", 0.25, _draw_decay, _decay))
register(Modifier("sink", 0.25, _draw_sink, _sink))
