"""Dropout's masks: Philox4x32-10 of (seed, edge number, head) and nothing else, the same on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gattn import Graph, ops
from gattn.reference.dropout import philox

Function = Callable[..., Any]
SEEDS = st.integers(-(2**63), 2**63 - 1)


def as_int64(word: int) -> int:
    """The signed number with the bits of an unsigned one."""
    return word - 2**64 if word >= 2**63 else word


def kept_by_kernel(graph: Graph, heads: int, p: float, seed: int) -> torch.Tensor:
    """The mask that the compiled kernel applies: uniform weights, zero where dropped."""
    logits = torch.zeros(graph.num_edges, heads)
    return ops.edge_softmax(logits, graph, dropout_p=p, seed=seed, backend="cpu") != 0


def line(edges: int) -> Graph:
    """``edges`` edges into one node."""
    return Graph.from_edge_index(torch.zeros(2, edges, dtype=torch.int64), 1)


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as the paper states it, in Python's integers."""
    for _ in range(10):
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(p1 >> 32) ^ counter[1] ^ key[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ counter[3] ^ key[1], p0 & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_published_answers(counter: list[int], key: list[int], words: list[int]) -> None:
    """The known answers that come with Random123; the package's counter always ends in a word of zero."""
    assert plain_philox(counter, key) == words
    if counter[3] == 0:
        seed = as_int64(key[0] | key[1] << 32)
        edge = torch.tensor([as_int64(counter[0] | counter[1] << 32)])
        assert [int(word) for word in philox(seed, edge, counter[2])] == words


@given(seed=SEEDS, edge=SEEDS, group=st.integers(0, 2**32 - 1))
def test_reference_is_philox(seed: int, edge: int, group: int) -> None:
    counter = [edge & 0xFFFFFFFF, edge >> 32 & 0xFFFFFFFF, group, 0]
    expected = plain_philox(counter, [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF])
    assert [int(word) for word in philox(seed, torch.tensor([edge]), group)] == expected


@given(seed=SEEDS, heads=st.integers(1, 9), p=st.floats(0.01, 0.99))
def test_kernels_and_reference_drop_the_same(seed: int, heads: int, p: float) -> None:
    graph = line(40)
    assert torch.equal(kept_by_kernel(graph, heads, p, seed), ops.dropout_mask(graph, heads, p, seed))


def test_first_words_are_the_published_ones() -> None:
    """With seed 0, edge 0 and p between two of the words the kernel's mask tells which are smaller."""
    words = torch.tensor([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    for word in words:
        for threshold in (int(word), int(word) + 1):
            kept = kept_by_kernel(line(1), 4, threshold / 2**32, 0)[0]
            assert torch.equal(kept, words >= threshold)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate(p: float) -> None:
    """The fraction kept is within five standard deviations of 1 - p, in every head."""
    kept = kept_by_kernel(line(20_000), 5, p, 11).double().mean(0)
    assert ((kept - (1 - p)).abs() < 5 * (p * (1 - p) / 20_000) ** 0.5).all()


def test_heads_edges_and_seeds_are_independent() -> None:
    graph = line(20_000)
    kept = kept_by_kernel(graph, 8, 0.5, 1).double()
    pairs = [*kept.T, kept[:, 0].roll(1), kept_by_kernel(graph, 1, 0.5, 2).double()[:, 0]]
    correlation = torch.corrcoef(torch.stack(pairs)).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / 20_000**0.5


@given(seed=SEEDS, data=st.data())
def test_mask_depends_on_seed_edge_and_head_only(seed: int, data: st.DataObject) -> None:
    """Other targets, other sources, other sizes and more heads leave an edge's mask as it is."""
    indices = st.lists(st.integers(0, 5), min_size=12, max_size=12)
    small = Graph.from_edge_index(torch.tensor([data.draw(indices), data.draw(indices)]), 6)
    more = data.draw(st.integers(3, 10))
    expected = ops.dropout_mask(line(12), 3, 0.5, seed)
    kept = kept_by_kernel(small, more, 0.5, seed)
    assert torch.equal(kept[:, :3], expected)


def test_kept_weights_grow_and_all_are_dropped_at_one(inputs_of: Function, graph_of: Function) -> None:
    graph = graph_of("mixed")
    logits = inputs_of("edge_softmax", graph, 3, 1)["logits"]
    plain, dropped = ops.edge_softmax(logits, graph), ops.edge_softmax(logits, graph, dropout_p=0.25, seed=0)
    kept = ops.dropout_mask(graph, 3, 0.25, 0)
    torch.testing.assert_close(dropped, torch.where(kept, plain / 0.75, 0.0), rtol=1e-14, atol=0)
    for backend in ("cpu", "reference"):
        assert not ops.edge_softmax(logits, graph, dropout_p=1.0, seed=0, backend=backend).any()


@pytest.mark.parametrize("op", ["gat", "gatv2", "dot", "gt"])
def test_every_op_drops_by_the_shared_mask(op: str, graph_of: Function, inputs_of: Function, call_op: Function) -> None:
    """The returned attention is the mask times the one before dropout, and a sink keeps what it has."""
    graph = graph_of("hubs")
    tensors = inputs_of(op, graph, 5, 2, edge=True, modifiers=["sink value"])
    options = {"dropout_p": 0.25, "seed": 5, "backend": "cpu"}
    kept = ops.dropout_mask(graph, 5, 0.25, 5)
    out, after = call_op(op, tensors, graph, return_attention=True, **options)
    same_out, before = call_op(op, tensors, graph, return_attention="before_dropout", **options)
    assert torch.equal(out, same_out)
    torch.testing.assert_close(after, torch.where(kept, before / 0.75, 0.0), rtol=1e-14, atol=0)
    _, undropped = call_op(op, tensors, graph, return_attention=True, backend="cpu")
    torch.testing.assert_close(before, undropped, rtol=1e-12, atol=0)
    options["dropout_p"] = 1.0
    nothing = call_op(op, tensors, graph, **options)
    total = torch.zeros(graph.num_dst, 5, dtype=torch.float64).index_add(0, graph.edge_index[1], undropped)
    expected = (1 - total).unsqueeze(-1) * tensors["sink_value"]
    torch.testing.assert_close(nothing, expected, rtol=1e-4 if op == "gt" else 1e-9, atol=1e-9)
