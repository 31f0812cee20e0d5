"""``gattn bench``: gattn beside the other implementations installed, no speed without a green gate."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gattn.bench import graphs

from gattn.terminal import UsageError, require, say, table

QUICK_STAGES = ("layer", "kernel")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {value}, expected at least 1")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``gattn bench``."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    add = parser.add_argument
    add(
        "--graphs",
        type=_names,
        metavar="A,B",
        help=f"of {', '.join(graphs.CASES)}; default {','.join(graphs.DEFAULT)}",
    )
    add("--peers", type=_names, metavar="A,B", help="beside gattn; default all that can run here")
    add("--stages", type=_names, metavar="A,B", help="of layer, norm, kernel, variants, memory; default all")
    add("--layer", default="gat", help="the layer to measure; gat, gatv2, gatv2-edge, transformer, transformer-edge")
    add("--heads", type=_positive, help="instead of each graph's own (4)")
    add("--channels", type=_positive, help="a head, instead of each graph's own (32)")
    add("--threads", type=_positive, default=threads, help="threads of every implementation")
    add("--repeats", type=_positive, default=5, help="rounds, at the least; fast steps get more")
    add("--json", type=Path, metavar="OUT", help="write results here, again after every measurement")
    add("--resume", action="store_true", help="keep the graphs that --json's file holds from an interrupted run")
    add("--png", type=Path, metavar="OUT", help="draw the ratios")
    add("--quick", action="store_true", help="two small graphs, no memory; under three minutes")
    add("--list", action="store_true", help="show the graphs and the peers, and why a peer cannot run")


def _chosen(names: list[str] | None, known: dict[str, Any], default: tuple[str, ...], what: str) -> list[str]:
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UsageError(f"unknown {what} {', '.join(unknown)}; expected some of {', '.join(known)}")
    return list(names or default)


def _show(entry: dict[str, Any]) -> str:
    """The result on one graph as text."""
    from gattn.bench.results import over_limit, ratio
    from gattn.bench.tables import seconds, size, times
    from gattn.bench.variants import ratios

    rows, notes = [], []
    for name, contender in entry["contenders"].items():
        time, memory, errors = (contender.get(key) for key in ("time", "memory", "errors"))
        peak = (memory or {}).get("step_peak")
        rows.append(
            [
                contender["title"],
                seconds(time["median"]) if time else contender["status"],
                f"{seconds(time['q1'])} - {seconds(time['q3'])}" if time else "",
                times(ratio(entry, name)) if time else "",
                "" if peak is None else size(peak),
                "" if peak is None else times(ratio(entry, name, "step_peak")),
                f"{max(errors.values()):.0e}" if errors else "",
            ]
        )
        notes += [
            f"{contender['title']}: {reason}"
            for reason in (contender["reason"], (memory or {}).get("reason"))
            if reason
        ]
    case = entry["case"]
    shape = f"{case['in_channels']} -> {case['heads']} x {case['channels']}"
    lines = [f"\n{entry['title']}: {case['num_nodes']:,} nodes, {case['num_edges']:,} edges, {shape}"]
    lines.append(
        table(rows, ["forward + backward", "median", "quartiles", "/ gattn", "peak memory", "/ gattn", "error"])
    )
    for direction, limit in (("forward", "gather"), ("backward", "gather_transposed")):
        if entry["kernel"]:
            own, bound = (seconds(entry["kernel"][key]["median"]) for key in (direction, limit))
            lines.append(f"kernel {direction} {own}, {times(over_limit(entry, direction))} the gather limit of {bound}")
    if entry.get("variants"):
        costs = ", ".join(f"{name} {value:.2f}×" for name, value in ratios(entry["variants"]).items())
        lines.append(f"op forward + backward, over the plain op's time: {costs}")
    return "\n".join(lines + notes)


def _list(peers: dict[str, Any], layer: str) -> str:
    rows = [
        [name, f"{case.num_nodes:,}", f"{case.num_edges:,}", graphs.title(case)] for name, case in graphs.CASES.items()
    ]
    lines = [table(rows, ["graph", "nodes", "edges", "what"]), ""]
    for name, peer in peers.items():
        usable, reason = peer.can_run(graphs.CASES["cora"], layer)
        lines.append(f"{name:<12} {peer.title:<20} {'can run' if usable else 'cannot run: ' + reason}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Measure, print a table for each graph as it is done, and write what was asked for."""
    # Read by OpenMP runtimes when they load, which DGL's does later than torch's.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    from gattn.bench.layers import LAYERS
    from gattn.bench.machine import describe
    from gattn.bench.peers import all_peers
    from gattn.bench.results import Record
    from gattn.bench.session import STAGES, Session, Settings

    known = all_peers()
    _chosen([args.layer], dict.fromkeys(LAYERS), (), "layer")
    if args.list:
        print(_list(known, args.layer))
        return 0
    cases = _chosen(args.graphs, graphs.CASES, graphs.QUICK if args.quick else graphs.DEFAULT, "graph")
    names = _chosen(args.peers, known, tuple(known), "peer")
    stages = _chosen(args.stages, dict.fromkeys(STAGES), QUICK_STAGES if args.quick else STAGES, "stage")
    if args.png is not None:
        require("matplotlib", "--png")
    settings = Settings(args.layer, args.threads, args.repeats, stages)
    if args.resume and args.json is None:
        raise UsageError("--resume needs --json: the file to go on from")
    try:
        record = Record(args.json, settings.as_dict(), describe(), resume=args.resume)
    except ValueError as error:
        raise UsageError(str(error)) from error
    chosen = {name: known[name] for name in dict.fromkeys(["gattn", *names])}
    session = Session(settings, chosen, record, say)
    changes = {key: value for key in ("heads", "channels") if (value := getattr(args, key)) is not None}
    for name in cases:
        case = replace(graphs.CASES[name], **changes)
        if not record.has(case.as_dict()):
            print(_show(session.measure(case)), flush=True)
    record.finish()
    if args.png is not None:
        from gattn.bench.plot import draw

        if not draw(record.data, args.png):
            say("gattn bench: no chart: no graph has times of gattn and of a peer")
    bad = [
        c["title"] for g in record.data["graphs"] for c in g["contenders"].values() if c["status"] in ("red", "failed")
    ]
    if bad:
        say(f"gattn bench: no speed for {', '.join(sorted(set(bad)))}: see the reasons above")
    return 1 if bad else 0
