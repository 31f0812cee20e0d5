"""Batches of graphs of different sizes for all-pairs attention, and what else computes it: dense and padded, Flex."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from gattn.bench.gpu.task import Context
from gattn.bench.ragged.batches import Batch
from gattn.bench.ragged.contenders import Forward, compiled, flex, padded
from torch import Tensor

from gattn import ops, reference

GAMMA = 0.6
#: Pairs without a path, as Gradformer marks them.
UNREACHABLE = 510


@dataclass(frozen=True)
class BatchCase:
    """Sizes are drawn from a log-uniform distribution, distances are small with some pairs out of reach."""

    name: str
    graphs: int
    sizes: tuple[int, int]  # the smallest and the largest
    heads: int
    channels: int
    dropout_p: float = 0.0


CASES = {
    case.name: case
    for case in (
        BatchCase("molecules", 128, (12, 45), 4, 16),  # NCI1 has 30 nodes a graph, ZINC 23
        BatchCase("molecules-dropout", 128, (12, 45), 4, 16, 0.5),
        BatchCase("clusters", 64, (45, 190), 8, 8),  # CLUSTER and PATTERN have 118
        BatchCase("clusters-dropout", 64, (45, 190), 8, 8, 0.5),
        BatchCase("large", 16, (1000, 2000), 8, 64),
        BatchCase("mixed", 64, (1, 5000), 4, 16),
    )
}


def reduced(case: BatchCase) -> BatchCase:
    """The case with three small graphs."""
    return replace(case, graphs=3, sizes=(2, 20), heads=min(case.heads, 4), channels=min(case.channels, 8))


@dataclass(frozen=True)
class Problem:
    """Inputs on the device and a gradient of the output."""

    case: BatchCase
    ptr: Tensor
    distance: Tensor
    leaves: dict[str, Tensor]  # q, k, v, hop
    grad_out: Tensor

    @staticmethod
    def build(case: BatchCase, dtype: torch.dtype, device: torch.device) -> Problem:
        """Drawn on the CPU, so that every device has the same."""
        generator = torch.Generator().manual_seed(1)
        low, high = map(math.log, case.sizes)
        drawn = torch.rand(case.graphs, generator=generator, dtype=torch.float64)
        sizes = (low + (high - low) * drawn).exp().round().long()
        ptr = F.pad(sizes.cumsum(0), (1, 0))
        pairs = int(sizes.square().sum())
        distance = torch.randint(12, (pairs,), generator=generator).to(torch.int16)
        distance[torch.rand(pairs, generator=generator) < 0.1] = UNREACHABLE
        shape = (int(ptr[-1]), case.heads, case.channels)
        q, k, v, grad_out = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4))
        hop = (5 + torch.randn(case.heads, generator=generator)).to(device)
        leaves = {name: x.requires_grad_() for name, x in (("q", q), ("k", k), ("v", v), ("hop", hop))}
        return Problem(case, ptr.to(device), distance.to(device), leaves, grad_out)

    @property
    def batch(self) -> Batch:
        return Batch(self.case.name, self.case.name, GAMMA, self.ptr, self.distance)

    @property
    def dropout_p(self) -> float:
        return self.case.dropout_p

    def step(self, forward: Callable[..., Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Output and gradients of ``forward(q, k, v, hop)``; all computed in ``dtype``, if one is given."""
        leaves = self.leaves
        if dtype is not None:
            leaves = {name: x.detach().to(dtype).requires_grad_() for name, x in leaves.items()}
        out = forward(**leaves)
        grads = torch.autograd.grad(out, list(leaves.values()), self.grad_out.to(out.dtype))
        return {"out": out.detach(), **{f"grad {name}": x for name, x in zip(leaves, grads, strict=True)}}


def by_gattn(problem: Problem, backend: str | None) -> Forward:
    """The op; ``"reference"`` is what the others are compared with."""
    case, dropout = problem.case, {"dropout_p": problem.case.dropout_p, "seed": 3}

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        decay = {"distance": problem.distance, "hop": hop, "gamma": GAMMA}
        if backend == "reference":
            return reference.ragged_attention(q, k, v, problem.ptr, **decay, **dropout)
        return ops.ragged_attention(q, k, v, problem.ptr, **decay, **dropout, backend=backend)

    forward.__name__ = f"{case.name} on {backend}"
    return forward


TITLES = {"padded": "padded, eager", "padded-compile": "padded, torch.compile", "flex": "FlexAttention"}


def rivals(case: BatchCase, context: Context) -> dict[str, Callable[[Problem], Forward]]:
    """Who computes the case beside gattn; what is compiled, not in a dry run."""
    found: dict[str, Callable[[Problem], Forward]] = {"padded": padded}
    if not context.dry:
        found["padded-compile"] = compiled
        if not case.dropout_p:
            found["flex"] = flex
    return found
