"""CUB's sort in the graph's builder. The emulation has a stand-in for CUB; what is around it is what runs on a GPU."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from gattn import cuda_core, device_graph, device_sort, gpu_choice
from gattn.cuda_core import call
from gattn.gpu_choice import BuildTime, Table

from ..graph.test_device import assert_same, in_core, reads, requests

CPU = torch.device("cpu")


# The fixture gives the same kernels to every example.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests())
def test_any_graph(request: tuple[Tensor, int, int, dict[str, bool]]) -> None:
    edge_index, num_src, num_dst, options = request
    graph = in_core(*request)
    built = device_graph.build(edge_index, num_src, num_dst, **options, sort="cub")
    assert_same(built, graph)
    assert built.groups is not None
    assert torch.equal(built.groups.data, graph.groups.data)


@pytest.mark.parametrize(
    ("nodes", "dtype"),
    [
        *((nodes, dtype) for nodes in (1, 2, 255, 256, 257, 2**31 - 1) for dtype in (torch.int32, torch.int64)),
        (2**31, torch.int64),
        (2**40, torch.int64),
    ],
)
def test_as_many_bits_as_the_largest_needs(nodes: int, dtype: torch.dtype) -> None:
    """One too few would leave the largest key with the smallest."""
    keys = torch.randint(max(0, nodes - 3), nodes + 1, (500,), generator=torch.Generator().manual_seed(0)).to(dtype)
    keys[::7] = 0
    for given_keys in (keys, keys.repeat_interleave(2)[::2], keys[:0]):
        found, places = device_sort.stable_sort(given_keys, nodes, "cub")
        expected, order = torch.sort(given_keys, stable=True)
        assert torch.equal(found, expected)
        assert torch.equal(places.long(), order)


@pytest.mark.parametrize("self_loops", [False, True])
def test_columns_of_another_tensor(self_loops: bool) -> None:
    edge_index = (4000 * torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0)).pow(4)).long().t()
    options = {"swap": True, "self_loops": self_loops, "wide": False}
    built = device_graph.build(edge_index, 4100, 4000, **options, sort="cub")
    assert_same(built, in_core(edge_index, 4100, 4000, options))


@pytest.mark.parametrize("edges", [[[0, -1], [1, 0]], [[0, 2**32 + 1], [1, 0]], [[0, 1], [1, 5]], [[7, 7], [-7, 0]]])
@pytest.mark.parametrize("self_loops", [False, True])
def test_indices_out_of_range(edges: list[list[int]], self_loops: bool) -> None:
    """They are in no place that could be told, and are found out all the same."""
    options = {"swap": False, "self_loops": self_loops, "wide": False}
    with pytest.raises(IndexError) as expected:
        in_core(torch.tensor(edges), 2, 2, options)
    with pytest.raises(IndexError, match=re.escape(str(expected.value))):
        device_graph.build(torch.tensor(edges), 2, 2, **options, sort="cub")


def test_one_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    edge_index = torch.tensor([[0, 2, 2, 2], [1, 1, 1, 2]])
    with reads(monkeypatch) as lengths:
        device_graph.build(edge_index, 7, 8, swap=False, self_loops=True, wide=False, sort="cub")
    assert len(lengths) == 1


def test_the_faster_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(torch_seconds: float) -> None:
        found = Table([], [BuildTime(100, 1000, {"torch": torch_seconds, "cub": 2.0})])
        monkeypatch.setattr(gpu_choice, "table", lambda: found)

    table(1.0)
    assert device_sort.choose(None, CPU, 100, 1000) == "torch"
    table(3.0)
    assert device_sort.choose(None, CPU, 100, 1000) == "cub"
    assert device_sort.choose("torch", CPU, 100, 1000) == "torch"
    monkeypatch.setattr(cuda_core, "core", None)
    assert device_sort.choose(None, CPU, 100, 1000) == "torch"
    with pytest.raises(RuntimeError, match="cannot sort on cpu"):
        device_sort.choose("cub", CPU, 100, 1000)
    with pytest.raises(ValueError, match="got 'thrust'"):
        device_sort.choose("thrust", CPU, 100, 1000)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"keys": torch.zeros(4)}, TypeError, "'keys' to be int32 or int64"),
        ({"places": torch.zeros(4, dtype=torch.int64)}, TypeError, "'values'"),
        ({"order": torch.zeros(3, dtype=torch.int32)}, ValueError, "'sorted_values'"),
        ({"bits": 0}, ValueError, r"1 to 31 bits \(got 0\)"),
        ({"bits": 32}, ValueError, r"1 to 31 bits \(got 32\)"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], error: type[Exception], message: str, emulated: ModuleType) -> None:
    def zeros() -> Tensor:
        return torch.zeros(4, dtype=torch.int32)

    arguments = {"keys": zeros(), "places": zeros(), "found": zeros(), "order": zeros(), "bits": 3} | wrong
    with pytest.raises(error, match=message):
        call("cuda_stable_sort", CPU, *arguments.values())
    assert cuda_core.core is emulated
