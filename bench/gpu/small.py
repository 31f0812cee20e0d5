"""Small calls of every score and modifier on the device, for checks of what a call does beside computing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from typing import Any, NamedTuple

import torch
from gattn.bench.gpu.task import Context, Result, Task, skipped
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS, Layer
from gattn.bench.variants import leaves_of, modifiers
from torch import Tensor

from gattn import ops
from gattn.graph import Graph
from gattn.ops.ragged_attention import BACKENDS

#: Every kind of row: a hub that is split, middle rows, small ones, and nodes without an edge.
NODES, HUB, MIDDLE, EDGES = 300, 2500, 100, 600
HEADS, CHANNELS = 3, 5


class Call(NamedTuple):
    """A step ready to run, on tensors of its own: ``run()`` gives the output and all gradients."""

    name: str
    run: Callable[[], list[Tensor]]
    inputs: list[Tensor]


def graph_of(device: torch.device) -> tuple[Tensor, Graph]:
    """The edges, on the CPU, and their graph on the device."""
    generator = torch.Generator().manual_seed(0)
    rest = torch.randint(4, NODES - 20, (EDGES,), generator=generator)
    target = torch.cat([torch.zeros(HUB, dtype=torch.int64), torch.arange(1, 4).repeat(MIDDLE), rest])
    source = torch.randint(NODES - 10, target.shape, generator=generator)
    source[: HUB // 2] = 7  # a hub among the sources too
    edge_index = torch.stack([source, target])[:, torch.randperm(len(target), generator=generator)]
    return edge_index, Graph.from_edge_index(edge_index.to(device), NODES)


def _to(value: Any, device: torch.device) -> Any:
    """A modifier with its tensors on the device, as leaves."""
    if isinstance(value, Tensor):
        return value.detach().to(device).requires_grad_(value.requires_grad)
    if isinstance(value, tuple):
        return tuple(_to(part, device) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _to(part, device) for name, part in vars(value).items()})
    return value


def _options(layer: Layer, which: str, case: GraphCase) -> dict[str, Any]:
    options = modifiers(layer, case, torch.Generator().manual_seed(2))
    every = {key: value for chosen in options.values() for key, value in chosen.items()}
    return {"plain": {}, "all modifiers": every}[which]


#: Every layer's op plain, and with all modifiers.
NAMES = tuple(f"{layer} {which}" for layer in LAYERS for which in ("plain", "all modifiers"))
#: All pairs of the graphs of a batch, of which not every backend computes the attention.
RAGGED = ("ragged plain", "ragged all modifiers")


def names(backend: str) -> tuple[str, ...]:
    """The calls that a backend computes."""
    return NAMES + (RAGGED if backend in BACKENDS else ())


def call(
    name: str,
    device: torch.device,
    backend: str,
    dtype: torch.dtype = torch.float32,
    heads: int = HEADS,
    channels: int = CHANNELS,
) -> Call:
    """One of :func:`names` on :func:`graph_of`'s graph."""
    if name in RAGGED:
        return _ragged(name, device, backend, dtype, heads, channels)
    _, graph = graph_of(device)
    layer, which = LAYERS[name.split(" ", 1)[0]], name.split(" ", 1)[1]
    case = GraphCase("small", "small", "uniform", NODES, graph.num_edges, heads=heads, channels=channels)
    generator = torch.Generator().manual_seed(1)
    leaves = [tensor.to(device, dtype).requires_grad_() for tensor in layer.kernel.inputs(case, generator)]
    options = {key: _to(value, device) for key, value in _options(layer, which, case).items()}
    grad_out = torch.randn(NODES, heads, channels, generator=generator).to(device, dtype)
    inputs = [*leaves, *leaves_of(options)]

    def run() -> list[Tensor]:
        out = layer.kernel.call(leaves, graph, backend=backend, **options)
        return [out.detach(), *torch.autograd.grad(out, inputs, grad_out)]

    return Call(name, run, inputs)


def _ragged(name: str, device: torch.device, backend: str, dtype: torch.dtype, heads: int, channels: int) -> Call:
    """On graphs of no, one, few and many nodes."""
    sizes = torch.tensor([0, 1, 20, 150, NODES - 171, 0])
    ptr = torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).to(device)
    generator = torch.Generator().manual_seed(1)
    shape = (NODES, heads, channels)
    q, k, v, grad_out = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4))
    leaves = {"q": q, "k": k, "v": v}
    options: dict[str, Any] = {}
    if name != RAGGED[0]:
        leaves["hop"] = torch.randn(heads, generator=generator).to(device)
        distance = torch.randint(5, (int(sizes.square().sum()),), generator=generator)
        options = {"distance": distance.to(device, torch.int16), "gamma": 0.6, "dropout_p": 0.3, "seed": 5}
    for leaf in leaves.values():
        leaf.requires_grad_()
    inputs = list(leaves.values())

    def run() -> list[Tensor]:
        out = ops.ragged_attention(**leaves, ptr=ptr, **options, backend=backend)
        return [out.detach(), *torch.autograd.grad(out, inputs, grad_out)]

    return Call(name, run, inputs)


def tasks(step: str, context: Context, check: Callable[[Call], Result]) -> Iterator[Task]:
    """``check`` of every call on every backend, as tasks; in a dry run the calls themselves, on the CPU."""

    def run(backend: str, name: str) -> Result:
        found = call(name, context.device, context.timed(backend))
        if not context.dry:
            return check(found)
        found.run()
        return skipped("dry run: the call ran on the CPU backend, the check needs a GPU")

    for backend in context.backends:
        for name in names(backend):
            yield Task(f"{step}/{backend}/{name}", lambda b=backend, n=name: run(b, n))
