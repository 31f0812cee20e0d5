"""All-pairs attention with decay as attention over near pairs and an exact uniform tail.

A decayed score tends to 0, so a pair too far for its decay to matter has the weight ``e**0`` whatever its features:

    out_i = (sum_near (e**(s M) - 1) v_j + sum_all v_j) / (sum_near (e**(s M) - 1) + n)

In gattn's ops: :func:`gattn.ops.dot` over the near pairs with :class:`gattn.Decay`, whose sink takes the weight of the
``n_far`` others, ``log(n_far)`` as a logit, and gives it to the mean of their values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Sink
from gattn.ops.dot import dot
from gattn.ops.gat import gat
from gattn.ops.ragged_checks import check_pairs
from gattn.reference.dropout import accumulate_dtype


class NearPairs(NamedTuple):
    """The pairs of a batch of graphs up to a distance, as :func:`near_pairs` finds them."""

    graph: Graph  #: an edge ``j -> i`` for a pair of query ``i`` and key ``j``, in the order of pairs
    distance: Tensor  #: ``[E]``
    cutoff: int  #: the largest distance among them, if there are pairs of each


def near_pairs(distance: Tensor, ptr: Tensor, cutoff: int) -> NearPairs:
    """The pairs whose distance is at most ``cutoff``, for ``ragged_attention(..., method="sparse", near=...)``.

    One pass over all pairs; it serves every layer and head, and every step as long as the batch is the same.

    Args:
        distance: Packed as :func:`gattn.ops.ragged_attention` takes it.
        ptr: ``[B + 1]``.
        cutoff: At least what :func:`near_cutoff` says.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: ``ptr`` goes down, or ``distance`` does not have ``n * n`` numbers for a graph of ``n`` nodes.
    """
    check_pairs(distance, ptr)
    bounds = ptr.long()
    sizes, nodes = bounds.diff(), int(bounds[-1])
    of_node = sizes.repeat_interleave(sizes, output_size=nodes)  # pairs in the row of every query
    row_end = of_node.cumsum(0)
    place = (distance <= min(cutoff, torch.iinfo(distance.dtype).max)).nonzero().flatten()
    query = torch.searchsorted(row_end, place, right=True)
    first = bounds[:-1].repeat_interleave(sizes, output_size=nodes)
    key = place - (row_end - of_node)[query] + first[query]
    graph = Graph.from_edge_index(torch.stack([key, query]), nodes)
    return NearPairs(graph, distance[place], cutoff)


def near_cutoff(hop: Tensor, gamma: float, tolerance: float | None = None) -> int:
    """The largest distance whose decay is above ``tolerance`` in some head, -1 for none.

    Args:
        hop: ``[H]``, floating.
        gamma: Base of the decay, in (0, 1).
        tolerance: By default half an ulp of 1 in the accumulate dtype: the exponential of a score as small is 1 but
            for rounding.

    Raises:
        ValueError: A number is out of its range, or no distance is far.
    """
    if tolerance is None:
        tolerance = torch.finfo(accumulate_dtype(hop.dtype)).eps / 2
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"Expected 'tolerance' in (0, 1) (got {tolerance}).")
    if gamma == 1.0:
        raise ValueError("Expected 'gamma' below 1 with method 'sparse' (got 1.0): no pair is far. Use 'dense'.")
    largest = float(hop.detach().max())
    if not math.isfinite(largest):
        raise ValueError(f"Expected 'hop' to be finite with method 'sparse' (got {largest}). Use 'dense'.")
    return max(-1, math.floor(largest + math.log(tolerance) / math.log(gamma)))


def check_method(
    method: str, distance: Tensor | None, dropout_p: float, tolerance: float | None, near: NearPairs | None
) -> None:
    """Raises ValueError unless ``method`` is known and can be used with the other arguments."""
    if method not in ("dense", "sparse"):
        raise ValueError(f"Expected 'method' to be 'dense' or 'sparse' (got {method!r}).")
    if method == "dense":
        for name, given in (("tolerance", tolerance), ("near", near)):
            if given is not None:
                raise ValueError(f"Expected '{name}' with method 'sparse' alone (got it with 'dense').")
        return
    if distance is None:
        raise ValueError("Expected 'distance' with method 'sparse' (got None): without a decay no pair is far.")
    if dropout_p:
        raise ValueError(f"Expected no dropout with method 'sparse' (got {dropout_p}): far pairs are not told apart.")


def find_near(
    distance: Tensor, ptr: Tensor, hop: Tensor, gamma: float, tolerance: float | None, near: NearPairs | None
) -> NearPairs:
    """The pairs to take one by one: those given, if there are enough of them, else as few as the tolerance allows."""
    cutoff = near_cutoff(hop, gamma, tolerance)
    if near is None:
        return near_pairs(distance, ptr, cutoff)
    if near.cutoff < cutoff:
        raise ValueError(
            f"Expected near pairs up to a distance of {cutoff}, where the decay comes down to the tolerance (got "
            f"pairs up to {near.cutoff}). Call near_pairs with a larger cutoff, or leave 'near' out."
        )
    if near.graph.num_dst != int(ptr[-1]):
        raise ValueError(f"Expected near pairs of {int(ptr[-1])} nodes (got {near.graph.num_dst} nodes).")
    return near


def sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ptr: Tensor,
    hop: Tensor,
    near: NearPairs,
    *,
    gamma: float,
    slope: float,
    scale: float,
    backend: str | None,
) -> Tensor:
    """:func:`gattn.ops.ragged_attention` by the pairs of ``near``; half precision is rounded once, at the end."""
    wide = accumulate_dtype(q.dtype)
    queries, keys, values = (x.to(wide) for x in (q, k, v))
    nodes, heads, _ = q.shape
    graph = near.graph
    sizes = ptr.long().diff()
    owner = torch.arange(len(sizes), device=q.device).repeat_interleave(sizes, output_size=nodes)
    found = graph.rowptr.diff().to(wide)
    missing = sizes[owner].to(wide) - found  # keys too far, by query
    out, alpha = dot(
        queries,
        keys,
        values,
        graph,
        scale=scale,
        decay=Decay(near.distance, hop, gamma, slope),
        sink=Sink(missing.log().unsqueeze(1).expand(-1, heads)),
        return_attention=True,
        backend=backend,
    )
    target = graph.edge_index[1]
    tail = 1 - out.new_zeros(nodes, heads).index_add(0, target, alpha)
    # The values of far keys: those of the graph less those of near keys, by their mean.
    mean = gat(values, values.new_zeros(nodes, heads), None, graph, backend=backend)
    total = values.new_zeros(len(sizes), *values.shape[1:]).index_add(0, owner, values)[owner]
    far = (total - found.view(-1, 1, 1) * mean) / missing.clamp(min=1).view(-1, 1, 1)
    tail = torch.where(missing.unsqueeze(1) > 0, tail, 0)
    of_all: Tensor = out + tail.unsqueeze(-1) * far
    return of_all.to(q.dtype)
