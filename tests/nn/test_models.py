"""Whole models out of PyG's parts, run fused: homogeneous, heterogeneous, in mini-batches."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_geometric.typing
from torch import nn
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.nn import GAT, GPSConv, HeteroConv, to_hetero
from torch_geometric.utils import trim_to_layer

from gattn.nn import fuse

pytestmark = pytest.mark.usefixtures("fused_only")


def gradients(module, *args, **kwargs):
    out = module(*args, **kwargs)
    return [out, *torch.autograd.grad(out.square().sum(), list(module.parameters()))]


def fused_copy(model, *, layers):
    twin = copy.deepcopy(model)
    assert len(fuse(twin)) == layers
    return twin


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("v2", [True, False])
def test_gat(case, v2, edges):
    torch.manual_seed(1)
    model = GAT(5, 8, num_layers=3, out_channels=4, heads=2, v2=v2, jk="cat", edge_dim=3 if edges else None).double()
    kwargs = {"edge_attr": case.edge_attr} if edges else {}
    fused = fused_copy(model, layers=3)
    torch.testing.assert_close(
        gradients(fused, case.x, case.edge_index, **kwargs), gradients(model, case.x, case.edge_index, **kwargs)
    )


def test_gps(classes, case):
    torch.manual_seed(1)
    model = GPSConv(8, classes[0](8, 4, heads=2, edge_dim=3), heads=2).double()
    args = case.x @ torch.randn(5, 8, dtype=torch.float64), case.edge_index, torch.arange(9) // 5
    fused = fused_copy(model, layers=1)
    expected, got = (gradients(m, *args, edge_attr=case.edge_attr) for m in (model, fused))
    torch.testing.assert_close(got, expected)


HETERO_TYPES = [("user", "buys", "item"), ("item", "sold_to", "user"), ("user", "knows", "user")]


@pytest.fixture
def hetero():
    generator = torch.Generator().manual_seed(3)
    sizes = {"user": 7, "item": 9}
    x = {kind: torch.randn(n, 5, generator=generator, dtype=torch.float64) for kind, n in sizes.items()}
    edges = {
        (src, rel, dst): torch.stack([torch.randint(sizes[kind], (20,), generator=generator) for kind in (src, dst)])
        for src, rel, dst in HETERO_TYPES
    }
    return x, edges


class TwoLayers(nn.Module):
    """For ``to_hetero``: sizes found from the first inputs, and nothing but tensors in ``forward``."""

    def __init__(self, layer, **options):
        super().__init__()
        self.conv1 = layer((-1, -1), 8, heads=2, **options)
        self.conv2 = layer((-1, -1), 4, **options)

    def forward(self, x, edge_index):
        return self.conv2(self.conv1(x, edge_index).relu(), edge_index)


@pytest.fixture
def hetero_options(kind):
    return {"beta": True} if kind == "transformer" else {"add_self_loops": False}


@pytest.mark.parametrize("when", ["built fused", "fused before", "fused after"])
def test_to_hetero(hetero, classes, hetero_options, when):
    x, edges = hetero
    metadata = (list(x), HETERO_TYPES)
    plain = to_hetero(TwoLayers(classes[0], **hetero_options), metadata).double()
    base = TwoLayers(classes[1 if when == "built fused" else 0], **hetero_options)
    if when == "fused before":
        fuse(base)
    fused = to_hetero(base, metadata).double()
    if when == "fused after":
        assert len(fuse(fused)) == 6
    for net in (plain, fused):
        torch.manual_seed(2)
        net(x, edges)
    fused.load_state_dict(plain.state_dict())
    assert sum(type(module) is classes[1] for module in fused.modules()) == 6
    torch.testing.assert_close(fused(x, edges), plain(x, edges))


@pytest.mark.parametrize("swap", [True, False])
def test_hetero_conv(hetero, classes, hetero_options, swap):
    x, edges = hetero

    def build(layer):
        torch.manual_seed(1)
        return HeteroConv({kind: layer((5, 5), 4, **hetero_options) for kind in HETERO_TYPES}).double()

    plain, fused = build(classes[0]), build(classes[0 if swap else 1])
    if swap:
        assert len(fuse(fused)) == 3
    torch.testing.assert_close(fused(x, edges), plain(x, edges))


# Two hops of sampled neighbours around nodes 0 and 1, in the order that PyG's loaders give them.
NODES_PER_HOP, EDGES_PER_HOP = [2, 3, 4], [4, 6]
SAMPLED = torch.tensor([[2, 3, 4, 2, 5, 6, 7, 8, 5, 8], [0, 0, 1, 1, 2, 2, 3, 4, 4, 3]])


@pytest.mark.parametrize("v2", [True, False])
def test_trimmed_layers(case, v2):
    torch.manual_seed(1)
    model = GAT(5, 8, num_layers=2, out_channels=4, v2=v2).double()
    hops = {"num_sampled_nodes_per_hop": NODES_PER_HOP, "num_sampled_edges_per_hop": EDGES_PER_HOP}
    fused = fused_copy(model, layers=2)
    torch.testing.assert_close(
        gradients(fused, case.x, SAMPLED, **hops)[1:], gradients(model, case.x, SAMPLED, **hops)[1:]
    )
    torch.testing.assert_close(fused(case.x, SAMPLED, **hops)[:2], model(case.x, SAMPLED)[:2])


def run_trimmed(net, x, edge_index, edge_attr):
    for i, conv in enumerate((net.conv1, net.conv2)):
        x, edge_index, edge_attr = trim_to_layer(i, NODES_PER_HOP, EDGES_PER_HOP, x, edge_index, edge_attr)
        x = conv(x, edge_index, edge_attr).relu()
    return x[:2]


def test_trimming_keeps_the_seed_nodes(classes, make_net, case):
    plain = make_net(classes[0], edge_dim=3)
    fused = fused_copy(plain, layers=2)
    args = case.x, SAMPLED, case.edge_attr[:10]
    torch.testing.assert_close(run_trimmed(fused, *args), run_trimmed(plain, *args))
    torch.testing.assert_close(run_trimmed(fused, *args), fused(*args)[:2].relu())


def run_blocks(net, x):
    """Bipartite blocks: each layer computes the nodes that the next one reads, the first of its sources."""
    for conv, num_dst, edges in ((net.conv1, 5, SAMPLED), (net.conv2, 2, SAMPLED[:, :4])):
        x = conv((x, x[:num_dst]), edges).relu()
    return x


def test_bipartite_blocks(classes, make_net, case):
    plain = make_net(classes[0])
    fused = fused_copy(plain, layers=2)
    out, expected = (run_blocks(net, case.x) for net in (fused, plain))
    assert out.shape == (2, 3)
    torch.testing.assert_close(out, expected)
    grads = [torch.autograd.grad(y.sum(), list(net.parameters())) for y, net in ((out, fused), (expected, plain))]
    torch.testing.assert_close(*grads)


@pytest.mark.skipif(
    not (torch_geometric.typing.WITH_PYG_LIB or torch_geometric.typing.WITH_TORCH_SPARSE),
    reason="NeighborLoader samples with pyg-lib or torch-sparse, of which none is installed",
)
def test_neighbour_loader(classes, make_net, make_case):
    case = make_case(40)
    plain = make_net(classes[0], edge_dim=3)
    fused = fused_copy(plain, layers=2)
    data = Data(case.x, case.edge_index, case.edge_attr)
    for batch in NeighborLoader(data, num_neighbors=[3, 3], batch_size=8):
        args = batch.x, batch.edge_index, batch.edge_attr
        torch.testing.assert_close(fused(*args), plain(*args))
