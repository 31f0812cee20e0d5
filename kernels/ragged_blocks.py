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
    half = dtype.itemsize == 2
    width = max(16, power_of_two(min(channels, 128 if half and kernel == "forward" else 64)))
    together = 1
    if dropout and large:  # heads that share random words, while there are programs enough
        together = next(n for n in (4, 2, 1) if heads % n == 0 and n * width <= 64)
    if interprets_triton():  # fewer and larger ones, for it runs them one after the other
        rows, columns, warps = 32, 64, 1
    elif half:
        rows, columns = 64 if large else 16, 16 if dropout else 32
        warps = rows // 16
    else:
        rows, columns, warps = 32 if large else 16, 16, 4 if large else 2
    return Blocks(rows, columns, together, width, -(-channels // width), warps, 2)
