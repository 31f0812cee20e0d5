"""``gattn tune``: times a few block sizes of the Triton kernels on this GPU, and keeps the fastest for later runs."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gattn.bench.gpu.cases import CASES, reduced
from gattn.bench.gpu.ops import steps_of
from gattn.bench.gpu.problems import OPS
from gattn.bench.gpu.timing import alternate
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS

from gattn.backends import backends, interprets_triton
from gattn.check.measure import DTYPES
from gattn.info import shape
from gattn.terminal import Progress, UsageError, print_json, say, table

#: The kernels that walk edges, and the step each is part of.
KERNELS = {"forward": "forward", "d": "backward", "target": "backward", "source": "backward"}
#: What other sizes must gain, lest noise choose them.
GAIN = 0.98

Step = Callable[[], object]
Timer = Callable[[Step], float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``gattn tune``."""
    parser.add_argument("--layers", nargs="+", default=["gat"], choices=list(OPS), help="whose ops")
    parser.add_argument("--shapes", nargs="+", default=[(4, 32)], type=shape, metavar="HxC", help="heads x channels")
    parser.add_argument("--dtypes", nargs="+", default=["fp32"], choices=list(DTYPES), help="of features")
    parser.add_argument("--graph", default="arxiv-rmat", choices=list(CASES), help="the graph to time on")
    parser.add_argument(
        "--out", type=Path, help="write here instead of the file that gattn reads; name it with GATTN_BLOCKS to use it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def tune(kernel: str, step: Step, timer: Timer) -> tuple[dict[str, int], float, float]:
    """The best options of ``kernel``, the seconds of ``step`` with the rule's blocks, and with them.

    One option after the other, five timings in all. Blocks that the GPU has no room for are passed over.
    """
    from gattn.kernels.choices import ELEMENTS, override
    from triton.runtime.errors import OutOfResources

    def seconds(options: dict[str, int]) -> float:
        with override(kernel, **options):
            return timer(step)

    best: dict[str, int] = {}
    by_rule = least = seconds(best)
    for name, values in (("elements", (ELEMENTS[kernel] // 2, ELEMENTS[kernel] * 2)), ("warps", (2, 8))):
        chosen = best
        for value in values:
            options = {**chosen, name: value}
            try:
                found = seconds(options)
            except OutOfResources as error:
                say(f"{kernel} with {options}: {error}")
                continue
            if found < least * GAIN:
                best, least = options, found
    return best, by_rule, least


def launched(step: Step) -> set[str]:
    """The kernels that a step has."""
    from gattn.kernels.choices import choices, forget

    forget()
    step()
    return {str(choice["kernel"]) for choice in choices()}


def problems(args: argparse.Namespace) -> Iterator[tuple[GraphCase, str, str]]:
    """What to tune for: a graph with heads and channels, a layer and a dtype."""
    case = CASES[args.graph]
    if interprets_triton():
        case = reduced(case)
    for layer, (heads, channels), dtype in itertools.product(args.layers, args.shapes, args.dtypes):
        yield replace(case, heads=heads, channels=channels), layer, dtype


def _shown(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        blocks = ", ".join(f"{name} {value}" for name, value in row["blocks"].items()) or "the rule's"
        lines.append([row["kernel"], row["score"], row["shape"], row["dtype"], blocks, f"{row['gain']:.2f}"])
    return table(lines, ["kernel", "score", "shape", "dtype", "blocks", "step, times faster"])


def run(args: argparse.Namespace) -> int:
    """Time, and write the file after every kernel."""
    todo = list(problems(args))
    usable, reason = backends()["triton"]
    if not usable:
        raise UsageError(f"backend 'triton' is not usable: {reason}")
    if interprets_triton() and args.out is None:
        raise UsageError("the interpreter's times mean nothing; name a file for them with --out")
    from gattn.kernels import tuned

    device = torch.device("cpu" if interprets_triton() else "cuda")
    file = args.out or tuned.path()
    if file is None:
        raise UsageError(f"{tuned.VARIABLE} is empty, so no file is read; unset it or name a file with --out")
    try:
        blocks = tuned.load(file)
    except ValueError as error:
        raise UsageError(str(error)) from error
    facts = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "interpreter",
        "torch": torch.__version__,
        "graph": args.graph,
    }

    def timer(step: Step) -> float:
        return float(alternate({"step": step}, device, seconds=0.2)["step"]["median"])

    rows = []
    with Progress(len(todo) * len(KERNELS), "kernel") as progress:
        for case, layer, dtype in todo:
            steps = steps_of(LAYERS[layer], case, DTYPES[dtype], device, "triton")
            has = {name: launched(step) for name, step in steps.items()}
            for kernel, name in KERNELS.items():
                if kernel in has[name]:
                    best, by_rule, least = tune(kernel, steps[name], timer)
                    name_of_dtype = str(DTYPES[dtype]).removeprefix("torch.")
                    blocks[tuned.Key(kernel, OPS[layer], case.heads, case.channels, name_of_dtype)] = best
                    tuned.save(file, blocks, **facts)
                    rows.append(
                        {
                            "kernel": kernel,
                            "score": OPS[layer],
                            "shape": f"{case.heads}x{case.channels}",
                            "dtype": dtype,
                            "blocks": best,
                            "gain": by_rule / least,
                        }
                    )
                progress.advance(f"{kernel} {OPS[layer]} {case.heads}x{case.channels} {dtype}")
    if args.json:
        print_json(rows)
    else:
        print(_shown(rows))
    say(f"written to {file}")
    return 0
