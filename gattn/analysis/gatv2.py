"""The gradient of every parameter of a GATv2 layer, written out (Neumeier et al. 2023)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gattn.graph import Graph
from gattn.ops.validation import check_dtype_and_device, check_graph


class GATv2Gradients(NamedTuple):
    """Gradients of a loss by the parameters and the input of a GATv2 layer, and the ``score_gradients`` behind them."""

    a: Tensor  # [H, C]
    b: Tensor  # [H * C]
    W_l: Tensor  # [H * C, F]
    W_r: Tensor  # [H * C, F]
    h: Tensor  # [N, F]
    d: Tensor  # [E, H], by the scores t_ij before the softmax


def gatv2_gradients(
    h: Tensor, W_l: Tensor, W_r: Tensor, a: Tensor, graph: Graph, grad_out: Tensor, *, negative_slope: float = 0.2
) -> GATv2Gradients:
    r"""Gradients of :math:`out_i = b + \sum_j \alpha_{ij} W_l h_j` from the loss's gradient by ``out``.

    With :math:`R_j = W_l h_j`, :math:`z_{ij} = R_j + W_r h_i`, :math:`u_{ij} = \mathrm{LeakyReLU}(z_{ij})`,
    :math:`t_{ij} = a \cdot u_{ij}`, :math:`\alpha_{ij} = \mathrm{softmax}_j(t_{ij})` and
    :math:`g_i = \partial L / \partial out_i`, in every head

    .. math::
        d_{ij} &= \partial L / \partial t_{ij} = \alpha_{ij} \, (g_i \cdot R_j - g_i \cdot (out_i - b)), \quad
        w_{ij} = d_{ij} \, a \odot \mathrm{LeakyReLU}'(z_{ij}) \\
        \partial L / \partial a &= \sum_{ij} d_{ij} u_{ij}, \quad \partial L / \partial b = \sum_i g_i \\
        \partial L / \partial W_r &= \sum_i \Big(\sum_j w_{ij}\Big) h_i^\top, \quad
        \partial L / \partial W_l = \sum_j \Big(\sum_i (w_{ij} + \alpha_{ij} g_i)\Big) h_j^\top \\
        \partial L / \partial h_k &= W_l^\top \sum_{i : k \in N(i)} (w_{ik} + \alpha_{ik} g_i)
            + W_r^\top \sum_{j \in N(k)} w_{kj}

    so that :math:`\sum_j d_{ij} = 0` for every target, and a target with exactly one in-edge adds nothing to the
    gradients of :math:`W_r` and :math:`a`. With shared weights the gradients of :math:`W_l` and :math:`W_r` add.

    Neumeier, Tollkühn, Dorn and Botsch, *Gradient derivation for learnable parameters in graph attention networks*,
    2023, arXiv 2304.10939. Computed in the dtype given, in plain PyTorch; holds tensors of ``E * H * C`` numbers.

    Args:
        h: ``[N, F]``, float32 or float64, like all tensors.
        W_l: ``[H * C, F]``, of the sources (PyG's ``lin_l.weight``).
        W_r: ``[H * C, F]``, of the targets (PyG's ``lin_r.weight``).
        a: ``[H, C]`` (PyG's ``att[0]``).
        graph: The adjacency, with one set of nodes, self-loops included where the layer has them.
        grad_out: ``[N, H * C]``, heads concatenated.
        negative_slope: Slope of LeakyReLU below 0; its derivative at 0.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape or a device does not fit, or the graph has two sets of nodes.
    """
    _check(h, W_l, W_r, a, graph, grad_out)
    heads, channels = a.shape
    source, target = graph.edge_index
    left, right = ((h @ weight.T).view(-1, heads, channels) for weight in (W_l, W_r))
    g = grad_out.view(-1, heads, channels)[target]
    z = left[source] + right[target]
    u = F.leaky_relu(z, negative_slope)
    alpha = _softmax((a * u).sum(-1), target, graph.num_dst)
    projected = (g * left[source]).sum(-1)
    average = _sum(alpha * projected, target, graph.num_dst)  # g_i . (out_i - b)
    d = alpha * (projected - average[target])
    w = d.unsqueeze(-1) * a * torch.where(z > 0, z.new_ones(()), z.new_full((), negative_slope))
    to_left = _sum(w + alpha.unsqueeze(-1) * g, source, graph.num_src).flatten(1)
    to_right = _sum(w, target, graph.num_dst).flatten(1)
    return GATv2Gradients(
        a=(d.unsqueeze(-1) * u).sum(0),
        b=grad_out.sum(0),
        W_l=to_left.T @ h,
        W_r=to_right.T @ h,
        h=to_left @ W_l + to_right @ W_r,
        d=d,
    )


def _check(h: Tensor, W_l: Tensor, W_r: Tensor, a: Tensor, graph: Graph, grad_out: Tensor) -> None:
    check_graph(graph)
    if graph.num_src != graph.num_dst:
        raise ValueError(
            f"Expected a graph with one set of nodes (got {graph.num_src} sources and {graph.num_dst} targets)."
        )
    if h.dim() != 2 or a.dim() != 2:
        raise ValueError(f"Expected 'h' of shape [N, F] and 'a' of shape [H, C] (got {[*h.shape]} and {[*a.shape]}).")
    width = a.numel()
    shapes = {
        "h": (h, (graph.num_src, h.size(1))),
        "W_l": (W_l, (width, h.size(1))),
        "W_r": (W_r, (width, h.size(1))),
        "a": (a, tuple(a.shape)),
        "grad_out": (grad_out, (graph.num_dst, width)),
    }
    dtypes = (torch.float32, torch.float64) if h.dtype not in (torch.float32, torch.float64) else (h.dtype,)
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape:
            raise ValueError(f"Expected '{name}' to have shape {list(shape)} (got {list(tensor.shape)}).")
        check_dtype_and_device(name, tensor, dtypes, graph)


def _sum(values: Tensor, index: Tensor, rows: int) -> Tensor:
    """``[E, ...]`` summed by ``index`` to ``[rows, ...]``."""
    return values.new_zeros(rows, *values.shape[1:]).index_add(0, index, values)


def _softmax(score: Tensor, target: Tensor, rows: int) -> Tensor:
    largest = score.new_full((rows, score.size(1)), -torch.inf)
    largest = largest.scatter_reduce(0, target.unsqueeze(1).expand_as(score), score, "amax")
    weight = (score - largest[target]).exp()
    return weight / _sum(weight, target, rows)[target]
