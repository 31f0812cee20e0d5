"""The tables and figures of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gattn.analysis.massive.fit import GammaFit
from gattn.analysis.massive.report import Layer, Report, log_ratios
from gattn.figure import Panel
from gattn.studies.page import Section, Table

#: Features that are listed: those with the most massive activations.
_FEATURES = 5


def sections(report: Report, *, figures: bool) -> list[Section]:
    """All tables; with figures those of every layer."""
    layers = list(report.layers.values())
    found = [overview(report)]
    if any(layer.stats is not None for layer in layers):
        found += [_distribution(layers), _carriers(layers)]
    if any(set(layer.record.stats) - {"activations"} for layer in layers):
        found.append(_taps(layers))
    if figures:
        found += [Section(_name(layer), panels=panels(layer)) for layer in layers if layer.stats is not None]
    return found


def overview(report: Report) -> Section:
    """A row a layer: the largest ratio, counts, and the base."""
    layers, settings = list(report.layers.values()), report.settings
    threshold = f"{settings['threshold']:g}"
    header = ["layer", "score", "activations an edge", "edges", "largest ratio", f"above {threshold}", "edges with one"]
    header += [f"graphs above {threshold}", "NaN", "infinite", "edges of median 0"]
    based = settings["copies"] > 0
    header += ["base: largest", f"base: above {threshold}", "graphs above the base"] if based else []
    rows = []
    for layer in layers:
        stats, record = layer.stats, layer.record
        if stats is None:
            continue
        row = [_name(layer), record.score, f"{record.heads} x {record.channels}", f"{stats.count:,}"]
        row += [_ratio(stats.largest_ratio.value if stats.largest_ratio else math.nan)]
        row += [f"{stats.above[layer.threshold]:,}", f"{_carrying(layer):,}"]
        row += [f"{layer.massive_graphs:,} of {len(record.by_graph()):,}"]
        row += [f"{stats.nan:,}", f"{stats.infinite:,}", f"{stats.zero_median_rows:,}"]
        if based:
            massive = [copy.stats["activations"].above[layer.threshold] for copy in layer.base]
            above = "–" if layer.graphs_above is None else f"{layer.graphs_above:,}"
            row += [_ratio(layer.base_largest), " ".join(f"{number:,}" for number in massive) or "–", above]
        rows.append(row)
    text = (
        f"{settings['graphs']:,} graph(s) in {settings['batches']:,} batch(es). The ratio of an activation is its "
        f"magnitude over the median magnitude of its edge. Edges with a NaN or an infinity, and those whose median is "
        f"0, are counted here and are in no ratio."
    )
    if based:
        text += f" Base: the same data in {settings['copies']} untrained copies."
    return Section("Layers", text, [Table(header, rows)] if rows else [])


def _distribution(layers: Sequence[Layer]) -> Section:
    rows = []
    for layer in layers:
        for kind in layer.fits:
            rows.append([f"{_name(layer)}, {kind}", *_fit(layer.fits[kind])])
            if layer.base_fits:
                rows.append([f"{_name(layer)}, {kind}, base", *_fit(layer.base_fits[kind])])
    header = ["-log10(ratio)", "numbers", "shape", "loc", "scale", "Kolmogorov-Smirnov", "mean log-likelihood"]
    text = (
        "Gamma distributions fitted by maximum likelihood: to the ratios of all activations, and to those of every "
        "edge's largest one; of a sample where there are more than the settings say."
    )
    return Section("Distribution", text, [Table(header, rows)])


def _fit(fit: GammaFit | None) -> list[str]:
    if fit is None:
        return ["–"] * 6
    return [f"{fit.count:,}", *(f"{x:.4g}" for x in (fit.shape, fit.loc, fit.scale, fit.statistic, fit.likelihood))]


def _carriers(layers: Sequence[Layer]) -> Section:
    tables = []
    for name in ("kind", "type", "target degree", "source degree"):
        rows = []
        for layer in layers:
            for kind, found in sorted(layer.record.tables.get(name, {}).items(), key=lambda item: _order(item[0])):
                share = found.carrying / found.edges if found.edges else 0.0
                row = [_name(layer), kind, f"{found.edges:,}", f"{found.carrying:,}", f"{100 * share:.3g} %"]
                rows.append([*row, f"{found.massive:,}", _ratio(found.largest)])
        if rows:
            header = [
                "layer",
                name if "degree" in name else f"edge {name}",
                "edges",
                "with massive",
                "share",
                "massive",
            ]
            tables.append(Table([*header, "largest ratio"], rows))
    tables.append(_largest(layers))
    tables += _features(layers)
    return Section("Which edges carry them", "Degrees are those in the graph that the layer attends over.", tables)


def _largest(layers: Sequence[Layer]) -> Table:
    rows = []
    for layer in layers:
        for c in layer.record.largest[:3]:
            row = [_name(layer), _ratio(c.ratio), f"{c.magnitude:.4g}", f"{c.head}", f"{c.channel}", f"{c.graph}"]
            rows.append([*row, f"{c.source} → {c.target}", "–" if c.type is None else c.type])
    return Table(["layer", "ratio", "magnitude", "head", "channel", "graph", "edge", "type"], rows)


def _features(layers: Sequence[Layer]) -> list[Table]:
    rows = []
    for layer in layers:
        features = layer.record.features
        for place in features.argsort(descending=True, stable=True)[:_FEATURES].tolist():
            if features[place]:
                head, channel = divmod(place, layer.record.channels)
                rows.append([_name(layer), f"{head}", f"{channel}", f"{int(features[place]):,}"])
    return [Table(["layer", "head", "channel", "massive"], rows)] if rows else []


def _taps(layers: Sequence[Layer]) -> Section:
    rows = []
    for layer in layers:
        for tap, stats in layer.record.stats.items():
            if tap != "activations":
                row = [_name(layer), tap, f"{stats.count:,}", f"{stats.width}", f"{stats.mean:.4g}", f"{stats.std:.4g}"]
                row += ["–" if stats.largest is None else f"{stats.largest.value:.4g}"]
                row += [_ratio(stats.largest_ratio.value if stats.largest_ratio else math.nan)]
                rows.append([*row, f"{stats.above[layer.threshold]:,}", f"{stats.nan:,}", f"{stats.infinite:,}"])
    header = ["layer", "tap", "rows", "width", "mean", "deviation", "largest", "largest ratio", "massive", "NaN"]
    return Section("Logits, attention and outputs", "", [Table([*header, "infinite"], rows)])


def panels(layer: Layer) -> list[Panel]:
    """The graphs' maxima beside the base band, and the distribution with its fit."""

    def maxima(axes: Any) -> None:
        place = np.arange(1, len(layer.maxima) + 1)
        if layer.band is not None:
            axes.fill_between(place, *layer.band, color="0.8", label="untrained copies", step="mid")
        axes.plot(place, layer.maxima, "." if len(place) < 50 else "-", color="C3", label="this model")
        axes.axhline(layer.threshold, color="0.4", linewidth=0.8, linestyle="--")
        axes.set(yscale="log", xlabel="graphs, sorted", ylabel="largest ratio", title=_name(layer))
        axes.legend(frameon=False, fontsize=8)

    def distribution(axes: Any) -> None:
        x, fit = log_ratios(layer.record)["activations"], layer.fits["activations"]
        axes.hist(x, bins=100, density=True, color="C0", alpha=0.5, label="activations")
        if fit is not None:
            grid = np.linspace(x.min(), x.max(), 400)
            axes.plot(grid, fit.density(grid), color="C3", label=f"gamma fit, KS {fit.statistic:.3g}")
        axes.axvline(-math.log10(layer.threshold), color="0.4", linewidth=0.8, linestyle="--")
        axes.set(xlabel="-log10(ratio)", ylabel="density, log", yscale="log")
        axes.legend(frameon=False, fontsize=8)

    return [maxima, distribution]


def _carrying(layer: Layer) -> int:
    return sum(found.carrying for found in layer.record.tables.get("target degree", {}).values())


def _name(layer: Layer) -> str:
    return layer.record.name or layer.record.module


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"


def _order(kind: str) -> tuple[bool, int, str]:
    """Numbers first, by size."""
    first = kind.split()[0]
    return (not first.isdigit(), int(first) if first.isdigit() else 0, kind)
