"""Graphs, inputs and the comparison with the reference that the tests of the ops share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import _C, Graph, ops
from gattn.check.exact import ExactSums

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _seed_and_threads() -> Iterator[None]:
    """One thread: the graphs are small, and ``test_determinism.py`` shows that more give the same bits."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_edges(num_src: int, num_dst: int, edges: int, *, seed: int = 0) -> Tensor:
    """``[2, edges]`` with duplicates; the last node of either side stays without edges."""
    generator = torch.Generator().manual_seed(seed)
    high = torch.tensor([[max(num_src - 1, 1)], [max(num_dst - 1, 1)]])
    edge_index = (torch.rand(2, edges, generator=generator, dtype=torch.float64) * high).long()
    edge_index[:, 1::7] = edge_index[:, : edges - 1 : 7]
    return edge_index


def hub_edges(nodes: int = 50) -> Tensor:
    """Rows on both sides of the degree from which a row is cut into segments, as targets and as sources."""
    generator = torch.Generator().manual_seed(1)
    degrees = (_C.HUB_DEGREE, _C.HUB_DEGREE + 1, 2 * _C.HUB_DEGREE + 7)
    hubs = torch.arange(len(degrees)).repeat_interleave(torch.tensor(degrees))
    others = torch.randint(len(degrees), nodes - 1, (2, len(hubs)), generator=generator)
    edges = torch.cat([torch.stack([others[0], hubs]), torch.stack([hubs, others[1]])], dim=1)
    return edges[:, torch.randperm(edges.size(1), generator=generator)]


def make_graph(kind: str, *, wide: bool = False) -> Graph:
    """A graph by name; ``wide`` packs it in int64, as very large graphs are."""
    edge_index, sizes = {
        "mixed": lambda: (random_edges(23, 23, 140), (23, 23)),
        "bipartite": lambda: (random_edges(19, 31, 150), (19, 31)),
        "hubs": lambda: (hub_edges(), (50, 50)),
        "edgeless": lambda: (torch.empty(2, 0, dtype=torch.int64), (4, 4)),
        "empty": lambda: (torch.empty(2, 0, dtype=torch.int64), (0, 0)),
        "no sources": lambda: (torch.empty(2, 0, dtype=torch.int64), (0, 3)),
        "no targets": lambda: (torch.empty(2, 0, dtype=torch.int64), (3, 0)),
        "one edge": lambda: (torch.tensor([[0], [1]]), (2, 2)),
        "one loop": lambda: (torch.tensor([[0], [0]]), (1, 1)),
        "duplicates": lambda: (torch.tensor([[0, 0, 1, 0, 0], [1, 1, 1, 1, 0]]), (3, 3)),
    }[kind]()
    return Graph._build(edge_index, (sizes, "source_to_target", False), wide=wide)


def make_inputs(
    op: str,
    graph: Graph,
    heads: int,
    channels: int,
    *,
    dtype: torch.dtype = torch.float64,
    edge: bool = False,
    dst: bool = True,
    bias: bool = False,
) -> Tensors:
    """Normally distributed inputs of ``op`` by name."""
    shapes: dict[str, tuple[int, ...]]
    if op == "edge_softmax":
        shapes = {"logits": (graph.num_edges, heads)}
    elif op == "gat":
        shapes = {"x": (graph.num_src, heads, channels), "a_src": (graph.num_src, heads)}
        if dst:
            shapes["a_dst"] = (graph.num_dst, heads)
    else:
        shapes = {"x": (graph.num_src, heads, channels), "att_src": (heads, channels), "att_dst": (heads, channels)}
        if bias:
            shapes["bias"] = (heads * channels,)
    if edge:
        shapes["a_edge"] = (graph.num_edges, heads)
    generator = torch.Generator().manual_seed(5)
    tensors = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    for name in {"att_src", "att_dst"} & tensors.keys():  # scores of about unit size
        tensors[name] /= channels**0.5
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def call(op: str, tensors: Tensors, graph: Graph, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
    """``gattn.ops.<op>`` of named inputs."""
    if op == "edge_softmax":
        return ops.edge_softmax(tensors["logits"], graph, **options)
    if op == "gat":
        return ops.gat(tensors["x"], tensors["a_src"], tensors.get("a_dst"), graph, tensors.get("a_edge"), **options)
    return ops.gat_layer(
        tensors["x"],
        tensors["att_src"],
        tensors["att_dst"],
        graph,
        tensors.get("a_edge"),
        bias=tensors.get("bias"),
        **options,
    )


def noise(like: Tensor, seed: int) -> Tensor:
    """A gradient for an output: normally distributed, in the output's dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def run(op: str, tensors: Tensors, graph: Graph, *, grads: list[Tensor] | None = None, **options: Any) -> Tensors:
    """Results and gradients of all inputs, by name; ``grads`` are the results' gradients, by default noise."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    result = call(op, leaves, graph, **options)
    results = list(result) if isinstance(result, tuple) else [result]
    if grads is None:
        grads = [noise(tensor, i) for i, tensor in enumerate(results)]
    found = torch.autograd.grad(results, list(leaves.values()), grads)
    names = ("out", "alpha")
    return {
        **{name: tensor.detach() for name, tensor in zip(names, results, strict=False)},
        **{f"grad {name}": grad for name, grad in zip(leaves, found, strict=True)},
    }


def error(got: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm of what is right."""
    assert got.shape == exact.shape
    scale = float(exact.norm()) if exact.numel() else 0.0
    return float((got.double() - exact).norm()) / scale if scale else float(got.double().norm())


def check_against_reference(op: str, tensors: Tensors, graph: Graph, **options: Any) -> None:
    """Every result and gradient is at most twice as far from the truth as the reference in that dtype.

    The truth is the reference in fp64 with its sums over edges rounded once. The floor is some roundings of the
    dtype that sums accumulate in, more in fp64, where a wrong formula and not the last digits is looked for.
    """
    got = run(op, tensors, graph, backend="cpu", **options)
    expected = run(op, tensors, graph, backend="reference", **options)
    grads = [noise(got[name], i).double() for i, name in enumerate(("out", "alpha")) if name in got]
    doubles = {name: tensor.double() for name, tensor in tensors.items()}
    with ExactSums():
        exact = run(op, doubles, graph, grads=grads, backend="reference", **options)
    fp64 = next(iter(tensors.values())).dtype == torch.float64
    floor = 256 * torch.finfo(torch.float64).eps if fp64 else 16 * torch.finfo(torch.float32).eps
    assert got.keys() == expected.keys() == exact.keys()
    for name, value in got.items():
        assert value.dtype == expected[name].dtype, name
        bound = 2 * error(expected[name], exact[name]) + floor
        assert error(value, exact[name]) <= bound, f"{name}: {error(value, exact[name]):.3g} > {bound:.3g}"


@pytest.fixture
def edges_of() -> Callable[..., Tensor]:
    return random_edges


@pytest.fixture
def graph_of() -> Callable[..., Graph]:
    return make_graph


@pytest.fixture
def inputs_of() -> Callable[..., Tensors]:
    return make_inputs


@pytest.fixture
def call_op() -> Callable[..., Any]:
    return call


@pytest.fixture
def run_op() -> Callable[..., Tensors]:
    return run


@pytest.fixture
def check() -> Callable[..., None]:
    return check_against_reference
