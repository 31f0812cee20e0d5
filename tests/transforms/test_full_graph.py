"""All pairs as edges, the random-walk kernel, and the layers on both against dense attention."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose
from torch_geometric.utils import get_laplacian, to_dense_adj

import gattn
from gattn.nn import GraphiTLayer, SANLayer
from gattn.transforms import FullGraph, RandomWalkKernel

SIZES = (5, 1, 2, 7, 3)
ALL_PAIRS = Compose([FullGraph(), RandomWalkKernel()])


def make_graph(nodes: int, edge_index: Tensor | None = None) -> Data:
    """Undirected, unless edges are given; features of edges are not 0."""
    if edge_index is None:
        half = torch.triu(torch.rand(nodes, nodes) < 0.4, 1)
        edge_index = (half | half.t()).nonzero().t()
    edges = edge_index.size(1)
    data = Data(x=torch.randn(nodes, 8, dtype=torch.float64), edge_index=edge_index, y=torch.tensor([1.0]))
    data.edge_attr = torch.rand(edges, 8, dtype=torch.float64) + 0.1
    data.edge_type = torch.randint(1, 4, (edges,))
    return data


@pytest.fixture
def graphs() -> list[Data]:
    torch.manual_seed(0)
    return [make_graph(nodes) for nodes in SIZES]


def pairs(edge_index: Tensor) -> list[tuple[int, ...]]:
    return [tuple(pair) for pair in edge_index.t().tolist()]


@pytest.mark.parametrize("self_loops", [False, True])
def test_every_pair_is_there_once_and_edges_come_first(graphs: list[Data], self_loops: bool) -> None:
    for graph in graphs:
        full, nodes, edges = FullGraph(self_loops)(graph), graph.num_nodes, graph.num_edges
        wanted = {(i, j) for i in range(nodes) for j in range(nodes) if self_loops or i != j}
        assert sorted(pairs(full.edge_index)) == sorted(wanted)
        assert full.edge_index.dtype == torch.int64
        assert torch.equal(full.edge_index[:, :edges], graph.edge_index)
        assert full.edge_real.tolist() == [True] * edges + [False] * (len(wanted) - edges)
        for name in ("edge_attr", "edge_type"):
            assert torch.equal(full[name][:edges], graph[name])
            assert not full[name][edges:].any()
            assert len(full[name]) == len(wanted)
        assert "edge_real" not in graph, "the original changed"
        assert graph.num_edges == edges, "the original changed"


def test_self_loops_and_duplicates_are_kept() -> None:
    graph = make_graph(3, torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]], dtype=torch.int32))
    full = FullGraph()(graph)
    assert pairs(full.edge_index) == [(0, 1), (0, 1), (1, 1), (1, 0), (0, 2), (1, 2), (2, 0), (2, 1)]
    assert full.edge_index.dtype == torch.int32
    assert pairs(FullGraph(self_loops=True)(graph).edge_index)[4:] == [(0, 0), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]


def test_what_is_as_long_as_the_edges_by_chance_is_left_alone() -> None:
    graph = make_graph(3, torch.tensor([[0], [1]]))
    graph.edge_label, graph.edge_label_index = torch.ones(1), torch.zeros(2, 1).long()
    graph.distance = torch.zeros(1)
    full = FullGraph()(graph)
    assert [len(full[name]) for name in ("y", "distance", "edge_label", "edge_label_index")] == [1, 1, 1, 2]
    assert full.edge_label_index.shape == (2, 1)


@pytest.mark.parametrize(("steps", "gamma"), [(16, 0.25), (1, 1.0), (3, 0.7)])
def test_the_kernel_is_a_power_of_the_laplacian(graphs: list[Data], steps: int, gamma: float) -> None:
    for graph in graphs:
        found = Compose([FullGraph(self_loops=True), RandomWalkKernel(steps, gamma)])(graph)
        index, weight = get_laplacian(
            graph.edge_index, normalization="sym", num_nodes=graph.num_nodes, dtype=torch.float64
        )
        laplacian = to_dense_adj(index, edge_attr=weight, max_num_nodes=graph.num_nodes)[0]
        expected = torch.eye(graph.num_nodes, dtype=torch.float64)
        for _ in range(steps):
            expected = expected - gamma * expected @ laplacian
        assert found.edge_kernel.dtype == torch.float32
        torch.testing.assert_close(found.edge_kernel, expected[tuple(found.edge_index)].float())
        assert found.edge_kernel.min() >= 0


def test_the_kernel_of_edges_alone(graphs: list[Data]) -> None:
    graph = graphs[3]
    real = ALL_PAIRS(graph).edge_kernel[: graph.num_edges]
    assert torch.equal(RandomWalkKernel()(graph).edge_kernel, real)


def test_batches_join_no_graphs_and_come_apart_again(graphs: list[Data]) -> None:
    made = [ALL_PAIRS(graph) for graph in graphs]
    names = ("edge_index", "edge_real", "edge_kernel", "edge_attr", "edge_type", "y")
    for batch in (next(iter(DataLoader(made, 9))), ALL_PAIRS(Batch.from_data_list(graphs))):
        assert batch.num_edges == sum(graph.num_edges for graph in made)
        assert torch.equal(batch.batch[batch.edge_index[0]], batch.batch[batch.edge_index[1]])
        for part, graph in zip(batch.to_data_list(), made, strict=True):
            assert all(torch.equal(part[name], graph[name]) for name in names)


def test_copies_and_words() -> None:
    for transform, words in (
        (FullGraph(True), "FullGraph(self_loops=True)"),
        (RandomWalkKernel(4, 0.5), "RandomWalkKernel(steps=4, gamma=0.5)"),
    ):
        assert repr(pickle.loads(pickle.dumps(transform))) == words
    assert gattn.transforms.FullGraph is FullGraph


@pytest.mark.parametrize("transform", [FullGraph(), RandomWalkKernel()], ids=repr)
@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (HeteroData(), TypeError, r"torch_geometric.data.Data \(got 'HeteroData'\)"),
        (Data(x=torch.rand(2, 1)), ValueError, "an 'edge_index' .got none"),
        (Data(edge_index=torch.tensor([[0], [2]]), num_nodes=2), IndexError, r"in \[0, 2\).*got 0 to 2"),
        (Data(edge_index=torch.tensor([[0], [-1]]), num_nodes=2), IndexError, "got -1 to 0"),
        (Data(edge_index=torch.zeros(2, 1), num_nodes=2), ValueError, "integer type"),
        (Batch(edge_index=torch.tensor([[0], [0]])), ValueError, "made by Batch.from_data_list"),
    ],
)
def test_wrong_data(transform: Any, data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        transform(data)


def test_wrong_order(graphs: list[Data]) -> None:
    with pytest.raises(ValueError, match="Apply it once"):
        FullGraph()(FullGraph()(graphs[0]))
    with pytest.raises(ValueError, match="RandomWalkKernel after FullGraph"):
        FullGraph()(RandomWalkKernel()(graphs[0]))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0,), ValueError, "'steps' >= 1"),
        ((1.5,), TypeError, "'steps' to be an int"),
        ((True,), TypeError, "'steps' to be an int"),
        ((2, 0.0), ValueError, r"'gamma' in \(0, 1\]"),
        ((2, 1.5), ValueError, r"'gamma' in \(0, 1\]"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        RandomWalkKernel(*arguments)


def dense_attention(layer: Any, graph: Data) -> Tensor:
    """One graph, ``[target, source]`` matrices: both kinds of scores for all pairs, one of them chosen by a mask."""
    nodes, (heads, size) = graph.num_nodes, (layer.heads, layer.channels // layer.heads)
    kinds = layer.attention.kinds
    adjacency = to_dense_adj(graph.edge_index, max_num_nodes=nodes)[0].t() > 0
    features = to_dense_adj(graph.edge_index, edge_attr=graph.edge_attr, max_num_nodes=nodes)[0].transpose(0, 1)

    def project(linear: nn.Linear, x: Tensor) -> Tensor:
        return linear(x).unflatten(-1, (heads, -1, size))

    q, k, v = (project(linear, graph.x) for linear in (layer.query, layer.key, layer.value))
    e = project(layer.edge, features)  # zeros where there is no edge
    scores = torch.einsum("ihtc,jhtc,ijhtc->thij", q, k, e) / math.sqrt(size)
    score = torch.where(adjacency, scores[0], scores[kinds - 1])
    weight = score.clamp(-5, 5).exp() * ~torch.eye(nodes, dtype=torch.bool)
    if isinstance(layer, SANLayer):
        weight = weight * (adjacency.double() * (1 - layer.gamma) + layer.gamma) / (1 + layer.gamma)
    else:
        degree = adjacency.double().sum(1).clamp(min=1).rsqrt()
        walk = 0.75 * torch.eye(nodes).double() + 0.25 * degree[:, None] * adjacency * degree
        weight = weight * torch.linalg.multi_dot([walk] * 16).float().double()
    out = torch.einsum("hij,jhc->ihc", weight, v.squeeze(2)) / (weight.sum(-1).t() + 1e-6)[..., None]
    return out.flatten(1)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (SANLayer, {"gamma": 0.2, "bias": True}),
        (SANLayer, {"gamma": 0.0}),
        (GraphiTLayer, {}),
        (GraphiTLayer, {"added_maps": True, "bias": True}),
    ],
    ids=str,
)
def test_layers_on_all_pairs_are_dense_attention(cls: Any, options: dict[str, Any], graphs: list[Data]) -> None:
    layer = cls(8, 2, full_graph=True, norm="layer", **options).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.8)
    batch = Batch.from_data_list([ALL_PAIRS(graph) for graph in graphs])
    given = [batch.x, batch.edge_index, batch.edge_attr]
    given += [batch.edge_real] if cls is SANLayer else [batch.edge_kernel]
    if options.get("added_maps"):
        given.append(batch.edge_real)
    attended = torch.cat([dense_attention(layer, graph) for graph in graphs])
    got, expected = layer(*given), layer.nodes(batch.x, attended)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    towards = torch.linspace(-1, 1, got.numel()).view_as(got)
    grads = [torch.autograd.grad((out * towards).sum(), list(layer.parameters())) for out in (got, expected)]
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-9)


@pytest.mark.data
@pytest.mark.slow
def test_zinc(data_copy: Callable[[str], Path]) -> None:
    """Bonds have categories 1 to 3, so that 0 is the added pairs' own."""
    from torch_geometric.datasets import ZINC

    dataset = ZINC(str(data_copy("zinc")), subset=True, split="val", transform=ALL_PAIRS)
    for batch in DataLoader(dataset[:256], batch_size=64):
        sizes = batch.ptr.diff()
        assert batch.num_edges == int((sizes * (sizes - 1)).sum())
        assert torch.equal(batch.edge_real, batch.edge_attr != 0)
        # Few pairs of atoms are more than 16 bonds apart.
        assert (batch.edge_kernel > 0).float().mean() > 0.9
        assert batch.edge_kernel[batch.edge_real].min() > batch.edge_kernel[~batch.edge_real].median()
