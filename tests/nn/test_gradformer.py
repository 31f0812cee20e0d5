"""Gradformer against the formulas written out, graph by graph."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINConv
from torch_geometric.utils import erdos_renyi_graph, to_dense_adj

from gattn.nn import GatedGCNConv, Gradformer, GradformerAttention, GradformerLayer

SIZES = (4, 1, 7, 2, 5, 3)  # no size of their batch that is also one of the network: the compiler would tie the two


def hop_counts(edge_index: Tensor, nodes: int) -> Tensor:
    """``[n * n]`` int16 by Floyd and Warshall, 510 without a path."""
    distance = torch.full((nodes, nodes), 510)
    distance[edge_index[0], edge_index[1]] = 1
    distance.fill_diagonal_(0)
    for via in range(nodes):
        distance = distance.minimum(distance[:, via, None] + distance[via])
    return distance.to(torch.int16).flatten()


def graph(nodes: int) -> Data:
    edge_index = erdos_renyi_graph(nodes, 0.4)
    data = Data(x=torch.randn(nodes, 5, dtype=torch.float64), edge_index=edge_index)
    data.edge_attr = torch.randint(3, (edge_index.size(1),))
    data.random_walk_pe = torch.randn(nodes, 3, dtype=torch.float64)
    data.distance = hop_counts(edge_index, nodes)
    return data


@pytest.fixture
def graphs() -> list[Data]:
    torch.manual_seed(1)
    return [graph(nodes) for nodes in SIZES]


@pytest.fixture
def batch(graphs: list[Data]) -> Any:
    return Batch.from_data_list(graphs)


def attention(**options: Any) -> GradformerAttention:
    torch.manual_seed(2)
    module = GradformerAttention(8, 2, **options).double()
    if module.hop is not None:
        nn.init.uniform_(module.hop, 0.5, 2.5)
    return module


def model(**options: Any) -> Gradformer:
    torch.manual_seed(3)
    options = {"channels": 8, "layers": 3, "heads": 2, "encoding_channels": 3, "attention_dropout": 0.0, **options}
    network = Gradformer(5, 2, **options).double()
    for parameter in network.parameters():  # BatchNorm's among them, which begin with 1 and 0
        nn.init.normal_(parameter, std=0.4)
    return network


def heads(linear: nn.Linear, x: Tensor) -> Tensor:
    return linear(x).view(len(x), 2, 4).transpose(0, 1)


def by_formula(module: GradformerAttention, x: Tensor, distance: Tensor | None) -> Tensor:
    """One graph: ``softmax(M * q k / sqrt(C)) v``."""
    q, k, v = (heads(linear, x) for linear in (module.query, module.key, module.value))
    if distance is None:
        mixed = F.scaled_dot_product_attention(q, k, v)
    else:
        beyond = distance.view(len(x), len(x)).double() - module.hop[:, None, None]
        beyond = torch.where(beyond > 0, beyond, module.slope * beyond)
        mixed = ((q @ k.transpose(1, 2) / 2) * module.gamma**beyond).softmax(-1) @ v
    return module.out(mixed.transpose(0, 1).flatten(1))


def with_gradients(out: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * weights).sum(), tensors)]


@pytest.mark.parametrize("options", [{"slope": 0.0}, {"slope": 0.2, "gamma": 0.3}, {"attention": "plain"}])
def test_attention_is_the_formula_of_every_graph(options: dict[str, Any], batch: Any) -> None:
    module = attention(**options)
    x = torch.randn(sum(SIZES), 8, dtype=torch.float64, requires_grad=True)
    tensors = [x, *module.parameters()]
    assert len(tensors) == (9 if module.hop is None else 10)
    outs, first = [], 0
    for begin, end in pairwise(batch.ptr.tolist()):
        pairs = batch.distance[first : first + (end - begin) ** 2]
        outs.append(by_formula(module, x[begin:end], None if module.hop is None else pairs))
        first += len(pairs)
    expected = with_gradients(torch.cat(outs), tensors)
    got = with_gradients(module(x, batch.ptr, batch.distance), tensors)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(module(x, distance=batch.distance, batch=batch.batch), got[0], rtol=0, atol=0)


def test_attention_without_offsets_is_of_one_graph(graphs: list[Data]) -> None:
    module, x = attention(), torch.randn(SIZES[2], 8, dtype=torch.float64)
    torch.testing.assert_close(module(x, None, graphs[2].distance), by_formula(module, x, graphs[2].distance))


def test_attention_drops_weights_in_training_alone(batch: Any) -> None:
    module, x = attention(dropout=0.5), torch.randn(sum(SIZES), 8, dtype=torch.float64)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(module(x, batch.ptr, batch.distance))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert torch.equal(module.eval()(x, batch.ptr, batch.distance), attention().eval()(x, batch.ptr, batch.distance))


def test_a_block_is_its_composition(batch: Any) -> None:
    torch.manual_seed(4)
    conv = GINConv(nn.Linear(8, 8))
    block = GradformerLayer(8, conv, 2, hop=1.5).double()
    x = torch.randn(sum(SIZES), 8, dtype=torch.float64, requires_grad=True)
    norms = block.norm_conv, block.norm_attention, block.norm_out
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    tensors = [x, *block.parameters()]

    def norm(x: Tensor, module: nn.BatchNorm1d | None) -> Tensor:
        centred = x - x.mean(0)
        return centred / (centred.square().mean(0) + 1e-5).sqrt() * module.weight + module.bias

    h1 = norm(conv(x, batch.edge_index) + x, norms[0])
    h2 = norm(block.attention(x, batch.ptr, batch.distance) + x, norms[1])
    first, _, _, second, _ = block.mlp
    expected = norm(h1 + h2 + second(first(h1 + h2).relu()), norms[2])
    got = with_gradients(block(x, batch.edge_index, batch.ptr, batch.distance), tensors)
    torch.testing.assert_close(got, with_gradients(expected, tensors), rtol=1e-8, atol=1e-10)


def test_a_block_may_have_attention_alone(batch: Any) -> None:
    block = GradformerLayer(8, None, 2).double().eval()
    x = torch.randn(sum(SIZES), 8, dtype=torch.float64)
    h = block.norm_attention(block.attention(x, batch.ptr, batch.distance) + x)
    expected = block.norm_out(h + block.mlp(h))
    torch.testing.assert_close(block(x, batch.edge_index, batch.ptr, batch.distance), expected)


def test_dropout_of_a_block_acts_in_training_alone(batch: Any) -> None:
    torch.manual_seed(4)
    block = GradformerLayer(8, GINConv(nn.Linear(8, 8)), 2, dropout=0.9).double()
    args = torch.randn(sum(SIZES), 8, dtype=torch.float64), batch.edge_index, batch.ptr, batch.distance
    assert not torch.equal(block(*args), block(*args))
    block.eval()
    assert torch.equal(block(*args), block(*args))


@pytest.mark.parametrize("has_edges", [True, False])
def test_gated_gcn_is_its_formula(has_edges: bool, graphs: list[Data]) -> None:
    data = graphs[2]
    conv = GatedGCNConv(5, 3 if has_edges else None).double().eval()
    edge_attr = torch.randn(data.num_edges, 3, dtype=torch.float64) if has_edges else None
    gate = conv.lin_target(data.x)[:, None] + conv.lin_source(data.x)  # [target, source, channel]
    if edge_attr is not None:
        gate = gate + to_dense_adj(data.edge_index, edge_attr=conv.lin_edge(edge_attr))[0].transpose(0, 1)
    gate = gate.sigmoid() * to_dense_adj(data.edge_index)[0].T[:, :, None]
    mean = (gate * conv.lin_value(data.x)).sum(1) / (gate.sum(1) + 1e-6)
    expected = data.x + conv.norm(conv.lin_root(data.x) + mean).relu()
    torch.testing.assert_close(conv(data.x, data.edge_index, edge_attr), expected)


EVERY = [
    {"mpnn": None},
    {"mpnn": "gin", "pool": "mean", "share_hops": False},
    {"mpnn": "gine", "edge_channels": 3, "edge_encoder": "embedding", "pool": "max", "head": "mlp"},
    {"mpnn": "gatedgcn", "encoding_width": 4, "encoding_norm": True},
    {"mpnn": "gatedgcn", "edge_channels": 3, "edge_encoder": "embedding", "pool": None},
    {"attention": "plain", "encoding_channels": 0},
]


@pytest.mark.parametrize("options", EVERY)
def test_a_batch_gives_what_its_graphs_give(options: dict[str, Any], graphs: list[Data], batch: Any) -> None:
    network = model(**options).eval()
    out = network(batch)
    assert out.shape == (sum(SIZES) if network.pool is None else len(SIZES), 2)
    torch.testing.assert_close(out, torch.cat([network(data) for data in graphs]))
    assert out.std(0).min() > 1e-3, "the graphs must differ for this to say anything"


def test_a_batch_may_know_its_graphs_by_the_node_alone(batch: Any) -> None:
    network = model().eval()
    assert torch.equal(network(without(batch, "ptr")), network(batch))


def test_autocast(batch: Any) -> None:
    """The maps in bfloat16, the hops and what is summed in float32."""
    network = model().float().eval()
    batch.x, batch.random_walk_pe = batch.x.float(), batch.random_walk_pe.float()
    expected = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(batch)
    assert (out - expected).abs().max() < 0.05 * expected.abs().max()
    out.float().square().sum().backward()
    assert network.layers[0].attention.hop.grad.isfinite().all()


@pytest.mark.parametrize("share", [True, False])
def test_gradients_reach_every_parameter(share: bool, batch: Any) -> None:
    network = model(share_hops=share)
    network(batch).square().sum().backward()
    hops = [name for name, _ in network.named_parameters() if name.endswith("hop")]
    assert len(hops) == (1 if share else 3)
    assert network.hops.shape == (1 if share else 3, 2)
    for name, parameter in network.named_parameters():
        if "key.bias" not in name:  # the same for all keys of a row but for the decay
            assert parameter.grad.abs().max() > 0, name


def test_a_shared_hop_gets_the_sum_of_the_layers_gradients(batch: Any) -> None:
    shared, own = model(share_hops=True), model(share_hops=False)
    own.load_state_dict(shared.state_dict())
    for network in (shared, own):
        network(batch).square().sum().backward()
    total = torch.stack([layer.attention.hop.grad for layer in own.layers]).sum(0)
    torch.testing.assert_close(shared.layers[0].attention.hop.grad, total)


def test_a_parameter_given_as_hop_is_taken_as_it_is() -> None:
    hop = nn.Parameter(torch.tensor([1.0, 2.0]))
    modules = [GradformerAttention(8, 2, hop=hop) for _ in range(2)]
    assert all(module.hop is hop for module in modules)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_give_the_same_and_share_as_before(duplicate: Any, share: bool, batch: Any) -> None:
    network = model(share_hops=share).eval()
    twin = duplicate(network)
    assert torch.equal(twin(batch), network(batch))
    assert len({id(layer.attention.hop) for layer in twin.layers}) == (1 if share else 3)
    nn.init.constant_(twin.layers[0].attention.hop, 0.0)
    assert not torch.equal(twin(batch), network(batch))


def test_state_dicts(batch: Any) -> None:
    network, other = model().eval(), model(hop=1.0).eval()
    nn.init.normal_(network.layers[0].attention.hop)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(batch), network(batch))
    own = model(share_hops=False)
    nn.init.zeros_(own.layers[1].attention.hop)
    with pytest.raises(RuntimeError, match="a hop for every layer, but share_hops=True"):
        network.load_state_dict(own.state_dict())


@pytest.mark.parametrize("share", [True, False])
def test_reset_begins_anew(share: bool) -> None:
    network = model(share_hops=share, mpnn="gatedgcn", edge_channels=3, hop=2.0, encoding_norm=True)
    torch.manual_seed(5)
    network.reset_parameters()
    torch.manual_seed(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    network.reset_parameters()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert (network.hops == 2.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("options", [EVERY[2], EVERY[4], EVERY[5]])
def test_one_compiled_program_for_all_batches(options: dict[str, Any], graphs: list[Data], batch: Any) -> None:
    torch._dynamo.reset()
    network = model(layers=1, **options).eval()
    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for each in (batch, Batch.from_data_list([*graphs, *graphs]), Batch.from_data_list(graphs[1:])):
            torch.testing.assert_close(compiled(each), network(each))
    torch._dynamo.reset()


def without(data: Data, name: str) -> Data:
    data = copy.copy(data)
    del data[name]
    return data


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("distance", r"gattn\.transforms\.ShortestPath"),
        ("random_walk_pe", r"data\.random_walk_pe \(got none\).*AddRandomWalkPE\(3\)"),
        ("x", r"data\.x \(got None\).*OneHotDegree"),
        ("edge_attr", r"data\.edge_attr \(got None\)"),
    ],
)
def test_what_is_missing_of_the_data_is_named(name: str, words: str, batch: Any) -> None:
    network = model(mpnn="gine", edge_channels=3, edge_encoder="embedding")
    with pytest.raises(ValueError, match=words):
        network(without(batch, name))


def test_features_of_another_kind_are_named(batch: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.x of shape \[rows, 4\] \(got \[22, 5\]\)"):
        Gradformer(4, 2).double()(batch)
    with pytest.raises(ValueError, match=r"one category each in data\.x.*torch\.float64"):
        Gradformer(4, 2, node_encoder="embedding").double()(batch)
    batch.random_walk_pe = batch.random_walk_pe[:, :2]
    with pytest.raises(ValueError, match=r"\[nodes, 3\] in data\.random_walk_pe \(got \[22, 2\]\)"):
        model()(batch)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 9}, "multiple of heads"),
        ({"gamma": 0.0}, r"gamma in \(0, 1\]"),
        ({"attention_dropout": 1.5}, r"dropout in \[0, 1\]"),
        ({"attention": "dense"}, "attention out of"),
        ({"hop": nn.Parameter(torch.zeros(3))}, r"shape \[2\]"),
        ({"mpnn": "gcn"}, "mpnn out of"),
        ({"mpnn": "gine"}, "'gine' needs edge features"),
        ({"mpnn": "gin", "edge_channels": 3}, "Expected no edge_channels"),
        ({"pool": "median"}, "pool out of"),
        ({"head": "tree"}, "head 'linear' or 'mlp'"),
        ({"node_encoder": "table"}, r"data\.x out of"),
        ({"encoding_width": 8}, "encoding_width below the 8 channels"),
        ({"encoding_width": 4, "encoding_channels": 0}, "encoding_channels above 0"),
    ],
)
def test_arguments_out_of_range_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model(**options)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ptr": torch.tensor([0, 22]), "batch": torch.zeros(22, dtype=torch.int64)}, "got both"),
        ({"batch": torch.zeros(21, dtype=torch.int64)}, r"shape \[22\]"),
        ({"batch": torch.zeros(22)}, "int32 or int64"),
        ({"batch": torch.arange(22).flip(0)}, "Sort the nodes by graph"),
        ({"ptr": torch.tensor([0, 21])}, "number of nodes, 22"),
    ],
)
def test_graphs_that_do_not_fit_are_named(given: dict[str, Tensor], words: str, batch: Any) -> None:
    with pytest.raises(ValueError, match=words):
        attention()(torch.randn(22, 8, dtype=torch.float64), distance=batch.distance, **given)


def test_repr_says_what_it_is() -> None:
    assert "8, heads=2, attention='decay', gamma=0.6, slope=0.1, dropout=0.5" in repr(attention(slope=0.1, dropout=0.5))
    assert "gamma" not in repr(attention(attention="plain"))
