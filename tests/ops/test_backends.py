"""Which backend computes: the argument, then ``use_backend``, then the fastest that is usable."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

import gattn
from gattn import _C, Graph, ops
from gattn.backends import select_backend

Function = Callable[..., Any]
CPU, META = torch.device("cpu"), torch.device("meta")


def test_backends_say_what_they_are() -> None:
    found = gattn.backends()
    assert {"reference", "cpu"} <= found.keys()
    for usable, reason in found.values():
        assert isinstance(usable, bool)
        assert reason
    assert found["reference"][0]
    assert found["cpu"][0]
    assert _C.isa() in found["cpu"][1]


def test_order_of_choice() -> None:
    assert select_backend(None, CPU) == "cpu"
    assert select_backend(None, META) == "reference"
    with gattn.use_backend("reference"):
        assert select_backend(None, CPU) == "reference"
        assert select_backend("cpu", CPU) == "cpu"
        with gattn.use_backend("cpu"):
            assert select_backend(None, CPU) == "cpu"
        with gattn.use_backend(None):
            assert select_backend(None, META) == "reference"
        assert select_backend(None, CPU) == "reference"
    assert select_backend(None, CPU) == "cpu"


def test_an_error_inside_restores_the_choice() -> None:
    with pytest.raises(KeyError), gattn.use_backend("reference"):
        raise KeyError
    assert select_backend(None, CPU) == "cpu"


def test_other_threads_keep_their_choice() -> None:
    seen = []
    with gattn.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(select_backend(None, CPU)))
        thread.start()
        thread.join()
    assert seen == ["cpu"]


def test_unknown_name_is_refused_before_the_block() -> None:
    with pytest.raises(ValueError, match=r"'reference', 'cpu'.*got 'gpu'"), gattn.use_backend("gpu"):
        raise AssertionError
    with pytest.raises(ValueError, match="got ''"):
        select_backend("", CPU)


def test_cpu_backend_refuses_other_devices() -> None:
    with pytest.raises(ValueError, match=r"got device 'meta'\). Move them"):
        select_backend("cpu", META)


@pytest.mark.parametrize("op", ["gat", "gat_layer", "gatv2", "dot", "gt", "edge_softmax"])
def test_the_choice_reaches_every_op(
    op: str, graph_of: Function, inputs_of: Function, call_op: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled core is called without a choice, and not where the reference was chosen."""
    graph = graph_of("mixed")
    tensors = inputs_of(op, graph, 2, 3)
    used = []
    for name in ("attention_forward", "gat_forward", "gat_layer_forward"):
        if (kernel := getattr(_C, name, None)) is not None:
            monkeypatch.setattr(_C, name, lambda *a, kernel=kernel: (used.append(1), kernel(*a)))
    with gattn.use_backend("reference"):
        call_op(op, tensors, graph)
        assert not used
        call_op(op, tensors, graph, backend="cpu")
        assert used
    used.clear()
    call_op(op, tensors, graph, backend="reference")
    assert not used
    call_op(op, tensors, graph)
    assert used


def test_without_the_compiled_core_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0], [0]]), 1)
    module = sys.modules[select_backend.__module__]  # gattn.backends is the function
    monkeypatch.setattr(module, "_C", None)
    monkeypatch.setattr(module, "_BUILD_ERROR", "no such file")
    usable, reason = gattn.backends()["cpu"]
    assert not usable
    assert "no such file" in reason
    for backend in ("cpu", None):
        with pytest.raises(RuntimeError, match=r"not usable.*no such file.*pip install"):
            ops.edge_softmax(torch.zeros(1, 1), graph, backend=backend)
    assert float(ops.edge_softmax(torch.zeros(1, 1), graph, backend="reference")) == 1.0


def test_a_source_tree_without_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when ``gattn`` is imported from a checkout that is not installed."""
    module = sys.modules[select_backend.__module__]
    found = {"triton": importlib.util.find_spec("torch"), "gattn.kernels": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found[name])
    module._missing_triton.cache_clear()
    try:
        usable, reason = gattn.backends()["triton"]
        assert not usable
        assert "pip install ." in reason
    finally:
        module._missing_triton.cache_clear()
