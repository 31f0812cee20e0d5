"""Numbers by depth, the studies' common shape: as a table and as a plot, and gradients by layer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gattn.figure import Panel
from gattn.studies.page import Table
from gattn.studies.plan import Result

#: Numbers by depth that others report: a mean, or a mean and a standard deviation.
Published = Mapping[int, float | tuple[float, float]]
_COLOURS = ("#0b6e99", "#d9730d", "#4d7c0f", "#9d174d", "#6d28d9", "#444444")


def gradient_norms(layers: Sequence[nn.Module]) -> list[float]:
    """Norm of the gradient by all parameters of every layer."""
    return [
        float(torch.stack([p.grad.norm() for p in layer.parameters() if p.grad is not None]).norm()) for layer in layers
    ]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (0 for one value) of the values that are numbers; NaN if none is."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return math.nan, math.nan
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def by_depth(results: Sequence[Result], what: str, axis: str = "depth") -> dict[int, list[float]]:
    """The number named ``what`` of every seed, by depth or another ``axis`` of the grid; NaN where not finite."""
    found: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda result: (result[axis], result["seed"])):
        found.setdefault(result[axis], []).append(_number(result[what]))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def seeds_text(lines: Mapping[str, Sequence[Result]]) -> str:
    """How many seeds the cells of a table by depth have: "3 seeds", or "1 to 3 seeds"."""
    counts = {len(seeds) for results in lines.values() for seeds in by_depth(results, "seed").values()}
    fewest, most = min(counts), max(counts)
    return f"{fewest} to {most} seeds" if fewest < most else f"{most} seed{'s' * (most > 1)}"


def depth_table(
    lines: Mapping[str, Sequence[Result]],
    what: str,
    show: Callable[[float, float], str],
    others: Mapping[str, Mapping[str, Published]],
    axis: str = "depth",
) -> Table:
    """A row a line, a column a depth. Diverged runs are counted, not averaged.

    Args:
        lines: Results by the name of their line.
        what: The number to show.
        show: Its mean and standard deviation as text.
        others: What others report of the lines, by what it is called (say ``"published"``): rows under the line's.
        axis: What has a column, if not the depth.
    """
    curves = {name: by_depth(results, what, axis) for name, results in lines.items()}
    columns = sorted({place for curve in curves.values() for place in curve})
    rows, quoted = [], set()
    for name, curve in curves.items():
        rows.append([name, *(_cell(curve[place], show) if place in curve else "–" for place in columns)])
        for source, reports in others.items():
            report = reports.get(name, {})
            if any(place in report for place in columns):
                quoted.add(f"{name}, {source}")
                cells = (show(*_mean(report[place])) if place in report else "–" for place in columns)
                rows.append([f"{name}, {source}", *cells])
    return Table([axis, *map(str, columns)], rows, frozenset(quoted))


def _mean(reported: float | tuple[float, float]) -> tuple[float, float]:
    return reported if isinstance(reported, tuple) else (reported, 0.0)


def _cell(values: Sequence[float], show: Callable[[float, float], str]) -> str:
    diverged = sum(map(math.isnan, values))
    if diverged == len(values):
        return "diverged"
    return show(*spread(values)) + (f" ({diverged} diverged)" if diverged else "")


def percent(mean: float, deviation: float) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if deviation else "")


def depth_panel(
    lines: Mapping[str, Sequence[Result]], what: str, label: str, published: Mapping[str, Published], scale: float = 1.0
) -> Panel:
    """Mean and standard deviation by depth; what was published dashed."""

    def draw(axes: Any) -> None:
        for (name, results), colour in zip(lines.items(), _COLOURS, strict=False):
            curve = by_depth(results, what)
            means, deviations = (
                torch.tensor(x) * scale for x in zip(*(spread(v) for v in curve.values()), strict=True)
            )
            axes.plot(list(curve), means, marker="o", color=colour, label=name)
            axes.fill_between(list(curve), means - deviations, means + deviations, color=colour, alpha=0.15, lw=0)
            if published.get(name):
                values = [_mean(value)[0] * scale for value in published[name].values()]
                axes.plot(list(published[name]), values, color=colour, ls="--", lw=1)
        axes.set(xlabel="depth", ylabel=label)
        axes.legend(frameon=False, fontsize=8)

    return draw


def gradient_panel(lines: Mapping[str, Sequence[Result]], what: str, depth: int, label: str) -> Panel:
    """Gradient norm by layer of the networks of one depth, geometric mean over the seeds."""

    def draw(axes: Any) -> None:
        for (name, results), colour in zip(lines.items(), _COLOURS, strict=False):
            norms = [
                torch.tensor([_number(norm) for norm in result[what]], dtype=torch.float64)
                for result in results
                if result["depth"] == depth
            ]
            if norms:
                mean = torch.stack(norms).clamp(min=1e-300).log().mean(0).exp()
                axes.semilogy(range(1, len(mean) + 1), mean, color=colour, label=name)
        axes.set(xlabel="layer", ylabel=label)
        axes.legend(frameon=False, fontsize=8)

    return draw
