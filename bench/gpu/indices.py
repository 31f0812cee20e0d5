"""Bad indices are refused before any kernel; afterwards the device still works."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from gattn.bench.gpu import small
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red

from gattn.graph import Graph

BAD = {"negative": -1, "too large": small.NODES, "beyond int32": 2**40}


def _check(device: torch.device, value: int) -> Result:
    edges, graph = small.graph_of(device)
    edges[1, 17] = value
    try:
        Graph.from_edge_index(edges.to(device), small.NODES)
    except IndexError as error:
        if f"got {value} in the target row" not in str(error):
            return red(f"the error does not name the index: {error}")
    else:
        return red(f"no IndexError for the index {value}")
    again = Graph.from_edge_index(graph.edge_index.clone(), small.NODES)
    return green() if torch.equal(again.data, graph.data) else red("the graph built afterwards differs")


def _same_as_cpu(device: torch.device) -> Result:
    edges, _ = small.graph_of(device)
    for self_loops in (False, True):
        here = Graph.from_edge_index(edges, small.NODES, self_loops=self_loops)
        there = Graph.from_edge_index(edges.to(device), small.NODES, self_loops=self_loops)
        if not torch.equal(there.data.cpu(), here.data) or not torch.equal(there.groups.data.cpu(), here.groups.data):
            return red("the graph built on the device is not the compiled core's")
    return green()


def tasks(context: Context) -> Iterator[Task]:
    """A task a kind of index, and one that compares a graph with the CPU's."""
    yield Task("indices/same graph as on the CPU", lambda: _same_as_cpu(context.device))
    for name, value in BAD.items():
        yield Task(f"indices/{name}", lambda v=value: _check(context.device, v))


STEP = Step("indices", "graphs and bad indices", tasks)
