"""Block sizes of the kernels over all pairs of a graph's nodes, by a fixed rule.

In half precision a warp has the 16 rows of one instruction of the tensor cores. float32 and float64 are multiplied
without them: what counts there is how many products a thread has for each number that it loads.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from gattn.backends import interprets_triton

from .choices import power_of_two

#: Graphs of more nodes than this, on average, get large blocks: small ones would leave most of them empty.
LARGE = 48


class Blocks(NamedTuple):
    """A tile's shape, and the warps that work on it."""

    rows: int
    columns: int
    together: int  # heads a program
    channels: int
    chunks: int
    warps: int
    stages: int


@cache
def choose(kernel: str, dtype: torch.dtype, heads: int, channels: int, dropout: bool, large: bool) -> Blocks:
    """The blocks of ``kernel``, one of ``"forward"``, ``"query"`` and ``"key"``."""
    half, loose = dtype.itemsize == 2, channels % 8 != 0
    # Numbers that lie loosely are loaded one by one, each with an address of its own in registers.
    widest = 32 if loose else 128 if half and kernel == "forward" else 64
    width = max(16, power_of_two(min(channels, widest)))
    together = 1
    if dropout and large and not loose:  # heads that share random words, while there are programs enough
        most = (64 if kernel == "forward" else 32) if half else (16 if kernel == "key" else 32)  # channels
        together = next((n for n in (4, 2) if heads % n == 0 and n * width <= most), 1)
    if interprets_triton():  # fewer and larger ones, for it runs them one after the other
        rows, columns, warps = 32, 64, 1
    elif half:
        rows, columns = 64 if large else 16, 16 if dropout or loose or kernel == "key" else 32
        warps = rows // 16
    else:
        rows, columns, warps = 32 if large else 16, 16, 4 if large else 2
    # For their registers: 8 warps may take all that there are.
    if kernel == "key" or (kernel == "query" and (loose or not large)) or (width > 32 and not large):
        warps *= 2
    if dtype.itemsize == 8:
        warps = min(2 * warps, 8)
    return Blocks(rows, columns, together, width, -(-channels // width), warps, 2)
