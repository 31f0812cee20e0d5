"""Who computes the attention of a batch: gattn, the padded dense form, that form compiled, FlexAttention.

What depends on the batch alone and a data loader can prepare (padded distances, masks) is made before the clock starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from gattn.bench.ragged.batches import Batch
from torch import Tensor

from gattn import ops

HOP = 5.0  # Gradformer's initial value


class Question(Protocol):
    """What the other forms are made for, on the device of its batch."""

    @property
    def batch(self) -> Batch: ...

    @property
    def dropout_p(self) -> float: ...


@dataclass(frozen=True)
class Problem:
    """Leaves ``q, k, v`` ``[N, H, C]`` and ``hop`` ``[H]`` that require gradients, and the gradient of ``out``."""

    batch: Batch
    leaves: list[Tensor]
    grad_out: Tensor
    dropout_p: float

    @classmethod
    def build(cls, batch: Batch, heads: int, channels: int, dropout_p: float, dtype: torch.dtype) -> Problem:
        generator = torch.Generator().manual_seed(0)
        shape = (batch.nodes, heads, channels)
        q, k, v, grad = (torch.randn(shape, generator=generator).to(dtype) for _ in range(4))
        leaves = [x.requires_grad_() for x in (q, k, v, torch.full((heads,), HOP, dtype=dtype))]
        return cls(batch, leaves, grad, dropout_p)


#: From the leaves to ``out`` ``[N, H, C]``.
Forward = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def gattn(problem: Problem, backend: str | None = None) -> Forward:
    batch = problem.batch
    options: dict[str, Any] = {"gamma": batch.gamma, "dropout_p": problem.dropout_p, "backend": backend}

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        return ops.ragged_attention(q, k, v, batch.ptr, distance=batch.distance, hop=hop, **options)

    return forward


def sparse(problem: Problem) -> Forward:
    """By near pairs, found before the clock as they serve every layer."""
    batch = problem.batch
    near = ops.near_pairs(batch.distance, batch.ptr, ops.near_cutoff(problem.leaves[3], batch.gamma))
    options: dict[str, Any] = {"gamma": batch.gamma, "method": "sparse", "near": near}

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        return ops.ragged_attention(q, k, v, batch.ptr, distance=batch.distance, hop=hop, **options)

    return forward


def padded(problem: Question) -> Forward:
    """As graph transformers do it: dense, filled up to the largest graph, scores and weights in memory."""
    batch, p = problem.batch, problem.dropout_p
    sizes = batch.ptr.diff()
    graphs, most, device = len(sizes), max(batch.sizes), sizes.device
    row = torch.arange(most, device=device) < sizes.unsqueeze(1)  # [B, n]
    place = row.flatten().nonzero().squeeze(1)
    pair = row.unsqueeze(1) & row.unsqueeze(2)
    distance = torch.zeros(pair.shape, dtype=torch.int16, device=device).masked_scatter_(pair, batch.distance)

    def dense(x: Tensor) -> Tensor:
        """``[B, H, n, C]``"""
        spread = x.new_zeros(graphs * most, *x.shape[1:])
        spread[place] = x  # as PyG's to_dense_batch does
        return spread.view(graphs, most, *x.shape[1:]).transpose(1, 2)

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        score = dense(q) @ dense(k).mT * q.shape[-1] ** -0.5
        decay = batch.gamma ** F.relu(distance.unsqueeze(1) - hop.view(-1, 1, 1))
        score = (score * decay.to(score.dtype)).masked_fill(~row[:, None, None], -math.inf)
        out = F.dropout(score.softmax(-1), p) @ dense(v)
        return out.transpose(1, 2).flatten(0, 1).index_select(0, place)

    return forward


def compiled(problem: Question) -> Forward:
    """:func:`padded` under ``torch.compile``."""
    torch._dynamo.reset()  # else another batch's sizes make shapes dynamic, which is slower
    return torch.compile(padded(problem), dynamic=False)


def flex(problem: Question) -> Forward:
    """FlexAttention over all nodes in a row, with a mask of blocks that leaves other graphs out. Without dropout."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.reset()
    batch, sizes = problem.batch, problem.batch.ptr.diff()
    graph = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    begin, size = batch.ptr[graph], sizes[graph]
    first = (sizes.square().cumsum(0) - sizes.square())[graph]
    distance = batch.distance

    def same(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return graph[i] == graph[j]

    mask = create_block_mask(same, None, None, len(graph), len(graph), device=str(graph.device))
    attend: Any = torch.compile(flex_attention, dynamic=False)

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        def decay(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            # Blocks at the edges of graphs have pairs of two of them.
            at = torch.where(graph[i] == graph[j], first[i] + (i - begin[i]) * size[i] + j - begin[i], 0)
            return score * batch.gamma ** F.relu(distance[at] - hop[h])

        rows = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        out: Tensor = attend(*rows, score_mod=decay, block_mask=mask)
        return out.squeeze(0).transpose(0, 1)

    return forward


CONTENDERS: dict[str, tuple[str, Callable[[Problem], Forward]]] = {
    "gattn": ("gattn", gattn),
    "sparse": ("gattn, near pairs", sparse),
    "padded": ("padded, eager", padded),
    "compiled": ("padded, torch.compile", compiled),
    "flex": ("FlexAttention, forward only", flex),
}


def step(problem: Problem, forward: Forward, *, backward: bool) -> Callable[[], list[Tensor]]:
    """One forward, and the gradients of all leaves; without ``backward`` a forward of tensors that need none."""
    values = [leaf.detach() for leaf in problem.leaves]

    def run() -> list[Tensor]:
        if not backward:
            return [forward(*values)]
        out = forward(*problem.leaves)
        return [out.detach(), *torch.autograd.grad(out, problem.leaves, problem.grad_out)]

    return run
