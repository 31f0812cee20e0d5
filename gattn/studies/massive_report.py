"""What the massive-activation study shows: ratios by layer, trained and not, and which edges carry them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gattn.figure import Panel
from gattn.studies.depth import spread
from gattn.studies.graphs import parse_name
from gattn.studies.massive_model import HEADS, KINDS, TASKS
from gattn.studies.page import Section, Table
from gattn.studies.plan import Result

_TERMS = {"none": "no bias term", "edge_bias": "edge bias", "kv_slot": "key-value slot"}
_OTHER_DATA = {"PROTEINS": "PROTEINS is the TU data set of that name; the paper's is ogbn-proteins."}


def sections(protocol: dict[str, Any], results: list[Result]) -> list[Section]:
    """A data set's networks in one table, then a section a network with its layers."""
    found = []
    for dataset in dict.fromkeys(r["dataset"] for r in results):
        here = [r for r in results if r["dataset"] == dataset]
        found.append(_overview(dataset, here, protocol))
        for group in _groups(here):
            found.append(_network(dataset, group))
    return found


def _groups(results: list[Result]) -> list[list[Result]]:
    keys = dict.fromkeys((r["model"], r["depth"]) for r in results)
    return [[r for r in results if (r["model"], r["depth"]) == key] for key in keys]


def _overview(dataset: str, results: list[Result], protocol: dict[str, Any]) -> Section:
    name = parse_name(dataset)[0]
    task, rows = TASKS[name], []
    for key in dict.fromkeys((r["model"], r["depth"], r["term"]) for r in results):
        own = [r for r in results if (r["model"], r["depth"], r["term"]) == key]
        massive = [sum(r["massive"]) for r in own]
        rows.append(
            [
                f"{KINDS[key[0]].name}, {key[1]} layers, {_TERMS[key[2]]}",
                _number([_value(r["test"]) for r in own]),
                _ratio(max(_values(x for r in own for x in r["largest_ratio"]), default=math.nan)),
                _ratio(max(_values(x for r in own for x in r["base_ratio"]), default=math.nan)),
                _count(massive),
                _count([sum(r["base_massive"]) for r in own]),
                f"{sum(any(_values([x])) and x > 0 for r in own for x in r['massive'])} of "
                f"{sum(len(r['massive']) for r in own)}",
                _count([max(r["massive_graphs"]) for r in own]),
                _count([sum(r["bad_edges"]) for r in own]),
                _count([sum(r["zero_medians"]) for r in own]),
            ]
        )
    seeds = len({r["seed"] for r in results})
    text = (
        f"Test {task.label} at the last epoch, and what {results[0]['graphs']:,} graphs of the test set show: the "
        f"largest ratio of an activation to its edge's median, activations above 1000 in all layers together, beside "
        f"those of {protocol['copies']} untrained copies (the largest of them, and a copy's mean), layers and graphs "
        f"with such activations (graphs of the layer that has most), edges that are not finite, and edges whose median "
        f"is 0. {seeds} seed(s), {results[0]['training_graphs']:,} training graphs, {HEADS} heads, Adam, batches of "
        f"{protocol['batch']}, the learning rate halved after {protocol['patience']} epochs without a better "
        f"validation. Layers attend along edges, not over all pairs; nodes have random-walk encodings. "
        f"{results[0]['note']} {_OTHER_DATA.get(name, '')}".rstrip()
    )
    header = ["network", f"test {task.label}", "largest ratio", "base", "above 1000", "base", "layers", "graphs"]
    return Section(dataset, text, [Table([*header, "not finite", "median 0"], rows)])


def _network(dataset: str, results: list[Result]) -> Section:
    first = results[0]
    title = f"{dataset}: {KINDS[first['model']].name}, {first['depth']} layers"
    rows, kinds = [], []
    own = [r for r in results if r["seed"] == min(each["seed"] for each in results)]
    for result in own:
        for number in range(len(result["largest_ratio"])):
            above = result["graphs_above_base"][number]
            rows.append(
                [
                    f"{_TERMS[result['term']]}, layer {number + 1}",
                    _ratio(_value(result["largest_ratio"][number])),
                    _ratio(_value(result["base_ratio"][number])),
                    f"{result['massive'][number]:,}",
                    f"{result['base_massive'][number]:,.0f}",
                    "–" if above is None else f"{above:,}",
                    _fit(result["statistic"][number]),
                    _fit(result["base_statistic"][number]),
                    _fit(result["likelihood"][number]),
                    _fit(result["base_likelihood"][number]),
                ]
            )
        for kind, edges, carrying in zip(result["types"], result["type_edges"], result["type_carrying"], strict=True):
            share = f"{100 * carrying / edges:.3g} %"
            kinds.append([f"{_TERMS[result['term']]}, type {kind}", f"{edges:,}", f"{carrying:,}", share])
    header = ["", "largest ratio", "base", "above 1000", "base", "graphs above the base"]
    tables = [Table([*header, "KS", "base", "log-likelihood", "base"], rows)]
    if kinds:
        tables.append(Table(["", "edges, all layers", "with a massive one", "share"], kinds))
    panels = [_maxima(result) for result in own]
    text = f"Seed {own[0]['seed']}. KS and log-likelihood are those of a gamma distribution fitted to -log10(ratio)."
    return Section(title, text, tables, panels)


def _maxima(result: Result) -> Panel:
    """The sorted maxima of the graphs by layer, over the band of the untrained copies of all layers."""

    def draw(axes: Any) -> None:
        for number, maxima in enumerate(result["maxima"]):
            shade = 0.2 + 0.8 * number / max(1, len(result["maxima"]) - 1)
            label = f"layer {number + 1}" if number in (0, len(result["maxima"]) - 1) else None
            axes.plot(range(1, len(maxima) + 1), maxima, color=(0.7, 0.1, 0.1, shade), lw=1, label=label)
        bands = [pair for pair in zip(result["band_low"], result["band_high"], strict=True) if pair[0]]
        for number, (low, high) in enumerate(bands):
            label = "untrained" if number == 0 else None
            axes.fill_between(range(1, len(low) + 1), low, high, color="0.5", alpha=0.15, lw=0, label=label)
        axes.axhline(1000, color="0.3", lw=0.8, ls="--")
        axes.set(yscale="log", xlabel="graphs, sorted", ylabel="largest ratio", title=_TERMS[result["term"]])
        axes.legend(frameon=False, fontsize=8)

    return draw


def _value(x: float | None) -> float:
    return math.nan if x is None else x


def _values(numbers: Any) -> list[float]:
    return [x for x in map(_value, numbers) if not math.isnan(x)]


def _number(values: Sequence[float]) -> str:
    mean, deviation = spread(values)
    return "diverged" if math.isnan(mean) else f"{mean:.3f}" + (f" ± {deviation:.3f}" if deviation else "")


def _count(values: Sequence[float]) -> str:
    mean, deviation = spread([float(value) for value in values])
    return f"{mean:,.0f}" + (f" ± {deviation:,.0f}" if deviation else "")


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.4g}"


def _fit(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
