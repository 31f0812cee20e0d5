"""Graph transformer layers, their parameters, and the graphs they keep."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from gattn import Graph
from gattn.nn import GraphiTLayer, GraphTransformerLayer, SANLayer
from gattn.nn.graph_transformer.pairs import as_graph_of_kinds

from .graph_transformer_cases import (
    CHANNELS,
    HEADS,
    LAYERS,
    NODES,
    VARIANTS,
    expected_of,
    gradients,
    inputs,
    make,
    results_of,
)


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


def test_the_layers_of_a_network_share_a_graph() -> None:
    given, real = inputs(), torch.rand(30) < 0.6
    with torch.inference_mode():
        graph = as_graph_of_kinds(given["edge_index"], real, NODES)
    assert as_graph_of_kinds(given["edge_index"], real, NODES) is graph
    assert as_graph_of_kinds(given["edge_index"].clone(), real, NODES) is not graph
    assert not graph.data.is_inference(), "a training step comes after it"
    kept = weakref.ref(graph)
    del graph, real
    gc.collect()
    assert kept() is None


def test_inference_mode_before_training() -> None:
    layer, given = make(*VARIANTS[4], norm="layer")
    with torch.inference_mode():
        evaluated = layer(**given)
        fresh = {name: x.clone() for name, x in given.items()}  # which keep no version
        torch.testing.assert_close(layer(**fresh), evaluated, rtol=0, atol=0)
    got, expected = [layer(**given)], expected_of(layer, given)
    torch.testing.assert_close(gradients(layer, given, got), gradients(layer, given, expected))


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
