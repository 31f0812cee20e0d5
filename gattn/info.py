"""``gattn info``: what is installed, and what can run on this machine."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gattn.terminal import UsageError, print_json, table

#: Packages that decide which paths and peers are there; only torch is needed.
PACKAGES = ("torch", "torch_geometric", "triton", "torch_scatter", "dgl", "scikit-learn", "matplotlib")

#: Heads and channels whose block sizes are shown when none are named.
SHAPES = ((1, 64), (4, 32), (8, 8))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``gattn info``."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--kernels",
        nargs="*",
        type=shape,
        metavar="HxC",
        help="the Triton kernels' block sizes for heads x channels, by default 1x64 4x32 8x8",
    )


def shape(text: str) -> tuple[int, int]:
    """An option's heads and channels, such as ``4x32``."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected heads x channels such as 4x32")
    return int(found[1]), int(found[2])


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _core() -> dict[str, Any]:
    """The compiled core, or why it does not load."""
    try:
        from gattn import _C
    except ImportError as error:
        return {"usable": False, "reason": str(error)}
    from gattn.cuda_core import device_bytes

    return {
        "usable": True,
        "compiler": _C.compiler,
        "cuda": {"compiler": _C.cuda_compiler, "device_bytes": device_bytes(Path(_C.__file__))}
        if _C.cuda_compiler
        else None,
        "isa": _C.isa(),
        "isas": list(_C.isas()),
        "isa_override": os.environ.get("GATTN_CPU_ISA"),
    }


def collect() -> dict[str, Any]:
    """Everything ``gattn info`` knows, as plain JSON types."""
    import torch

    import gattn
    from gattn.cli import installed_version

    return {
        "gattn": installed_version(),
        "location": os.path.dirname(gattn.__file__),
        "core": _core(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "backends": {name: {"usable": usable, "reason": reason} for name, (usable, reason) in gattn.backends().items()},
    }


def _cuda_line(cuda: dict[str, Any]) -> str:
    return f"CUDA kernels     {cuda['compiler']}, {cuda['device_bytes'] / 1e6:.1f} MB of device code"


def _lines(info: dict[str, Any]) -> list[str]:
    core = info["core"]
    lines = [f"gattn            {info['gattn']}  ({info['location']})"]
    if core["usable"]:
        forced = f", set by GATTN_CPU_ISA={core['isa_override']}" if core["isa_override"] else ""
        lines += [
            f"compiled with    {core['compiler']}",
            *([_cuda_line(core["cuda"])] if core["cuda"] else []),
            f"instruction set  {core['isa']}  (usable here: {', '.join(core['isas'])}{forced})",
        ]
    else:
        lines.append(f"compiled core    not usable: {core['reason']}")
    lines += [
        f"threads          {info['threads']}  ({info['cpus']} CPUs)",
        f"python           {info['python']}  ({info['platform']})",
    ]
    lines += [f"{name:<16} {found or 'not installed'}" for name, found in info["packages"].items()]
    lines.append("backends")
    for name, state in info["backends"].items():
        reason = f": {state['reason']}" if state["reason"] else ""
        lines.append(f"  {name:<14} {'usable' if state['usable'] else 'not usable'}{reason}")
    return lines


def kernel_blocks(shapes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """The blocks of every kernel and group of rows: the rule's, then what ``gattn tune`` has found for these shapes."""
    from gattn.kernels import tuned
    from gattn.kernels.choices import ELEMENTS, choose

    def blocks(kernel: str, group: str, heads: int, channels: int, wide: bool, **tuned_for: str) -> dict[str, Any]:
        width = 1 if kernel in ("alpha", "largest") else channels
        return {
            "kernel": kernel,
            "group": group,
            "shape": f"{heads}x{channels}",
            "score": tuned_for.get("score", "every"),
            "dtype": tuned_for.get("dtype", "float64" if wide else "others"),
            **choose(kernel, group, heads, width, wide, **tuned_for)._asdict(),
        }

    rows = ("chunk", "middle", "small")
    groups = {"merge": ("hub",), "alpha": ("edges",), "d_of_out": ("rows",), "largest": ("hub", "middle", "small")}
    by_rule = [
        blocks(kernel, group, heads, channels, wide)
        for heads, channels in shapes
        for wide in (False, True)
        for kernel in ELEMENTS
        for group in groups.get(kernel, rows)
    ]
    found = [
        blocks(key.kernel, group, key.heads, key.channels, key.dtype == "float64", score=key.score, dtype=key.dtype)
        for key in tuned.table()
        if (key.heads, key.channels) in shapes
        for group in rows
    ]
    return by_rule + found


def run(args: argparse.Namespace) -> int:
    """Print what is known; always succeeds."""
    if args.kernels is not None:
        try:
            blocks = kernel_blocks(args.kernels or SHAPES)
        except ValueError as error:  # the file of tuned ones
            raise UsageError(str(error)) from error
        if args.json:
            print_json(blocks)
        else:
            print(table([list(map(str, block.values())) for block in blocks], list(blocks[0])))
        return 0
    info = collect()
    if args.json:
        print_json(info)
    else:
        print("\n".join(_lines(info)))
    return 0
