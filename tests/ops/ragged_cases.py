"""Batches of graphs for the tests of ``ragged_attention``, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gattn import ops
from gattn.reference.dropout import keep_mask

Tensors = dict[str, Tensor]
#: Empty graphs, and below, at and beyond the lanes of vectors, the rows of tiles and of blocks.
SIZES = (0, 1, 2, 7, 16, 17, 33, 0, 64, 65, 130, 0)
DECAY = {"gamma": 0.6, "slope": 0.1}


class Batch(NamedTuple):
    """A batch's sizes, and the distances of its pairs."""

    ptr: Tensor
    distance: Tensor | None

    @property
    def bounds(self) -> list[tuple[int, int]]:
        return list(pairwise(self.ptr.tolist()))


def make_batch(
    sizes: Sequence[int] = SIZES,
    *,
    decay: bool = True,
    distance_dtype: torch.dtype = torch.int16,
    ptr_dtype: torch.dtype = torch.int64,
) -> Batch:
    """Distances are small, some of them beyond 32, and some pairs have no path."""
    ptr = torch.tensor([0, *accumulate(sizes)], dtype=ptr_dtype)
    if not decay:
        return Batch(ptr, None)
    generator = torch.Generator().manual_seed(7)
    pairs = sum(n * n for n in sizes)
    kind, near = torch.rand(pairs, generator=generator), torch.randint(7, (pairs,), generator=generator)
    far = torch.where(kind < 0.05, 40, torch.where(kind < 0.1, torch.iinfo(distance_dtype).max, near))
    far = torch.where(kind > 0.95, min(510, torch.iinfo(distance_dtype).max), far)
    return Batch(ptr, far.to(distance_dtype))


def make_tensors(batch: Batch, heads: int, channels: int, *, dtype: torch.dtype = torch.float64) -> Tensors:
    """Normally distributed inputs by name; ``hop`` around the distances' middle where there are distances."""
    generator = torch.Generator().manual_seed(5)
    shape = (int(batch.ptr[-1]), heads, channels)
    tensors = {name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for name in "qkv"}
    if batch.distance is not None:
        tensors["hop"] = (2 + torch.randn(heads, generator=generator, dtype=torch.float64)).to(dtype)
    return tensors


def noise(like: Tensor) -> Tensor:
    """A gradient for an output, in its dtype."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def run_ragged(tensors: Tensors, batch: Batch, *, grad: Tensor | None = None, **options: Any) -> Tensors:
    """The result and the gradients of all inputs, by name; ``grad`` is the result's, by default noise."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    numbers = DECAY if batch.distance is not None else {}
    out = ops.ragged_attention(**leaves, ptr=batch.ptr, distance=batch.distance, **{**numbers, **options})
    grads = torch.autograd.grad(out, list(leaves.values()), noise(out) if grad is None else grad)
    return {"out": out.detach(), **{f"grad {name}": x for name, x in zip(leaves, grads, strict=True)}}


def errors_of(compare: Callable[..., Any], batch: Batch, backend: str, **options: Any) -> Callable[[Tensors], Any]:
    """What ``hold_to_twice`` of the other ops' tests asks for: the errors of a backend and of the reference."""

    def errors(tensors: Tensors) -> Any:
        got = run_ragged(tensors, batch, backend=backend, **options)
        expected = run_ragged(tensors, batch, backend="reference", **options)
        doubles = {name: tensor.double() for name, tensor in tensors.items()}
        exact = run_ragged(doubles, batch, grad=noise(got["out"]).double(), backend="reference", **options)
        return compare(got, expected, exact)

    return errors


def formula(tensors: Tensors, batch: Batch, *, gamma: float, slope: float, p: float, seed: int) -> Tensor:
    """``out`` pair by pair as the paper has it, without subtracting a maximum. Shares only dropout's random words."""
    q, k, v = (tensors[name] for name in "qkv")
    heads, channels = q.shape[1:]
    out, pair = torch.zeros_like(q), 0
    for begin, end in batch.bounds:
        for i in range(begin, end):
            total, row = torch.zeros(heads, 1, dtype=q.dtype), torch.zeros(heads, channels, dtype=q.dtype)
            for j in range(begin, end):
                score = (q[i] * k[j]).sum(-1, keepdim=True) / channels**0.5
                if batch.distance is not None:
                    excess = int(batch.distance[pair]) - tensors["hop"].unsqueeze(1)
                    score = score * gamma ** torch.where(excess > 0, excess, slope * excess)
                weight = score.exp()
                total += weight
                kept = keep_mask(torch.tensor(pair), heads, p, seed).unsqueeze(1) if p else True
                row += weight * kept / (1 - p) * v[j]
                pair += 1
            out[i] = row / total
    return out
