"""The graph built with PyTorch's operations, as on a GPU, against the compiled core's, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gattn import _C, Graph, device_graph, packed

aten: Any = torch.ops.aten
#: What reads a number back, or has a result whose size the values decide.
WAITS = (aten.item, aten._local_scalar_dense, aten.nonzero, aten.bincount, aten.masked_select, aten._unique2)


class NoWaiting(TorchDispatchMode):
    """Raises at an operation for which a GPU would have to be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = func.overloadpacket in WAITS or (
            func.overloadpacket is aten.index and any(i is not None and i.dtype == torch.bool for i in args[1])
        )
        if waits or func is aten.repeat_interleave.Tensor:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the reads of the builder, and allows no other."""
    lengths: list[int] = []

    def read(numbers: Tensor) -> list[int]:
        lengths.append(numbers.numel())
        with torch.utils._python_dispatch._disable_current_modes():
            return numbers.tolist()

    with monkeypatch.context() as patch, NoWaiting():
        patch.setattr(device_graph, "_read", read)
        yield lengths


@st.composite
def requests(draw: st.DrawFn) -> tuple[Tensor, int, int, dict[str, bool]]:
    """Edges, sizes (given or not) and options; isolated nodes, duplicates and loops come by themselves."""
    num_src, num_dst = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    edge = st.tuples(st.integers(0, max(num_src - 1, 0)), st.integers(0, max(num_dst - 1, 0)))
    edges = draw(st.lists(edge, max_size=40)) if num_src and num_dst else []
    options = {name: draw(st.booleans()) for name in ("swap", "self_loops", "wide")}
    dtype = draw(st.sampled_from([torch.int32, torch.int64]))
    edge_index = torch.tensor(edges, dtype=dtype).reshape(-1, 2).T
    if options["swap"]:
        edge_index = edge_index.flip(0)
    if draw(st.booleans()):
        num_src = num_dst = -1
    return edge_index, num_src, num_dst, options


def in_core(edge_index: Tensor, num_src: int, num_dst: int, options: dict[str, bool]) -> Graph:
    sizes = None if num_src < 0 else (num_src, num_dst)
    flow = "target_to_source" if options["swap"] else "source_to_target"
    return Graph._build(edge_index, (sizes, flow, options["self_loops"]), wide=options["wide"])


def assert_same(built: device_graph.Built, graph: Graph) -> None:
    assert built[1:4] == (graph.num_src, graph.num_dst, graph.num_edges)
    assert built.data.dtype == graph.data.dtype
    assert torch.equal(built.data, graph.data)


@given(request=requests())
def test_any_graph(request: tuple[Tensor, int, int, dict[str, bool]]) -> None:
    edge_index, num_src, num_dst, options = request
    graph = in_core(*request)
    built = device_graph.build(edge_index, num_src, num_dst, **options)
    assert_same(built, graph)
    assert built.groups is not None
    assert built.groups.sizes == graph.groups.sizes
    assert torch.equal(built.groups.data, graph.groups.data)


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_a_large_graph(self_loops: bool, dtype: torch.dtype) -> None:
    edge_index = (4000 * torch.rand(2, 150_000, generator=torch.Generator().manual_seed(0)).pow(4)).to(dtype)
    options = {"swap": False, "self_loops": self_loops, "wide": False}
    assert_same(device_graph.build(edge_index, 4000, 4100, **options), in_core(edge_index, 4000, 4100, options))


@pytest.mark.parametrize("self_loops", [False, True])
def test_one_synchronisation(self_loops: bool, edge_index: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one more where the number of nodes is to be read off the indices."""
    with reads(monkeypatch) as lengths:
        device_graph.build(edge_index, 7, 8, swap=False, self_loops=self_loops, wide=False)
        assert len(lengths) == 1
        device_graph.build(edge_index, -1, -1, swap=False, self_loops=self_loops, wide=False)
        assert len(lengths) == 3


def test_the_guard_sees_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait in (lambda x: x.nonzero(), lambda x: x[x > 1], lambda x: x.sum().item(), torch.bincount):
        with pytest.raises(AssertionError, match="waits"), reads(monkeypatch):
            wait(torch.arange(3))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(
    ("edges", "sizes"),
    [
        ([[0, 2], [1, 0]], (2, 2)),
        ([[0, 1], [1, 5]], (5, 5)),
        ([[0, -1], [1, 0]], (2, 2)),
        ([[0, 1], [-7, 0]], (-1, -1)),
        ([[-3], [-4]], (-1, -1)),
        ([[2], [0]], (2, 9)),
        ([[0], [2]], (9, 2)),
        ([[0], [0]], (0, 0)),
        ([[-(2**31)], [2**31 - 1]], (2, 2)),
        ([[0], [2**31 - 1]], (2, 2)),
    ],
)
def test_index_errors_in_the_core_s_words(edges: list[list[int]], sizes: tuple[int, int], dtype: torch.dtype) -> None:
    edge_index = torch.tensor(edges, dtype=dtype)
    for self_loops in (False, True):
        options = {"swap": False, "self_loops": self_loops, "wide": False}
        with pytest.raises(IndexError) as expected:
            in_core(edge_index, *sizes, options)
        with pytest.raises(IndexError, match=re.escape(str(expected.value))):
            device_graph.build(edge_index, *sizes, **options)


def test_an_index_that_no_narrow_key_holds() -> None:
    """Sorted by its low 32 bits, it would be node 1."""
    edge_index = torch.tensor([[0, 2**32 + 1], [1, 0]])
    with pytest.raises(IndexError, match="got 4294967297 in the source row"):
        device_graph.build(edge_index, 2, 2, swap=False, self_loops=False, wide=False)


@pytest.mark.parametrize("sizes", [(2**41, 2), (-1, -1)])
def test_too_many_nodes(sizes: tuple[int, int]) -> None:
    edge_index = torch.tensor([[2**62 if sizes[0] < 0 else 0], [0]])
    with pytest.raises(ValueError, match=r"at most 2\^40 nodes"):
        device_graph.build(edge_index, *sizes, swap=False, self_loops=False, wide=False)


def test_the_header_is_the_core_s() -> None:
    assert packed.HEADER == _C.GRAPH_HEADER


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("self_loops", [False, True])
def test_on_a_gpu(self_loops: bool, edge_index: Tensor) -> None:
    there = Graph.from_edge_index(edge_index.cuda(), (7, 8), self_loops=self_loops)
    here = Graph.from_edge_index(edge_index, (7, 8), self_loops=self_loops)
    assert there.device.type == "cuda"
    assert torch.equal(there.data.cpu(), here.data)
    assert torch.equal(there.groups.data.cpu(), here.groups.data)
    assert torch.equal(there.edge_index.cpu(), here.edge_index)
    if self_loops:
        assert torch.equal(there.kept_edges.cpu(), here.kept_edges)
    with pytest.raises(IndexError, match=r"got 5 in the target row.*interval \[0, 3\)"):
        Graph.from_edge_index(edge_index.cuda(), (7, 3))
