"""Peak memory of one step, each contender in a process of its own.

Resident memory is read from the kernel, so allocations that torch's own counters do not see (DGL's, OpenMP
stacks, compiled code) count too. The high-water mark ``VmHWM`` is set back through ``/proc/self/clear_refs``
after a first step has loaded code and built graphs; Linux only.

Run as ``python -m gattn.bench.memory '<JSON request>'`` this module is that process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gattn.bench.graphs import GraphCase

METHOD = "resident memory, VmHWM reset through /proc/self/clear_refs, a fresh process each"


def supported() -> bool:
    """Whether this system has the counters that are read."""
    return Path("/proc/self/clear_refs").exists()


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: got another kernel's format, expected Linux's")


def _settle() -> int:
    """Resident bytes once everything that is free has gone back to the system."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    return _status("VmRSS")


@dataclass(frozen=True)
class Footprint:
    """Bytes: what a step needs at its peak beyond what was there before it, and what the first one leaves."""

    step_peak: int
    kept: int


def footprint(step: Callable[[], object], clear: Callable[[], object] = lambda: None) -> Footprint:
    """What ``step`` needs, in this process, which should be a fresh one; ``clear`` drops what it leaves on purpose."""
    before = _settle()
    step()
    clear()
    ready = _settle()
    Path("/proc/self/clear_refs").write_text("5")
    step()
    return Footprint(_status("VmHWM") - ready, ready - before)


def measure(case: GraphCase, layer: str, peer: str, threads: int) -> Footprint:
    """Measure in this process, which should be a fresh one."""
    import torch
    from gattn.bench.peers import all_peers
    from gattn.bench.problem import Problem

    torch.set_num_threads(threads)
    contender = all_peers()[peer].contender(Problem.build(case, layer))
    return footprint(contender.step, contender.clear)


def in_subprocess(case: GraphCase, layer: str, peer: str, threads: int) -> dict[str, Any]:
    """:func:`measure` in a fresh process: ``step_peak`` and ``kept`` in bytes, or ``reason``."""
    return ask(__name__, {"case": case.as_dict(), "layer": layer, "peer": peer, "threads": threads})


def ask(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """What ``python -m module '<request>'``, which ends in :func:`answer`, finds, or ``reason``."""
    if not supported():
        return {"reason": "needs Linux's /proc/self/clear_refs"}
    command = [sys.executable, "-m", module, json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return {"reason": f"killed by signal {-done.returncode}; signal 9 usually means out of memory"}
    if done.returncode > 0:
        return {"reason": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def answer(measured: Callable[[dict[str, Any]], Footprint]) -> None:
    """Measure what the request says and print it as JSON."""
    # Should memory run out, this process is the one to go.
    Path("/proc/self/oom_score_adj").write_text("1000")
    found = measured(json.loads(sys.argv[1]))
    print(json.dumps({"step_peak": found.step_peak, "kept": found.kept}))


def main() -> None:
    """Answer a request for :func:`measure`."""

    def measured(request: dict[str, Any]) -> Footprint:
        return measure(GraphCase(**request.pop("case")), **request)

    answer(measured)


if __name__ == "__main__":
    main()
