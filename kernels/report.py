"""``python -m gattn.kernels.report``: compiles every kernel for every GPU family and says what it needs.

Exit status 1, with the names, when a variant spills registers or does not compile. Nothing is timed and no GPU is
needed. Triton's cache makes a second run quick.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gattn.files import write_json
from gattn.processes import end_with_parent
from gattn.terminal import Progress, UsageError, require, say, table

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
Row = dict[str, Any]  #: name, target, and either registers, shared, spilled or an error

_known: dict[str, Any] = {}  # a worker's variants: their functions do not travel between processes


def _load(names: Sequence[str]) -> None:
    from gattn.kernels import resources

    sources = [import_module(name) for name in names] if names else resources.modules()
    _known.update(resources.collect(sources))


def _start(names: Sequence[str]) -> None:
    end_with_parent()
    _load(names)


def _measure(name: str, target: str) -> Row:
    from gattn.kernels import resources

    try:
        found: Row = resources.usage(_known[name], target)._asdict()
    except Exception as error:  # whatever the compiler raises is a result
        found = {"error": f"{type(error).__name__}: {error}".strip().splitlines()[-1]}
    return {"name": name, "target": target, **found}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gattn.kernels.report", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--targets", default=",".join(TARGETS), help="joined by commas")
    add("--match", default="", help="only variants with this in their name")
    add("--every", type=int, default=1, help="only every so many, spread over all")
    add("--modules", nargs="*", default=[], help="where to look for variants() instead of in gattn.kernels")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="compiler processes")
    add("--json", type=Path, help="write what was found here")
    add("--markdown", type=Path, help="and as tables here")
    add("--update", action="store_true", help="keep what the JSON file has of kernels that are not compiled now")
    return parser


def _chosen(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Pairs of variant and target; with ``--every`` another part of the variants for each target."""
    targets = args.targets.split(",")
    unknown = [name for name in targets if name not in TARGETS]
    if unknown or args.every < 1:
        raise UsageError(f"expected --every of at least 1 and targets out of {', '.join(TARGETS)} (got {unknown})")
    names = [name for name in _known if args.match in name]
    for shift, target in enumerate(targets):
        yield from ((name, target) for name in names[shift % max(1, min(args.every, len(names))) :: args.every])


def _compile(args: argparse.Namespace) -> list[Row]:
    work = list(_chosen(args))
    if not work:
        return []
    rows = {}
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(args.jobs, mp_context=context, initializer=_start, initargs=(args.modules,)) as pool,
        Progress(len(work), "kernel") as progress,
    ):
        running = {pool.submit(_measure, *pair): pair for pair in work}
        for done in as_completed(running):
            rows[running[done]] = done.result()
            progress.advance(" ".join(running[done]))
    return [rows[pair] for pair in work]


def _hand_written(args: argparse.Namespace) -> list[Row]:
    """The CUDA kernels of the compiled core, for the architectures that it was built for."""
    from gattn.backends import _C

    if args.modules or _C is None:
        return []
    if _C.no_cuda:
        say(f"without CUDA kernels: {_C.no_cuda}")
        return []
    from gattn.kernels import cuda_resources

    return cuda_resources.measure(Path(_C.__file__))


def bad(rows: list[Row]) -> list[str]:
    """What is wrong, a line a variant and target."""
    lines = []
    for row in rows:
        if "error" in row:
            lines.append(f"{row['name']} for {row['target']} does not compile: {row['error']}")
        elif row["spilled"]:
            lines.append(f"{row['name']} for {row['target']} spills {row['spilled']} bytes a thread")
    return lines


def summary(rows: list[Row]) -> list[tuple[object, ...]]:
    """A row a kernel (a name's first word) and target: variants, registers and shared memory up to, the least
    occupancy, how many spill."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["name"].split()[0], row["target"]), []).append(row)
    return [
        (
            kernel,
            target,
            len(found),
            max((row.get("registers", 0) for row in found), default=0),
            max((row.get("shared", 0) for row in found), default=0),
            _percent(min((row["occupancy"] for row in found if row.get("occupancy") is not None), default=None)),
            len(bad(found)),
        )
        for (kernel, target), found in groups.items()
    ]


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


HEADER = ("kernel", "target", "variants", "registers", "shared bytes", "occupancy", "bad")


def markdown(rows: list[Row], version: str, every: int) -> str:
    """The tables as a page of the documentation; ``every`` is how many there are to compile."""
    part = "" if len(rows) == every else f"A sample: {len(rows)} of {every}. "
    lines = [
        "# GPU kernels: what they need",
        "",
        f"{part}Written by `make kernel-report` with Triton {version}; read off code compiled ahead of time, not off a "
        "GPU. Registers and spilled bytes are per thread, shared memory is per program; both are the largest among a "
        "kernel's variants, and occupancy, the part of a multiprocessor's warps that can be there at once, the least. "
        "`bench/results/kernels.json` lists them. The check fails when one spills. Those with `cuda:` are hand-written "
        "(`csrc/cuda`), compiled by nvcc; the others are Triton's.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
        *(f"| {' | '.join(map(str, row))} |" for row in summary(rows)),
    ]
    return "\n".join(lines) + "\n"


def _saved(args: argparse.Namespace, version: str) -> list[Row]:
    """What the file to update has; nothing without ``--update``."""
    if not args.update:
        return []
    if args.json is None or not args.json.exists():
        raise UsageError(f"expected --json with the file to update (got {args.json})")
    saved = json.loads(args.json.read_text())
    if saved["triton"] != version:
        raise UsageError(
            f"{args.json} was written with Triton {saved['triton']}, not {version}: compile all, without --update"
        )
    rows: list[Row] = saved["kernels"]
    return rows


def _kept(saved: list[Row], rows: list[Row], compiled: Sequence[Row]) -> list[Row]:
    """Those that still have a variant and are not among ``rows``. Hand-written kernels stay where none are compiled."""
    new = {(row["name"], row["target"]) for row in rows}
    known = _known.keys() | {row["name"] for row in compiled}
    return [
        row
        for row in saved
        if (row["name"], row["target"]) not in new
        and (row["name"] in known or (not compiled and row["name"].startswith("cuda:")))
    ]


def run(args: argparse.Namespace) -> int:
    """Compiles, shows, writes; 1 if anything is bad."""
    triton = require("triton", "the report")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise UsageError("the kernels are compiled: unset TRITON_INTERPRET")
    _known.clear()
    _load(args.modules)
    saved = _saved(args, triton.__version__)
    rows = _compile(args)
    compiled = _hand_written(args)
    rows += [row for row in compiled if args.match in row["name"]]
    if not rows:
        raise UsageError(f"no variant has {args.match!r} in its name; expected one of {', '.join(_known) or 'none'}")
    rows = _kept(saved, rows, compiled) + rows
    hand_written = sum(row["name"].startswith("cuda:") for row in rows)
    every = len(_known) * len(TARGETS) + max(len(compiled), hand_written)
    print(table(summary(rows), HEADER))
    if args.json is not None:
        write_json(args.json, {"triton": triton.__version__, "kernels": rows})
    if args.markdown is not None:
        args.markdown.write_text(markdown(rows, triton.__version__, every))
    problems = bad(rows)
    for line in problems:
        say(line)
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    args = _parser().parse_args(argv)
    try:
        return run(args)
    except UsageError as error:
        say(f"kernel-report: error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
