"""Learning curves of a run; with a comparison, time per epoch and peak memory beside them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gattn.files import write_atomic
from gattn.terminal import require
from gattn.train.config import Config
from gattn.train.trainer import Record

#: Draws one panel: axes, configuration, metrics, summary.
Panel = Callable[[Any, Config, list[Record], dict[str, Any]], None]

#: Colours that stay apart for colour-blind readers and in grey.
COLOUR = {"gattn": "#0b6e99", "pyg": "#d9730d"}
LABEL = {"gattn": "gattn.FusedGATConv", "pyg": "PyG GATConv"}
SHORT = {"gattn": "gattn", "pyg": "PyG"}


def draw_curves(path: Path, config: Config, records: list[Record], summary: dict[str, Any]) -> None:
    """Write the figure to ``path`` (PNG): mean over the seeds, one standard deviation shaded."""
    require("matplotlib", "drawing the learning curves (skip it with --no-plot)")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: list[Panel] = [_loss, _accuracy] + ([_time] if config.compare else [])
    if all("peak_memory_bytes" in result for result in summary["variants"].values()):
        panels.append(_memory)
    heights = [3.7, 1.7][: (len(panels) + 1) // 2]  # curves above, bars below
    figure = Figure(figsize=(10.4, sum(heights) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    runs = f", {config.runs} seeds" if config.runs > 1 else ""
    size = f"{config.layers} layers, {config.heads} heads × {config.hidden} channels"
    figure.suptitle(f"GAT on {config.dataset}: {size}{runs}", fontsize=12)
    grid = list(figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights).flat)
    for axes, panel in zip(grid, panels, strict=False):
        panel(axes, config, records, summary)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    write_atomic(path, lambda file: file.write(buffer.getvalue()))


def _series(records: list[Record], variant: str, key: str) -> tuple[Tensor, Tensor, Tensor]:
    """Epochs that every seed has reached, mean and standard deviation over the seeds."""
    seeds = sorted({record["seed"] for record in records})
    runs = [[r[key] for r in records if r["variant"] == variant and r["seed"] == seed] for seed in seeds]
    length = min(map(len, runs))
    values = torch.tensor([run[:length] for run in runs], dtype=torch.float64)
    return torch.arange(1, length + 1), values.mean(0), values.std(0, unbiased=len(runs) > 1)


def _draw(axes: Any, records: list[Record], variant: str, key: str, label: str, style: str) -> None:
    epochs, mean, std = _series(records, variant, key)
    axes.plot(epochs, mean, style, color=COLOUR[variant], linewidth=1.4, label=label)
    axes.fill_between(epochs, mean - std, mean + std, color=COLOUR[variant], alpha=0.15, linewidth=0)


def _loss(axes: Any, config: Config, records: list[Record], summary: dict[str, Any]) -> None:
    for variant in config.variants:
        _draw(axes, records, variant, "train_loss", f"{LABEL[variant]}, training", ":")
        _draw(axes, records, variant, "val_loss", f"{LABEL[variant]}, validation", "-")
    axes.set(title="Cross entropy", xlabel="epoch", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)


def _accuracy(axes: Any, config: Config, records: list[Record], summary: dict[str, Any]) -> None:
    for variant in config.variants:
        mean = summary["variants"][variant]["test_accuracy_mean"]
        label = f"{LABEL[variant]}, test: {100 * mean:.1f} %"
        _draw(axes, records, variant, "val_accuracy", f"{LABEL[variant]}, validation", "-")
        axes.axhline(mean, color=COLOUR[variant], linestyle="--", linewidth=1, label=label)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set(title="Accuracy (test: at the best validation)", xlabel="epoch")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _bars(axes: Any, config: Config, values: list[float], title: str, unit: str) -> None:
    names = [SHORT[variant] for variant in config.variants]
    bars = axes.barh(names, values, color=[COLOUR[variant] for variant in config.variants], height=0.55)
    axes.bar_label(bars, [f"{value:.3g} {unit}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set(title=title, xlabel=unit)


def _time(axes: Any, config: Config, records: list[Record], summary: dict[str, Any]) -> None:
    values = [summary["variants"][variant]["epoch_ms"] for variant in config.variants]
    ratio = summary["comparison"]["speedup_epoch"]
    _bars(axes, config, values, f"Time per epoch, median: {ratio:.2f} × as fast", "ms")


def _memory(axes: Any, config: Config, records: list[Record], summary: dict[str, Any]) -> None:
    values = [summary["variants"][variant]["peak_memory_bytes"] / 2**20 for variant in config.variants]
    ratio = summary["comparison"]["memory_ratio"]
    _bars(axes, config, values, f"Peak extra memory of training: {ratio:.1f} × less", "MiB")
