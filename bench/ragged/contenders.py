"""Who computes the attention of a batch: gattn, the padded dense form, that form compiled, FlexAttention.

What depends on the batch alone and a data loader can prepare (padded distances, masks) is made before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from gattn.bench.ragged.batches import Batch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch_geometric.utils import to_dense_batch

from gattn import ops
from gattn.ops.ragged_sparse import cutoff_of

HOP = 5.0  # Gradformer's initial value


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
    near = ops.near_pairs(batch.distance, batch.ptr, cutoff_of(problem.leaves[3], batch.gamma))
    options: dict[str, Any] = {"gamma": batch.gamma, "method": "sparse", "near": near}

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        return ops.ragged_attention(q, k, v, batch.ptr, distance=batch.distance, hop=hop, **options)

    return forward


def padded(problem: Problem) -> Forward:
    """As Gradformer's program computes it: every graph filled up to the largest, keys beyond its own masked out."""
    batch, heads = problem.batch, problem.leaves[0].shape[1]
    sizes, most = batch.sizes, max(batch.sizes)
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    distance, first = torch.zeros(len(sizes), most, most), 0
    for graph, n in enumerate(sizes):
        distance[graph, :n, :n] = batch.distance[first : first + n * n].view(n, n)
        first += n * n

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        rows = (to_dense_batch(x.flatten(1), owner, max_num_nodes=most, batch_size=len(sizes)) for x in (q, k, v))
        dense, (mask, *_) = zip(*rows, strict=True)
        queries, keys, values = (
            x.view(len(sizes), most, heads, -1).transpose(1, 2).reshape(len(sizes) * heads, most, -1) for x in dense
        )
        score = torch.bmm(queries * queries.size(-1) ** -0.5, keys.mT)
        decay = batch.gamma ** torch.relu(distance.to(q.dtype).unsqueeze(1) - hop.view(1, -1, 1, 1))
        score = score.view(len(sizes), heads, most, most) * decay
        score = score.masked_fill(~mask.view(len(sizes), 1, 1, most), float("-inf"))
        weight = F.dropout(score.softmax(-1), problem.dropout_p)
        out = torch.bmm(weight.flatten(0, 1), values).view(len(sizes), heads, most, -1)
        return out.transpose(1, 2)[mask]

    return forward


def compiled(problem: Problem) -> Forward:
    return torch.compile(padded(problem), dynamic=False)  # type: ignore[no-any-return]


def flex(problem: Problem) -> Forward:
    """All graphs as one sequence in which nodes attend to their own graph's; distances by the pair's place."""
    batch = problem.batch
    sizes = torch.tensor(batch.sizes)
    owner = torch.arange(len(sizes)).repeat_interleave(sizes)
    pairs = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.square().cumsum(0)])
    place = pairs[owner] + (torch.arange(batch.nodes) - batch.ptr[owner]) * sizes[owner] - batch.ptr[owner]
    last, distance = len(batch.distance) - 1, batch.distance.float()

    def same_graph(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return owner[query] == owner[key]

    mask = create_block_mask(same_graph, None, None, batch.nodes, batch.nodes, device="cpu")
    attend: Any = torch.compile(flex_attention, dynamic=False)

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        def decay(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
            far = distance[(place[query] + key).clamp(0, last)]
            return score * batch.gamma ** torch.relu(far - hop[h])

        rows = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return attend(*rows, score_mod=decay, block_mask=mask).squeeze(0).transpose(0, 1)  # type: ignore[no-any-return]

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
