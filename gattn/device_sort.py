"""Stable sorts of indices where they lie: PyTorch's, or CUB's in the compiled core.

Both give the same. CUB's is told how many bits a key has, so it makes fewer passes, and moves numbers as narrow as the
keys; PyTorch's are of eight bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gattn import cuda_core
from gattn.gpu_choice import SORTS, faster_sort


def choose(sort: str | None, device: torch.device, nodes: int, edges: int) -> str:
    """One of :data:`gattn.gpu_choice.SORTS`: the argument, else the one that was faster on such a graph.

    Raises:
        ValueError: The name is none of them.
        RuntimeError: CUB is asked for and the compiled core cannot sort on ``device``.
    """
    if sort is None:
        return faster_sort(nodes, edges) if cuda_core.serves(device) else "torch"
    if sort not in SORTS:
        raise ValueError(f"Expected a sort out of {SORTS} (got {sort!r}).")
    if sort == "cub" and not cuda_core.serves(device):
        raise RuntimeError(
            f"The compiled core cannot sort on {device}: see gattn.backends()['cuda'], or sort with 'torch'."
        )
    return sort


def stable_sort(keys: Tensor, largest: int, sort: str) -> tuple[Tensor, Tensor]:
    """``keys`` ``[n]`` in order, and the place ``[n]`` that each has come from.

    ``keys`` are int32 or int64 and should be in ``[0, largest]``; with others among them the order is one of them all,
    but which is not defined.
    """
    if sort == "torch":
        found, places = torch.sort(keys, stable=True)
        return found, places
    if keys.shape[0] > torch.iinfo(keys.dtype).max:
        keys = keys.long()
    keys = keys.contiguous()
    places = torch.arange(keys.shape[0], dtype=keys.dtype, device=keys.device)
    found, order = torch.empty_like(keys), torch.empty_like(keys)
    bits = max(largest, 1).bit_length()
    cuda_core.call("cuda_stable_sort", keys.device, keys, places, found, order, bits)
    return found, order
