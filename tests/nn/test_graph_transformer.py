"""Graph transformer layers against the formulas written out with gathers and scatters."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gattn import Graph
from gattn.nn import GraphiTLayer, GraphTransformerLayer, GTAttention, SANLayer

NODES, CHANNELS, HEADS = 9, 12, 3
LAYERS = [GraphTransformerLayer, SANLayer, GraphiTLayer]
BIASES = [None, "edge_bias", "kv_slot"]
#: All layers, on edges and on pairs of two kinds.
VARIANTS = [
    (GraphTransformerLayer, {}),
    (GraphTransformerLayer, {"edge_dim": 5, "bias": True}),
    (GraphTransformerLayer, {"edge_dim": None}),
    (SANLayer, {"bias": True}),
    (SANLayer, {"full_graph": True, "gamma": 0.3, "bias": True}),
    (SANLayer, {"full_graph": True, "gamma": 0.3, "edge_dim": None}),
    (GraphiTLayer, {"edge_dim": 5}),
    (GraphiTLayer, {"full_graph": True}),
    (GraphiTLayer, {"full_graph": True, "added_maps": True}),
]


def inputs(edge_dim: int | None = CHANNELS, edges: int = 30, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """With duplicates, self-loops and a node without in-edges."""
    edge_index = torch.randint(NODES, (2, edges))
    edge_index[1] %= NODES - 1
    given = {"x": torch.randn(NODES, CHANNELS, dtype=dtype, requires_grad=True), "edge_index": edge_index}
    if edge_dim is not None:
        given["edge_attr"] = torch.randn(edges, edge_dim, dtype=dtype, requires_grad=True)
    return given


def make(cls: Any, options: dict[str, Any], **more: Any) -> tuple[Any, dict[str, Tensor]]:
    """A layer whose every parameter is drawn, and what it takes."""
    layer = cls(CHANNELS, HEADS, **{**options, **more}).double()
    for parameter in layer.parameters():  # the norms' begin with 1 and 0
        nn.init.normal_(parameter, std=0.6)
    given = inputs(layer.edge_dim)
    edges = given["edge_index"].size(1)
    if layer.attention.kinds == 2:
        given["real"] = torch.rand(edges) < 0.6
    if getattr(layer, "full_graph", False) and cls is GraphiTLayer:
        given["kernel"] = torch.rand(edges, dtype=torch.float64)
    return layer, given


def by_formula(layer: Any, x: Tensor, edge_index: Tensor, edge_attr: Any = None, real: Any = None, kernel: Any = None):
    """``out`` ``[N, H * C]`` and ``w`` ``[E, H * C]`` of the attention, edge by edge."""
    at, (source, target) = layer.attention, edge_index
    kinds, size = at.kinds, CHANNELS // HEADS
    kind = torch.zeros_like(source) if real is None else (~real).long()

    def project(linear: Any, x: Tensor, kinds: int = kinds) -> Tensor:
        out = x @ linear.weight.T
        return (out if linear.bias is None else out + linear.bias).view(-1, HEADS, kinds, size).transpose(1, 2)

    q, k, v = project(layer.query, x), project(layer.key, x), project(layer.value, x, 1)[:, 0]
    e = torch.ones(len(source), kinds, HEADS, size).double() if edge_attr is None else project(layer.edge, edge_attr)
    number = torch.arange(len(source))
    w = q[target, kind] * k[source, kind] / math.sqrt(size) * e[number, kind]
    if at.explicit_bias == "edge_bias":
        own_k, own_e = (b.view(HEADS, kinds, size).transpose(0, 1)[kind] for b in (at.bias_key, at.bias_edge))
        w = w + (q[target, kind] * own_k).sum(-1, keepdim=True) / math.sqrt(size) * own_e
        v = v + at.bias_value
    weight = w.sum(-1).clamp(-at.clip, at.clip).exp()
    if isinstance(layer, SANLayer) and layer.full_graph:
        weight = weight * torch.tensor([1.0, layer.gamma], dtype=torch.float64)[kind, None] / (1 + layer.gamma)
    if kernel is not None:
        weight = weight * kernel[:, None]
    total = torch.zeros(NODES, HEADS).double().index_add(0, target, weight) + 1e-6
    out = torch.zeros(NODES, HEADS, size).double().index_add(0, target, weight[..., None] * v[source])
    if at.explicit_bias == "kv_slot":
        slot = ((q[:, 0] * at.bias_key).sum(-1) / math.sqrt(size)).clamp(-at.clip, at.clip).exp()
        total, out = total + slot, out + slot[..., None] * at.bias_value
    return (out / total[..., None]).flatten(1), w.flatten(1)


def block_by_formula(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    def norm(module: Any, x: Tensor) -> Tensor:
        if module is None:
            return x
        dim = 0 if isinstance(module, nn.BatchNorm1d) else 1
        centred = x - x.mean(dim, keepdim=True)
        return centred / (centred.square().mean(dim, keepdim=True) + 1e-5).sqrt() * module.weight + module.bias

    first, second = block.feed_forward[0], block.feed_forward[3]
    h = norm(block.norm_attention, block.residual * x + attended @ block.out.weight.T + block.out.bias)
    hidden = (h @ first.weight.T + first.bias).clamp(min=0)
    return norm(block.norm_out, block.residual * h + hidden @ second.weight.T + second.bias)


def expected_of(layer: Any, given: dict[str, Tensor]) -> list[Tensor]:
    out, w = by_formula(layer, **given)
    results = [block_by_formula(layer.nodes, given["x"], out)]
    if layer.edges is not None:
        results.append(block_by_formula(layer.edges, given["edge_attr"], w))
    return results


def results_of(layer: Any, given: dict[str, Tensor]) -> list[Tensor]:
    got = layer(**given)
    return [x for x in got if x is not None] if isinstance(got, tuple) else [got]


def gradients(layer: Any, given: dict[str, Tensor], results: list[Tensor]) -> dict[str, Tensor]:
    leaves = {**{n: x for n, x in given.items() if x.requires_grad}, **dict(layer.named_parameters())}
    loss = sum((x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in results)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
def test_layers_are_their_formulas(cls: Any, options: dict[str, Any], explicit_bias: str | None) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias)
    got, expected = results_of(layer, given), expected_of(layer, given)
    assert len(got) == len(expected)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradients(layer, given, got), gradients(layer, given, expected), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("options", [{"norm": "layer"}, {"norm": None}, {"residual": False}, {"clip": 0.4}], ids=str)
@pytest.mark.parametrize("cls", LAYERS)
def test_options_are_their_formulas(cls: Any, options: dict[str, Any]) -> None:
    """With a clip that bites, the edge bias moves the weights of some edges and not of others."""
    for explicit_bias in BIASES:
        layer, given = make(cls, options, explicit_bias=explicit_bias)
        torch.testing.assert_close(results_of(layer, given), expected_of(layer, given), rtol=1e-9, atol=1e-10)


def attention(explicit_bias: str | None, **options: Any) -> tuple[GTAttention, list[Tensor]]:
    """With scores within the clip, and what it takes."""
    given = inputs()
    module = GTAttention(CHANNELS, HEADS, explicit_bias=explicit_bias, **options).double()
    q, k, v = (0.5 * torch.randn(NODES, HEADS, CHANNELS // HEADS, dtype=torch.float64) for _ in range(3))
    edge = torch.randn(given["edge_index"].size(1), HEADS, CHANNELS // HEADS, dtype=torch.float64)
    return module, [q, k, v, edge, given["edge_index"]]


def test_edge_bias_shifts_the_output_by_its_value() -> None:
    module, (q, k, v, edge, edge_index) = attention("edge_bias")
    graph = Graph.from_edge_index(edge_index, NODES)
    out, w = module(q, k, v, edge, graph, return_edge=True)
    plain, products = GTAttention(CHANNELS, HEADS).double()(q, k, v, edge, graph, return_edge=True)
    assert w.sum(-1).abs().max() < module.clip, "the clip must be inactive"
    assert (w.sum(-1) - products.sum(-1)).abs().max() > 0.5, "the scores must move for this to say anything"
    reached = torch.zeros(NODES, 1, 1).index_fill(0, edge_index[1], 1.0)
    # But for the epsilon, beside which shifted weights are larger or smaller.
    torch.testing.assert_close(out, plain + reached * module.bias_value, rtol=0, atol=1e-4)
    module.clip = 0.1
    shifted, _ = module(q, k, v, edge, graph)
    assert (shifted - plain - reached * module.bias_value).abs().max() > 1e-2


@pytest.mark.parametrize("clip", [5.0, 0.3])
def test_kv_slot_is_an_appended_key_and_value(clip: float) -> None:
    """A node that has an edge with features 1 to every other."""
    module, (q, k, v, edge, edge_index) = attention("kv_slot", clip=clip)
    nn.init.normal_(module.bias_key)
    nn.init.normal_(module.bias_value)
    out, _ = module(q, k, v, edge, Graph.from_edge_index(edge_index, NODES))
    slot = torch.stack([torch.full((NODES,), NODES), torch.arange(NODES)])
    k, v = torch.cat([k, module.bias_key[None]]), torch.cat([v, module.bias_value[None]])
    edge = torch.cat([edge, torch.ones_like(edge[:1]).expand(NODES, -1, -1)])
    graph = Graph.from_edge_index(torch.cat([edge_index, slot], 1), (NODES + 1, NODES))
    expected, _ = GTAttention(CHANNELS, HEADS, clip=clip).double()(q, k, v, edge, graph)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    assert (out[-1] - module.bias_value).abs().max() < 1e-4, "the node without in-edges takes the slot's"


@pytest.mark.parametrize(("explicit_bias", "std"), [("edge_bias", 1.0), ("kv_slot", 0.02)])
def test_bias_terms_begin_as_published(explicit_bias: str, std: float) -> None:
    module = GTAttention(4000, 4, explicit_bias=explicit_bias)
    names = ["bias_key", "bias_edge", "bias_value"] if explicit_bias == "edge_bias" else ["bias_key", "bias_value"]
    assert [name for name, _ in module.named_parameters()] == names
    for parameter in module.parameters():
        assert parameter.shape == (4, 1000)
        assert abs(parameter.std().item() / std - 1) < 0.05


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), [VARIANTS[0], VARIANTS[4]], ids=str)
def test_gradcheck(cls: Any, options: dict[str, Any], explicit_bias: str | None) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias, norm="layer")
    names = [name for name, _ in layer.named_parameters()]
    rest = {name: x for name, x in given.items() if not x.requires_grad}

    def function(x: Tensor, edge_attr: Tensor, *parameters: Tensor) -> Any:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, named, (), {"x": x, "edge_attr": edge_attr, **rest})

    assert torch.autograd.gradcheck(function, (given["x"], given["edge_attr"], *layer.parameters()), fast_mode=True)


def with_hooks(layer: Any, given: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
    """What a recorder sees of the attention: its products, and what it was given."""
    seen: dict[str, Any] = {}

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        seen.update(zip(("q", "k", "v", "edge", "graph"), args, strict=False))
        return args, {**kwargs, "return_edge": True}

    def after(module: nn.Module, args: Any, output: Any) -> None:
        seen["out"], seen["w"] = output

    handles = [
        layer.attention.register_forward_pre_hook(before, with_kwargs=True),
        layer.attention.register_forward_hook(after),
    ]
    out = results_of(layer, given)[0]
    for handle in handles:
        handle.remove()
    return out, seen


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
def test_hooks_see_the_products(cls: Any, options: dict[str, Any], explicit_bias: str | None) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias)
    out, seen = with_hooks(layer, given)
    attended, w = by_formula(layer, **given)
    torch.testing.assert_close(seen["w"].flatten(1), w)
    torch.testing.assert_close(seen["out"].flatten(1), attended)
    assert seen["edge"].shape == (30, HEADS, layer.attention.kinds * CHANNELS // HEADS)
    torch.testing.assert_close(out, results_of(layer, given)[0])


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), [*VARIANTS[:1], *VARIANTS[3:5], *VARIANTS[7:]], ids=str)
def test_nodes_and_edges_in_another_order(cls: Any, options: dict[str, Any], explicit_bias: str | None) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias)
    nodes, edges = torch.randperm(NODES), torch.randperm(given["edge_index"].size(1))
    moved = {name: x[edges] for name, x in given.items() if name not in ("x", "edge_index")}
    moved |= {"x": given["x"][nodes], "edge_index": torch.argsort(nodes)[given["edge_index"][:, edges]]}
    expected = [x[order] for x, order in zip(results_of(layer, given), (nodes, edges), strict=False)]
    torch.testing.assert_close(results_of(layer, moved), expected)


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), [*VARIANTS[:1], *VARIANTS[3:5]], ids=str)
def test_a_batch_gives_what_its_graphs_give(cls: Any, options: dict[str, Any], explicit_bias: str | None) -> None:
    layer, first = make(cls, options, explicit_bias=explicit_bias)
    layer.eval()
    second = {name: x.flip(0) if x.dtype.is_floating_point else x for name, x in first.items()}
    batch = {name: torch.cat([first[name], second[name]]) for name in first if name != "edge_index"}
    batch["edge_index"] = torch.cat([first["edge_index"], second["edge_index"] + NODES], 1)
    both = zip(results_of(layer, first), results_of(layer, second), strict=True)
    torch.testing.assert_close(results_of(layer, batch), [torch.cat(pair) for pair in both])


@pytest.mark.parametrize("cls", LAYERS)
def test_a_graph_in_place_of_its_edges(cls: Any) -> None:
    layer, given = make(cls, {"full_graph": True} if cls is SANLayer else {})
    expected = results_of(layer, given)
    graph = Graph.from_edge_index(given["edge_index"], NODES)
    torch.testing.assert_close(results_of(layer, {**given, "edge_index": graph}), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"a graph of 9 nodes.*10 sources"):
        layer(**{**given, "edge_index": Graph.from_edge_index(given["edge_index"], NODES + 1)})


def test_a_change_in_place_is_seen() -> None:
    """Of the edges and of which of them are real, whose graph is kept."""
    layer, given = make(*VARIANTS[4])
    before = layer(**given)
    given["real"].logical_not_()
    torch.testing.assert_close(layer(**given), expected_of(layer, given)[0])
    given["edge_index"][:, :5] = 0
    torch.testing.assert_close(layer(**given), expected_of(layer, given)[0])
    assert not torch.equal(layer(**given), before)


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
@pytest.mark.parametrize("nodes", [0, 4])
def test_graphs_without_edges(cls: Any, options: dict[str, Any], explicit_bias: str | None, nodes: int) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias)
    given = {name: x[:0] if name != "edge_index" else x[:, :0] for name, x in given.items()} | {"x": given["x"][:nodes]}
    results = results_of(layer, given)
    assert [len(x) for x in results] == [nodes, 0][: len(results)]
    attended = layer.attention.bias_value.flatten() if explicit_bias == "kv_slot" else torch.zeros(1)
    assert not nodes or (with_hooks(layer, given)[1]["out"].flatten(1) - attended).abs().max() < 1e-3
    sum(x.sum() for x in results).backward()


def test_dropout_acts_in_training_alone() -> None:
    for name in ("dropout", "attention_dropout"):
        layer, given = make(GraphTransformerLayer, {name: 0.5})
        outs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outs.append(layer(**given)[0])
        assert torch.equal(outs[0], outs[1])
        assert not torch.equal(outs[0], outs[2])
        layer.eval()
        plain = GraphTransformerLayer(CHANNELS, HEADS).double().eval()
        plain.load_state_dict(layer.state_dict())
        torch.testing.assert_close(layer(**given), plain(**given), rtol=0, atol=0)


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
@pytest.mark.parametrize("how", ["autocast", torch.bfloat16, torch.float16])
def test_low_precision(cls: Any, options: dict[str, Any], explicit_bias: str | None, how: Any) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias, norm="layer")
    expected = results_of(layer, given)[0]
    dtype = torch.float32 if how == "autocast" else how
    layer = layer.to(dtype)
    given = {name: x.detach().to(dtype) if x.is_floating_point() else x for name, x in given.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        results = results_of(layer, given)
    error = (results[0] - expected).norm() / expected.norm()
    assert error < (0.01 if how is torch.float16 else 0.06)
    sum(x.float().square().sum() for x in results).backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_backends(backend: str) -> None:
    layer, given = make(*VARIANTS[4], explicit_bias="edge_bias")
    expected = layer(**given)
    layer.attention.backend = backend
    torch.testing.assert_close(layer(**given), expected)
    with pytest.raises(ValueError, match="backend"):
        make(GraphTransformerLayer, {"backend": "none such"})[0](**inputs())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
def test_copies_and_state_dicts(cls: Any, options: dict[str, Any], duplicate: Any) -> None:
    layer, given = make(cls, options, explicit_bias="edge_bias")
    layer.eval()
    expected = results_of(layer, given)
    torch.testing.assert_close(results_of(duplicate(layer), given), expected, rtol=0, atol=0)
    other = cls(CHANNELS, HEADS, explicit_bias="edge_bias", **options).double().eval()
    assert not torch.equal(results_of(other, given)[0], expected[0])
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(results_of(other, given), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
def test_reset_begins_anew(cls: Any, options: dict[str, Any]) -> None:
    layer = cls(CHANNELS, HEADS, explicit_bias="edge_bias", **options)
    torch.manual_seed(5)
    layer.reset_parameters()
    before = copy.deepcopy(layer.state_dict())
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 7.0)
    torch.manual_seed(5)
    layer.reset_parameters()
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())


def test_repr_says_what_it_is() -> None:
    assert "GraphTransformerLayer(\n  64, heads=8, edge_dim=64\n" in repr(GraphTransformerLayer(64))
    san = repr(SANLayer(16, 4, full_graph=True, gamma=0.1, explicit_bias="kv_slot", edge_dim=3))
    assert "16, heads=4, edge_dim=3, full_graph=True, gamma=0.1" in san
    assert "GTAttention(16, heads=4, kinds=2, explicit_bias='kv_slot', clip=5.0, dropout=0.0)" in san
    assert "full_graph=True, added_maps=False" in repr(GraphiTLayer(16, 4, full_graph=True))


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (GraphTransformerLayer, {"channels": 10}, "multiple of heads"),
        (GraphTransformerLayer, {"explicit_bias": "slot"}, r"explicit_bias out of \(None, 'edge_bias', 'kv_slot'\)"),
        (GraphTransformerLayer, {"norm": "graph"}, r"norm out of \(None, 'batch', 'layer'\)"),
        (GraphTransformerLayer, {"clip": 0.0}, "clip > 0.*math.inf"),
        (GraphTransformerLayer, {"dropout": 1.5}, r"dropout in \[0, 1\]"),
        (GraphTransformerLayer, {"attention_dropout": -0.5}, r"attention weights in \[0, 1\]"),
        (GraphTransformerLayer, {"edge_dim": "nodes"}, "'channels' or None"),
        (SANLayer, {"gamma": -0.1}, "gamma >= 0"),
        (SANLayer, {"gamma": math.inf}, "gamma >= 0"),
        (GraphiTLayer, {"added_maps": True}, "full_graph=True with added_maps=True"),
    ],
)
def test_arguments_out_of_range_are_named(cls: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cls(**{"channels": CHANNELS, "heads": HEADS, **options})


REAL = torch.ones(30, dtype=torch.bool)


@pytest.mark.parametrize(
    ("variant", "changed", "error", "words"),
    [
        (0, {"edge_attr": None}, ValueError, r"'edge_attr' of shape \[30, 12\] \(got None\)"),
        (0, {"edge_attr": torch.rand(29, 12).double()}, ValueError, r"a row an edge.*got \[29, 12\]"),
        (2, {"edge_attr": torch.rand(30, 12).double()}, ValueError, "Expected no 'edge_attr'.*edge_dim=None"),
        (0, {"x": torch.rand(9, 8).double()}, ValueError, r"'x' of shape \[nodes, 12\]"),
        (0, {"edge_index": torch.zeros(3, 30).long()}, ValueError, "edge_index"),
        (0, {"edge_index": torch.full((2, 30), NODES)}, IndexError, r"\(got 9 in the \w+ row\)|larger than 8"),
        (3, {"real": REAL}, ValueError, "Expected no 'real' with full_graph=False"),
        (4, {"real": None}, ValueError, r"gattn.transforms.FullGraph\(\).*data.edge_real"),
        (4, {"real": REAL[1:]}, ValueError, r"'real' of shape \[30\].*got \[29\]"),
        (4, {"real": REAL.long()}, ValueError, "torch.int64"),
        (4, {"edge_index": torch.full((2, 30), NODES)}, IndexError, r"\(got 9 in the \w+ row\)|larger than 8"),
        (4, {"edge_index": torch.full((2, 30), -1)}, IndexError, "negative"),
        (4, {"edge_index": torch.zeros(3, 30).long()}, ValueError, "edge_index"),
        (6, {"kernel": torch.rand(30)}, ValueError, "Expected no 'kernel' with full_graph=False"),
        (7, {"kernel": None}, ValueError, r"gattn.transforms.RandomWalkKernel\(\).*data.edge_kernel"),
        (7, {"kernel": -torch.rand(30)}, ValueError, "'edge_weight' >= 0"),
        (7, {"kernel": torch.rand(29)}, ValueError, r"\[30\] \(got \[29\]\)"),
        (7, {"real": REAL}, ValueError, "Expected no 'real' with added_maps=False"),
        (8, {"real": None}, ValueError, r"gattn.transforms.FullGraph\(\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(variant: int, changed: dict[str, Any], error: Any, words: str) -> None:
    layer, given = make(*VARIANTS[variant])
    with pytest.raises(error, match=words):
        layer(**{**given, **changed})
