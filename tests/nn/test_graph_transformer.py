"""Graph transformer layers against the formulas written out with gathers and scatters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gattn import Graph
from gattn.nn import GTAttention

from .graph_transformer_cases import (
    BIASES,
    CHANNELS,
    HEADS,
    LAYERS,
    NODES,
    VARIANTS,
    by_formula,
    expected_of,
    gradients,
    inputs,
    make,
    results_of,
    with_hooks,
)


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


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), [VARIANTS[0], VARIANTS[2], VARIANTS[4], VARIANTS[8]], ids=str)
@pytest.mark.parametrize("nodes", [0, 4])
def test_graphs_without_edges(cls: Any, options: dict[str, Any], explicit_bias: str | None, nodes: int) -> None:
    layer, given = make(cls, options, explicit_bias=explicit_bias)
    given = {name: x[:0] if name != "edge_index" else x[:, :0] for name, x in given.items()} | {"x": given["x"][:nodes]}
    results = results_of(layer, given)
    assert [len(x) for x in results] == [nodes, 0][: len(results)]
    attended = layer.attention.bias_value.flatten() if explicit_bias == "kv_slot" else torch.zeros(1)
    assert not nodes or (with_hooks(layer, given)[1]["out"].flatten(1) - attended).abs().max() < 1e-3
    sum(x.sum() for x in results).backward()


@pytest.mark.parametrize("explicit_bias", BIASES)
@pytest.mark.parametrize(("cls", "options"), [VARIANTS[0], VARIANTS[2], VARIANTS[8]], ids=str)
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
