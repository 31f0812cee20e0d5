"""A uniform sample of rows that comes batch by batch and merges, the same whichever way it came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """Of all rows so far those ``capacity`` with the smallest hash of their number; all of them while there are fewer.

    Attributes:
        capacity: Rows kept.
        values: ``[kept, D]``.
        keys: ``[kept]``, their hashes, int64, rising.
        seen: Rows so far.
    """

    capacity: int
    values: Tensor
    keys: Tensor
    seen: int = 0

    @classmethod
    def empty(cls, capacity: int, width: int) -> Sample:
        return cls(capacity, torch.empty(0, width), torch.empty(0, dtype=torch.int64))

    def chosen(self, rows: int) -> Tensor:
        """Numbers, among the next ``rows``, of those that may come to be kept."""
        keys = _hash(self.seen, rows)
        if len(self.keys) < self.capacity:
            if rows <= self.capacity - len(self.keys):
                return torch.arange(rows)
            return keys.argsort(stable=True)[: self.capacity].sort().values
        return (keys < self.keys[-1]).nonzero().flatten()

    def extend(self, chosen: Tensor, values: Tensor, rows: int) -> Sample:
        """With the next ``rows``, of which ``values`` ``[c, D]`` are the ``chosen`` ones."""
        values = values.cpu()
        return self._with(_hash(self.seen, rows)[chosen], values, rows)

    def merge(self, other: Sample) -> Sample:
        """The sample of these rows and the others'."""
        return self._with(other.keys, other.values, other.seen)

    def _with(self, keys: Tensor, values: Tensor, rows: int) -> Sample:
        keys = torch.cat([self.keys, keys])
        kept = keys.argsort(stable=True)[: self.capacity]
        values = torch.cat([self.values.to(values.dtype), values])[kept]
        return Sample(self.capacity, values, keys[kept], self.seen + rows)


def _hash(start: int, rows: int) -> Tensor:
    """SplitMix64 of the numbers ``start ..``, less a bit."""
    with np.errstate(over="ignore"):
        z = (np.arange(start, start + rows, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(1)
    return torch.from_numpy(z.astype(np.int64))
