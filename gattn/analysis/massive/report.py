"""What :class:`MassiveActivations` found, as tables, figures and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from gattn.activations import ActivationStats
from gattn.analysis.massive.findings import Findings
from gattn.analysis.massive.fit import GammaFit, Numbers, gamma_fit
from gattn.analysis.massive.record import Record
from gattn.files import write_atomic, write_json


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer, and what the same data gave in untrained copies.

    Attributes:
        record: What was found.
        base: Of every copy.
        threshold: Ratio above which an activation is massive.
    """

    record: Record
    base: Sequence[Record]
    threshold: float

    @property
    def stats(self) -> ActivationStats | None:
        """Of the activations; ``None`` if they were not examined."""
        return self.record.stats.get("activations")

    @cached_property
    def fits(self) -> dict[str, GammaFit | None]:
        """By distribution (:func:`log_ratios`): the gamma distribution; needs scipy."""
        return {name: gamma_fit(x) for name, x in log_ratios(self.record).items()}

    @cached_property
    def base_fits(self) -> dict[str, GammaFit | None]:
        """The same of all copies together; empty without any."""
        if not self.base:
            return {}
        return {name: gamma_fit(x) for name, x in log_ratios(reduce(_together, self.base)).items()}

    @cached_property
    def maxima(self) -> Numbers:
        """The largest ratio of every graph that has one, falling."""
        return _falling(self.record)

    @cached_property
    def band(self) -> tuple[Numbers, Numbers] | None:
        """Of the copies' maxima, falling like those of the layer: the least and the largest at every place."""
        sides = [_falling(record) for record in self.base]
        if not sides or not len(self.maxima) or not all(len(side) for side in sides):
            return None
        places = (np.arange(len(self.maxima)) + 0.5) / len(self.maxima)
        sides = [s if len(s) == len(places) else s[(places * len(s)).astype(int)] for s in sides]
        return np.min(sides, axis=0), np.max(sides, axis=0)

    @property
    def base_largest(self) -> float:
        """The largest ratio in any copy; NaN without one."""
        return max((float(by[0]) for by in map(_falling, self.base) if len(by)), default=math.nan)

    @property
    def massive_graphs(self) -> int:
        """Graphs with a massive activation."""
        return int((self.maxima > self.threshold).sum())

    @property
    def graphs_above(self) -> int | None:
        """Graphs whose maximum is above the band at its place; ``None`` without a band."""
        return None if self.band is None else int((self.maxima > self.band[1]).sum())

    def as_dict(self) -> dict[str, Any]:
        """Numbers and lists for JSON; what is no finite number is ``None``."""
        record = self.record
        return {
            "layer": record.name,
            "module": record.module,
            "score": record.score,
            "heads": record.heads,
            "channels": record.channels,
            "calls": record.calls,
            "taps": {tap: _stats_dict(stats) for tap, stats in record.stats.items()},
            "graph_ratio": _numbers(record.by_graph().tolist()),
            "massive_graphs": self.massive_graphs,
            "graphs_above_base": self.graphs_above,
            "tables": {
                name: {kind: carriers.as_dict() for kind, carriers in table.items()}
                for name, table in record.tables.items()
            },
            "features": record.features.tolist(),
            "largest": [asdict(carrier) for carrier in record.largest],
            "fits": _fits_dict(self.fits),
            "base": {
                "fits": _fits_dict(self.base_fits),
                "copies": [
                    {
                        "taps": {tap: _stats_dict(stats) for tap, stats in copy.stats.items()},
                        "graph_ratio": _numbers(copy.by_graph().tolist()),
                    }
                    for copy in self.base
                ],
            },
        }


@dataclass(frozen=True, eq=False)
class Report:
    """Every layer; ``print`` shows the first table.

    Attributes:
        layers: By name, in the order in which layers ran first.
        settings: What was examined, and how much.
    """

    layers: Mapping[str, Layer]
    settings: dict[str, Any]

    @classmethod
    def of(cls, findings: Findings, base: Sequence[Findings] = ()) -> Report:
        """Of what was found, beside that of untrained copies.

        Raises:
            ValueError: No layer ran.
        """
        if not findings.records:
            raise ValueError(
                "Expected attention layers that ran in the context (got none). Run the model inside 'with "
                "MassiveActivations(model) as found:'; layers are those that call an attention op of gattn, PyTorch "
                "Geometric's GATConv, GATv2Conv and TransformerConv, and what gattn.analysis.massive.WATCHED has."
            )
        limits = findings.limits
        settings = {
            "taps": list(findings.taps),
            "threshold": limits.threshold,
            "thresholds": list(limits.thresholds),
            "sample": limits.sample,
            "batches": findings.batches,
            "graphs": findings.graphs,
            "copies": len(base),
        }
        layers = {
            name: Layer(record, [copy.records[name] for copy in base if name in copy.records], limits.threshold)
            for name, record in findings.records.items()
        }
        return cls(layers, settings)

    def as_dict(self) -> dict[str, Any]:
        """Everything for JSON. Needs scipy, for the fits."""
        return {"settings": self.settings, "layers": [layer.as_dict() for layer in self.layers.values()]}

    def tables(self) -> list[Any]:
        """The tables, as :class:`gattn.studies.page.Table`. Needs scipy, for the fits."""
        return [table for section in self._sections(figures=False) for table in section.tables]

    def figure(self, layer: str, kind: str = "png") -> bytes:
        """Of one layer: the graphs' maxima beside the base band, and the distribution with its fit; PNG or SVG. Needs
        matplotlib and scipy.

        Raises:
            KeyError: No such layer.
        """
        from gattn.analysis.massive.page import panels
        from gattn.figure import figure

        if kind not in ("png", "svg"):
            raise ValueError(f"Expected 'kind' to be 'png' or 'svg' (got {kind!r}).")
        return figure(panels(self.layers[layer]), kind)  # type: ignore[arg-type]

    def save(self, folder: str | Path) -> Path:
        """Writes ``massive.json`` and ``massive.html``, a page of its own with all tables and figures; the page's
        path. Needs matplotlib and scipy."""
        from gattn.studies.page import render

        page = Path(folder) / "massive.html"
        text = render("Massive activations", self._sections(figures=True), self.settings)
        write_atomic(page, lambda file: file.write(text.encode()))
        write_json(page.with_suffix(".json"), self.as_dict())
        return page

    def markdown(self) -> str:
        """All tables. Needs scipy, for the fits."""
        from gattn.studies.page import markdown

        return markdown(self._sections(figures=False))

    def __str__(self) -> str:
        from gattn.analysis.massive.page import overview
        from gattn.studies.page import markdown

        return markdown([overview(self)])

    def _sections(self, *, figures: bool) -> list[Any]:
        from gattn.analysis.massive.page import sections

        return sections(self, figures=figures)


def log_ratios(record: Record) -> dict[str, Numbers]:
    """``-log10(ratio)`` of the sampled ``"activations"``, less those that are 0, and of the sampled ``"edges"``, whose
    ratio is that of their largest activation; rows without a finite ratio are in neither."""
    found = {}
    for name, sample in (("activations", record.ratios), ("edges", record.maxima)):
        ratio = sample.values.double().flatten()
        found[name] = -np.log10(ratio[ratio.isfinite() & (ratio > 0)].numpy())
    return found


def _together(first: Record, second: Record) -> Record:
    """Samples alone matter here."""
    return first.merge(second, 1 + max(first.graph_ratio, default=0), 0)


def _falling(record: Record) -> Numbers:
    ratio = record.by_graph().cpu().double()
    return np.sort(ratio[ratio.isfinite()].numpy())[::-1]


def _fits_dict(fits: Mapping[str, GammaFit | None]) -> dict[str, Any]:
    return {name: None if fit is None else fit.as_dict() for name, fit in fits.items()}


def _stats_dict(stats: ActivationStats) -> dict[str, Any]:
    found = stats.as_dict()
    del found["segment_ratio"]
    return found


def _numbers(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
