"""Launches of kernels: on the current stream, or kept for ahead-of-time compilation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from gattn.reference.attention import Inputs, Settings
from gattn.reference.dropout import accumulate_dtype

from .choices import Blocks, choose, note
from .setup import Setup

#: What a thread may take in the kernels that walk edges: left alone, ptxas spills a few to fit one more program.
MAX_REGISTERS = 255


class Launch(NamedTuple):
    """A kernel and all it was given."""

    kernel: Any
    arguments: dict[str, Any]
    warps: int
    stages: int
    registers: int | None


_kept: list[Launch] | None = None


@contextlib.contextmanager
def keep_launches() -> Iterator[list[Launch]]:
    """Inside the ``with`` block nothing runs; the list gets what would have."""
    global _kept
    before, _kept = _kept, []
    try:
        yield _kept
    finally:
        _kept = before


def launch(
    kernel: Any, grid: tuple[int, ...], *, warps: int, stages: int = 1, registers: int | None = None, **arguments: Any
) -> None:
    """Runs ``kernel`` for a grid that is not empty. Sums may contract to fused multiply-adds.

    ``registers`` is what a thread may take on NVIDIA's GPUs.
    """
    if _kept is not None:
        _kept.append(Launch(kernel, arguments, warps, stages, registers))
    elif all(grid):
        options = {} if registers is None or torch.version.hip else {"maxnreg": registers}
        kernel[grid](**arguments, num_warps=warps, num_stages=stages, enable_fp_fusion=True, **options)


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The device that launches go to, on its current stream."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


class Launcher:
    """What all launches of a call share."""

    def __init__(self, inputs: Inputs, settings: Settings, seed: Tensor | None) -> None:
        first = next(x for x in inputs if x is not None)
        features = inputs.k if inputs.v is None else inputs.v
        self.dtype, self.device = first.dtype, first.device
        self.wide = accumulate_dtype(first.dtype)
        self.heads, self.channels = first.shape[1], 1 if features is None else features.shape[2]
        self.settings, self.seed = settings, seed
        p = settings.dropout_p
        self.dropout = {"threshold": int(p * 2.0**32 + 0.5), "keep": 1.0 / (1.0 - p) if p < 1.0 else 0.0}

    def setup(self, kernel: str, group: str, *, channels: int | None = None) -> tuple[Setup, Blocks]:
        settings, channels = self.settings, self.channels if channels is None else channels
        dtype = str(self.dtype).removeprefix("torch.")
        blocks = choose(kernel, group, self.heads, channels, self.wide == torch.float64, settings.score, dtype)
        note(kernel, str(self.device), dtype, group, self.heads, channels, blocks)
        setup = Setup(
            settings.score,
            settings.negative_slope,
            settings.scale,
            settings.clip,
            settings.epsilon,
            math.log(settings.gamma),
            settings.decay_slope,
            settings.undropped,
            self.seed is not None and settings.dropout_p > 0.0,
            self.heads,
            channels,
            tl.float64 if self.wide == torch.float64 else tl.float32,
            blocks.heads,
            blocks.channels,
            blocks.rows,
            blocks.lanes,
            group,
        )
        return setup, blocks

    def launch(
        self,
        kernel: Any,
        programs: int,
        setup: Setup,
        blocks: Blocks,
        **arguments: Any,
    ) -> None:
        grid = (programs, -(-self.heads // blocks.heads))
        launch(kernel, grid, warps=blocks.warps, stages=blocks.stages, registers=MAX_REGISTERS, **arguments, s=setup)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.wide, device=self.device)
