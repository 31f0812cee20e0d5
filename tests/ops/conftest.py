"""Graphs, inputs and the comparison with the reference that the tests of the ops share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import _C, Decay, Graph, Lipschitz, Sink, ops
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


def grouped_edges(nodes: int) -> Tensor:
    """With degree groups of few edges: a hub of several chunks, a middle row and small ones, as targets and as sources;
    the last node is alone."""
    generator = torch.Generator().manual_seed(4)
    ends = torch.randint(2, nodes - 1, (2, 10), generator=generator)
    hub = torch.randint(nodes - 1, (2, 40), generator=generator)
    middle = torch.randint(2, nodes - 1, (2, 10), generator=generator)
    parts = [
        ends,
        torch.stack([hub[0], torch.zeros_like(hub[0])]),
        torch.stack([torch.zeros_like(hub[1]), hub[1]]),
        torch.stack([middle[0], torch.ones_like(middle[0])]),
        torch.stack([torch.ones_like(middle[1]), middle[1]]),
    ]
    edge_index = torch.cat(parts, dim=1)
    return edge_index[:, torch.randperm(edge_index.size(1), generator=generator)]


def make_graph(kind: str, *, wide: bool = False) -> Graph:
    """A graph by name; ``wide`` packs it in int64, as very large graphs are."""
    edge_index, sizes = {
        "mixed": lambda: (random_edges(23, 23, 140), (23, 23)),
        "bipartite": lambda: (random_edges(19, 31, 150), (19, 31)),
        "hubs": lambda: (hub_edges(), (50, 50)),
        "grouped": lambda: (grouped_edges(7), (7, 7)),
        "small": lambda: (random_edges(6, 8, 25), (6, 8)),  # duplicates and rows without edges
        "edgeless": lambda: (torch.empty(2, 0, dtype=torch.int64), (4, 4)),
        "empty": lambda: (torch.empty(2, 0, dtype=torch.int64), (0, 0)),
        "no sources": lambda: (torch.empty(2, 0, dtype=torch.int64), (0, 3)),
        "no targets": lambda: (torch.empty(2, 0, dtype=torch.int64), (3, 0)),
        "one edge": lambda: (torch.tensor([[0], [1]]), (2, 2)),
        "one loop": lambda: (torch.tensor([[0], [0]]), (1, 1)),
        "duplicates": lambda: (torch.tensor([[0, 0, 1, 0, 0], [1, 1, 1, 1, 0]]), (3, 3)),
    }[kind]()
    return Graph._build(edge_index, (sizes, "source_to_target", False), wide=wide)


def features(graph: Graph, heads: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that an op or a modifier takes, by name."""
    sources, targets, edges = graph.num_src, graph.num_dst, graph.num_edges
    wide = dict.fromkeys(("x", "x_src", "k", "v"), (sources, heads, channels))
    wide |= dict.fromkeys(("x_dst", "q"), (targets, heads, channels))
    wide |= dict.fromkeys(("x_edge", "edge"), (edges, heads, channels))
    wide |= dict.fromkeys(("att", "att_src", "att_dst", "sink_value"), (heads, channels))
    by_head = dict.fromkeys(("a_src", "source_norm", "key_norm", "value_norm"), (sources, heads))
    by_head |= dict.fromkeys(("a_dst", "target_norm", "sink_logit"), (targets, heads))
    by_head |= dict.fromkeys(("a_edge", "logits", "edge_weight"), (edges, heads))
    by_head |= dict.fromkeys(("norm_weight", "query_norm", "hop"), (heads,))
    return {**wide, **by_head, "bias": (heads * channels,)}


#: What every op always takes, what it takes with ``edge=True``, and what ``modifiers`` are made of.
INPUTS = {
    "gat": ("x", "a_src"),
    "gat_layer": ("x", "att_src", "att_dst"),
    "gatv2": ("x_src", "x_dst", "att"),
    "dot": ("q", "k", "v"),
    "gt": ("q", "k", "v", "edge"),
    "edge_softmax": ("logits",),
}
EDGE_INPUTS = {"gat": "a_edge", "gat_layer": "a_edge", "gatv2": "x_edge", "dot": "edge", "gt": "edge_weight"}
MODIFIERS = {
    "lipschitz gat": ("source_norm", "target_norm", "norm_weight"),
    "lipschitz dot": ("query_norm", "key_norm", "value_norm"),
    "decay": ("hop",),
    "sink": ("sink_logit",),
    "sink value": ("sink_logit", "sink_value"),
}
NOT_NEGATIVE = {"edge_weight", *MODIFIERS["lipschitz gat"], *MODIFIERS["lipschitz dot"]}


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
    modifiers: Sequence[str] = (),
    seed: int = 5,
) -> Tensors:
    """Normally distributed inputs of ``op`` and of its modifiers, by name."""
    names = [*INPUTS[op]]
    if op == "gat" and dst:
        names.append("a_dst")
    if op == "gat_layer" and bias:
        names.append("bias")
    if edge:
        names.append(EDGE_INPUTS[op])
    for modifier in modifiers:
        names += MODIFIERS[modifier]
    if op == "edge_softmax" and "sink_value" in names:
        names.remove("sink_value")
    shapes, generator = features(graph, heads, channels), torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shapes[name], generator=generator, dtype=torch.float64) for name in names}
    for name in {"att", "att_src", "att_dst"} & tensors.keys():  # scores of about unit size
        tensors[name] /= channels**0.5
    for name in NOT_NEGATIVE & tensors.keys():
        tensors[name].abs_().add_(0.1)
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def distances(graph: Graph, dtype: torch.dtype = torch.int16) -> Tensor:
    """Small distances ``[E]``, on both sides of what :func:`make_inputs` draws for ``hop``."""
    generator = torch.Generator().manual_seed(6)
    return torch.randint(4, (graph.num_edges,), generator=generator).to(dtype)


def modify(
    tensors: Tensors,
    graph: Graph,
    *,
    gamma: float = 0.6,
    slope: float = 0.1,
    distance_dtype: torch.dtype = torch.int16,
    distance: Tensor | None = None,
) -> dict[str, Any]:
    """The modifiers whose tensors are among ``tensors``, as an op's keywords."""
    found: dict[str, Any] = {}
    if "source_norm" in tensors:
        found["lipschitz"] = Lipschitz.gat(*(tensors[name] for name in MODIFIERS["lipschitz gat"]))
    elif "key_norm" in tensors:
        found["lipschitz"] = Lipschitz.dot(*(tensors[name] for name in MODIFIERS["lipschitz dot"]))
    if "hop" in tensors:
        chosen = distances(graph, distance_dtype) if distance is None else distance
        found["decay"] = Decay(chosen, tensors["hop"], gamma, slope)
    if "sink_logit" in tensors:
        found["sink"] = Sink(tensors["sink_logit"], tensors.get("sink_value"))
    return found


def call(op: str, tensors: Tensors, graph: Graph, *, decay: dict[str, Any] | None = None, **options: Any) -> Any:
    """``gattn.ops.<op>`` of named inputs; ``decay`` holds the decay's numbers for :func:`modify`."""
    before = {"gat": ("x", "a_src", "a_dst")}.get(op, INPUTS[op])
    after = {"gat": ("a_edge",), "gat_layer": ("a_edge",), "gatv2": ("x_edge",), "dot": ("edge",)}.get(op, ())
    named = {name: tensors[name] for name in ("bias", "edge_weight") if name in tensors}
    given = [*(tensors.get(name) for name in before), graph, *(tensors.get(name) for name in after)]
    return getattr(ops, op)(*given, **named, **modify(tensors, graph, **(decay or {})), **options)


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
    found = torch.autograd.grad(results, list(leaves.values()), grads, allow_unused=True, materialize_grads=True)
    asked = {"alpha": "return_attention", "edge": "return_edge"}
    names = ["out", *(name for name, option in asked.items() if options.get(option))]
    return {
        **{name: tensor.detach() for name, tensor in zip(names, results, strict=True)},
        **{f"grad {name}": grad for name, grad in zip(leaves, found, strict=True)},
    }


def error(got: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm of what is right."""
    assert got.shape == exact.shape
    scale = float(exact.norm()) if exact.numel() else 0.0
    return float((got.double() - exact).norm()) / scale if scale else float(got.double().norm())


#: Tensors of so few numbers are compared over several draws: the ratio of two single errors says next to nothing. If
#: the first are beyond the bound, which happens by chance to one case in hundreds, as many as leave no chance decide.
FEW, DRAWS = 8, (8, 64)


#: Of every result and gradient: the backend's error, the reference's, and the number of numbers.
Errors = dict[str, tuple[float, float, int]]


def check_against_reference(op: str, tensors: Tensors, graph: Graph, *, backend: str = "cpu", **options: Any) -> None:
    """Every result and gradient is at most twice as far from the truth as the reference in that dtype.

    The truth is the reference in fp64 with its sums over edges rounded once.
    """

    def errors(tensors: Tensors) -> Errors:
        got = run(op, tensors, graph, backend=backend, **options)
        expected = run(op, tensors, graph, backend="reference", **options)
        return compare(got, expected, _exact(op, tensors, got, graph, **options))

    hold_to_twice(errors, tensors)


def compare(got: Tensors, expected: Tensors, exact: Tensors) -> Errors:
    """Errors of a backend's tensors and of the reference's."""
    assert got.keys() == expected.keys() == exact.keys()
    assert {name: x.dtype for name, x in got.items()} == {name: x.dtype for name, x in expected.items()}
    return {
        name: (error(value, exact[name]), error(expected[name], exact[name]), value.numel())
        for name, value in got.items()
    }


def hold_to_twice(errors_of: Callable[[Tensors], Errors], tensors: Tensors) -> None:
    """Asserts that the backend's errors for ``tensors`` are at most twice the reference's.

    The floor is some roundings of the dtype that sums accumulate in, more in fp64, where a wrong formula and not the
    last digits is looked for. Errors of tensors of very few numbers are root mean squares over inputs some roundings
    away, the kernel's and the reference's.
    """
    fp64 = next(iter(tensors.values())).dtype == torch.float64
    floor = 256 * torch.finfo(torch.float64).eps if fp64 else 16 * torch.finfo(torch.float32).eps
    errors = errors_of(tensors)
    few = [name for name, (_, _, numbers) in errors.items() if numbers <= FEW]

    def beyond() -> dict[str, list[float]]:
        return {name: pair for name, (*pair, _) in errors.items() if not pair[0] <= 2 * pair[1] + floor}

    if few and not fp64:
        generator, draws = torch.Generator().manual_seed(9), [errors]
        for number in DRAWS:
            draws += [errors_of(_near(tensors, generator)) for _ in range(number - len(draws))]
            for name in few:
                squares = torch.tensor([draw[name][:2] for draw in draws], dtype=torch.float64).square()
                errors = {**errors, name: (*squares.mean(0).sqrt().tolist(), FEW)}
            if not beyond().keys() & {*few}:
                break
    wrong = beyond()
    assert not wrong, "; ".join(f"{name}: {got:.3g} > {2 * own + floor:.3g}" for name, (got, own) in wrong.items())


def _near(tensors: Tensors, generator: torch.Generator) -> Tensors:
    """The inputs, some roundings away: another draw of the rounding errors of the same sums."""
    near = {}
    for name, tensor in tensors.items():
        steps = torch.randint(-8, 9, tensor.shape, generator=generator)
        near[name] = (tensor.double() * (1 + steps * torch.finfo(tensor.dtype).eps)).to(tensor.dtype)
    return near


def _exact(op: str, tensors: Tensors, got: Tensors, graph: Graph, **options: Any) -> Tensors:
    """The truth for inputs and gradients of the outputs as they are in the dtype of ``tensors``."""
    results = [name for name in got if not name.startswith("grad ")]
    grads = [noise(got[name], i).double() for i, name in enumerate(results)]
    doubles = {name: tensor.double() for name, tensor in tensors.items()}
    with ExactSums():
        return run(op, doubles, graph, grads=grads, backend="reference", **options)


@pytest.fixture
def edges_of() -> Callable[..., Tensor]:
    return random_edges


@pytest.fixture
def graph_of() -> Callable[..., Graph]:
    return make_graph


@pytest.fixture(scope="session")  # hypothesis wants fixtures that outlive an example
def inputs_of() -> Callable[..., Tensors]:
    return make_inputs


@pytest.fixture(scope="session")
def call_op() -> Callable[..., Any]:
    return call


@pytest.fixture
def run_op() -> Callable[..., Tensors]:
    return run


@pytest.fixture
def check() -> Callable[..., None]:
    return check_against_reference


@pytest.fixture
def distances_of() -> Callable[..., Tensor]:
    return distances
