"""What the layers with GAT's constructor share around their scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import OptPairTensor, OptTensor

from gattn.nn._edges import Edges, attention_result


def odd_flow(flow: str, x: Tensor | OptPairTensor) -> str | None:
    """Why PyG's path has to deal with this direction of messages; ``None`` where the fused one can."""
    if flow == "source_to_target" or isinstance(x, Tensor):
        return None
    if x[1] is not None and x[0].size(0) == x[1].size(0):
        return None
    # PyG then takes features from one set of nodes and the number of rows from the other.
    return f"flow={flow!r} between two sets of nodes"


def finish(
    conv: Any, out: Tensor, alpha: OptTensor, residual: OptTensor, bias: OptTensor, edges: Edges, dtype: torch.dtype
) -> Any:
    """The layer's result from the op's: ``out [N_dst, H, C]``, and ``alpha [E, H]`` where that was asked for.

    ``dtype`` is that of PyG's scores and so of its results, also under autocast.
    """
    out = conv._join_heads(out)
    if residual is not None:
        out = out + residual
    if bias is not None:
        out = out + bias
    out = out if out.dtype is dtype else out.to(dtype)
    if alpha is None:
        return out
    return attention_result(out, alpha.to(dtype), edges, flow=conv.flow, self_loops=conv.add_self_loops)
