"""How tensors get into the compiled core: looked into, or as capsules where torch is too old for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gattn import _C, exchange

Function = Callable[..., Any]


@pytest.mark.parametrize("op", ["gat", "gatv2", "gat_layer", "edge_softmax"])
def test_capsules_give_the_same_bits(
    op: str, graph_of: Function, inputs_of: Function, run_op: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = inputs_of(op, graph_of("mixed"), 3, 4)
    expected = run_op(op, tensors, graph_of("mixed"))
    monkeypatch.setattr(exchange, "_TRANSPARENT", False)
    for name, found in run_op(op, tensors, graph_of("mixed")).items():
        assert torch.equal(found, expected[name]), name


@pytest.mark.parametrize("wrong", [np.zeros((3, 2, 4), np.float32), "x", 3, None])
def test_what_is_no_tensor_is_refused(wrong: object, graph_of: Function) -> None:
    """Before anything is written."""
    graph = graph_of("mixed")
    out = torch.ones(graph.num_dst, 2, 4)
    with pytest.raises(TypeError, match=r"Expected 'x' to be a tensor .*to_dlpack"):
        _C.gather_limit(graph.data, wrong, out, 1)
    assert bool((out == 1).all())
