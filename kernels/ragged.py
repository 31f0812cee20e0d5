"""All-pairs attention within the graphs of a batch: allocations and launches, without a synchronisation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gattn.backends import interprets_triton
from gattn.reference.dropout import accumulate_dtype

from . import MIN_TRITON_DOUBLE, require_triton
from .launch import MAX_REGISTERS, launch, on_device
from .ragged_backward import Saved, ragged_backward_kernel
from .ragged_blocks import LARGE, Blocks, choose
from .ragged_forward import ragged_forward_kernel
from .ragged_pairs import ragged_pair_ptr_kernel
from .ragged_tiles import Batch, RaggedSetup

require_triton(triton.__version__)
if interprets_triton():
    from .interpreter import repair

    repair()

#: Graphs that the kernel for pointers adds up at a time.
_GRAPHS = 1024


class Inputs(NamedTuple):
    """The tensors of a call, contiguous; ``None`` for what there is not."""

    q: Tensor  # [N, H, C]
    k: Tensor
    v: Tensor
    hop: Tensor | None  # [H], in the accumulate dtype
    ptr: Tensor  # [B + 1]
    distance: Tensor | None  # [pairs]
    seed: Tensor | None


class Numbers(NamedTuple):
    """A call's numbers."""

    scale: float
    gamma: float
    slope: float
    dropout_p: float


class _Launcher:
    """What all launches of a call share."""

    def __init__(self, inputs: Inputs, numbers: Numbers) -> None:
        if inputs.q.dtype == torch.float64:
            require_triton(triton.__version__, MIN_TRITON_DOUBLE, "attention over all pairs in float64")
        self.inputs, self.numbers = inputs, numbers
        self.nodes, self.heads, self.channels = inputs.q.shape
        self.graphs = inputs.ptr.shape[0] - 1
        self.wide = accumulate_dtype(inputs.q.dtype)
        p = numbers.dropout_p
        threshold = int(p * 2.0**32 + 0.5)
        self.dropout = {"threshold": threshold, "keep": 1.0 / (1.0 - p) if threshold < 2**32 else 0.0}
        pair_ptr = self._pair_ptr() if inputs.distance is not None or inputs.seed is not None else None
        self.batch = Batch(inputs.ptr, pair_ptr, inputs.distance, inputs.hop, inputs.seed)

    def _pair_ptr(self) -> Tensor:
        found = torch.empty(self.graphs + 1, dtype=torch.int64, device=self.inputs.ptr.device)
        launch(
            ragged_pair_ptr_kernel,
            (1,),
            warps=4,
            ptr=self.inputs.ptr,
            pair_ptr=found,
            num_graphs=self.graphs,
            block=_GRAPHS,
        )
        return found

    def blocks(self, kernel: str) -> Blocks:
        large, dropout = self.nodes > LARGE * self.graphs, self.inputs.seed is not None
        return choose(kernel, self.inputs.q.dtype, self.heads, self.channels, dropout, large)

    def slots(self, blocks: Blocks) -> int:
        """Programs a head: no fewer than there are blocks of rows, whatever the graphs' sizes."""
        return self.nodes // blocks.rows + self.graphs

    def launch(self, kernel: Any, blocks: Blocks, *, by_query: bool = True, **arguments: Any) -> None:
        setup = RaggedSetup(
            self.numbers.scale,
            math.log2(self.numbers.gamma),
            math.log(2.0),
            self.numbers.slope,
            self.inputs.seed is not None,
            self.heads,
            self.channels,
            tl.float64 if self.wide == torch.float64 else tl.float32,
            blocks.rows,
            blocks.columns,
            blocks.together,
            blocks.channels,
            blocks.chunks,
            by_query,
        )
        q, k, v = self.inputs[:3]
        launch(
            kernel,
            (self.slots(blocks) * blocks.chunks * (self.heads // blocks.together),),
            warps=blocks.warps,
            stages=blocks.stages,
            registers=MAX_REGISTERS,
            q=q,
            k=k,
            v=v,
            batch=self.batch,
            num_graphs=self.graphs,
            **self.dropout,
            **arguments,
            s=setup,
        )


def forward(inputs: Inputs, numbers: Numbers, out: Tensor, stats: Tensor, wide: Tensor | None) -> None:
    """Fills ``out`` ``[N, H, C]``, row statistics ``[N, 2, H]`` and ``wide``, ``out`` before it is rounded."""
    with on_device(inputs.q):
        launcher = _Launcher(inputs, numbers)
        launcher.launch(ragged_forward_kernel, launcher.blocks("forward"), out=out, wide=wide, stats=stats)


def backward(
    inputs: Inputs,
    numbers: Numbers,
    saved: Saved,
    grad_q: Tensor | None,
    grad_k: Tensor | None,
    grad_v: Tensor | None,
    grad_hop: Tensor | None,
) -> None:
    """Fills the gradients that are asked for."""
    with on_device(inputs.q):
        launcher = _Launcher(inputs, numbers)
        blocks = launcher.blocks("query")
        slots = launcher.slots(blocks)
        d = torch.empty(launcher.nodes, launcher.heads, dtype=launcher.wide, device=inputs.q.device)
        parts = None if grad_hop is None else d.new_empty(launcher.heads, slots)
        given = {"saved": saved, "d": d}
        launcher.launch(
            ragged_backward_kernel, blocks, **given, found=grad_q, found_v=None, hop_parts=parts, num_slots=slots
        )
        if grad_hop is not None:
            grad_hop.copy_(parts.sum(1, dtype=torch.float64))
        if grad_k is None and grad_v is None:
            return
        blocks = launcher.blocks("key")
        given |= {"found": grad_k, "found_v": grad_v, "hop_parts": None, "num_slots": launcher.slots(blocks)}
        launcher.launch(ragged_backward_kernel, blocks, by_query=False, **given)
