"""What the compiled CUDA kernels need of a GPU, read off the module that holds them; no GPU is needed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton

from .resources import occupancy

#: Threads of a block, ``kThreads`` of csrc/cuda/arguments.h.
THREADS = 128
#: CUB's, of the sort of edges, are compiled too.
_OWN = "gattn::cuda::"
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def measure(library: Path) -> list[dict[str, Any]]:
    """A row a kernel and architecture of ``library``, as :mod:`gattn.kernels.report` has them; none without kernels.

    Raises:
        ValueError: The report of Triton's cuobjdump is not understood.
    """
    command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(library)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0 and "does not contain device code" in found.stdout + found.stderr:
        return []
    found.check_returncode()
    return list(_rows(_demangled(found.stdout)))


def _demangled(text: str) -> str:
    """With C++'s names; binutils come with every compiler."""
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def _rows(text: str) -> Iterator[dict[str, Any]]:
    target = name = ""
    for line in text.splitlines():
        if line.startswith("arch = "):
            target = line.removeprefix("arch = ").strip()
        elif line.lstrip().startswith("Function "):
            name = line.strip().removeprefix("Function ").removesuffix(":")
        elif usage := _USAGE.search(line):
            if not name or not target:
                raise ValueError(f"Expected a kernel's name before its resources (got {line.strip()!r}).")
            if _OWN in name:
                yield _row(_shortened(name), target, *map(int, usage.groups()))
            name = ""


def _row(name: str, target: str, registers: int, stack: int, shared: int, local: int) -> dict[str, Any]:
    return {
        "name": name,
        "target": target,
        "registers": registers,
        "shared": shared,
        "spilled": stack + local,
        "occupancy": occupancy(target, THREADS, registers, shared),
    }


def _shortened(name: str) -> str:
    """``cuda:forward Gat, float, 4, 4`` for ``void gattn::cuda::forward_kernel<gattn::cuda::Gat, float, 4, 4>(..)``."""
    found = re.search(r"(\w+)_kernel<(.*)>\(", name.replace(_OWN, "").replace("(anonymous namespace)::", ""))
    return f"cuda:{found[1]} {found[2]}" if found else f"cuda:{name}"
