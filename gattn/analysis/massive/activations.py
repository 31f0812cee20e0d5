"""The activations of an attention, a few edges at a time; its logits and weights."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gattn.analysis.massive.own import Own
from gattn.observers import Attended
from gattn.reference.activations import edge_slices, examined
from gattn.reference.attention import logits_of, softmax


def shape(attended: Attended, own: Own | None) -> tuple[int, int]:
    """Heads, and activations of an edge in each: one where the score is made of a number a head."""
    inputs = attended.inputs
    if inputs.q is not None:
        return inputs.q.shape[1], inputs.q.shape[2] if own is None else own.channels
    first = next(x for x in inputs if x is not None)
    return first.shape[1], 1


def chunks(attended: Attended, own: Own | None, numbers: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Which edges, their activations ``[e, H, C]`` and their raw scores ``[e, H]``, in the accumulate dtype; ``C`` is 1
    for a number a head."""
    graph, (heads, channels) = attended.graph, shape(attended, None)
    source, target = graph.edge_index
    for edges in edge_slices(graph.num_edges, heads * channels, numbers):
        x = of_edges(attended, edges)
        yield edges, x if own is None else own.narrow(x, source[edges], target[edges]), x.sum(-1)


def of_edges(attended: Attended, edges: Tensor | slice) -> Tensor:
    """``[e, H, C]``, what the op computes of these edges, in the accumulate dtype."""
    heads, channels = shape(attended, None)
    return examined(attended.inputs, attended.settings, attended.graph, edges).view(-1, heads, channels)


def logits(attended: Attended, scores: Tensor) -> Tensor:
    """``s`` ``[E, H]``, what the softmax gets, from the raw ``scores``: after divisor, LeakyReLU or clip, and decay."""
    inputs, settings, graph, by_edge, _ = attended
    return logits_of(scores, inputs, graph.edge_index[1], settings, by_edge)


def weights(attended: Attended, s: Tensor) -> Tensor:
    """``alpha`` ``[E, H]`` of these logits, before dropout."""
    inputs, settings, graph, *_ = attended
    return softmax(s, inputs, graph.edge_index[1], graph.num_dst, settings.epsilon)[0]
