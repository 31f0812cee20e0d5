"""What LipschitzNorm costs a layer: forward and backward with and without it, side by side."""

from __future__ import annotations

from typing import Any

from gattn.bench import timing
from gattn.bench.graphs import GraphCase
from gattn.bench.peers.fused import CLASSES
from gattn.bench.peers.pyg import layer_contender, pyg_style
from gattn.bench.problem import Problem

#: Layers that have a norm.
LAYERS = ("gat", "transformer")
PLAIN, NORMED = "plain", "lipschitz"


def can_run(case: GraphCase, layer: str) -> bool:
    """Whether the layer has a norm, and the graph room for more than the one step that is timed anyway."""
    return layer in LAYERS and not case.sampled_gate


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    """Summaries of the layer, plain and with ``norm="lipschitz"``, taken in turn."""
    from gattn import nn

    cls = getattr(nn, CLASSES[problem.layer.name])
    steps = {}
    for name, norm in ((PLAIN, None), (NORMED, NORMED)):
        module = pyg_style(cls, problem, norm=norm)
        steps[name] = layer_contender(module, module, *problem.given, problem).step
    return {name: timing.summary(seconds) for name, seconds in timing.alternate(steps, rounds).items()}


def ratio(found: dict[str, Any]) -> float:
    """The layer with the norm over the plain one, as a ratio of medians."""
    with_norm, without = (found[name]["median"] for name in (NORMED, PLAIN))
    return float(with_norm / without)
