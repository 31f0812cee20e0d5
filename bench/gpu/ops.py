"""The ops alone, forward and backward, against the least time in which their bytes can be moved."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gattn.bench.gpu import bandwidth, limits
from gattn.bench.gpu.cases import edges_of
from gattn.bench.gpu.problems import OPS, Chosen, case_of, forget
from gattn.bench.gpu.task import DTYPES, Context, Result, green, skipped
from gattn.bench.gpu.timing import alternate
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS, Layer

from gattn.graph import Graph


def steps_of(
    layer: Layer, case: GraphCase, dtype: torch.dtype, device: torch.device, backend: str
) -> dict[str, Callable[[], object]]:
    """``forward`` and ``backward`` of the op inside a layer."""
    graph = Graph.from_edge_index(edges_of(case, device), case.num_nodes, self_loops=True)
    generator = torch.Generator().manual_seed(case.seed)
    leaves = [x.to(device, dtype).requires_grad_() for x in layer.kernel.inputs(case, generator)]
    out = layer.kernel.call(leaves, graph, backend=backend)
    grad_out = torch.randn_like(out)

    def forward() -> None:
        with torch.no_grad():
            layer.kernel.call(leaves, graph, backend=backend)

    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(out, leaves, grad_out, retain_graph=True),
    }


def key(backend: str, chosen: Chosen) -> str:
    """Of the task that times a backend."""
    return f"ops/{backend}/{chosen.key}"


def fastest(chosen: Chosen, context: Context) -> str | None:
    """The backend with the least time forward and backward; ``None`` if none has been timed."""
    found = {name: context.results.get(key(name, chosen), {}) for name in context.backends}
    sums = {name: total(result) for name, result in found.items() if "times" in result}
    return min(sums, key=sums.__getitem__, default=None)


def total(result: Result) -> float:
    """Seconds of a forward and a backward."""
    return sum(float(result["times"][part]["median"]) for part in ("forward", "backward"))


def measure(chosen: Chosen, backend: str, context: Context) -> Result:
    """Times of the op inside a layer, and the least times; no speed unless its numbers are right."""
    if refusal := context.distrust(backend, OPS[chosen.layer], chosen.dtype):
        return refusal
    case, layer, dtype = case_of(chosen, context), LAYERS[chosen.layer], DTYPES[chosen.dtype]
    forget()
    steps = steps_of(layer, case, dtype, context.device, context.timed(backend))
    if context.dry:
        for step in steps.values():
            step()
        return skipped("dry run: ran on the CPU backend, nothing timed")
    times = alternate(steps, context.device)
    facts: Result = {
        "nodes": case.num_nodes,
        "edges": case.num_edges,
        "heads": case.heads,
        "channels": case.channels,
        "times": times,
    }
    bandwidths = context.results.get(bandwidth.key(chosen.graph.split("-")[0], chosen.dtype), {})
    if bandwidths.get("status") == "green":
        moved = limits.least_bytes(layer, case, dtype)
        facts["bytes"] = {name: bytes._asdict() for name, bytes in moved.items()}
        facts["limit"] = {name: limits.seconds(bytes, bandwidths) for name, bytes in moved.items()}
        facts["of_limit"] = {name: facts["limit"][name] / times[name]["median"] for name in moved}
    return green(**facts)
