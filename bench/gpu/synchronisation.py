"""Nothing waits for the GPU once the graph is built; and the graph is built with one wait."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from gattn.bench.gpu import small
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red

from gattn.graph import Graph


def _forbidden(call: small.Call) -> Result:
    call.run()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        call.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return green()


def _build(device: torch.device) -> Result:
    edges, _ = small.graph_of(device)
    edges = edges.to(device)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            Graph.from_edge_index(edges, small.NODES, self_loops=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    count = sum("synchroniz" in str(warning.message) for warning in found)
    return green(synchronisations=count) if count == 1 else red(f"got {count} synchronisations, expected 1")


def tasks(context: Context) -> Iterator[Task]:
    """A task a call, and the graph."""
    yield Task("synchronisation/graph", lambda: _build(context.device), needs_gpu=True)
    yield from small.tasks("synchronisation", context, _forbidden)


STEP = Step("synchronisation", "no hidden synchronisation", tasks)
