"""Checks shared by the ops: typed errors that say what was got, what was expected and what to do."""

from __future__ import annotations

import torch
from torch import Tensor

from gattn.graph import Graph
from gattn.reference.softmax import accumulate_dtype

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_graph(graph: Graph) -> None:
    """Raises TypeError unless ``graph`` is a Graph."""
    if not isinstance(graph, Graph):
        raise TypeError(
            f"Expected 'graph' to be a gattn.Graph (got '{type(graph).__name__}'). Build one with "
            f"gattn.Graph.from_edge_index(edge_index, num_nodes)."
        )


def check_features(name: str, x: Tensor, rows: int, graph: Graph) -> None:
    """Checks ``x``: floating, ``[rows, H, C]`` with H, C >= 1, on the graph's device."""
    shape = x.shape
    if len(shape) != 3 or shape[0] != rows or shape[1] < 1 or shape[2] < 1:
        raise ValueError(
            f"Expected '{name}' to have shape [{rows}, heads, channels], {rows} being the graph's number of nodes on "
            f"that side (got {list(x.shape)})."
        )
    check_dtype_and_device(name, x, FLOATING, graph)


def check_logits(name: str, a: Tensor, shape: tuple[int, ...], dtype: torch.dtype, graph: Graph) -> Tensor:
    """Checks a part of the logits, or a parameter that accumulates with them.

    Returns it contiguous in the accumulate dtype of ``dtype``.

    Logits may be given in the features' own dtype or in the accumulate dtype.
    """
    if a.shape != shape:
        raise ValueError(f"Expected '{name}' to have shape {list(shape)} (got {list(a.shape)}).")
    wide = accumulate_dtype(dtype)
    check_dtype_and_device(name, a, (dtype, wide), graph)
    if a.dtype != wide:
        a = a.to(wide)
    return a if a.is_contiguous() else a.contiguous()


def check_dtype_and_device(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...], graph: Graph) -> None:
    """Raises TypeError for another dtype, ValueError for another device than the graph's."""
    if tensor.dtype not in dtypes:
        wanted = " or ".join(dict.fromkeys(str(dtype) for dtype in dtypes))
        raise TypeError(f"Expected '{name}' to be of dtype {wanted} (got {tensor.dtype}). Convert it with .to().")
    if tensor.device != graph.device:
        raise ValueError(
            f"Expected '{name}' on the graph's device '{graph.device}' (got '{tensor.device}'). Move one of them."
        )


def check_dropout(p: float) -> None:
    """Raises ValueError unless ``p`` is a probability."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"Expected 'dropout_p' to be a probability in [0, 1] (got {p}).")
