"""The report as a page: what holds, what does not, and how fast what holds is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gattn.bench.gpu.batches import TITLES as BATCH_TITLES
from gattn.bench.gpu.contenders import TITLES
from gattn.bench.gpu.task import STATUSES, Result
from gattn.bench.tables import markdown, seconds, size, times

from gattn.gpu_choice import SORTS

Results = dict[str, Result]


def _of(results: Results, step: str) -> Iterator[tuple[list[str], Result]]:
    """A step's results with the rest of their keys."""
    for key, result in results.items():
        name, *rest = key.split("/")
        if name == step:
            yield rest, result


def checks(results: Results) -> str:
    """How many results of every step are what, and every one that is bad."""
    counts: dict[str, Counter[str]] = {}
    for key, result in results.items():
        counts.setdefault(key.split("/")[0], Counter())[result["status"]] += 1
    rows = [[step, *(str(count[status] or "") for status in STATUSES)] for step, count in counts.items()]
    bad = [
        f"- `{key}` {result['status']}: {result['reason']}" for key, result in results.items() if result.get("reason")
    ]
    return "\n\n".join([markdown(["step", *STATUSES], rows), *(["\n".join(bad)] if bad else [])])


def bandwidths(results: Results) -> str:
    """Copying, and gathering by size of the table."""
    rows = [
        [graph, dtype, f"{found['copy'] / 1e9:.0f} GB/s", f"{found['gather'] / 1e9:.0f} GB/s"]
        for (graph, dtype), found in _of(results, "bandwidth")
        if found["status"] == "green"
    ]
    return markdown(["table of", "dtype", "copy, read + written", "random rows, read"], rows) if rows else ""


def ops(results: Results) -> str:
    """The ops' times, the least times, and what part of one the other is."""
    rows = []
    for (backend, *chosen), found in _of(results, "ops"):
        if found["status"] != "green":
            continue
        row = [*chosen, backend]
        for part in ("forward", "backward"):
            limit, share = (found.get(name, {}).get(part) for name in ("limit", "of_limit"))
            row += [
                seconds(found["times"][part]["median"]),
                "" if limit is None else seconds(limit),
                "" if share is None else f"{share:.0%}",
            ]
        rows.append(row)
    header = ["op of layer", "graph", "dtype", "backend", "forward", "limit", "of it", "backward", "limit", "of it"]
    return markdown(header, rows) if rows else ""


def host(results: Results) -> str:
    """Forward and backward of an op without waiting for the device, beside PyTorch's own smallest steps."""
    rows = [
        [layer, backend, *(seconds(found[name]["median"]) for name in ("op", "function", "native"))]
        for (backend, layer), found in _of(results, "host")
        if found["status"] == "green"
    ]
    return markdown(["op of layer", "backend", "op", "empty autograd.Function", "product"], rows) if rows else ""


def graphs(results: Results) -> str:
    """How long building one takes, by what sorts its edges."""
    rows = []
    for (name,), found in _of(results, "graphs"):
        if found["status"] == "green":
            medians = (found["times"].get(sort, {}).get("median") for sort in SORTS)
            cells = ("" if median is None else seconds(median) for median in medians)
            rows.append([name, f"{found['nodes']:,}", f"{found['edges']:,}", *cells])
    return markdown(["graph", "nodes", "edges", *(f"sorted by {sort}" for sort in SORTS)], rows) if rows else ""


def published(results: Results) -> str:
    """The dot score's forward, 1 head of 128 channels in fp16, beside Fused3S's published times."""
    rows = [
        [graph, backend, seconds(found["forward"]["median"]), seconds(found["published"])]
        for (backend, graph), found in _of(results, "published")
        if found["status"] == "green"
    ]
    return markdown(["power-law graph of size", "backend", "here", "Fused3S on a GH200"], rows) if rows else ""


def _contender(found: dict[str, Any], own: dict[str, Any]) -> list[str]:
    cells = []
    for part in ("forward", "step"):
        if part not in found:
            cells += ["", ""]
            continue
        median = found[part]["median"]
        cells += [seconds(median), times(median / own[part]["median"]) if part in own else ""]
    peak = found.get("peak_bytes")
    error = max(found.get("errors", {}).values(), default=None)
    return [*cells, "" if peak is None else size(peak), "" if error is None else f"{error:.0e}"]


def _contenders(chosen: list[str], result: Result, backend: str, titles: dict[str, str]) -> Iterator[list[str]]:
    """A row for each: its times and memory, or what became of it."""
    for name, found in result.get("contenders", {}).items():
        cells = _contender(found, result["contenders"]["gattn"])
        if found["status"] != "green":
            cells[0] = found["status"]
        yield [*chosen, f"gattn ({backend})" if name == "gattn" else titles.get(name, name), *cells]


_TIMES = ("", "forward", "/ gattn", "+ backward", "/ gattn", "peak memory", "error")


def layers(results: Results) -> str:
    """Every contender of every problem."""
    rows: list[list[str]] = []
    for chosen, result in _of(results, "layers"):
        rows += _contenders(chosen, result, result.get("backend", ""), TITLES)
    return markdown(["layer", "graph", "dtype", *_TIMES], rows) if rows else ""


def ragged(results: Results) -> str:
    """Every contender of every batch of graphs."""
    rows: list[list[str]] = []
    for (step, backend, *chosen), result in _of(results, "ragged"):
        if step == "speed":
            rows += _contenders(chosen, result, backend, BATCH_TITLES)
    return markdown(["batch", "dtype", *_TIMES], rows) if rows else ""


def activation(results: Results) -> str:
    """What the op reads a second beside what a copy reads and writes, and PyTorch's time over its own."""
    rows = []
    for (step, backend, width, dtype), found in _of(results, "activation"):
        if step != "speed" or found["status"] != "green":
            continue
        own, copy, pytorch = (found["times"][name]["median"] for name in ("op", "copy", "pytorch"))
        rates = (f"{size / 1e9:.0f} GB/s" for size in (found["bytes"] / own, 2 * found["bytes"] / copy))
        rows.append([f"{found['rows']} × {width}", dtype, backend, seconds(own), *rates, times(pytorch / own)])
    header = ["rows × width", "dtype", "backend", "op", "read", "copy, read + written", "ratio in PyTorch"]
    return markdown(header, rows) if rows else ""


def page(data: dict[str, Any], late: list[str]) -> str:
    """All of it."""
    results = data["results"]
    parts = [f"# {data['machine']['device']['name']}", checks(results)]
    for title, text in (
        ("Bandwidths", bandwidths(results)),
        ("Ops against the limit", ops(results)),
        ("Host time of a call, forward and backward", host(results)),
        ("Building a graph, self-loops rewritten", graphs(results)),
        ("Published shapes: dot score, 1 × 128, fp16, forward", published(results)),
        ("Layers", layers(results)),
        ("All-pairs attention over batches of graphs", ragged(results)),
        ("Statistics of activations", activation(results)),
    ):
        if text:
            parts += [f"## {title}", text]
    if late:
        parts.append(
            f"No time was left for {len(late)} tasks; the next run goes on with them: {', '.join(late[:5])} ..."
        )
    return "\n\n".join(parts) + "\n"
