"""What the GPU allows: measured bandwidths, and the bytes that a pass cannot avoid moving."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gattn.bench.gpu.timing import alternate
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import Layer


class Bytes(NamedTuple):
    """What a pass must move at the least, whoever computes it."""

    gathered: int  #: whole rows ``[H, C]`` in the order in which edges ask for them
    in_order: int  #: everything else: each node's rows once, and the indices of the edges


def least_bytes(layer: Layer, case: GraphCase, dtype: torch.dtype) -> dict[str, Bytes]:
    """Of the forward and of the backward.

    An edge's rows are counted with every edge: on a graph that does not fit in the cache they are seldom still there.
    Forward: a row of each of :attr:`~gattn.bench.layers.Kernel.rows` tables an edge, the 4-byte index of its source,
    and each node's output. Backward: likewise by the backward's rows, each node's output gradient, and its gradients.
    """
    row = case.heads * case.channels * dtype.itemsize
    index, nodes = 4 * (case.num_edges + case.num_nodes), case.num_nodes * row
    forward, backward = layer.kernel.rows
    return {
        "forward": Bytes(forward * case.num_edges * row, index + nodes),
        "backward": Bytes(backward * case.num_edges * row, index + (1 + forward) * nodes),
    }


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Bytes read and written a second by a plain copy of ``size`` bytes."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    found = alternate({"copy": lambda: target.copy_(source)}, device, seconds=0.5)
    return 2 * source.nbytes / float(found["copy"]["median"])


def gather_bandwidth(device: torch.device, rows: int, row_bytes: int, count: int, copied: float) -> float:
    """Bytes read a second when ``count`` random rows of a table of ``rows`` are gathered.

    Writing them in order and reading their numbers takes time too, which is taken off at the speed of a copy
    (``copied`` bytes a second).
    """
    table = torch.ones(rows, row_bytes // 4, device=device)
    generator = torch.Generator(device).manual_seed(0)
    index = torch.randint(rows, (count,), device=device, generator=generator, dtype=torch.int32)
    out = torch.empty(count, row_bytes // 4, device=device)
    found = alternate({"gather": lambda: torch.index_select(table, 0, index, out=out)}, device, seconds=0.5)
    seconds, written = float(found["gather"]["median"]), out.nbytes + index.nbytes
    # A table in the cache may be read faster than a copy goes: then what is left of the time is half of it.
    return out.nbytes / max(seconds - written / copied, seconds / 2)


def seconds(moved: Bytes, bandwidths: dict[str, float]) -> float:
    """The least time of a pass."""
    return moved.gathered / bandwidths["gather"] + moved.in_order / bandwidths["copy"]


def measure(device: torch.device, case: GraphCase, dtype: torch.dtype, *, count: int, size: int) -> dict[str, Any]:
    """``copy`` and, for tables of the case's size and rows, ``gather``, in bytes a second."""
    copied = copy_bandwidth(device, size)
    row = case.heads * case.channels * dtype.itemsize
    return {"copy": copied, "gather": gather_bandwidth(device, case.num_nodes, row, count, copied)}
