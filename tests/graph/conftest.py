"""What the tests of Graph share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from gattn import Graph, core_graph, device_graph


@pytest.fixture(scope="module", params=["compiled core", "PyTorch"])
def builder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Builds every graph in the compiled core, then with PyTorch's operations as on other devices."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "PyTorch":
            patch.setattr(core_graph, "build", device_graph.build)
        yield


@pytest.fixture
def edge_index() -> Tensor:
    """Seven nodes with duplicates, loops (one of them twice) and an isolated node."""
    return torch.tensor([[0, 2, 2, 2, 5, 1, 3, 3, 0, 4], [1, 1, 1, 2, 0, 5, 3, 3, 5, 2]])


@pytest.fixture(scope="session")
def assert_graph() -> Callable[[Graph, Tensor, int, int], None]:
    """Checks every array of a graph against a stable sort of the edges it should hold."""

    def check(graph: Graph, edges: Tensor, num_src: int, num_dst: int) -> None:
        source, target = edges.long()
        assert (graph.num_src, graph.num_dst, graph.num_edges) == (num_src, num_dst, edges.size(1))
        order = torch.sort(target, stable=True).indices
        transposed = order[torch.sort(source[order], stable=True).indices]
        pointers = {
            "rowptr": torch.bincount(target, minlength=num_dst).cumsum(0),
            "colptr": torch.bincount(source, minlength=num_src).cumsum(0),
        }
        expected = {
            **{name: torch.cat([torch.zeros(1, dtype=torch.int64), value]) for name, value in pointers.items()},
            "col": source[order],
            "edge_id": order,
            "row": target[transposed],
            "edge_id_t": transposed,
            "csr_to_csc": transposed.argsort()[order],
            "edge_index": torch.stack([source, target]),
        }
        for name, value in expected.items():
            assert torch.equal(getattr(graph, name).long(), value), name

    return check
