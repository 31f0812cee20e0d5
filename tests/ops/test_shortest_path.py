"""Hop counts: scipy's and the reference's on graphs of every size and kind, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csgraph, csr_matrix
from torch import Tensor

from gattn import _C, ops, reference
from gattn.exchange import call_core

Edges = list[tuple[int, int]]
EDGES = torch.tensor([[0, 1, 3, 4], [1, 2, 4, 3]])
PTR = torch.tensor([0, 3, 5])


def by_scipy(edge_index: Tensor, ptr: Tensor, unreachable: int = 510) -> Tensor:
    source, target = edge_index.numpy()
    blocks = [np.zeros(0, dtype=np.int16)]
    for first, last in pairwise(ptr.tolist()):
        if first == last:
            continue
        inside = (source >= first) & (source < last)
        ends = (source[inside] - first, target[inside] - first)
        adjacency = csr_matrix((np.ones(inside.sum()), ends), shape=(last - first, last - first))
        hops = csgraph.shortest_path(adjacency, unweighted=True)
        blocks.append(np.minimum(hops, unreachable).astype(np.int16).ravel())
    return torch.from_numpy(np.concatenate(blocks))


def random_batch(sizes: Sequence[int], degree: float, *, directed: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Graphs of ``degree`` random edges a node, loops and duplicates among them; their edges shuffled together."""
    generator = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    found = [
        torch.randint(n, (2, int(n * degree)), generator=generator) + first
        for n, first in zip(sizes, ptr.tolist(), strict=False)
        if n
    ]
    edges = torch.cat(found, 1)
    if not directed:
        edges = torch.cat([edges, edges.flip(0)], 1)
    return edges[:, torch.randperm(edges.shape[1], generator=generator)], ptr


def chain(nodes: int) -> Tensor:
    """Undirected."""
    ends = torch.arange(nodes)
    return torch.stack([torch.cat([ends[:-1], ends[1:]]), torch.cat([ends[1:], ends[:-1]])])


@pytest.mark.parametrize("directed", [True, False], ids=["directed", "undirected"])
@pytest.mark.parametrize("degree", [0.5, 1.2, 3.0, 20.0])
def test_scipy_agrees(degree: float, directed: bool) -> None:
    sizes = [1, 30, 0, 5, 63, 64, 65, 127, 128, 129, 191, 192, 193, 0, 300, 1]
    edge_index, ptr = random_batch(sizes, degree, directed=directed)
    expected = by_scipy(edge_index, ptr)
    assert torch.equal(ops.shortest_path(edge_index, ptr), expected)
    assert torch.equal(reference.shortest_path(edge_index, ptr), expected)


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [
        *product(["chain", "directed chain", "cycle", "star", "none"], [1, 2, 63, 64, 65, 128, 256, 257, 600]),
        *product(["complete"], [1, 2, 63, 64, 65, 128]),
    ],
)
def test_extreme_graphs(kind: str, nodes: int) -> None:
    if kind == "complete":
        edge_index = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).t()
    elif kind == "star":
        spokes = torch.stack([torch.zeros(nodes - 1, dtype=torch.int64), torch.arange(1, nodes)])
        edge_index = torch.cat([spokes, spokes.flip(0)], 1)
    elif kind == "cycle":
        edge_index = torch.stack([torch.arange(nodes), torch.arange(1, nodes + 1) % nodes])
    else:
        edge_index = chain(nodes)[:, : {"chain": 2 * nodes, "directed chain": nodes - 1, "none": 0}[kind]]
    ptr = torch.tensor([0, nodes])
    found = ops.shortest_path(edge_index, ptr, unreachable=32767)
    assert torch.equal(found, by_scipy(edge_index, ptr, 32767))


def test_a_large_graph() -> None:
    edge_index, ptr = random_batch([2000], 1.5, directed=True)
    found = ops.shortest_path(edge_index, ptr)
    assert torch.equal(found, by_scipy(edge_index, ptr))
    assert (found == 510).any()


def test_long_paths() -> None:
    nodes = 1500
    found = ops.shortest_path(chain(nodes), torch.tensor([0, nodes]), unreachable=32767).view(nodes, nodes)
    hops = torch.arange(nodes)
    assert torch.equal(found, (hops - hops[:, None]).abs().to(torch.int16))


@pytest.mark.parametrize("unreachable", [0, 1, 2, 7, 63, 64, 270, 32767])
def test_longer_paths_are_cut_off(unreachable: int) -> None:
    sizes = [1, 64, 66, 300]
    edge_index = torch.cat([chain(n) + first for n, first in zip(sizes, [0, 1, 65, 131], strict=True)], 1)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    found = ops.shortest_path(edge_index, ptr, unreachable=unreachable)
    assert torch.equal(found, by_scipy(edge_index, ptr, unreachable))
    assert found.max() == min(299, unreachable)
    if unreachable < 100:  # the reference takes a product of matrices for every hop
        assert torch.equal(found, reference.shortest_path(edge_index, ptr, unreachable=unreachable))


def test_510_by_default() -> None:
    found = ops.shortest_path(chain(600), torch.tensor([0, 600])).view(600, 600)
    assert found[0, 509] == 509
    assert (found[0, 510:] == 510).all()


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], Edges]:
    sizes = draw(st.lists(st.integers(0, 70), max_size=5))
    edges: Edges = []
    first = 0
    for n in sizes:
        node = st.integers(first, first + n - 1)
        edges += draw(st.lists(st.tuples(node, node), max_size=3 * n)) if n else []
        first += n
    return sizes, draw(st.permutations(edges))


@given(batches(), st.integers(0, 32767), st.sampled_from([torch.int32, torch.int64]))
def test_properties(batch: tuple[list[int], Edges], unreachable: int, dtype: torch.dtype) -> None:
    sizes, edges = batch
    ptr = torch.tensor([0, *sizes], dtype=dtype).cumsum(0, dtype=dtype)
    edge_index = torch.tensor(edges, dtype=dtype).view(-1, 2).t()
    found = ops.shortest_path(edge_index, ptr, unreachable=unreachable)
    assert torch.equal(found, by_scipy(edge_index, ptr, unreachable))
    back = ops.shortest_path(edge_index.flip(0), ptr, unreachable=unreachable)
    squares = [n * n for n in sizes]
    for n, there, again in zip(sizes, found.split(squares), back.split(squares), strict=True):
        assert torch.equal(there.view(n, n), again.view(n, n).t())


def test_nothing() -> None:
    none = torch.empty(2, 0, dtype=torch.int64)
    for ptr in ([0], [0, 0], [0, 0, 0]):
        found = ops.shortest_path(none, torch.tensor(ptr))
        assert found.dtype == torch.int16
        assert found.shape == (0,)
        assert torch.equal(found, reference.shortest_path(none, torch.tensor(ptr)))


@pytest.mark.parametrize("ptr_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_index_types_and_layouts(dtype: torch.dtype, ptr_dtype: torch.dtype) -> None:
    edge_index, ptr = random_batch([20, 70], 1.5, directed=True)
    expected = by_scipy(edge_index, ptr)
    strided = torch.stack([edge_index, edge_index], -1).to(dtype)[..., 0]
    assert not strided.is_contiguous()
    assert torch.equal(ops.shortest_path(strided, ptr.to(ptr_dtype)), expected)
    assert torch.equal(ops.shortest_path(edge_index.to(dtype), ptr.repeat_interleave(2)[::2].to(ptr_dtype)), expected)


@pytest.mark.parametrize("sizes", [[40] * 50 + [100, 400], [700]], ids=["many", "one"])
def test_threads_do_not_matter(sizes: list[int]) -> None:
    edge_index, ptr = random_batch(sizes, 60.0, directed=True)  # enough edges for several threads to sort
    edge_index = torch.cat([edge_index[:, : edge_index.shape[1] // 2], edge_index], 1)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(ops.shortest_path(edge_index, ptr))
    assert torch.equal(results[0], by_scipy(edge_index, ptr))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_registration() -> None:
    edge_index, ptr = random_batch([9, 0, 70], 1.0, directed=True)
    torch.library.opcheck(torch.ops.gattn.shortest_path.default, (edge_index, ptr, 510))


def test_edge_index_of_pyg() -> None:
    from torch_geometric import EdgeIndex

    found = ops.shortest_path(EdgeIndex(EDGES, sparse_size=(5, 5)), PTR)
    assert type(found) is Tensor
    assert torch.equal(found, by_scipy(EDGES, PTR))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu() -> None:
    found = ops.shortest_path(EDGES.cuda(), PTR.cuda())
    assert found.is_cuda
    assert torch.equal(found.cpu(), by_scipy(EDGES, PTR))
    assert torch.equal(reference.shortest_path(EDGES.cuda(), PTR.cuda()).cpu(), by_scipy(EDGES, PTR))
    with pytest.raises(ValueError, match="on the device of 'edge_index', 'cuda:0'"):
        ops.shortest_path(EDGES.cuda(), PTR)


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    (None, PTR, TypeError, "'edge_index' to be a tensor .got 'NoneType'"),
    (EDGES, [0, 3, 5], TypeError, "'ptr' to be a tensor .got 'list'"),
    (EDGES.float(), PTR, ValueError, r"integer type \(got 'torch.float32'\)"),
    (EDGES[0], PTR, ValueError, r"two-dimensional \(got 1"),
    (EDGES.t(), PTR, ValueError, r"size '2' in the first dimension \(got '4'\)"),
    (EDGES, PTR.short(), TypeError, r"'ptr' to be of dtype int32 or int64 \(got torch.int16\)"),
    (EDGES, PTR.double(), TypeError, "'ptr' to be of dtype"),
    (EDGES, PTR[None], ValueError, r"shape \[num_graphs \+ 1\] \(got \[1, 3\]\)"),
    (EDGES, PTR[:0], ValueError, r"shape \[num_graphs \+ 1\] \(got \[0\]\)"),
    (EDGES, torch.tensor([1, 3, 5]), ValueError, r"begin with 0 \(got 1\)"),
    (EDGES, torch.tensor([0, 5, 3]), ValueError, r"not to decrease \(got 5 and then 3 at position 2\)"),
    (EDGES, torch.tensor([0, -1, 5]), ValueError, r"not to decrease \(got 0 and then -1 at position 1\)"),
    (EDGES, torch.tensor([0, 3, 3 + 32769]), ValueError, r"at most 32768 nodes \(got 32769 in graph 1\)"),
    (EDGES, torch.tensor([0, 2**62]), ValueError, "at most 32768 nodes"),
    (EDGES, torch.tensor([0, 3, 4]), IndexError, r"larger than 3 \(got 4 in the source row\).*interval \[0, 4\)"),
    (EDGES, torch.tensor([0]), IndexError, r"interval \[0, 0\)"),
    (EDGES - 1, PTR, IndexError, r"[Nn]egative indices.*got -1 in the source row.*interval \[0, 5\)"),
    (EDGES, torch.tensor([0, 2, 5]), ValueError, "one graph .got edge 1 from node 1 to node 2, .*different graphs"),
    (EDGES, torch.tensor([0, 3, 4, 5]), ValueError, "one graph .got edge 2 from node 3 to node 4, .*different graphs"),
]


@pytest.mark.parametrize(("edge_index", "ptr", "error", "words"), BAD, ids=[bad[3][:30] for bad in BAD])
def test_bad_input(edge_index: Any, ptr: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ops.shortest_path(edge_index, ptr)


def test_a_bad_edge_far_down_is_found() -> None:
    torch.set_num_threads(4)
    edge_index = torch.zeros(2, 200_000, dtype=torch.int64)
    edge_index[:, 150_000] = torch.tensor([1, 2])
    edge_index[:, 170_000] = torch.tensor([2, 0])
    with pytest.raises(ValueError, match="got edge 150000 from node 1 to node 2"):
        ops.shortest_path(edge_index, torch.tensor([0, 2, 4]))
    edge_index[1, 199_999] = 4
    with pytest.raises(IndexError, match="got 4 in the target row"):
        ops.shortest_path(edge_index, torch.tensor([0, 2, 4]))


@pytest.mark.parametrize("unreachable", [-1, 32768, 2**40])
def test_unreachable_out_of_range(unreachable: int) -> None:
    with pytest.raises(ValueError, match=rf"'unreachable' in \[0, 32767\].*got {unreachable}\)"):
        ops.shortest_path(EDGES, PTR, unreachable=unreachable)


@pytest.mark.parametrize("unreachable", [510.0, True, None, "510"])
def test_unreachable_is_an_int(unreachable: Any) -> None:
    with pytest.raises(TypeError, match=rf"to be an int \(got '{type(unreachable).__name__}'\)"):
        ops.shortest_path(EDGES, PTR, unreachable=unreachable)


def test_core_checks_for_itself() -> None:
    """Whatever Python lets through."""
    core: Callable[..., Any] = _C.shortest_path
    with pytest.raises(ValueError, match="contiguous"):
        call_core(core, EDGES.t().contiguous().t(), PTR, 510, 1)
    with pytest.raises(TypeError, match=r"'ptr' to be of dtype int32 or int64 .got int16"):
        call_core(core, EDGES, PTR.short(), 510, 1)
    with pytest.raises(ValueError, match=r"shape \[num_graphs \+ 1\] .got 2 dimensions, 3 entries"):
        call_core(core, EDGES, PTR[None], 510, 1)
    with pytest.raises(ValueError, match=r"'unreachable'.*got 32768"):
        call_core(core, EDGES, PTR, 32768, 1)
    with pytest.raises(ValueError, match=r"at least one thread .got 0"):
        call_core(core, EDGES, PTR, 510, 0)
