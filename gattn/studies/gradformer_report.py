"""What the Gradformer study shows: the metric by depth and by training set beside what others report, time, hops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gattn.figure import Panel
from gattn.studies.depth import Published, depth_panel, depth_table, gradient_panel, seeds_text, spread
from gattn.studies.gradformer_settings import METRICS, SETTINGS
from gattn.studies.graphs import parse_name
from gattn.studies.page import Section, Table
from gattn.studies.plan import Result

NAMES = {"gradformer": "Gradformer", "gps": "GraphGPS"}

#: The paper's tables, mean and standard deviation of 10 runs where it has one.
PUBLISHED: dict[str, dict[str, Published]] = {
    "NCI1": {
        "Gradformer": {4: (0.8601, 0.0147), 12: (0.8431, 0.0), 24: (0.8425, 0.0)},
        "GraphGPS": {4: (0.8421, 0.0), 12: (0.8409, 0.0), 24: (0.7190, 0.0)},
    },
    "PROTEINS": {"Gradformer": {4: (0.7750, 0.0186)}, "GraphGPS": {4: (0.7577, 0.0)}},
    "MUTAG": {"Gradformer": {4: (0.8800, 0.0245)}, "GraphGPS": {4: (0.8500, 0.0)}},
    "CLUSTER": {"Gradformer": {16: (0.7855, 0.0)}, "GraphGPS": {16: (0.7802, 0.0)}},
    "ZINC": {"Gradformer": {10: (0.069, 0.0)}, "GraphGPS": {10: (0.070, 0.0)}},
}
#: Single runs of the released program by a third party; of PROTEINS and MUTAG the depth is not stated.
THIRD_PARTY: dict[str, dict[str, Published]] = {
    "NCI1": {"Gradformer": {4: (0.808, 0.0), 10: (0.847, 0.0)}},
    "PROTEINS": {"Gradformer": {4: (0.714, 0.0)}},
    "MUTAG": {"Gradformer": {4: (0.750, 0.0)}},
}


def sections(protocol: dict[str, Any], results: list[Result]) -> list[Section]:
    """One a data set and share of its training set; one more a data set with several shares."""
    found = []
    for dataset in dict.fromkeys(r["dataset"] for r in results):
        here = [r for r in results if r["dataset"] == dataset]
        fractions = sorted({r["fraction"] for r in here}, reverse=True)
        found += [_by_depth(dataset, fraction, protocol, here) for fraction in fractions]
        if len(fractions) > 1:
            found.append(_by_fraction(dataset, here))
    return found


def _by_depth(dataset: str, fraction: int, protocol: dict[str, Any], results: list[Result]) -> Section:
    results = [r for r in results if r["fraction"] == fraction]
    (name, size), lines = parse_name(dataset), _lines(results)
    setting = SETTINGS[name]
    metric = METRICS[setting.metric]
    whole = fraction == 100 and not size  # what the paper trained on
    published = PUBLISHED.get(name, {}) if whole else {}
    others = {"published": published, "third party": THIRD_PARTY.get(name, {}) if whole else {}}
    deepest = max(r["depth"] for r in results)
    graphs = results[0]["training_graphs"]
    panels: list[Panel] = [
        depth_panel(lines, "test", metric.label, published, metric.scale),
        gradient_panel(lines, "gradient_first", deepest, f"gradient norm, first step, {deepest} blocks"),
    ]
    hops, tables = _hop_table(lines.get(NAMES["gradformer"], [])), []
    if hops.rows:
        tables.append(hops)
    return Section(
        f"{dataset}, {fraction} % of the training graphs" if fraction < 100 else dataset,
        f"{_metric_text(metric.label)} at the epoch of the best validation, the median milliseconds of an epoch of "
        f"training and validation{', and the learned hops' if tables else ''}: mean and standard deviation of "
        f"{seeds_text(lines)}; {graphs:,} training graphs. In italics what others report: published, and single runs "
        f"of the released program by a third party. {setting.describe(protocol)} {results[0]['note']}".rstrip(),
        [
            depth_table(lines, "test", metric.show, others),
            depth_table(lines, "ms_per_epoch", lambda mean, _: f"{mean:.0f}", {}),
            *tables,
        ],
        panels,
    )


def _by_fraction(dataset: str, results: list[Result]) -> Section:
    metric = METRICS[SETTINGS[parse_name(dataset)[0]].metric]
    tables = [
        depth_table(_lines([r for r in results if r["depth"] == depth]), "test", metric.show, {}, "fraction")
        for depth in sorted({r["depth"] for r in results})
    ]
    depths = " and ".join(str(depth) for depth in sorted({r["depth"] for r in results}))
    return Section(
        f"{dataset} with fewer training graphs",
        f"{_metric_text(metric.label)} by per cent of the training graphs; {depths} blocks.",
        tables,
    )


def _metric_text(label: str) -> str:
    return label[0].upper() + label[1:]


def _lines(results: list[Result]) -> dict[str, list[Result]]:
    lines = {name: [r for r in results if r["model"] == model] for model, name in NAMES.items()}
    return {name: rows for name, rows in lines.items() if rows}


def _hop_table(results: Sequence[Result]) -> Table:
    """A row a depth, and a layer where layers do not share their hops; a column a head."""
    rows, heads = [], 0
    for depth in sorted({r["depth"] for r in results}):
        runs = [r["hops"] for r in results if r["depth"] == depth and r["loss"] is not None]
        for number, layer in enumerate(zip(*runs, strict=True)):
            shared = len(runs[0]) == 1
            cells = [_hop(*spread(head)) for head in zip(*layer, strict=True)]
            heads = len(cells)
            rows.append([f"hops, {depth} blocks" + ("" if shared else f", block {number + 1}"), *cells])
    return Table(["", *(f"head {i + 1}" for i in range(heads))], rows)


def _hop(mean: float, deviation: float) -> str:
    return f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation else "")
