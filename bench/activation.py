"""``python -m gattn.bench.activation``: the statistics of activations beside a copy and beside PyTorch's operations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from gattn.bench import machine, timing
from torch import Tensor

from gattn import ops
from gattn.files import write_json

WIDTHS = (8, 16, 32, 64, 128, 256, 1024)
NUMBERS = 1 << 26  # of a tensor, more than any cache holds


def one_liner(x: Tensor) -> Tensor:
    """Every row's ratio, as PyTorch's users write it."""
    size = x.abs()
    return size.amax(1) / size.median(1).values


def measure(width: int, numbers: int, rounds: int) -> dict[str, Any]:
    """Times in turn of a copy, the op and the one-liner on ``[numbers / width, width]``, if the op's ratios are right.

    Raises:
        ArithmeticError: They are not.
    """
    x = torch.randn(max(1, numbers // width), width, generator=torch.Generator().manual_seed(width))
    target = torch.empty_like(x)
    if not torch.equal(ops.activation_stats(x).rows.ratio, one_liner(x)):
        raise ArithmeticError(f"width {width}: the op's ratios are not those of PyTorch's operations; nothing is timed")
    steps = {
        "copy": lambda: target.copy_(x),
        "op": lambda: ops.activation_stats(x),
        "pytorch": lambda: one_liner(x),
    }
    found = {name: timing.summary(seconds) for name, seconds in timing.alternate(steps, rounds).items()}
    copy, own, pytorch = (found[name]["median"] for name in steps)
    return {
        "width": width,
        "rows": len(x),
        "times": found,
        "bytes_per_second": x.nbytes / own,
        "copy_bytes_per_second": 2 * x.nbytes / copy,
        "of_copy_bandwidth": copy / (2 * own),
        "faster_than_pytorch": pytorch / own,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every width, print a line each, write the JSON after each."""
    parser = argparse.ArgumentParser(prog="python -m gattn.bench.activation", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="numbers in a tensor (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    record: dict[str, Any] = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "threads": args.threads,
        "machine": machine.describe(),
        "widths": [],
    }
    for width in args.widths:
        try:
            found = measure(width, args.numbers, args.rounds)
        except ArithmeticError as error:
            print(error, file=sys.stderr)
            return 1
        record["widths"].append(found)
        if args.json:
            write_json(args.json, record)
        print(
            f"{found['rows']} rows of {width}: {found['bytes_per_second'] / 1e9:.2f} GB/s, "
            f"{100 * found['of_copy_bandwidth']:.0f} % of a copy's {found['copy_bytes_per_second'] / 1e9:.1f} GB/s; "
            f"{found['faster_than_pytorch']:.1f} times as fast as PyTorch's operations",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
