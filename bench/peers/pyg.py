"""PyTorch Geometric's layers: eager, under ``torch.compile``, and on torch-scatter's kernels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from gattn.bench.graphs import GraphCase
from gattn.bench.peers import Contender, Peer, copy_parameters, node_bytes
from gattn.bench.problem import Problem
from torch import Tensor


def pyg_style(cls: Callable[..., torch.nn.Module], problem: Problem, **options: Any) -> torch.nn.Module:
    """A layer with PyG's constructor and parameter names, holding the problem's weights."""
    case = problem.case
    module = cls(case.in_channels, case.channels, heads=case.heads, **options)
    copy_parameters(module, problem.parameters, {name: name for name in problem.parameters})
    return module


def layer_contender(
    module: torch.nn.Module, call: Callable[..., Tensor], edge_index: Tensor, problem: Problem
) -> Contender:
    """A contender that calls ``call(x, edge_index)`` and differentiates ``module``'s parameters."""
    x = problem.x.clone().requires_grad_()
    leaves = {"x": x, **dict(module.named_parameters())}
    return Contender(lambda: call(x, edge_index), leaves, problem.grad_out)


def gat_eager(problem: Problem) -> Contender:
    from torch_geometric.nn import GATConv

    module = pyg_style(GATConv, problem)
    return layer_contender(module, module, problem.edge_index, problem)


def gat_compiled(problem: Problem) -> Contender:
    from torch_geometric.nn import GATConv

    # Without the reset a second graph's sizes would make dynamo switch to dynamic shapes, which are slower.
    torch._dynamo.reset()
    module = pyg_style(GATConv, problem)
    return layer_contender(module, torch.compile(module), problem.edge_index, problem)


def gat_scatter(problem: Problem) -> Contender:
    from torch_geometric import EdgeIndex
    from torch_geometric.nn import GATConv

    # On the CPU PyG calls torch-scatter only for sorted segments: an EdgeIndex sorted by target whose loops
    # are there already, since adding them in the layer loses the order. All that is done ahead, untimed.
    nodes = problem.case.num_nodes
    index = EdgeIndex(problem.looped.long(), sparse_size=(nodes, nodes)).sort_by("col").values.fill_cache_()
    module = pyg_style(GATConv, problem, add_self_loops=False)
    return layer_contender(module, module, index, problem)


def _needs_compiler() -> str | None:
    found = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return None if found else "torch.compile needs a C++ compiler; none of g++, clang++, c++ is in PATH"


def _least_memory(case: GraphCase) -> tuple[int, str]:
    # The source features of every edge, kept for the backward, and the weighted messages.
    messages = 2 * 4 * case.num_edges * case.heads * case.channels
    return node_bytes(case) + messages, "node features, two tensors of edges x heads x channels"


PEERS = (
    Peer("pyg", "PyG eager", ("torch_geometric",), {"gat": gat_eager}, _least_memory),
    Peer(
        "pyg-compile",
        "PyG torch.compile",
        ("torch_geometric",),
        {"gat": gat_compiled},
        _least_memory,
        _needs_compiler,
    ),
    Peer(
        "pyg-scatter",
        "PyG torch-scatter",
        ("torch_geometric", "torch_scatter"),
        {"gat": gat_scatter},
        _least_memory,
    ),
)
