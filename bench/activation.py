"""``python -m gattn.bench.activation``: the statistics of activations beside a copy and beside PyTorch's operations,
and those that attention takes on its way beside attention without them."""

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

from gattn import Graph, ops
from gattn.activations import ActivationStats
from gattn.files import write_json

WIDTHS = (8, 16, 32, 64, 128, 256, 1024)
NUMBERS = 1 << 26  # of a tensor, more than any cache holds
#: Of the attention whose activations are looked at: nodes as ogbn-arxiv has them, channels of a head.
TAPS = (32, 64, 128)
NODES, CHANNELS = 169_343, 8
DEGREE = 7


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


def measure_tap(width: int, nodes: int, rounds: int) -> dict[str, Any]:
    """Times in turn of ``ops.gt`` alone, with statistics of its activations, with these as a result (the edge stream),
    with both, and of looking at that result then, on a uniform random graph with edges in no order, if statistics are
    the same both ways.

    Raises:
        ArithmeticError: They do not.
    """
    generator = torch.Generator().manual_seed(width)
    heads, edges = max(1, width // CHANNELS), nodes * DEGREE
    graph = Graph.from_edge_index(torch.randint(0, nodes, (2, edges), generator=generator), nodes)
    q, k, v = (torch.randn(nodes, heads, width // heads, generator=generator) for _ in range(3))
    edge = torch.randn(edges, heads, width // heads, generator=generator)

    def stored() -> ActivationStats:
        return ops.activation_stats(ops.gt(q, k, v, edge, graph, return_edge=True)[1].flatten(1))

    found, expected = ops.gt(q, k, v, edge, graph, return_stats=True)[1], stored()
    if not torch.equal(found.rows.ratio, expected.rows.ratio) or found.above != expected.above:
        raise ArithmeticError(f"width {width}: the tap's numbers are not those of the stored rows; nothing is timed")
    steps = {
        "attention": lambda: ops.gt(q, k, v, edge, graph),
        "tap": lambda: ops.gt(q, k, v, edge, graph, return_stats=True),
        "stream": lambda: ops.gt(q, k, v, edge, graph, return_edge=True),
        "both": lambda: ops.gt(q, k, v, edge, graph, return_edge=True, return_stats=True),
        "stored": stored,
    }
    times = {name: timing.summary(seconds) for name, seconds in timing.alternate(steps, rounds).items()}
    alone, tap, stream, both, after = (times[name]["median"] for name in steps)
    return {
        "width": width,
        "heads": heads,
        "nodes": nodes,
        "edges": edges,
        "times": times,
        "tap_of_attention": tap / alone,
        "stream_of_attention": stream / alone,
        "both_of_stream": both / stream,
        "stored_of_attention": after / alone,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every width, print a line each, write the JSON after each."""
    parser = argparse.ArgumentParser(prog="python -m gattn.bench.activation", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--widths", type=int, nargs="*", default=list(WIDTHS))
    parser.add_argument("--taps", type=int, nargs="*", default=list(TAPS), help="channels of all heads together")
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="numbers in a tensor (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=NODES, help="of the attention's graph (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    record: dict[str, Any] = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {"threads": args.threads, "numbers": args.numbers, "rounds": args.rounds},
        "machine": machine.describe(),
        "widths": [],
        "taps": [],
    }
    try:
        for width in args.widths:
            found = measure(width, args.numbers, args.rounds)
            record["widths"].append(found)
            _write(args.json, record)
            print(
                f"{found['rows']} rows of {width}: {found['bytes_per_second'] / 1e9:.2f} GB/s, "
                f"{100 * found['of_copy_bandwidth']:.0f} % of a copy's {found['copy_bytes_per_second'] / 1e9:.1f} "
                f"GB/s; {found['faster_than_pytorch']:.1f} times as fast as PyTorch's operations",
                flush=True,
            )
        for width in args.taps:
            found = measure_tap(width, args.nodes, args.rounds)
            record["taps"].append(found)
            _write(args.json, record)
            print(
                f"attention of {found['heads']} heads, {width} channels, {found['edges']} edges: "
                f"{100 * (found['tap_of_attention'] - 1):.0f} % longer with statistics, "
                f"{100 * (found['stream_of_attention'] - 1):.0f} % with the edge stream and another "
                f"{100 * (found['both_of_stream'] - 1):.0f} % with both, "
                f"{100 * (found['stored_of_attention'] - 1):.0f} % with rows that are stored and looked at then",
                flush=True,
            )
    except ArithmeticError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _write(path: Path | None, record: dict[str, Any]) -> None:
    if path:
        write_json(path, record)


if __name__ == "__main__":
    sys.exit(main())
