"""PyTorch Geometric's layers: eager, under ``torch.compile``, and on torch-scatter's kernels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS
from gattn.bench.peers import Contender, Peer, copy_parameters, node_bytes
from gattn.bench.problem import Problem
from torch import Tensor


def pyg_style(cls: Callable[..., torch.nn.Module], problem: Problem, **options: Any) -> torch.nn.Module:
    """A layer with PyG's constructor and parameter names, holding the problem's weights."""
    case = problem.case
    if problem.layer.edge_channels:
        options["edge_dim"] = problem.layer.edge_channels
    module = cls(case.in_channels, case.channels, heads=case.heads, **options)
    copy_parameters(module, problem.parameters, {name: name for name in problem.parameters})
    return module


def layer_contender(
    module: torch.nn.Module,
    call: Callable[..., Tensor],
    edge_index: Tensor,
    edge_attr: Tensor | None,
    problem: Problem,
) -> Contender:
    """A contender that calls ``call(x, edge_index[, edge_attr])`` and differentiates ``module``'s parameters."""
    x = problem.x.clone().requires_grad_()
    leaves = {"x": x, **dict(module.named_parameters())}
    rest = (edge_index,) if edge_attr is None else (edge_index, edge_attr)
    return Contender(lambda: call(x, *rest), leaves, problem.grad_out)


def _class(problem: Problem) -> Callable[..., torch.nn.Module]:
    from torch_geometric import nn

    name = problem.layer.name.removesuffix("-edge")
    found: Callable[..., torch.nn.Module] = getattr(nn, CLASSES[name])
    return found


#: PyG's layers by ours.
CLASSES = {"gat": "GATConv", "gatv2": "GATv2Conv", "transformer": "TransformerConv"}


def eager(problem: Problem) -> Contender:
    """As PyG's users call it."""
    module = pyg_style(_class(problem), problem)
    return layer_contender(module, module, *problem.given, problem)


def compiled(problem: Problem) -> Contender:
    """Under ``torch.compile``."""
    # Without the reset a second graph's sizes would make dynamo switch to dynamic shapes, which are slower.
    torch._dynamo.reset()
    module = pyg_style(_class(problem), problem)
    return layer_contender(module, torch.compile(module), *problem.given, problem)


def scatter(problem: Problem) -> Contender:
    """On torch-scatter's kernels, which PyG calls on the CPU for sorted segments only.

    So an EdgeIndex sorted by target, whose loops are there already, since adding them in the layer loses the order.
    All that is done ahead, untimed.
    """
    from torch_geometric import EdgeIndex

    nodes = problem.case.num_nodes
    index, order = EdgeIndex(problem.looped.long(), sparse_size=(nodes, nodes)).sort_by("col")
    attr = problem.looped_attr if order is None or problem.looped_attr is None else problem.looped_attr[order]
    module = pyg_style(_class(problem), problem, **({"add_self_loops": False} if problem.layer.adds_loops else {}))
    return layer_contender(module, module, index.fill_cache_(), attr, problem)


def _needs_compiler() -> str | None:
    found = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return None if found else "torch.compile needs a C++ compiler; none of g++, clang++, c++ is in PATH"


def _least_memory(case: GraphCase) -> tuple[int, str]:
    # The source features of every edge, kept for the backward, and the weighted messages.
    messages = 2 * 4 * case.num_edges * case.heads * case.channels
    return node_bytes(case) + messages, "node features, two tensors of edges x heads x channels"


PEERS = (
    Peer("pyg", "PyG eager", ("torch_geometric",), dict.fromkeys(LAYERS, eager), _least_memory),
    Peer(
        "pyg-compile",
        "PyG torch.compile",
        ("torch_geometric",),
        dict.fromkeys(LAYERS, compiled),
        _least_memory,
        _needs_compiler,
    ),
    Peer(
        "pyg-scatter",
        "PyG torch-scatter",
        ("torch_geometric", "torch_scatter"),
        dict.fromkeys(LAYERS, scatter),
        _least_memory,
    ),
)
