"""``gattn info``: what is installed, and what can run on this machine."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gattn.terminal import print_json

#: Packages that decide which paths and peers are there; only torch is needed.
PACKAGES = ("torch", "torch_geometric", "triton", "torch_scatter", "dgl", "scikit-learn", "matplotlib")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``gattn info``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def _version_of(package: str) -> str | None:
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
    return {
        "usable": True,
        "compiler": _C.compiler,
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
        "packages": {name: _version_of(name) for name in PACKAGES},
        "backends": {name: {"usable": usable, "reason": reason} for name, (usable, reason) in gattn.backends().items()},
    }


def _lines(info: dict[str, Any]) -> list[str]:
    core = info["core"]
    lines = [f"gattn            {info['gattn']}  ({info['location']})"]
    if core["usable"]:
        forced = f", set by GATTN_CPU_ISA={core['isa_override']}" if core["isa_override"] else ""
        lines += [
            f"compiled with    {core['compiler']}",
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


def run(args: argparse.Namespace) -> int:
    """Print what is known; always succeeds."""
    info = collect()
    if args.json:
        print_json(info)
    else:
        print("\n".join(_lines(info)))
    return 0
