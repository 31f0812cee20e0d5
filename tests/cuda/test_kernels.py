"""What is not a comparison with the reference: bits, masks, maxima, groups, alignment, errors."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

import gattn
from gattn import Graph, cuda_core, ops
from gattn.backends import select_backend
from gattn.ops import attention
from gattn.ops.neighbourhood import neighbourhood_maximum

from ..ops import test_edge_cases

Function = Callable[..., Any]
MODIFIERS = ["lipschitz gat", "decay", "sink value"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_graph_has_every_group(graph_of: Function) -> None:
    hubs, chunks, middle, small = graph_of("grouped").groups.sizes[:4]
    assert hubs >= 1
    assert chunks >= 3
    assert middle >= 1
    assert small >= 2


@pytest.mark.parametrize("op", ["gat", "gatv2", "dot", "gt"])
def test_bits_depend_neither_on_threads_nor_on_packing(
    op: str, emulated: ModuleType, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    """Another order of threads, as on a GPU from run to run; and a graph in int64."""
    graph = graph_of("grouped")
    tensors = inputs_of(op, graph, 3, 8, dtype=torch.float32, edge=True, modifiers=MODIFIERS)
    options = {"dropout_p": 0.2, "seed": 9, "return_attention": True, "backend": "cuda"}
    expected = run_op(op, tensors, graph, **options)
    emulated.set_seed(1)
    assert same(run_op(op, tensors, graph, **options), expected)
    small = graph_of("small")
    tensors = inputs_of(op, small, 3, 8, dtype=torch.float32, edge=True, modifiers=MODIFIERS)
    wide = graph_of("small", wide=True)
    assert wide.data.dtype == torch.int64
    assert same(run_op(op, tensors, wide, **options), run_op(op, tensors, small, **options))


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 33])
@pytest.mark.parametrize("seed", [0, -3, 2**62 + 1])
def test_dropout_masks_are_every_backends(heads: int, seed: int, graph_of: Function) -> None:
    graph = graph_of("small")
    for p in (0.3, 1.0):
        weights = ops.edge_softmax(torch.zeros(graph.num_edges, heads), graph, dropout_p=p, seed=seed, backend="cuda")
        assert torch.equal(weights != 0, ops.dropout_mask(graph, heads, p, seed))


def test_maxima_of_neighbourhoods(graph_of: Function) -> None:
    """With ties: the gradient goes to the first edge in the caller's order."""
    for kind in ("grouped", "small", "edgeless"):
        graph = graph_of(kind)
        values = torch.randint(4, (graph.num_src, 3)).double().requires_grad_()
        found, expected = (neighbourhood_maximum(values, graph, backend) for backend in ("cuda", "cpu"))
        assert torch.equal(found, expected)
        if graph.num_edges:
            grads = [torch.autograd.grad(x.square().sum(), values)[0] for x in (found, expected)]
            assert torch.equal(*grads)


def test_features_need_no_alignment(graph_of: Function, inputs_of: Function, run_op: Function) -> None:
    """Rows of 16 bytes that do not start at a multiple of them are read channel by channel."""
    graph = graph_of("grouped")
    tensors = inputs_of("dot", graph, 2, 8, dtype=torch.float32)
    expected = run_op("dot", tensors, graph, backend="cuda")
    moved = {}
    for name, x in tensors.items():
        room = x.new_empty(x.numel() + 1)
        moved[name] = room[1:].view(x.shape).copy_(x)
        assert moved[name].data_ptr() % 16
    got = run_op("dot", moved, graph, backend="cuda")
    for name, right in expected.items():
        torch.testing.assert_close(got[name], right)


@pytest.mark.parametrize("op", ["gat", "gt"])
def test_a_sink_of_logit_minus_infinity_is_no_sink(
    op: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of("small")
    tensors = inputs_of(op, graph, 3, 2, modifiers=["sink value"])
    tensors["sink_logit"].fill_(-float("inf"))
    got, expected = (run_op(op, tensors, graph, backend=backend) for backend in ("cuda", "reference"))
    for name, right in expected.items():
        torch.testing.assert_close(got[name], right)


@pytest.mark.parametrize("sink", [None, -1.0])
def test_an_edge_of_weight_zero_does_not_hide_the_others(sink: float | None) -> None:
    test_edge_cases.test_an_edge_of_weight_zero_does_not_hide_the_others("cuda", sink)


def test_op_passes_opcheck(graph_of: Function, inputs_of: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, autograd registration, fake and AOT dispatch with dynamic shapes."""
    graph = graph_of("small")
    tensors = inputs_of("gatv2", graph, 2, 3)
    captured = []
    call = attention._attention
    with monkeypatch.context() as patch:
        patch.setattr(attention, "_attention", lambda *flat: captured.append(flat) or call(*flat))
        ops.gatv2(*(x.requires_grad_() for x in tensors.values()), graph, backend="cuda")
    torch.library.opcheck(torch.ops.gattn.attention.default, captured[0])


def test_what_it_refuses(graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    graph: Graph = graph_of("small")
    with pytest.raises(ValueError, match=r"on device 'cpu' for backend 'cuda' .*'meta'"):
        select_backend("cuda", torch.device("meta"))
    lipschitz = gattn.Lipschitz.gat(
        torch.ones(graph.num_src, 2), torch.ones(graph.num_dst, 2), torch.ones(2), variant="as-released"
    )
    values = {name: x.float() for name, x in inputs_of("gat", graph, 2, 3).items()}
    with pytest.raises(ValueError, match="on backend 'cuda'"):
        call_op("gat", values, graph, lipschitz=lipschitz, backend="cuda")


def test_without_kernels_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gattn.backends()["cuda"] == (True, "compiled, on cpu tensors")
    monkeypatch.setattr(cuda_core, "core", None)
    usable, reason = gattn.backends()["cuda"]
    assert not usable
    assert "no CUDA kernels" in reason or "does not import" in reason
    with pytest.raises(RuntimeError, match="Backend 'cuda' is not usable"):
        select_backend("cuda", torch.device("cpu"))
