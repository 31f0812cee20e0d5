"""Building a graph on the device, edges sorted by PyTorch or by CUB: the same bits, and which takes less time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from gattn.bench.gpu.cases import CASES, edges_of, reduced
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red, skipped
from gattn.bench.gpu.timing import alternate
from gattn.bench.graphs import GraphCase
from torch import Tensor

from gattn import core_graph, cuda_core, device_graph
from gattn.gpu_choice import SORTS

GRAPHS = ("cora-uniform", "arxiv-uniform", "arxiv-rmat", "products-rmat", "reddit-rmat")
#: Larger graphs take the compiled core on the CPU too long; the sorts are compared with each other.
CORE_EDGES = 10_000_000


def _sorts(device: torch.device) -> tuple[str, ...]:
    return SORTS if cuda_core.serves(device) else ("torch",)


def _wrong(edges: Tensor, nodes: int, sorts: tuple[str, ...]) -> str:
    """What differs, or nothing."""
    for self_loops in (False, True):
        options = {"swap": False, "self_loops": self_loops, "wide": False}
        expected = None
        if edges.shape[1] <= CORE_EDGES:
            expected = core_graph.build(edges.cpu(), nodes, nodes, **options).data.to(edges.device)
        for sort in sorts:
            found = device_graph.build(edges, nodes, nodes, **options, sort=sort).data
            if expected is not None and not torch.equal(found, expected):
                return f"sorted with {sort}, {self_loops=}, the graph is another"
            expected = found
    return ""


def _measure(case: GraphCase, context: Context) -> Result:
    if context.dry:
        case = reduced(case)
    edges, sorts = edges_of(case, context.device), _sorts(context.device)
    if difference := _wrong(edges, case.num_nodes, sorts):
        return red(difference)
    if context.dry:
        return skipped("dry run: graphs are equal, nothing timed")
    build = partial(device_graph.build, edges, case.num_nodes, case.num_nodes, swap=False, self_loops=True, wide=False)
    times = alternate({sort: partial(build, sort=sort) for sort in sorts}, context.device)
    return green(nodes=case.num_nodes, edges=edges.shape[1], times=times)


def tasks(context: Context) -> Iterator[Task]:
    """A task a graph."""
    for name in GRAPHS:
        yield Task(f"graphs/{name}", lambda n=name: _measure(CASES[n], context))


STEP = Step("graphs", "building graphs", tasks)
