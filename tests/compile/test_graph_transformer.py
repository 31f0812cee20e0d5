"""Compiled graph transformer layers: one graph, no recompilation as sizes change, and the eager results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gattn.nn import GraphiTLayer, GraphTransformerLayer, SANLayer

Function = Callable[..., Any]
SIZES = [(11, 19), (7, 30)]
CASES = [
    (GraphTransformerLayer, {"explicit_bias": "edge_bias", "attention_dropout": 0.3}),
    (SANLayer, {"full_graph": True, "explicit_bias": "kv_slot"}),
    (GraphiTLayer, {"full_graph": True, "added_maps": True, "explicit_bias": "edge_bias"}),
]


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_one_program_for_all_sizes(
    cls: Any, options: dict[str, Any], edges_of: Function, assert_same: Function
) -> None:
    layer = cls(6, 2, norm="layer", **options)
    program = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (nodes, edges) in enumerate(SIZES):
        inputs = [torch.randn(nodes, 6, requires_grad=True), edges_of(nodes, nodes, edges), torch.randn(edges, 6)]
        if cls is GraphiTLayer:
            inputs.append(torch.rand(edges))
        if cls is not GraphTransformerLayer:
            inputs.append(torch.rand(edges) < 0.5)
        results = []
        for run in (program, layer):
            torch.manual_seed(i)  # of the dropout
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                got = run(*inputs)
            results.append(list(got) if isinstance(got, tuple) else [got])
        assert_same(*results, [inputs[0], *layer.parameters()])
