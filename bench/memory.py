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


def measure(case: GraphCase, layer: str, peer: str, threads: int) -> Footprint:
    """Measure in this process, which should be a fresh one."""
    import torch
    from gattn.bench.peers import all_peers
    from gattn.bench.problem import Problem

    torch.set_num_threads(threads)
    contender = all_peers()[peer].contender(Problem.build(case, layer))
    before = _settle()
    contender.step()
    contender.clear()
    ready = _settle()
    Path("/proc/self/clear_refs").write_text("5")
    contender.step()
    return Footprint(_status("VmHWM") - ready, ready - before)


def in_subprocess(case: GraphCase, layer: str, peer: str, threads: int) -> dict[str, Any]:
    """:func:`measure` in a fresh process: ``step_peak`` and ``kept`` in bytes, or ``reason``."""
    if not supported():
        return {"reason": "needs Linux's /proc/self/clear_refs"}
    request = json.dumps({"case": case.as_dict(), "layer": layer, "peer": peer, "threads": threads})
    done = subprocess.run([sys.executable, "-m", __name__, request], capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return {"reason": f"killed by signal {-done.returncode}; signal 9 usually means out of memory"}
    if done.returncode > 0:
        return {"reason": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure what the request says and print it as JSON."""
    # Should memory run out, this process is the one to go.
    Path("/proc/self/oom_score_adj").write_text("1000")
    request = json.loads(sys.argv[1])
    case = GraphCase(**request.pop("case"))
    found = measure(case, **request)
    print(json.dumps({"step_peak": found.step_peak, "kept": found.kept}))


if __name__ == "__main__":
    main()
