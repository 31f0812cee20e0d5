"""Statistics of activations: allocations and launches, without a synchronisation."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gattn.backends import interprets_triton

from . import require_triton
from .activation_rows import StatsSetup, activation_rows_kernel
from .activation_summary import activation_summary_kernel, activation_total_kernel
from .choices import power_of_two
from .launch import MAX_REGISTERS, launch, on_device

require_triton(triton.__version__)
if interprets_triton():
    from .interpreter import repair

    repair()

#: Columns, rows and bytes of a tile, at the most.
_COLUMNS = 1024
_ROWS = 512
_BYTES = 1 << 13
_WARPS = 4
#: Programs, at the most: they go over what there is in turn, and leave sums of their own.
_PROGRAMS = 4096
_SUMMARY_PROGRAMS = 512
_SUMMARY_BLOCK = 512
_LANES = 1024

#: By bytes of a number: integers as wide, those that its bits are compared as and the place of their sign, bits of a
#: magnitude.
_BITS = {2: (tl.int16, tl.int32, 31, 15), 4: (tl.int32, tl.int32, 31, 31), 8: (tl.int64, tl.int64, 63, 63)}
#: The bits of infinity.
_INFINITY = {
    torch.bfloat16: 0x7F80,
    torch.float16: 0x7C00,
    torch.float32: 0x7F800000,
    torch.float64: 0x7FF0000000000000,
}


class Outputs(NamedTuple):
    """What is filled."""

    largest: Tensor  # [E], like the next two in the accumulate dtype
    median: Tensor
    ratio: Tensor
    sums: Tensor  # [2], float64
    counts: Tensor  # as :mod:`gattn.reference.activation_stats` has them
    extremes: Tensor  # [2, 3], float64


@cache
def _setup(width: int, dtype: torch.dtype) -> StatsSetup:
    raw, word, sign, bits = _BITS[dtype.itemsize]
    columns = min(power_of_two(width), _COLUMNS)
    chunks = -(-width // columns)
    size = _BYTES * (32 if interprets_triton() else 1)  # it runs one program after the other
    rows = min(_ROWS, max(1, size // max(dtype.itemsize, 4) // columns))
    return StatsSetup(
        width,
        tl.float64 if dtype == torch.float64 else tl.float32,
        raw,
        word,
        sign,
        bits,
        _INFINITY[dtype],
        rows,
        columns,
        chunks,
        (width - 1) // 2 + columns * chunks - width,
    )


def activation_stats(x: Tensor, thresholds: Tensor, edges: Tensor, outputs: Outputs) -> None:
    """Fills ``outputs``; ``x`` ``[E, D]`` is contiguous, ``thresholds`` and ``edges`` are float64 and rise."""
    setup = _setup(x.shape[1], x.dtype)
    rows = x.shape[0]
    programs = min(_PROGRAMS, -(-rows // setup.rows))
    summaries = min(_SUMMARY_PROGRAMS, -(-rows // _SUMMARY_BLOCK))
    largest, median, ratio, sums, counts, extremes = outputs
    parts, tops = sums.new_empty(programs, 2), largest.new_empty(summaries, 2)
    top_rows = counts.new_empty(summaries, 2)
    by_row = {"largest": largest, "median": median, "ratio": ratio, "num_rows": rows}
    with on_device(x):
        counts.zero_()
        launch(
            activation_rows_kernel,
            (programs,),
            warps=_WARPS,
            registers=MAX_REGISTERS,
            x=x,
            thresholds=thresholds,
            **by_row,
            counts=counts,
            parts=parts,
            num_thresholds=len(thresholds),
            s=setup,
        )
        launch(
            activation_summary_kernel,
            (summaries,),
            warps=4,
            **by_row,
            edges=edges,
            counts=counts,
            tops=tops,
            top_rows=top_rows,
            num_thresholds=len(thresholds),
            num_edges=len(edges),
            digits=(len(edges) + 1).bit_length(),
            block=_SUMMARY_BLOCK,
        )
        launch(
            activation_total_kernel,
            (1,),
            warps=4,
            x=x,
            largest=largest,
            parts=parts,
            tops=tops,
            top_rows=top_rows,
            sums=sums,
            extremes=extremes,
            num_parts=programs,
            num_tops=summaries,
            s=setup,
            lanes=_LANES,
        )
