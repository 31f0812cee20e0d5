"""What the massive-activation study looks at in a network: the same graphs in it and in untrained copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gattn.analysis import MassiveActivations
from gattn.analysis.massive import Findings, Report
from gattn.studies.massive_data import Task

#: An activation is massive above this ratio to the median of its edge.
THRESHOLD = 1000.0


def examined(model: nn.Module, data: Sequence[Any], copies: int, task: Task, added: int) -> dict[str, Any]:
    """Lists with a number a layer, and of every layer's graphs.

    Args:
        model: The network; of ``copies`` untrained ones the base band is made.
        data: Batches.
        copies: How many.
        task: Has the names of edges' types.
        added: The type of added pairs.
    """

    def evaluate(model: nn.Module, _: MassiveActivations) -> None:
        model.eval()
        with torch.no_grad():
            for batch in data:
                model(batch)

    watching = MassiveActivations(model, threshold=THRESHOLD)
    base = watching.base(evaluate, seeds=range(copies))
    with watching:
        evaluate(model, watching)
    found = summary(watching.report(base), base)
    return {**found, "types": [task.edge(kind, added) for kind in found["types"]]}


def summary(report: Report, base: list[Findings]) -> dict[str, Any]:
    """What a result keeps of a report."""
    layers = list(report.layers.values())
    found: dict[str, Any] = {
        "largest_ratio": [float(layer.maxima[0]) if len(layer.maxima) else math.nan for layer in layers],
        "base_ratio": [layer.base_largest for layer in layers],
        "massive": [_massive(layer) for layer in layers],
        "base_massive": [
            sum(copy.stats["activations"].above[layer.threshold] for copy in layer.base) / len(layer.base)
            for layer in layers
        ],
        "massive_graphs": [layer.massive_graphs for layer in layers],
        "graphs_above_base": [layer.graphs_above for layer in layers],
        "graphs": report.settings["graphs"],
        "bad_edges": [layer.stats.bad_rows if layer.stats else 0 for layer in layers],
        "zero_medians": [layer.stats.zero_median_rows if layer.stats else 0 for layer in layers],
    }
    for name, fits in (("", [layer.fits for layer in layers]), ("base_", [layer.base_fits for layer in layers])):
        found[f"{name}statistic"] = [_of(fit.get("activations"), "statistic") for fit in fits]
        found[f"{name}likelihood"] = [_of(fit.get("activations"), "likelihood") for fit in fits]
    found["maxima"] = [[round(float(ratio), 3) for ratio in layer.maxima] for layer in layers]
    bands = [layer.band for layer in layers]
    for name, side in (("band_low", 0), ("band_high", 1)):
        found[name] = [[] if band is None else [round(float(ratio), 3) for ratio in band[side]] for band in bands]
    return {**found, **_carriers(layers)}


def _massive(layer: Any) -> int:
    return int(layer.stats.above[layer.threshold]) if layer.stats else 0


def _of(fit: Any, name: str) -> float:
    return math.nan if fit is None else float(getattr(fit, name))


def _carriers(layers: list[Any]) -> dict[str, Any]:
    """By type of edge a list of the layers: how many edges there are, and how many have a massive activation."""
    tables = [layer.record.tables.get("type", {}) for layer in layers]
    kinds = sorted({kind for table in tables for kind in table}, key=lambda kind: (len(kind), kind))
    return {
        "types": kinds,
        "type_edges": [[table[kind].edges if kind in table else 0 for table in tables] for kind in kinds],
        "type_carrying": [[table[kind].carrying if kind in table else 0 for table in tables] for kind in kinds],
    }
