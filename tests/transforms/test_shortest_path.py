"""The transform's packed blocks through everything that PyG does to data: batching, loading, storing, taking apart."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose, ToUndirected

import gattn
from gattn import ops
from gattn.transforms import ShortestPath


def make_graphs() -> list[Data]:
    """Of one node, of two that no edge joins, directed, with loops and duplicates, with more than 64 nodes."""
    torch.manual_seed(0)
    graphs = [Data(x=torch.rand(n, 3), edge_index=torch.empty(2, 0, dtype=torch.int64)) for n in (1, 2)]
    for nodes, edges in ((5, 7), (30, 50), (70, 100)):
        graphs.append(Data(x=torch.rand(nodes, 3), edge_index=torch.randint(nodes, (2, edges))))
    return graphs


def expected(data: Any) -> Tensor:
    ptr = data.ptr if isinstance(data, Batch) else torch.tensor([0, data.num_nodes])
    return ops.shortest_path(data.edge_index, ptr)


class Stored(InMemoryDataset):  # type: ignore[misc]
    """Made once, then read from the disk, as PyG's own data sets are."""

    made = 0

    @property
    def processed_file_names(self) -> list[str]:
        return ["data.pt"]

    def __init__(self, root: Path, **transforms: Any) -> None:
        super().__init__(str(root), **transforms)
        self.load(self.processed_paths[0])

    def process(self) -> None:
        type(self).made += 1
        self.save([self.pre_transform(graph) for graph in make_graphs()], self.processed_paths[0])


def test_one_graph() -> None:
    for graph in make_graphs():
        found = ShortestPath()(graph)
        assert found.distance.dtype == torch.int16
        assert found.distance.shape == (graph.num_nodes**2,)
        assert torch.equal(found.distance, expected(graph))
        assert "distance" not in graph, "the original changed"


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_loader_packs_the_blocks(size: int) -> None:
    graphs = [ShortestPath()(graph) for graph in make_graphs()]
    seen = 0
    for batch in DataLoader(graphs, batch_size=size, shuffle=True):
        assert batch.distance.dtype == torch.int16
        assert torch.equal(batch.distance, expected(batch))
        seen += batch.num_graphs
    assert seen == len(graphs)


def test_batches_come_apart_again() -> None:
    graphs = [ShortestPath()(graph) for graph in make_graphs()]
    batch = Batch.from_data_list(graphs)
    for before, after in zip(graphs, batch.to_data_list(), strict=True):
        assert torch.equal(before.distance, after.distance)
    assert torch.equal(batch[3].distance, graphs[3].distance)
    assert [len(part) for part in batch.index_select([4, 1])] == [len(graphs[4]), len(graphs[1])]


def test_a_batch_is_a_batch_of_transformed_graphs() -> None:
    graphs = make_graphs()
    batch = Batch.from_data_list(graphs)
    found = ShortestPath()(batch)
    assert torch.equal(found.distance, Batch.from_data_list([ShortestPath()(graph) for graph in graphs]).distance)
    for graph, part in zip(graphs, found.to_data_list(), strict=True):
        assert torch.equal(part.distance, expected(graph))
        assert torch.equal(part.x, graph.x)
    assert all("distance" not in part for part in [batch, *batch.to_data_list()]), "the original changed"


def test_pre_transform_runs_once(tmp_path: Path) -> None:
    Stored.made = 0
    for _ in range(2):
        dataset = Stored(tmp_path, pre_transform=ShortestPath())
        assert [torch.equal(data.distance, expected(data)) for data in dataset] == [True] * 5
        for batch in DataLoader(dataset[[4, 0, 3]], batch_size=2):
            assert torch.equal(batch.distance, expected(batch))
    assert Stored.made == 1


def test_transform_runs_on_access(tmp_path: Path) -> None:
    dataset = Stored(tmp_path, pre_transform=copy.copy, transform=ShortestPath(unreachable=3))
    assert dataset[4].distance.max() == 3
    assert "distance" not in dataset._data


def test_after_other_transforms() -> None:
    graph = make_graphs()[4]
    found = Compose([ToUndirected(), ShortestPath()])(graph).distance.view(70, 70)
    assert torch.equal(found, found.t())
    assert not torch.equal(found, ShortestPath()(graph).distance.view(70, 70))


def test_nodes_that_only_num_nodes_tells_of() -> None:
    found = ShortestPath()(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=3)).distance
    assert found.tolist() == [0, 1, 510, 510, 0, 510, 510, 510, 0]


def test_copies_and_words() -> None:
    transform = ShortestPath(unreachable=20)
    assert repr(transform) == "ShortestPath(unreachable=20)"  # PyG warns when that of a stored data set differs
    assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform)
    assert gattn.transforms.ShortestPath is ShortestPath


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (HeteroData(), TypeError, r"torch_geometric.data.Data \(got 'HeteroData'\)"),
        (None, TypeError, r"\(got 'NoneType'\)"),
        (Data(x=torch.rand(2, 1)), ValueError, "an 'edge_index' .got none"),
        (Data(edge_index=torch.tensor([[0], [2]]), num_nodes=2), IndexError, "got 2 in the target row"),
        (Batch(edge_index=torch.tensor([[0], [0]])), ValueError, "made by Batch.from_data_list"),
    ],
)
def test_wrong_data(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ShortestPath()(data)


@pytest.mark.parametrize(("unreachable", "error"), [(-1, ValueError), (32768, ValueError), (1.5, TypeError)])
def test_wrong_unreachable(unreachable: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="'unreachable'"):
        ShortestPath(unreachable)


@pytest.mark.data
@pytest.mark.parametrize("name", ["MUTAG", "NCI1"])
def test_real_graphs(name: str, data_copy: Callable[[str], Path]) -> None:
    """As scipy finds them."""
    from scipy.sparse.csgraph import shortest_path
    from torch_geometric.datasets import TUDataset
    from torch_geometric.utils import to_scipy_sparse_matrix

    dataset = TUDataset(str(data_copy("tu")), name, pre_transform=ShortestPath())
    for data in dataset[:500]:
        adjacency = to_scipy_sparse_matrix(data.edge_index, num_nodes=data.num_nodes).tocsr()
        hops = torch.from_numpy(shortest_path(adjacency, unweighted=True)).clamp(max=510).to(torch.int16)
        assert torch.equal(data.distance, hops.flatten())
    for batch in DataLoader(dataset, batch_size=128):
        assert torch.equal(batch.distance, expected(batch))
