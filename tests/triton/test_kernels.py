"""What is not a comparison with the reference: bits, masks, groups, block sizes, second derivatives, errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch

import gattn
from gattn import Graph, ops
from gattn.backends import select_backend
from gattn.ops import attention
from gattn.ops.neighbourhood import neighbourhood_maximum
from gattn.reference.dropout import philox

from ..ops import test_edge_cases

triton = pytest.importorskip("triton", reason="the package triton is not installed")
tl = pytest.importorskip("triton.language")
choices = pytest.importorskip("gattn.kernels.choices")
philox_words = pytest.importorskip("gattn.kernels.dropout").philox_words

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


@pytest.mark.parametrize("op", ["gat", "gatv2"])
def test_same_bits_every_time(op: str, graph_of: Function, inputs_of: Function, run_op: Function) -> None:
    """Also with the graph packed in int64."""
    graph = graph_of("small")
    tensors = inputs_of(op, graph, 3, 5, dtype=torch.float32, edge=True, modifiers=MODIFIERS)
    options = {"dropout_p": 0.2, "seed": 9, "return_attention": True, "backend": "triton"}
    expected = run_op(op, tensors, graph, **options)
    assert same(run_op(op, tensors, graph, **options), expected)
    wide = graph_of("small", wide=True)
    assert wide.data.dtype == torch.int64
    assert same(run_op(op, tensors, wide, **options), expected)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 33])
@pytest.mark.parametrize("seed", [0, -3, 2**62 + 1])
def test_dropout_masks_are_every_backends(heads: int, seed: int, graph_of: Function) -> None:
    graph = graph_of("small")
    for p in (0.3, 1.0):
        weights = ops.edge_softmax(torch.zeros(graph.num_edges, heads), graph, dropout_p=p, seed=seed, backend="triton")
        assert torch.equal(weights != 0, ops.dropout_mask(graph, heads, p, seed))


@triton.jit
def write_words(edges, found, n: tl.constexpr):  # type: ignore[no-untyped-def]
    edge = tl.load(edges + tl.arange(0, n))[None, :, None]
    words = philox_words(tl.load(edges), edge, tl.full([1, 1, 1], 5, tl.uint32))
    for i in tl.static_range(4):
        tl.store(found + i * n + tl.arange(0, n)[None, :, None], words[i].to(tl.int64))


def test_edge_numbers_beyond_32_bits_reach_the_counter() -> None:
    """The counter's second word, which no graph that fits in memory has set."""
    edges = torch.tensor([2**62 + 7, 2**40 + 1, 2**32, 3])
    found = torch.empty(4, 4, dtype=torch.int64)
    write_words[(1,)](edges, found, n=4)
    assert torch.equal(found, torch.stack(philox(edges[0], edges, 5)))


def test_maxima_of_neighbourhoods(graph_of: Function) -> None:
    """With ties: the gradient goes to the first edge in the caller's order."""
    for kind in ("grouped", "small", "edgeless"):
        graph = graph_of(kind)
        values = torch.randint(4, (graph.num_src, 3)).double().requires_grad_()
        found, expected = (neighbourhood_maximum(values, graph, backend) for backend in ("triton", "cpu"))
        assert torch.equal(found, expected)
        if graph.num_edges:
            grads = [torch.autograd.grad(x.square().sum(), values)[0] for x in (found, expected)]
            assert torch.equal(*grads)


@pytest.mark.parametrize("elements", [16, 64])
def test_results_do_not_depend_on_the_blocks(
    elements: int, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    """Down to one head and one edge at a time."""
    graph = graph_of("small")
    with ExitStack() as stack:
        for kernel in choices.ELEMENTS:
            stack.enter_context(choices.override(kernel, elements=elements, warps=2))
        check("gatv2", inputs_of("gatv2", graph, 3, 2, modifiers=MODIFIERS), graph, dropout_p=0.3, seed=1)
        assert choices.choose("forward", "small", 3, 2, False).warps == 2
    assert choices.choose("forward", "small", 3, 2, False).warps != 2


def test_choices_are_listed(graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    graph = graph_of("small")
    call_op("dot", inputs_of("dot", graph, 5, 7), graph, backend="triton")
    found = [c for c in choices.choices() if (c["heads"], c["channels"]) == (5, 7)]
    assert {"forward"} == {c["kernel"] for c in found}
    assert all(c["dtype"] == "float64" for c in found)
    with pytest.raises(ValueError, match="Expected a kernel out of"), choices.override("forwards", elements=3):
        pass


@pytest.mark.parametrize("op", ["gat", "gt"])
def test_a_sink_of_logit_minus_infinity_is_no_sink(
    op: str, graph_of: Function, inputs_of: Function, run_op: Function
) -> None:
    graph = graph_of("small")
    tensors = inputs_of(op, graph, 3, 2, modifiers=["sink value"])
    tensors["sink_logit"].fill_(-float("inf"))
    got, expected = (run_op(op, tensors, graph, backend=backend) for backend in ("triton", "reference"))
    for name, right in expected.items():
        torch.testing.assert_close(got[name], right)


def test_second_derivatives(graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    graph = graph_of("small")
    tensors = inputs_of("dot", graph, 1, 2)

    grads = {}
    for backend in ("triton", "reference"):
        leaves = [x.clone().requires_grad_() for x in tensors.values()]
        out = call_op("dot", dict(zip(tensors, leaves, strict=True)), graph, backend=backend)
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        grads[backend] = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
    for got, expected in zip(grads["triton"], grads["reference"], strict=True):
        torch.testing.assert_close(got, expected)


def test_op_passes_opcheck(graph_of: Function, inputs_of: Function) -> None:
    """Schema, autograd registration, fake and AOT dispatch with dynamic shapes."""
    graph = graph_of("small")
    tensors = inputs_of("gatv2", graph, 2, 3)
    captured = []
    call = attention._attention
    attention._attention = lambda *flat: captured.append(flat) or call(*flat)
    try:
        ops.gatv2(*(x.requires_grad_() for x in tensors.values()), graph, backend="triton")
    finally:
        attention._attention = call
    torch.library.opcheck(torch.ops.gattn.attention.default, captured[0])


def test_what_it_refuses(graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    graph = graph_of("small")
    tensors = inputs_of("gat", graph, 2, 3)
    with pytest.raises(ValueError, match=r"on the CPU for backend 'triton' with TRITON_INTERPRET=1 .*'meta'"):
        select_backend("triton", torch.device("meta"))
    lipschitz = gattn.Lipschitz.gat(
        torch.ones(graph.num_src, 2), torch.ones(graph.num_dst, 2), torch.ones(2), variant="as-released"
    )
    values = {name: x.float() for name, x in tensors.items()}
    with pytest.raises(ValueError, match="on backend 'triton'"):
        call_op("gat", values, graph, lipschitz=lipschitz, backend="triton")


def test_backend_is_listed() -> None:
    usable, reason = gattn.backends()["triton"]
    assert usable
    assert "TRITON_INTERPRET" in reason


def test_use_backend_reaches_the_kernels(graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    graph: Graph = graph_of("small")
    with gattn.use_backend("triton"):
        call_op("gat", inputs_of("gat", graph, 7, 3), graph)
    assert any(c["heads"] == 7 for c in choices.choices())


@pytest.mark.parametrize("sink", [None, -1.0])
def test_an_edge_of_weight_zero_does_not_hide_the_others(sink: float | None) -> None:
    test_edge_cases.test_an_edge_of_weight_zero_does_not_hide_the_others("triton", sink)
