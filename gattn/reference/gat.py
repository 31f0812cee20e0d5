"""Score ``gat`` (Velickovic et al. 2018) in plain PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gattn.graph import Graph
from gattn.reference.softmax import accumulate_dtype, apply_dropout, softmax


def gat(
    x: Tensor,
    a_src: Tensor,
    a_dst: Tensor | None,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    return_attention: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`gattn.ops.gat` in plain PyTorch, the definition of its numbers; arguments and results as there.

    Everything between the inputs and the rounding of the results happens in the accumulate dtype.
    """
    wide = accumulate_dtype(x.dtype)
    source, target = graph.edge_index
    t = a_src.to(wide)[source]
    if a_dst is not None:
        t = t + a_dst.to(wide)[target]
    if a_edge is not None:
        t = t + a_edge.to(wide)
    alpha = softmax(F.leaky_relu(t, negative_slope), target, graph.num_dst)
    alpha = apply_dropout(alpha, graph, dropout_p, seed)
    messages = alpha.unsqueeze(-1) * x.to(wide)[source]
    out = messages.new_zeros(graph.num_dst, x.size(1), x.size(2)).index_add(0, target, messages)
    out = out.to(x.dtype)
    return (out, alpha) if return_attention else out


def gat_layer(
    x: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    negative_slope: float = 0.2,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``(out, alpha)`` of :func:`gattn.ops.gat_layer` in plain PyTorch; arguments as there."""
    wide = x.to(accumulate_dtype(x.dtype))
    out, alpha = gat(
        wide,
        (wide * att_src.to(wide.dtype)).sum(-1),
        (wide * att_dst.to(wide.dtype)).sum(-1),
        graph,
        a_edge,
        negative_slope=negative_slope,
        dropout_p=dropout_p,
        seed=seed,
        return_attention=True,
    )
    if bias is not None:
        out = out + bias.to(wide.dtype).view(x.size(1), x.size(2))
    return out.to(x.dtype), alpha
