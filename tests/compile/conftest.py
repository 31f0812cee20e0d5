"""Problems of several sizes for programs that are compiled once and run on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Decay, Graph, Lipschitz, Sink, ops

HEADS, CHANNELS = 2, 3
# Numbers of sources, targets and edges. No two of the first are equal: a compiler would take them for one size.
SIZES = [(11, 12, 19), (7, 8, 30), (100, 4, 40)]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 13):
        pytest.skip(f"compiling is tested with torch 2.13; torch {torch.__version__}'s dynamo may break graphs")
    torch.manual_seed(0)
    torch._dynamo.reset()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch._dynamo.reset()


def make_edges(num_src: int, num_dst: int, edges: int) -> Tensor:
    """``[2, edges]``, one of them a self-loop."""
    edge_index = torch.stack([torch.randint(num_src, (edges,)), torch.randint(num_dst, (edges,))])
    edge_index[:, 1] = 2
    return edge_index


def _features(name: str, n: int, m: int, e: int) -> dict[str, Tensor]:
    h, c = HEADS, CHANNELS
    shapes: dict[str, tuple[int, ...]] = {
        "gat": {"x": (n, h, c), "a_src": (n, h), "a_dst": (m, h), "a_edge": (e, h)},
        "gat_layer": {"x": (n, h, c), "att_src": (h, c), "att_dst": (h, c), "a_edge": (e, h), "bias": (h * c,)},
        "gatv2": {"x_src": (n, h, c), "x_dst": (m, h, c), "att": (h, c), "x_edge": (e, h, c)},
        "dot": {"q": (m, h, c), "k": (n, h, c), "v": (n, h, c), "edge": (e, h, c)},
        "gt": {"q": (m, h, c), "k": (n, h, c), "v": (n, h, c), "edge": (e, h, c)},
        "edge_softmax": {"logits": (e, h)},
    }[name]
    return {key: torch.randn(shape).requires_grad_() for key, shape in shapes.items()}


def _modifiers(name: str, n: int, m: int, e: int) -> dict[str, Any]:
    h = HEADS
    norms = [torch.rand(size, h) + 0.1 for size in (n, m)]
    gat = Lipschitz.gat(norms[0], norms[1], torch.rand(h) + 0.1)
    dot = Lipschitz.dot(torch.rand(h) + 0.1, norms[0], norms[0] * 2)
    value = None if name == "edge_softmax" else torch.randn(h, CHANNELS)
    return {
        "lipschitz": gat if name.startswith("gat") else dot,
        "decay": Decay(torch.randint(9, (e,)), torch.rand(h), 0.5, 0.1),
        "sink": Sink(torch.randn(m, h), value),
        **({"edge_weight": torch.rand(e), "return_edge": True} if name == "gt" else {}),
    }


class Problem:
    """Inputs of an op by name, with all modifiers or without any."""

    def __init__(self, name: str, sizes: tuple[int, int, int], *, modified: bool) -> None:
        n, m, e = sizes
        if name == "gat_layer":
            m = n
        self.name = name
        self.graph = Graph.from_edge_index(make_edges(n, m, e), (n, m))
        self.tensors = _features(name, n, m, e)
        self.options = _modifiers(name, n, m, e) if modified else {}
        if name != "edge_softmax":
            self.options["return_attention"] = True

    def run(self, **options: Any) -> list[Tensor]:
        result = getattr(ops, self.name)(**self.tensors, graph=self.graph, **self.options, **options)
        return list(result) if isinstance(result, tuple) else [result]


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    return Problem


@pytest.fixture
def edges_of() -> Callable[..., Tensor]:
    return make_edges


@pytest.fixture
def sizes() -> list[tuple[int, int, int]]:
    return SIZES


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Equal results and gradients of ``leaves``."""

    def check(got: list[Tensor], expected: list[Tensor], leaves: list[Tensor]) -> None:
        torch.testing.assert_close(got, expected)
        grads = [torch.autograd.grad([t.sin().sum() for t in results], leaves) for results in (got, expected)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)

    return check
