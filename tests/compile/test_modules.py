"""The layers inside a compiled or exported model that takes ``(x, edge_index)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from gattn import Graph, ops
from gattn.nn import FusedGATConv, FusedGATv2Conv, FusedTransformerConv

Function = Callable[..., Any]
LAYERS = [FusedGATConv, FusedGATv2Conv, FusedTransformerConv]
SIZES = [(11, 19), (7, 30), (40, 8)]


class Model(nn.Module):
    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__()
        self.first, self.second = layer(5, 4, 2, **options), layer(8, 3, 1, **options)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        hidden = self.first(x, edge_index, edge_attr).relu()
        result: Tensor = self.second(hidden, edge_index, edge_attr)
        return result


def draw(edges_of: Function, nodes: int, edges: int, *, attributes: bool) -> tuple[Tensor, ...]:
    inputs = (torch.randn(nodes, 5, requires_grad=True), edges_of(nodes, nodes, edges))
    return (*inputs, torch.randn(edges, 3)) if attributes else inputs


@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_one_program_for_all_sizes(layer: Any, attributes: bool, edges_of: Function, assert_same: Function) -> None:
    """Self-loops are rewritten where the layer does so."""
    model = Model(layer, **({"edge_dim": 3} if attributes else {}))
    program = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (nodes, edges) in enumerate(SIZES):
        inputs = draw(edges_of, nodes, edges, attributes=attributes)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(*inputs)
        assert_same([got], [model(*inputs)], [inputs[0], *model.parameters()])


@pytest.mark.parametrize("layer", LAYERS)
def test_normalised_with_dropout(layer: Any, edges_of: Function) -> None:
    model = Model(layer, dropout=0.5, norm="lipschitz") if layer is not FusedGATv2Conv else Model(layer, dropout=0.5)
    program = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (nodes, edges) in enumerate(SIZES[:2]):
        inputs = draw(edges_of, nodes, edges, attributes=False)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            program(*inputs).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_returned_attention(edges_of: Function) -> None:
    layer = FusedGATConv(5, 4, 2)
    program = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for nodes, edges in SIZES[:2]:
        inputs = draw(edges_of, nodes, edges, attributes=False)
        torch.testing.assert_close(
            program(*inputs, return_attention_weights=True), layer(*inputs, return_attention_weights=True)
        )


def test_inductor(edges_of: Function, assert_same: Function) -> None:
    model = FusedGATConv(5, 4, 2, edge_dim=3)
    program = torch.compile(model, fullgraph=True, dynamic=True)
    for i, (nodes, edges) in enumerate(SIZES[:2]):
        inputs = draw(edges_of, nodes, edges, attributes=True)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(*inputs)
        assert_same([got], [model(*inputs)], [inputs[0], *model.parameters()])


class OnOneGraph(nn.Module):
    """A model that holds its graph."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.lin = nn.Linear(5, 8)
        self.att = nn.Parameter(torch.randn(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin(x).view(-1, 2, 4)
        return ops.gat_layer(x, self.att, self.att, self.graph) + ops.dot(x, x, x, self.graph)  # type: ignore[no-any-return]


@pytest.mark.parametrize("strict", [False, True])
def test_export_of_a_fixed_graph(strict: bool, edges_of: Function) -> None:
    model, x = OnOneGraph(Graph.from_edge_index(edges_of(11, 11, 30), 11)).eval(), torch.randn(2, 11, 5)
    program = export(model, (x[0],), strict=strict).module()
    torch.testing.assert_close(program(x[1]), model(x[1]))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_export_with_edges_as_an_input(layer: Any, strict: bool, edges_of: Function) -> None:
    model = Model(layer, edge_dim=3).eval()
    edges = Dim("edges", min=2)
    shapes = {"x": {0: Dim("nodes", min=2)}, "edge_index": {1: edges}, "edge_attr": {0: edges}}
    program = export(model, draw(edges_of, 11, 19, attributes=True), dynamic_shapes=shapes, strict=strict).module()
    inputs = draw(edges_of, 20, 50, attributes=True)
    torch.testing.assert_close(program(*inputs), model(*inputs))
