"""Statistics of activations over batches and processes (Bini, Sorbi and Marchand-Maillet, arXiv 2409.03463)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gattn.reference.activation_stats import BAD_ROWS, COUNTS, INFINITE, NAN, ZERO_MEDIANS

__all__ = ["ActivationStats", "Extreme", "Rows"]

#: The histogram's bins: this many to a power of ten of the ratio, over as many powers of ten from 1 on.
BINS_PER_DECADE, DECADES = 100, 10
BINS = BINS_PER_DECADE * DECADES


@cache
def bin_edges(device: torch.device) -> Tensor:
    """Ratios where one bin ends and the next begins, float64, rising from 1."""
    exponents = torch.arange(BINS + 1, dtype=torch.float64) / BINS_PER_DECADE
    return (10.0**exponents).to(device)


class Rows(NamedTuple):
    """Of every row ``[E]``: the largest magnitude, the lower median of magnitudes, and the first over the second."""

    largest: Tensor
    median: Tensor
    ratio: Tensor


@dataclass(frozen=True)
class Extreme:
    """A largest number and where it is; rows count through all batches in the order in which they were merged."""

    value: float
    row: int
    column: int


@dataclass(frozen=True, eq=False)
class ActivationStats:
    """What :func:`gattn.ops.activation_stats` finds, and what several of its results find together.

    Attributes:
        rows: Numbers of every row; ``None`` in what was merged, which does not grow with the data.
        segment_ratio: Largest finite ratio of every segment (graph), NaN without one, batch after batch; ``None``
            if a batch came without segments.
        width: Features of a row.
        count: Rows.
        nan, infinite: Activations that are NaN, and that are infinite.
        bad_rows: Rows with such; they count in nothing below.
        zero_median_rows: Rows whose median is 0 and whose ratio therefore is infinite; they count in ``sum``,
            ``squares`` and ``largest`` alone.
        sum, squares: Of the activations, and of their squares, in double precision.
        above: Activations whose magnitude is above a threshold times their row's median, by threshold.
        histogram: ``[1000]``, int64: rows by ``-log10(ratio)`` in bins of .01 from -10 to 0; the first holds what is
            below, too.
        largest: The largest magnitude; ``None`` without a finite row.
        largest_ratio: The largest finite ratio, at its row's largest magnitude; ``None`` without one.
    """

    rows: Rows | None
    segment_ratio: Tensor | None
    width: int
    count: int
    nan: int
    infinite: int
    bad_rows: int
    zero_median_rows: int
    sum: float
    squares: float
    above: dict[float, int]
    histogram: Tensor
    largest: Extreme | None
    largest_ratio: Extreme | None

    @classmethod
    def _of(
        cls,
        rows: Rows,
        segment_ratio: Tensor | None,
        width: int,
        thresholds: tuple[float, ...],
        sums: Tensor,
        counts: Tensor,
        extremes: Tensor,
    ) -> ActivationStats:
        """From what the op returns."""
        numbers = counts.tolist()
        above = dict(zip(thresholds, numbers[COUNTS:], strict=False))
        bins = counts[COUNTS + len(thresholds) :].cpu()
        histogram = bins[1:-1].flip(0)
        histogram[0] += bins[-1]
        found = [Extreme(value, int(row), int(column)) for value, row, column in extremes.tolist()]
        largest, largest_ratio = (extreme if extreme.row >= 0 else None for extreme in found)
        return cls(
            rows=rows,
            segment_ratio=segment_ratio,
            width=width,
            count=len(rows.ratio),
            nan=numbers[NAN],
            infinite=numbers[INFINITE],
            bad_rows=numbers[BAD_ROWS],
            zero_median_rows=numbers[ZERO_MEDIANS],
            sum=float(sums[0]),
            squares=float(sums[1]),
            above=above,
            histogram=histogram,
            largest=largest,
            largest_ratio=largest_ratio,
        )

    @property
    def mean(self) -> float:
        """Of the activations in finite rows; NaN without one."""
        elements = self._elements
        return self.sum / elements if elements else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the activations in finite rows, of all of them and not of a sample."""
        elements = self._elements
        return math.sqrt(max(0.0, self.squares / elements - self.mean**2)) if elements else math.nan

    @property
    def _elements(self) -> int:
        return (self.count - self.bad_rows) * self.width

    @staticmethod
    def histogram_edges() -> Tensor:
        """``[1001]``, float64: where the histogram's bins of ``-log10(ratio)`` begin and end."""
        return torch.arange(-BINS, 1, dtype=torch.float64) / BINS_PER_DECADE

    def merge(self, other: ActivationStats) -> ActivationStats:
        """The statistics of these rows followed by the others'.

        Raises:
            ValueError: The two count different thresholds, or have rows of different widths.
        """
        if self.above.keys() != other.above.keys() or self.width != other.width:
            raise ValueError(
                f"Expected statistics of one width and of the same thresholds (got {self.width} and {other.width}, "
                f"{list(self.above)} and {list(other.above)}). Make both with the same arguments."
            )
        own, others = self.segment_ratio, other.segment_ratio
        added: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in _ADDED}
        return replace(
            self,
            rows=None,
            segment_ratio=None if own is None or others is None else torch.cat([own, others]),
            above={threshold: number + other.above[threshold] for threshold, number in self.above.items()},
            histogram=self.histogram + other.histogram,
            largest=_larger(self.largest, other.largest, self.count),
            largest_ratio=_larger(self.largest_ratio, other.largest_ratio, self.count),
            **added,
        )

    __add__ = merge

    @staticmethod
    def join(parts: Sequence[ActivationStats]) -> ActivationStats:
        """:meth:`merge` of all, which keeps the rows' numbers.

        Raises:
            ValueError: No parts, or of rows that are gone.
        """
        if not parts or any(part.rows is None for part in parts):
            raise ValueError("Expected statistics with their rows (got none, or merged ones).")
        whole = reduce(ActivationStats.merge, parts)
        rows = zip(*(part.rows for part in parts if part.rows is not None), strict=True)
        return replace(whole, rows=Rows(*(torch.cat(numbers) for numbers in rows)))

    def with_thresholds(self, thresholds: Sequence[float]) -> ActivationStats:
        """The same, counted above these alone.

        Raises:
            KeyError: One was not counted.
        """
        return replace(self, above={threshold: self.above[threshold] for threshold in map(float, thresholds)})

    def all_reduce(self, group: Any = None) -> ActivationStats:
        """The statistics of all processes of the group together, the same in each, in the order of their ranks."""
        import torch.distributed as dist

        parts: list[ActivationStats | None] = [None] * dist.get_world_size(group)
        ratios = None if self.segment_ratio is None else self.segment_ratio.cpu()
        dist.all_gather_object(parts, replace(self, rows=None, segment_ratio=ratios), group)
        whole, *others = (part for part in parts if part is not None)
        for part in others:
            whole = whole.merge(part)
        return whole

    def as_dict(self) -> dict[str, Any]:
        """Numbers and lists for JSON, less the rows'. What is no finite number is ``None``."""
        found = {name: getattr(self, name) for name in ("width", *_ADDED, "mean", "std")}
        found = {name: value if math.isfinite(value) else None for name, value in found.items()}
        ratios = None if self.segment_ratio is None else self.segment_ratio.tolist()
        extremes = {
            name: None if extreme is None else asdict(extreme)
            for name, extreme in (("largest", self.largest), ("largest_ratio", self.largest_ratio))
        }
        return {
            **found,
            **extremes,
            "above": {f"{threshold:g}": number for threshold, number in self.above.items()},
            "histogram": self.histogram.tolist(),
            "segment_ratio": None if ratios is None else [None if math.isnan(ratio) else ratio for ratio in ratios],
        }


#: What adds up.
_ADDED = ("count", "nan", "infinite", "bad_rows", "zero_median_rows", "sum", "squares")


def _larger(first: Extreme | None, second: Extreme | None, rows: int) -> Extreme | None:
    """The larger of the two, the first of equals; ``second`` counts rows from ``rows`` on."""
    if second is None or (first is not None and first.value >= second.value):
        return first
    return replace(second, row=second.row + rows)
