"""Tables of the benchmarks of Gradformer's parts, for docs/gradformer.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gattn.bench.tables import describe, markdown, seconds, size, times

#: What the attention was timed as, by its name in the results.
TIMED = {"step": "forward + backward", "dropout": "with dropout .5", "forward": "forward alone"}


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _multiple(contenders: dict[str, Any], name: str, what: str) -> str:
    """The contender's median in multiples of gattn's, whose own is a time."""
    own, found = (contenders[key].get(what, {}).get("median") for key in ("gattn", name))
    if found is None or own is None:
        return "–"
    return seconds(found) if name == "gattn" else times(found / own)


def _peak(contender: dict[str, Any]) -> str:
    found = contender.get("memory", {}).get("step_peak")
    return "–" if found is None else size(found)


def attention_table(run: dict[str, Any]) -> str:
    """Every contender on every batch: times in multiples of gattn's, peak memory, and the limits."""
    rows = []
    for graph in run["graphs"]:
        contenders, limits = graph["contenders"], graph["limits"]
        for name, contender in contenders.items():
            cells = [_multiple(contenders, name, what) for what in TIMED]
            rows.append([f"{graph['title']}: {contender['title']}", *cells, _peak(contender)])
        least = [max(limits[f"{what}_flops"], limits[f"{what}_bytes"]) for what in ("step", "forward")]
        rows.append([f"{graph['title']}: the limit", seconds(least[0]), "–", seconds(least[1]), "–"])
    return markdown(["", *TIMED.values(), "peak memory"], rows)


def layer_table(run: dict[str, Any]) -> str:
    """The whole block, forward and backward."""
    rows = []
    for entry in run["batches"]:
        own = entry["times"]["gattn"]["median"]
        others = [times(found["median"] / own) for name, found in entry["times"].items() if name != "gattn"]
        rows.append([f"{entry['name']} ({entry['nodes']:,} nodes, {entry['pairs']:,} pairs)", seconds(own), *others])
    others = [name for name in run["batches"][0]["times"] if name != "gattn"]
    return markdown(["batch", "gattn", *others], rows)


def distance_table(run: dict[str, Any]) -> str:
    """Hop counts of whole data sets."""
    rows = []
    for entry in run["graphs"]:
        case, found = entry["case"], {name: c["time"]["median"] for name, c in entry["contenders"].items()}
        others = [times(median / found["gattn"]) for name, median in found.items() if name != "gattn"]
        rows.append([f"{case['name']} ({case['graphs']:,} graphs)", seconds(found["gattn"]), *others])
    titles = [contender["title"] for contender in run["graphs"][0]["contenders"].values()]
    return markdown(["data set", *titles], rows)


def block(folder: Path) -> str:
    """What docs/gradformer.md shows of the results that are there."""
    parts = []
    if (run := _read(folder / "ragged.json")) is not None:
        settings = run["settings"]
        parts += [
            f"The attention alone, batches of {settings['graphs']} graphs (ladders: {settings['graphs'] // 32}), "
            f"{settings['heads']} heads of {settings['channels']} channels, fp32; the limit is the longer of what its "
            "products take at a large product's speed and what moving every number once takes at a copy's. "
            f"{describe(run)}",
            attention_table(run),
        ]
    if (run := _read(folder / "ragged-layers.json")) is not None:
        parts += [f"The whole block, forward and backward. {describe(run)}", layer_table(run)]
    if (run := _read(folder / "shortest_path.json")) is not None:
        parts += [f"Hop counts of all pairs, SciPy with one thread. {describe(run)}", distance_table(run)]
    return "\n\n".join(parts) or "No measurements are stored."
