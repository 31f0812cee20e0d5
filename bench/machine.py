"""A description of the machine and the software, stored with every result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Settings of PyTorch that change what every contender takes.
ENVIRONMENT = ("THP_MEM_ALLOC_ENABLE",)
PACKAGES = ("gattn", "torch", "torch_geometric", "torch_scatter", "dgl", "numpy", "scipy")


def _fields(path: str) -> dict[str, str]:
    """``key: value`` lines of a file in /proc, first occurrence; empty where there is no such file."""
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return {}
    pairs = (line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory(field: str) -> int:
    """A field of /proc/meminfo in bytes; 0 where there is no such file."""
    return int(_fields("/proc/meminfo").get(field, "0 kB").split()[0]) * 1024


def available_memory() -> int:
    """Bytes that can be allocated now without swapping; on other systems than Linux, the physical memory."""
    return _memory("MemAvailable") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _caches() -> dict[str, str]:
    """Size of each cache as the first CPU sees it, e.g. ``{"L2": "1024K"}``."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "") if level == "1" else ""
        found[f"L{level}{suffix}"] = size
    return found


def _git(*arguments: str) -> str | None:
    """Output of a git command in the tree this package lies in; ``None`` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _commit() -> dict[str, Any] | None:
    """Commit and whether tracked files other than results and README differ from it."""
    top = _git("rev-parse", "--show-toplevel")
    # An installed copy may lie inside somebody else's checkout; its commit says nothing about gattn.
    if top is None or not (Path(top) / "bench" / "machine.py").is_file():
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":/!bench/results", ":/!README.md")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changed)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _core() -> dict[str, Any]:
    try:
        from gattn import _C
    except ImportError as error:
        return {"reason": str(error)}
    return {"compiler": _C.compiler, "isa": _C.isa()}


def describe() -> dict[str, Any]:
    """CPU, caches, memory, system, compiler, environment, versions, commit and load, as plain JSON types."""
    return {
        "cpu": _fields("/proc/cpuinfo").get("model name") or platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "caches": _caches(),
        "memory_bytes": _memory("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "core": _core(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _commit(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
