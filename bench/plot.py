"""The bar chart of a run: how many times gattn's time each peer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gattn.bench.report import peers
from gattn.bench.results import ratio
from gattn.bench.tables import seconds, times

#: Okabe & Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#D55E00")


def draw(run: dict[str, Any], path: Path) -> bool:
    """Write the chart as PNG (or what ``path``'s suffix says). A peer without a time has no bar.

    Returns whether there was anything to draw; if not, nothing is written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    others = peers(run)
    graphs = [graph for graph in run["graphs"] if any(ratio(graph, name) for name in others)]
    if not graphs:
        return False
    figure, axes = plt.subplots(figsize=(max(6.4, 2.4 * len(graphs)), 4.2), layout="constrained")
    width = 0.84 / len(others)
    for k, (name, title) in enumerate(others.items()):
        found = [(i, r) for i, graph in enumerate(graphs) if (r := ratio(graph, name)) is not None]
        places = [i + (k - (len(others) - 1) / 2) * width for i, _ in found]
        bars = axes.bar(places, [r for _, r in found], 0.92 * width, label=title, color=COLOURS[k % len(COLOURS)])
        axes.bar_label(bars, [times(r) for _, r in found], padding=2, fontsize=8)
    axes.axhline(1, color="black", linewidth=1)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate("gattn = 1", (1, 1), (4, 0), va="center", fontsize=8, **place)
    axes.set_xticks(range(len(graphs)), [_label(graph) for graph in graphs])
    axes.set_xlim(-0.55, len(graphs) - 0.45)
    axes.set_ylabel("time of a step / gattn's")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.1)
    threads, layer = run["settings"]["threads"], run["settings"]["layer"]
    title = f"One {layer} layer, forward and backward, fp32, {threads} threads"
    axes.set_title(title, fontsize=11, loc="left", pad=28)
    axes.legend(frameon=False, fontsize=9, ncols=len(others), loc="lower left", bbox_to_anchor=(0, 1.0))
    figure.savefig(path, dpi=160)
    plt.close(figure)
    return True


def _label(graph: dict[str, Any]) -> str:
    case, median = graph["case"], graph["contenders"]["gattn"]["time"]["median"]
    title = graph["title"].replace(", ", "\n", 1)
    return f"{title}\n{case['num_edges']:,} edges\ngattn: {seconds(median)}"
