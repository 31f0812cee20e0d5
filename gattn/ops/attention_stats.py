"""Statistics of an attention's activations, where its kernel does not take them on its way."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gattn.activations import ActivationStats
from gattn.graph import Graph
from gattn.ops.activation_stats import THRESHOLDS, activation_stats, check_thresholds
from gattn.reference.activations import CHUNK, edge_slices, examined
from gattn.reference.attention import Inputs, Settings


def check_stats(return_stats: bool | Sequence[float]) -> Sequence[float] | None:
    """The thresholds to count; ``None`` where no statistics are wanted.

    Raises:
        TypeError: Neither a bool nor numbers.
        ValueError: Thresholds do not rise.
        RuntimeError: In a program that is being compiled.
    """
    if return_stats is False:
        return None
    if return_stats is not True and not isinstance(return_stats, (list, tuple)):
        raise TypeError(
            f"Expected 'return_stats' to be a bool, or a list or tuple of thresholds (got "
            f"'{type(return_stats).__name__}')."
        )
    if torch.compiler.is_compiling():
        raise RuntimeError(
            "Expected 'return_stats' outside of compiled programs (got it inside): statistics are Python numbers. Take "
            "them in eager mode, or compile with return_edge=True and give the edges to gattn.ops.activation_stats."
        )
    thresholds = THRESHOLDS if return_stats is True else tuple(map(float, return_stats))
    check_thresholds(thresholds)
    return thresholds


@torch.no_grad()
def stats_in_chunks(
    inputs: Inputs, settings: Settings, graph: Graph, thresholds: Sequence[float], backend: str | None = None
) -> ActivationStats:
    """Of all edges, :data:`CHUNK` activations at a time; those that are made are gone before the next are."""
    first = next(x for x in inputs if x is not None)
    found = []
    for edges in edge_slices(graph.num_edges, first.shape[1:].numel(), CHUNK):
        x = examined(inputs, settings, graph, edges)
        found.append(activation_stats(x.flatten(1), thresholds=thresholds, backend=backend))
    return ActivationStats.join(found)
