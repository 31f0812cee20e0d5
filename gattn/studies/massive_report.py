"""What the massive-activation study shows: ratios by layer, trained and not, which edges carry them, perturbations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gattn.figure import Panel
from gattn.studies.depth import seeds_text, spread
from gattn.studies.graphs import parse_name
from gattn.studies.massive_data import TASKS
from gattn.studies.massive_examine import THRESHOLD
from gattn.studies.massive_model import GAMMA, HEADS, KINDS
from gattn.studies.massive_perturb import LENGTH, STEPS
from gattn.studies.massive_words import TERMS, TRAINED, answer, carriers, exceeding, overall, ratio, times, value
from gattn.studies.page import Section, Table
from gattn.studies.plan import Result
from gattn.transforms import RandomWalkKernel

_OTHER_DATA = {"PROTEINS": "PROTEINS is the TU data set of that name; the paper's is ogbn-proteins."}


def sections(protocol: dict[str, Any], results: list[Result]) -> list[Section]:
    """A data set's networks in one table, then a section a network with its layers, and one with perturbations."""
    found = []
    for dataset in dict.fromkeys(r["dataset"] for r in results):
        here = [r for r in results if r["dataset"] == dataset]
        found.append(_overview(dataset, here, protocol))
        for group in _groups(here):
            found.append(_network(dataset, group))
            if any("perturb_loss" in r for r in group):
                found.append(_perturbed(dataset, group))
    return found


def _groups(results: list[Result]) -> list[list[Result]]:
    keys = dict.fromkeys((r["model"], r["depth"]) for r in results)
    return [[r for r in results if (r["model"], r["depth"]) == key] for key in keys]


def _of_first_seed(results: list[Result]) -> list[Result]:
    return [r for r in results if r["seed"] == min(each["seed"] for each in results)]


def _name(result: Result) -> str:
    return f"{KINDS[result['model']].name}, {result['depth']} layers"


def _overview(dataset: str, results: list[Result], protocol: dict[str, Any]) -> Section:
    task, rows = TASKS[parse_name(dataset)[0]], []
    for key in dict.fromkeys((r["model"], r["depth"], r["term"]) for r in results):
        own = [r for r in results if (r["model"], r["depth"], r["term"]) == key]
        rows.append(
            [
                f"{_name(own[0])}, {TERMS[key[2]]}",
                _number([value(r["test"]) for r in own], "diverged"),
                *([_number([value(r["metric"]) for r in own])] if task.metric else []),
                ratio(max(_values(x for r in own for x in r["largest_ratio"]), default=math.nan)),
                ratio(max(_values(x for r in own for x in r["base_ratio"]), default=math.nan)),
                _count([sum(r["massive"]) for r in own]),
                _count([sum(r["base_massive"]) for r in own]),
                f"{sum(x > 0 for r in own for x in r['massive'])} of {sum(len(r['massive']) for r in own)}",
                _count([max(r["massive_graphs"]) for r in own]),
                _count([sum(r["bad_edges"]) for r in own]),
                _count([sum(r["zero_medians"]) for r in own]),
            ]
        )
    alone = [f"{_name(group[0])}: {overall(group)}." for group in _groups(results)]
    text = (
        f"Layers with a ratio above {THRESHOLD:.0f} where untrained copies stay below, and how many activations are "
        f"massive. {' '.join(alone)} {_about(dataset, results, protocol)}"
    )
    header = ["network", f"test {task.label}", *([task.metric.label] if task.metric else []), "largest ratio", "base"]
    header += [f"above {THRESHOLD:.0f}", "base", "layers", "graphs", "not finite", "median 0"]
    return Section(dataset, text, [Table(header, rows)])


def _about(dataset: str, results: list[Result], protocol: dict[str, Any]) -> str:
    """What the table is of."""
    name, first = parse_name(dataset)[0], results[0]
    whole = first["of_training_graphs"]
    kept = f"{first['training_graphs']:,}" + (f" of {whole:,}" if first["training_graphs"] < whole else "")
    attend = "Layers attend along edges"
    if any(KINDS[r["model"]].pairs for r in results):
        kernel = RandomWalkKernel()
        attend += (
            f", those named so over all pairs of nodes (SAN with γ = {GAMMA:g}, GraphiT with the random-walk kernel of "
            f"p = {kernel.steps} and γ = {kernel.gamma:g})"
        )
    return (
        f"The table: test {TASKS[name].label} after epoch {_epochs(results)}, and what {first['graphs']:,} "
        f"graphs of the test set show: the largest ratio of an activation to its edge's median, activations above "
        f"{THRESHOLD:.0f} in all layers together, beside those of {protocol['copies']} untrained copies (the largest "
        f"of them, and a copy's mean), layers and graphs with such activations (graphs of the layer that has most), "
        f"edges that are not finite, and edges whose median is 0. {_seeds(results)}, {kept} "
        f"training graphs, {HEADS} heads, Adam, batches of {protocol['batch']}, the learning rate halved after "
        f"{protocol['patience']} epochs without a better validation. {attend}; nodes have random-walk encodings. "
        f"{first['note']} {_OTHER_DATA.get(name, '')}".rstrip()
    )


def _epochs(results: list[Result]) -> str:
    least, most = min(r["epochs"] for r in results), max(r["epochs"] for r in results)
    return f"{most}" if least == most else f"{least} to {most}"


def _seeds(results: list[Result]) -> str:
    lines: dict[str, list[Result]] = {}
    for result in results:
        lines.setdefault(f"{result['model']} {result['term']}", []).append(result)
    return seeds_text(lines)


def by_seed(results: list[Result]) -> Table:
    """A layer's largest ratio in every seed, and in how many of them it alone exceeds the threshold."""
    seeds, rows = sorted({r["seed"] for r in results}), []
    for term in dict.fromkeys(r["term"] for r in results):
        own = {r["seed"]: r for r in results if r["term"] == term}
        for number in range(len(next(iter(own.values()))["largest_ratio"])):
            alone = sum(exceeding(r)[number] == TRAINED for r in own.values())
            rows.append(
                [
                    f"{TERMS[term]}, layer {number + 1}",
                    *(ratio(value(own[seed]["largest_ratio"][number])) if seed in own else "–" for seed in seeds),
                    ratio(max(_values(r["base_ratio"][number] for r in own.values()), default=math.nan)),
                    f"{alone} of {len(own)}",
                ]
            )
    header = ["largest ratio", *(f"seed {seed}" for seed in seeds), "base, all seeds"]
    return Table([*header, f"exceeds {THRESHOLD:.0f} alone"], rows)


def _network(dataset: str, results: list[Result]) -> Section:
    own, layers, fits, kinds = _of_first_seed(results), [], [], []
    for result in own:
        term = TERMS[result["term"]]
        for number, who in enumerate(exceeding(result)):
            above = result["graphs_above_base"][number]
            factor = times(result, number)
            layers.append(
                [
                    f"{term}, layer {number + 1}",
                    ratio(value(result["largest_ratio"][number])),
                    ratio(value(result["base_ratio"][number])),
                    "–" if math.isnan(factor) else f"{factor:.3g}",
                    who,
                    f"{result['massive'][number]:,}",
                    f"{result['base_massive'][number]:,.0f}",
                    "–" if above is None else f"{above:,}",
                    carriers(result, [number]) or "–",
                ]
            )
            numbers = (result[f"{of}{what}"][number] for what in ("statistic", "likelihood") for of in ("", "base_"))
            fits.append([f"{term}, layer {number + 1}", *map(_fit, numbers)])
        for kind, edges, carrying in zip(result["types"], result["type_edges"], result["type_carrying"], strict=True):
            share = f"{100 * sum(carrying) / sum(edges):.3g} %"
            kinds.append([f"{term}, {kind}", f"{sum(edges):,}", f"{sum(carrying):,}", share])
    limit = f"{THRESHOLD:.0f}"
    header = ["", "largest ratio", "base", "times the base", f"exceeds {limit}", f"above {limit}", "base"]
    tables = [Table([*header, "graphs above the base", "carried by"], layers)]
    if len(own) < len(results):
        tables.insert(0, by_seed(results))
    if kinds:
        tables.append(Table(["type of edge", "edges, all layers", "with a massive one", "share"], kinds))
    tables.append(Table(["gamma fit", "KS", "base", "log-likelihood", "base"], fits))
    text = (
        f"Seed {own[0]['seed']}. {' '.join(map(answer, own))} KS and log-likelihood are those of a gamma distribution "
        f"fitted to -log10(ratio)."
    )
    return Section(f"{dataset}: {_name(own[0])}", text, tables, [_maxima(result) for result in own])


def _perturbed(dataset: str, results: list[Result]) -> Section:
    task, rows = TASKS[parse_name(dataset)[0]], []
    own = [r for r in _of_first_seed(results) if "perturb_loss" in r]
    for result in own:
        for number, (noise, scale) in enumerate(zip(result["perturb_noise"], result["perturb_scale"], strict=True)):
            ratios = [value(x) for x in result["perturb_ratio"][number]]
            largest = max(_values(ratios), default=math.nan)
            rows.append(
                [
                    f"{TERMS[result['term']]}, {noise}{f' {scale:g}' if scale else ''}",
                    _number([value(result["perturb_loss"][number])]),
                    *([_number([value(result["perturb_metric"][number])])] if task.metric else []),
                    ratio(largest),
                    "–" if math.isnan(largest) else f"{ratios.index(largest) + 1}",
                    f"{sum(result['perturb_massive'][number]):,}",
                    f"{sum(x > THRESHOLD for x in ratios)} of {len(ratios)}",
                ]
            )
    text = (
        f"Seed {own[0]['seed']}, the {own[0]['graphs']:,} graphs above. Added to what the first layer gets (embedded "
        f"nodes and encodings): Gaussian noise of these standard deviations, and noise of the same norm a graph after "
        f"{STEPS} steps of gradient ascent on the loss, each of {LENGTH:g} of that norm."
    )
    header = ["", task.label, *([task.metric.label] if task.metric else []), "largest ratio", "in layer"]
    table = Table([*header, f"above {THRESHOLD:.0f}", "layers"], rows)
    return Section(f"{dataset}: {_name(own[0])}, perturbed", text, [table])


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
        axes.axhline(THRESHOLD, color="0.3", lw=0.8, ls="--")
        axes.set(yscale="log", xlabel="graphs, sorted", ylabel="largest ratio", title=TERMS[result["term"]])
        axes.legend(frameon=False, fontsize=8)

    return draw


def _values(numbers: Any) -> list[float]:
    return [x for x in map(value, numbers) if not math.isnan(x)]


def _number(values: Sequence[float], missing: str = "–") -> str:
    mean, deviation = spread(values)
    return missing if math.isnan(mean) else f"{mean:.3f}" + (f" ± {deviation:.3f}" if deviation else "")


def _count(values: Sequence[float]) -> str:
    mean, deviation = spread([float(value) for value in values])
    return f"{mean:,.0f}" + (f" ± {deviation:,.0f}" if deviation else "")


def _fit(x: float | None) -> str:
    return "–" if x is None else f"{x:.3g}"
