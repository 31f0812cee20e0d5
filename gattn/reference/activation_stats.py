"""Statistics of activations, in plain PyTorch: the definition of the numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gattn.reference.dropout import accumulate_dtype

#: Places in ``counts``, before the thresholds' and the bins'.
NAN, INFINITE, BAD_ROWS, ZERO_MEDIANS, COUNTS = range(5)


def activation_stats(x: Tensor, thresholds: Tensor, edges: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows' ``largest, median, ratio`` ``[3, E]``, ``sums`` ``[2]``, ``counts`` and ``extremes`` ``[2, 3]``."""
    wide = x.to(accumulate_dtype(x.dtype))
    size = wide.abs()
    largest, median = size.amax(1), size.median(1).values
    finite = wide.isfinite().all(1)
    largest, median = (t.masked_fill(~finite, math.nan) for t in (largest, median))
    zero = finite & (median == 0)
    ratio = (largest / median).masked_fill(zero, math.inf)
    known = finite & ~zero
    counts = x.new_zeros(COUNTS, dtype=torch.int64)
    counts[NAN], counts[INFINITE] = wide.isnan().sum(), wide.isinf().sum()
    counts[BAD_ROWS], counts[ZERO_MEDIANS] = (~finite).sum(), zero.sum()
    relative = (size[known] / median[known].unsqueeze(1)).double()
    above = torch.stack([(relative > t).sum() for t in thresholds.tolist()]) if len(thresholds) else counts[:0]
    bins = torch.bincount(torch.bucketize(ratio[known].double(), edges, right=True), minlength=len(edges) + 1)
    exact = wide[finite].double()
    sums = torch.stack([exact.sum(), exact.square().sum()])
    tops = (largest.masked_fill(~finite, -1), ratio.masked_fill(~known, -1))
    extremes = torch.stack([_extreme(top, size) for top in tops])
    return torch.stack([largest, median, ratio]), sums, torch.cat([counts, above, bins]), extremes


def _extreme(by_row: Tensor, size: Tensor) -> Tensor:
    """The largest number, its row, and the column of that row's largest; -1 without any."""
    if by_row.numel() == 0 or float(by_row.max()) < 0:
        return torch.full((3,), -1.0, dtype=torch.float64)
    row = int((by_row == by_row.max()).nonzero()[0])
    column = int((size[row] == size[row].max()).nonzero()[0])
    return torch.tensor([float(by_row[row]), row, column], dtype=torch.float64)
