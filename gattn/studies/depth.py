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

#: Numbers by depth that others published.
Published = dict[int, float]
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


def by_depth(results: Sequence[Result], what: str) -> dict[int, list[float]]:
    """The number named ``what`` of every seed, by depth; NaN where it was not finite."""
    found: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda result: (result["depth"], result["seed"])):
        found.setdefault(result["depth"], []).append(_number(result[what]))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def depth_table(
    lines: Mapping[str, Sequence[Result]],
    what: str,
    show: Callable[[float, float], str],
    published: Mapping[str, Published],
) -> Table:
    """A row a line, a column a depth; under each row what was published. Diverged runs are counted, not averaged."""
    curves = {name: by_depth(results, what) for name, results in lines.items()}
    depths = sorted({depth for curve in curves.values() for depth in curve})
    rows, quoted = [], set()
    for name, curve in curves.items():
        rows.append([name, *(_cell(curve[d], show) if d in curve else "–" for d in depths)])
        if any(depth in published.get(name, {}) for depth in depths):
            quoted.add(f"{name}, published")
            rows.append(
                [
                    f"{name}, published",
                    *(show(published[name][d], 0.0) if d in published[name] else "–" for d in depths),
                ]
            )
    return Table(["depth", *map(str, depths)], rows, frozenset(quoted))


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
                values = [value * scale for value in published[name].values()]
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
