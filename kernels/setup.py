"""What a kernel is compiled for: constants in one tuple, and the shapes of the tiles it works in."""

from __future__ import annotations

from typing import Any, NamedTuple

#: Where the walk of a kernel lies in the packed graph and groups (``gattn.packed``, ``gattn.groups``). They, as all
#: numbers that change with a graph's size, have annotated types: found from a value they would compile another kernel.
INTEGERS = ("ptr_at", "node_at", "edge_at", "counts_at", "order_at", "chunk_ptr_at", "chunk_hub_at", "chunk")


class Setup(NamedTuple):
    """Constants of a kernel. Nothing in it depends on the numbers of nodes and edges.

    A tile has the axes [rows, lanes, heads, channels]: ``rows`` nodes of the group, each walking ``lanes`` of its edges
    at a time, with ``block_heads`` heads of ``block_channels`` channels, powers of two that are masked where there are
    fewer.
    """

    score: str
    slope: float
    scale: float
    clip: float
    epsilon: float
    log_gamma: float
    decay_slope: float
    undropped: bool
    dropout: bool
    heads: int
    channels: int
    wide: Any  # the dtype that numbers accumulate in
    block_heads: int
    block_channels: int
    rows: int
    lanes: int
    group: str  # "small": several rows a program; "middle" and "hub": one row; "chunk": a piece of one row


class Results(NamedTuple):
    """Where the forward kernel writes; ``None`` for what is not asked for."""

    out: Any  # [N_dst, H, C]
    stats: Any  # [N_dst, 2, H]: maximum and sum
    alpha: Any  # [E, H]: the scores, which alpha_kernel makes weights
    edge: Any  # [E, H, C]


class Gradients(NamedTuple):
    """Gradients of the outputs, and what the forward and earlier passes of the backward have left."""

    out: Any  # [N_dst, H, C]
    alpha: Any  # [E, H]
    edge: Any  # [E, H, C]
    stats: Any  # [N_dst, 2, H]
    d: Any  # [N_dst, H]
    dalpha: Any = None  # [E, H] in the slots' order, which the pass over target rows for D leaves
    dalpha_t: Any = None  # [E, H] in the transposed slots' order, which the pass over source rows leaves
