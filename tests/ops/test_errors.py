"""Wrong arguments are refused with an error of the right type that says what was got."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph, ops

Function = Callable[..., Any]
N, E, H, C = 4, 5, 2, 3


@pytest.fixture
def graph() -> Graph:
    return Graph.from_edge_index(torch.tensor([[0, 1, 2, 3, 0], [1, 1, 0, 2, 2]]), N)


@pytest.fixture
def arguments() -> dict[str, dict[str, Any]]:
    """Good arguments of every op."""
    nodes, edges, heads = torch.randn(N, H), torch.randn(E, H), torch.randn(H, C)
    return {
        "gat": {"x": torch.randn(N, H, C), "a_src": nodes, "a_dst": nodes, "a_edge": edges},
        "gat_layer": {
            "x": torch.randn(N, H, C),
            "att_src": heads,
            "att_dst": heads,
            "a_edge": edges,
            "bias": torch.randn(H * C),
        },
        "edge_softmax": {"logits": edges},
    }


WRONG: list[tuple[str, str, Any, type[Exception], str]] = [
    ("gat", "x", torch.randn(N, C), ValueError, f"[{N}, heads, channels]"),
    ("gat", "x", torch.randn(N + 1, H, C), ValueError, f"got [{N + 1}, {H}, {C}]"),
    ("gat", "x", torch.randn(N, H, 0), ValueError, f"got [{N}, {H}, 0]"),
    ("gat", "x", torch.randn(N, 0, C), ValueError, f"got [{N}, 0, {C}]"),
    ("gat", "x", torch.ones(N, H, C, dtype=torch.int64), TypeError, "got torch.int64"),
    ("gat", "x", torch.ones(N, H, C, dtype=torch.complex64), TypeError, "got torch.complex64"),
    ("gat", "x", torch.ones(N, H, C, device="meta"), ValueError, "got 'meta'"),
    ("gat", "a_src", torch.randn(N, H + 1), ValueError, f"'a_src' to have shape [{N}, {H}]"),
    ("gat", "a_src", torch.randn(N), ValueError, "'a_src'"),
    ("gat", "a_src", torch.randn(N, H, dtype=torch.float64), TypeError, "got torch.float64"),
    ("gat", "a_src", torch.randn(N, H, dtype=torch.bfloat16), TypeError, "got torch.bfloat16"),
    ("gat", "a_src", torch.ones(N, H, device="meta"), ValueError, "'a_src' on the graph's device"),
    ("gat", "a_dst", torch.randn(N - 1, H), ValueError, "'a_dst'"),
    ("gat", "a_edge", torch.randn(E + 1, H), ValueError, f"'a_edge' to have shape [{E}, {H}]"),
    ("gat", "a_edge", torch.randn(E, 1), ValueError, "'a_edge'"),
    ("gat_layer", "x", torch.randn(N - 1, H, C), ValueError, "'x'"),
    ("gat_layer", "att_src", torch.randn(1, H, C), ValueError, f"'att_src' to have shape [{H}, {C}]"),
    ("gat_layer", "att_dst", torch.randn(H, C + 1), ValueError, "'att_dst'"),
    ("gat_layer", "att_dst", torch.randn(H, C, dtype=torch.float16), TypeError, "'att_dst'"),
    ("gat_layer", "bias", torch.randn(H, C), ValueError, f"'bias' to have shape [{H * C}]"),
    ("gat_layer", "a_edge", torch.randn(E), ValueError, "'a_edge'"),
    ("edge_softmax", "logits", torch.randn(E), ValueError, f"[{E}, heads]"),
    ("edge_softmax", "logits", torch.randn(E, 0), ValueError, "got"),
    ("edge_softmax", "logits", torch.randn(E - 1, H), ValueError, f"got [{E - 1}, {H}]"),
    ("edge_softmax", "logits", torch.ones(E, H, dtype=torch.int32), TypeError, "got torch.int32"),
    ("edge_softmax", "logits", torch.ones(E, H, device="meta"), ValueError, "got 'meta'"),
]


@pytest.mark.parametrize("backend", ["cpu", "reference", None])
@pytest.mark.parametrize(("op", "name", "value", "kind", "words"), WRONG)
def test_wrong_tensor(
    op: str,
    name: str,
    value: Tensor,
    kind: type[Exception],
    words: str,
    backend: str | None,
    graph: Graph,
    arguments: dict[str, dict[str, Any]],
) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        getattr(ops, op)(**{**arguments[op], name: value}, graph=graph, backend=backend)


@pytest.mark.parametrize("op", ["gat", "gat_layer", "edge_softmax"])
def test_wrong_option(op: str, graph: Graph, arguments: dict[str, dict[str, Any]]) -> None:
    call = getattr(ops, op)
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"probability in \[0, 1\] \(got {p}\)"):
            call(**arguments[op], graph=graph, dropout_p=p)
    with pytest.raises(ValueError, match="got 'cuda11'"):
        call(**arguments[op], graph=graph, backend="cuda11")
    with pytest.raises(TypeError, match=r"gattn.Graph \(got 'Tensor'\). Build one"):
        call(**arguments[op], graph=torch.zeros(2, E, dtype=torch.int64))


def test_gat_layer_refuses_two_sets_of_nodes(arguments: dict[str, dict[str, Any]]) -> None:
    bipartite = Graph.from_edge_index(torch.zeros(2, E, dtype=torch.int64), (N, N + 1))
    with pytest.raises(ValueError, match=r"4 sources and 5 targets.*gattn.ops.gat"):
        ops.gat_layer(**arguments["gat_layer"], graph=bipartite)


def garbage(graph: Graph) -> dict[str, Tensor]:
    """Tensors that are no packed adjacency."""
    data = graph.data
    swapped = data.clone()
    swapped[[2, 3]] = swapped[[3, 2]]
    negative = data.clone()
    negative[1] = -1
    huge = data.clone()
    huge[3] = 2**31 - 1
    return {
        "random": torch.randint(100, data.shape, dtype=torch.int32),
        "zeros": torch.zeros_like(data),
        "no magic": torch.cat([data.new_zeros(1), data[1:]]),
        "sizes swapped": swapped,
        "negative size": negative,
        "huge size": huge,
        "cut": data[:-1],
        "too long": torch.cat([data, data[:1]]),
        "empty": data[:0],
        "short": data[:5],
        "two-dimensional": data.view(1, -1),
        "strided": torch.stack([data, data], 1)[:, 0],
        "float": data.float(),
        "int16": data.to(torch.int16),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("random", "zeros", "no magic", "sizes swapped", "negative size", "huge size", "cut", "too long", "empty"),
        *("short", "two-dimensional", "strided", "float", "int16"),
    ],
)
def test_garbage_for_a_graph_is_refused(
    kind: str, graph: Graph, arguments: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every registered op, before anything is written into the results."""
    packed, allocated = garbage(graph)[kind], []

    def remember(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            allocated.append(allocate(*args, **kwargs).fill_(7.0))
            return allocated[-1]

        return call

    monkeypatch.setattr(torch, "empty_like", remember(torch.empty_like))
    monkeypatch.setattr(Tensor, "new_empty", remember(Tensor.new_empty))
    x, a_src, a_dst, a_edge = arguments["gat"].values()
    layer = arguments["gat_layer"]
    att_src, att_dst, bias, grad = layer["att_src"], layer["att_dst"], layer["bias"], torch.ones(N, H, C)
    calls = {
        "gat": (x, a_src, a_dst, a_edge, packed, None, N, E, 0.2, 0.0, True),
        "gat_backward": (
            *(grad, a_edge, x, a_src, a_dst, a_edge, packed, None, grad, a_src, a_edge, 0.2, 0.0, True, True),
        ),
        "gat_layer": (x, att_src, att_dst, a_edge, bias, packed, None, E, 0.2, 0.0, True),
        "gat_layer_backward": (
            *(grad, a_edge, x, att_src, att_dst, a_edge, bias, packed, None, grad, a_src, a_dst, a_src, a_edge),
            *(0.2, 0.0, True),
        ),
        "edge_softmax": (a_edge, packed, None, N, 0.0),
        "edge_softmax_backward": (a_edge, a_edge, packed, None, a_edge, a_src, 0.0),
    }
    for name, given in calls.items():
        with pytest.raises(ValueError, match=r"packed adjacency of a gattn\.Graph"):
            getattr(torch.ops.gattn, name)(*given)
    assert allocated
    assert all((tensor == 7.0).all() for tensor in allocated)


def test_sizes_that_do_not_fit_the_graph_are_refused_by_the_core(graph: Graph) -> None:
    """The registered ops take the sizes of results as numbers, which the core checks against the graph."""
    x, nodes = torch.randn(N, H, C), torch.randn(N, H)
    for num_dst, num_edges in [(N - 1, E), (N, E - 1), (N + 1, E)]:
        with pytest.raises(ValueError, match="to have shape"):
            torch.ops.gattn.gat(x, nodes, None, None, graph.data, None, num_dst, num_edges, 0.2, 0.0, True)
    with pytest.raises(ValueError, match="'x' to have shape"):
        torch.ops.gattn.gat(x[1:], nodes, None, None, graph.data, None, N, E, 0.2, 0.0, False)
    with pytest.raises(ValueError, match="'x' to be contiguous"):
        torch.ops.gattn.gat(x.mT.contiguous().mT, nodes, None, None, graph.data, None, N, E, 0.2, 0.0, False)
    with pytest.raises(TypeError, match="'a_src' to be of dtype float32"):
        torch.ops.gattn.gat(x, nodes.double(), None, None, graph.data, None, N, E, 0.2, 0.0, False)
