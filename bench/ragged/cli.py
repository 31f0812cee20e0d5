"""Attention over a batch of small graphs beside the padded dense form: numbers first, then memory and time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gattn.bench import gate, limits, memory, timing
from gattn.bench.machine import describe
from gattn.bench.ragged.batches import SOURCES, Batch, load
from gattn.bench.ragged.contenders import CONTENDERS, Problem, gattn, step
from gattn.bench.results import Record
from torch import Tensor

from gattn.terminal import say, table

#: What is timed, of whom: with a backward or not, and with which dropout. FlexAttention has no backward on CPUs.
TIMED: dict[str, tuple[bool, float]] = {"step": (True, 0.0), "dropout": (True, 0.5), "forward": (False, 0.0)}
FORWARD_ONLY, NO_DROPOUT = {"flex"}, {"flex", "sparse"}
NAMES = ("out", "grad q", "grad k", "grad v", "grad hop")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gattn.bench.ragged", description=__doc__)
    add = parser.add_argument
    add("--batches", nargs="+", default=list(SOURCES), choices=list(SOURCES), help="default all")
    add("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS), help="default all")
    add("--graphs", type=int, default=128, help="in a batch")
    add("--heads", type=int, default=4)
    add("--channels", type=int, default=16, help="a head")
    add("--threads", type=int, default=torch.get_num_threads(), help="of every contender")
    add("--repeats", type=int, default=5, help="rounds, at the least; fast steps get more")
    add("--no-memory", action="store_true", help="leave the processes that measure memory out")
    add("--json", type=Path, metavar="OUT", help="write results here, again after every batch")
    return parser


def _exact(problem: Problem) -> list[Tensor]:
    """``out`` and the gradients by the reference in fp64."""
    doubles = [leaf.detach().double().requires_grad_() for leaf in problem.leaves]
    wide = Problem(problem.batch, doubles, problem.grad_out.double(), 0.0)
    return step(wide, gattn(wide, backend="reference"), backward=True)()


def _judge(found: list[Tensor], exact: list[Tensor]) -> tuple[dict[str, float], str]:
    errors = {name: gate.error(got, want) for name, got, want in zip(NAMES, found, exact, strict=False)}
    red = ", ".join(f"{name} {error:.1e}" for name, error in errors.items() if not error <= gate.TOLERANCE)
    return errors, f"differs from the fp64 reference beyond {gate.TOLERANCE:.0e}: {red}" if red else ""


def _least(batch: Batch, heads: int, channels: int, flops: float, bandwidth: float) -> dict[str, float]:
    """Seconds that the products alone take at matrix multiplication's speed, and moving every number once takes.

    Two products forward and five backward, of ``pairs * heads * channels`` multiplications and additions each.
    """
    pairs = len(batch.distance)
    numbers = batch.nodes * heads * channels
    product, row = 2 * pairs * heads * channels, 4 * numbers
    return {
        "forward_flops": 2 * product / flops,
        "step_flops": 7 * product / flops,
        "forward_bytes": (4 * row + 2 * pairs) / bandwidth,
        "step_bytes": (11 * row + 4 * pairs) / bandwidth,
    }


def _flops() -> float:
    """Multiplications and additions a second of a large fp32 product; best of a few."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    samples = timing.alternate({"product": lambda: a @ b}, 5)["product"]
    return float(2 * 1024**3 / min(samples))


def _measure(name: str, args: argparse.Namespace, entry: dict[str, Any], save: Callable[[], None]) -> None:
    batch = load(name, args.graphs)
    sizes = batch.sizes
    entry.update(
        title=batch.title,
        graphs=len(sizes),
        nodes=batch.nodes,
        largest=max(sizes),
        pairs=len(batch.distance),
        padded_pairs=len(sizes) * max(sizes) ** 2,
    )
    build = {p: Problem.build(batch, args.heads, args.channels, p, torch.float32) for p in (0.0, 0.5)}
    exact = _exact(build[0.0])
    green = []
    for contender in args.contenders:
        title, make = CONTENDERS[contender]
        found: dict[str, Any] = {"title": title, "reason": ""}
        entry["contenders"][contender] = found
        try:
            results = step(build[0.0], make(build[0.0]), backward=contender not in FORWARD_ONLY)()
            found["errors"], found["reason"] = _judge(results, exact)
        except Exception as failure:  # other people's code on any machine: report it and measure the rest
            found["reason"] = f"{type(failure).__name__}: {failure}".splitlines()[0]
        if found["reason"]:
            say(f"{name}: {title}: {found['reason']}")
        else:
            green.append(contender)
        if not args.no_memory and not found["reason"]:
            request = {
                "batch": name,
                "contender": contender,
                "dropout_p": 0.0,
                "backward": contender not in FORWARD_ONLY,
            }
            request |= {key: getattr(args, key) for key in ("graphs", "heads", "channels", "threads")}
            found["memory"] = memory.ask("gattn.bench.ragged.footprint", request)
        save()
    for what, (backward, p) in TIMED.items():
        able = [c for c in green if not (backward and c in FORWARD_ONLY) and not (p and c in NO_DROPOUT)]
        steps = {c: step(build[p], CONTENDERS[c][1](build[p]), backward=backward) for c in able}
        for contender, samples in timing.alternate(steps, args.repeats).items():
            entry["contenders"][contender][what] = timing.summary(samples)
        say(f"{name}: timed {what}")
        save()


def _show(entry: dict[str, Any]) -> str:
    def cell(contender: dict[str, Any], what: str) -> str:
        if what not in contender or "gattn" not in entry["contenders"]:
            return ""
        own = entry["contenders"]["gattn"].get(what, contender[what])["median"]
        median = contender[what]["median"]
        return f"{1e3 * median:.2f} ms ({median / own:.1f}x)"

    rows = [
        [
            contender["title"],
            *(cell(contender, what) for what in TIMED),
            f"{contender['memory']['step_peak'] / 2**20:.1f} MiB" if "step_peak" in contender.get("memory", {}) else "",
            f"{max(contender['errors'].values()):.0e}" if contender.get("errors") else contender["reason"],
        ]
        for contender in entry["contenders"].values()
    ]
    head = f"\n{entry['title']}: {entry['graphs']} graphs, {entry['nodes']:,} nodes, the largest {entry['largest']}; "
    head += f"{entry['pairs']:,} pairs, padded {entry['padded_pairs']:,}"
    shown = table(rows, ["", "forward + backward", "with dropout", "forward", "peak memory", "error"])
    least = ", ".join(f"{name.replace('_', ' ')} {1e3 * value:.2f} ms" for name, value in entry["limits"].items())
    return "\n".join([head, shown, f"least: {least}"])


def main() -> int:
    """Measure, print a table for each batch as it is done, and write what was asked for."""
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    settings = {key: getattr(args, key) for key in ("graphs", "heads", "channels", "threads", "repeats")}
    record = Record(args.json, settings, describe())
    flops, bandwidth = _flops(), limits.copy_bandwidth()
    record.data["limits"] = {"flops_per_second": flops, "copy_bytes_per_second": bandwidth}
    for name in args.batches:
        entry: dict[str, Any] = {"case": {"name": name}, "contenders": {}, "complete": False}
        record.data["graphs"].append(entry)
        _measure(name, args, entry, record.save)
        entry["limits"] = _least(load(name, args.graphs), args.heads, args.channels, flops, bandwidth)
        entry["complete"] = True
        record.save()
        print(_show(entry), flush=True)
    record.finish()
    bad = {c["title"] for g in record.data["graphs"] for c in g["contenders"].values() if c["reason"]}
    if bad:
        say(f"no speed for {', '.join(sorted(bad))}: see the reasons above")
    return 1 if bad else 0
