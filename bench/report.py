"""Tables from the results: the marked blocks of README.md, docs/benchmarks.md, docs/gradformer.md and
docs/massive-detection.md.

``python -m gattn.bench.report`` rewrites the blocks from ``bench/results/*.json``; ``--check`` only says
whether they are up to date (exit status 1 if not).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gattn.bench import activation_report, norm
from gattn.bench.graphs import CASES
from gattn.bench.ragged import report as ragged
from gattn.bench.results import DIRECTORY, load, over_limit, ratio
from gattn.bench.tables import describe, markdown, seconds, size, times
from gattn.bench.variants import PLAIN, ratios

from gattn.files import write_atomic

Graph = dict[str, Any]
Run = dict[str, Any]

#: Results of other kinds than layers on a graph: of the GPU report, the kernel report, and smaller benchmarks.
OTHERS = ("gpu-", "kernels.", "activation.", "ragged", "shortest_path.")
TITLES = {
    "gat": "GATConv layer",
    "gatv2": "GATv2Conv layer",
    "gatv2-edge": "GATv2Conv layer with edge features",
    "transformer": "TransformerConv layer",
    "transformer-edge": "TransformerConv layer with edge features",
}


def peers(run: Run) -> dict[str, str]:
    """Names and titles of the contenders other than gattn, in the order in which they were measured."""
    found: dict[str, str] = {}
    for graph in run["graphs"]:
        found.update({name: c["title"] for name, c in graph["contenders"].items() if name != "gattn"})
    return found


def _graph_name(graph: Graph) -> str:
    case = graph["case"]
    return f"{graph['title']} ({case['num_nodes']:,} nodes, {case['num_edges']:,} edges)"


def _own(graph: Graph, group: str, what: str, shown: Callable[[float], str]) -> str:
    value = graph["contenders"].get("gattn", {}).get(group, {}).get(what)
    return "–" if value is None else shown(value)


def speed_table(run: Run) -> str:
    """gattn's step, the others' in multiples of it, and the kernel's in multiples of the gather limit."""
    others = peers(run)
    rows = [
        [
            _graph_name(graph),
            _own(graph, "time", "median", seconds),
            *(times(ratio(graph, name)) for name in others),
            times(over_limit(graph, "forward")),
            times(over_limit(graph, "backward")),
        ]
        for graph in run["graphs"]
    ]
    return markdown(["graph", "gattn", *others.values(), "forward / gather", "backward / gather"], rows)


def memory_table(run: Run) -> str:
    """Peak extra memory of gattn's step, and the others' in multiples of it."""
    others = peers(run)
    rows = [
        [
            _graph_name(graph),
            _own(graph, "memory", "step_peak", size),
            _own(graph, "memory", "kept", size),
            *(times(ratio(graph, name, "step_peak")) for name in others),
        ]
        for graph in run["graphs"]
    ]
    return markdown(["graph", "gattn's step", "kept for the graph", *others.values()], rows)


def full_table(run: Run) -> str:
    """Every contender on every graph: median, quartiles, memory, error, or why there is none."""
    rows = []
    for graph in run["graphs"]:
        for contender in graph["contenders"].values():
            time, memory = contender.get("time"), contender.get("memory", {}).get("step_peak")
            spread = f"{seconds(time['q1'])} – {seconds(time['q3'])}" if time else contender["reason"] or "–"
            errors = contender.get("errors")
            rows.append(
                [
                    f"{graph['title']}: {contender['title']}",
                    seconds(time["median"]) if time else "–",
                    spread,
                    str(time["samples"]) if time else "–",
                    "–" if memory is None else size(memory),
                    f"{max(errors.values()):.1e}" if errors else "–",
                ]
            )
    return markdown(["contender", "median", "quartiles", "samples", "peak memory", "largest error"], rows)


def kernel_table(run: Run) -> str:
    """The op alone and the gathers it is compared with."""
    names = ("forward", "gather", "backward", "gather_transposed")
    rows = [
        [_graph_name(graph), *(seconds(graph["kernel"][name]["median"]) for name in names)]
        for graph in run["graphs"]
        if graph["kernel"]
    ]
    return markdown(["graph", "forward", "gather limit", "backward", "transposed gather limit"], rows)


def variants_table(run: Run) -> str:
    """What modifiers and half precision cost: the op's forward and backward in multiples of the plain op's."""
    measured = [graph for graph in run["graphs"] if graph.get("variants")]
    if not measured:
        return ""
    names = list(ratios(measured[0]["variants"]))
    rows = [
        [
            _graph_name(graph),
            seconds(graph["variants"][PLAIN]["median"]),
            *(f"{ratios(graph['variants'])[name]:.2f}×" for name in names),
        ]
        for graph in measured
    ]
    return markdown(["graph", "plain op", *names], rows)


def call_line(run: Run) -> str:
    """The fixed cost of a call."""
    own, function, native = (f"{run['call'][name]['median'] * 1e6:.0f} µs" for name in ("op", "function", "native"))
    return (
        f"A call of the op costs {own}, forward and backward on a graph of one node; an empty `autograd.Function` of "
        f"three inputs {function}, a product of two tensors of one element {native}."
    )


def norm_line(run: Run) -> str:
    """What LipschitzNorm costs the layer."""
    costs = [f"{graph['case']['name']} {norm.ratio(graph['norm']):.2f}×" for graph in run["graphs"] if "norm" in graph]
    return f'The layer with `norm="lipschitz"` over the plain one: {", ".join(costs)}.' if costs else ""


def merged(runs: Sequence[Run]) -> list[Run]:
    """One run for each layer and description: what was measured graph by graph stands in one table."""
    found: dict[tuple[str, str], Run] = {}
    for run in runs:
        first = found.setdefault((run["settings"]["layer"], describe(run)), {**run, "graphs": []})
        graphs = [*first["graphs"], *run["graphs"]]
        first["graphs"] = sorted(graphs, key=lambda graph: _rank(graph["case"]["name"], CASES))
    return sorted(found.values(), key=lambda run: _rank(run["settings"]["layer"], TITLES))


def _rank(name: str, known: Iterable[str]) -> int:
    order = list(known)
    return order.index(name) if name in order else len(order)


def _layer(run: Run) -> str:
    layer: str = run["settings"]["layer"]
    return TITLES.get(layer, f"layer {layer}")


def readme_block(runs: Sequence[Run]) -> str:
    """What README shows."""
    parts, said = [], ""
    for run in runs:
        where = describe(run)
        parts += [] if where == said else [where]
        parts += [f"One {_layer(run)}, forward and backward, fp32:", speed_table(run)]
        if any("memory" in contender for graph in run["graphs"] for contender in graph["contenders"].values()):
            parts += ["Peak extra memory of the same step:", memory_table(run)]
        said = where
    return "\n\n".join(parts) or "No measurements are stored."


def docs_block(runs: Sequence[Run]) -> str:
    """What docs/benchmarks.md shows."""
    parts = []
    for run in runs:
        copy = run["limits"]["copy_bytes_per_second"]
        parts += [
            f"{_layer(run)}. {describe(run)} Copy bandwidth {copy / 1e9:.1f} GB/s.",
            full_table(run),
        ]
        if any(graph["kernel"] for graph in run["graphs"]):
            parts.append(kernel_table(run))
        if "call" in run:
            parts.append(call_line(run))
        if costs := norm_line(run):
            parts.append(costs)
        if costs := variants_table(run):
            parts += ["The op's forward and backward with a modifier, or in bf16, over the plain op's:", costs]
    return "\n\n".join(parts) or "No measurements are stored."


def _layers(folder: Path) -> list[Run]:
    return merged(load(path for path in folder.glob("*.json") if not path.name.startswith(OTHERS)))


#: By document, its block from a folder of results.
BLOCKS: dict[str, Callable[[Path], str]] = {
    "README.md": lambda folder: readme_block(_layers(folder)),
    "docs/benchmarks.md": lambda folder: docs_block(_layers(folder)),
    "docs/gradformer.md": ragged.block,
    "docs/massive-detection.md": activation_report.block,
}
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def replace_block(text: str, block: str) -> str:
    """``text`` with ``block`` between the marks; :class:`ValueError` unless both are there once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected one {BEGIN} followed by one {END}; put them where the table should be")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{rest.split(END)[1]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the blocks."""
    parser = argparse.ArgumentParser(prog="python -m gattn.bench.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a block is out of date")
    parser.add_argument("--root", type=Path, default=DIRECTORY.parents[1], help="folder of README.md and docs/")
    parser.add_argument("--results", type=Path, default=DIRECTORY, help="folder of the JSON results")
    args = parser.parse_args(argv)
    stale = []
    try:
        for name, make in BLOCKS.items():
            path = args.root / name
            old = path.read_text()
            new = replace_block(old, make(args.results))
            if new != old:
                stale.append(name)
                if not args.check:
                    write_atomic(path, lambda file, new=new: file.write(new.encode()))
    except (ValueError, OSError) as error:
        print(f"gattn.bench.report: error: {error}", file=sys.stderr)
        return 2
    print(f"{'out of date' if args.check else 'rewrote'}: {', '.join(stale)}" if stale else "up to date")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
