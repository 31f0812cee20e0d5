"""The command of the GPU report."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gattn.files import write_atomic, write_json
from gattn.terminal import UsageError, say

SECONDS = 540


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gattn.bench.gpu", description="Checks and measures gattn on this machine's GPU."
    )
    add = parser.add_argument
    add("--results", type=Path, default=Path("bench/results"), help="folder of gpu-<device>.json and .md")
    add("--budget", type=float, default=SECONDS, help="seconds; what they are too few for, the next run does")
    add("--steps", help="only these, joined by commas")
    add("--fresh", action="store_true", help="do not go on from what an earlier run has left")
    add(
        "--choices", type=Path, help="write the table here that chooses between backends, if there are two to choose of"
    )
    add("--dry-run", action="store_true", help="without a GPU: everything but speeds, small, into a temporary folder")
    return parser


def _steps(asked: str | None) -> list[object]:
    from gattn.bench.gpu import (
        activation,
        bandwidth,
        building,
        capture,
        determinism,
        host,
        indices,
        numerics,
        published,
        ragged,
        sanitizer,
        speeds,
        streams,
        synchronisation,
        warmup,
    )

    checks = (indices, warmup, numerics, determinism, synchronisation, streams, capture, sanitizer)
    order = (*checks, bandwidth, host, building, ragged, activation, published, speeds)
    known = {module.STEP.name: module.STEP for module in order}
    unknown = [name for name in (asked or "").split(",") if name and name not in known]
    if unknown:
        raise UsageError(f"unknown step {', '.join(unknown)}; expected some of {', '.join(known)}")
    return [step for name, step in known.items() if asked is None or name in asked.split(",")]


def run(args: argparse.Namespace) -> int:
    """Everything there is time for, then the page; 1 if anything is red or failed."""
    start = time.monotonic()
    if args.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
    import torch
    from gattn.bench.gpu import choices, machine, runner, table
    from gattn.bench.gpu.task import Context

    from gattn.backends import backends
    from gattn.gpu_choice import RIVALS

    if not args.dry_run and not torch.cuda.is_available():
        raise UsageError("PyTorch finds no GPU here; --dry-run does what needs none")
    device = torch.device("cpu" if args.dry_run else "cuda")
    facts = machine.describe(device)
    folder = Path(tempfile.mkdtemp(prefix="gattn-gpu-")) if args.dry_run else args.results
    name = f"gpu-{machine.slug(facts['device']['name'])}"
    record = runner.Record(folder / f"{name}.json", facts, fresh=args.fresh)
    usable = tuple(name for name in RIVALS if backends()[name][0])
    if not usable:
        raise UsageError("; ".join(f"no backend {name}: {backends()[name][1]}" for name in RIVALS))
    context = Context(device, args.dry_run, start + args.budget, tell=say, backends=usable)
    late = runner.run(_steps(args.steps), context, record)
    text = table.page(record.data, late)
    write_atomic(folder / f"{name}.md", lambda file: file.write(text.encode()))
    found = choices.table(record.results)
    if args.choices is not None and any(found.values()):
        write_json(args.choices, {"device": facts["device"]["name"], "sources": facts["sources"], **found})
        say(f"written: {args.choices}, {len(found['cases'])} cases and {len(found['graphs'])} graphs")
    print(text)
    say(f"written: {folder / name}.json and .md, {time.monotonic() - start:.0f} s")
    return 1 if any(result["status"] in ("red", "failed") for result in record.results.values()) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 2 for a mistake of the caller."""
    args = _parser().parse_args(argv)
    try:
        return run(args)
    except UsageError as error:
        say(f"gpu-report: error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
