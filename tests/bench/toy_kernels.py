"""Triton kernels for the tests of the kernel report: frugal, with too many registers, and broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl


@triton.jit
def _exponential(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.exp(tl.load(x + i, mask=i < n, other=0.0).to(tl.float32)), mask=i < n)


@triton.jit
def _square(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    v = tl.load(x + i)
    tl.store(out + i, v + tl.sum(v, 1)[:, None] + tl.sum(v, 0)[None, :])


def variants() -> Iterator[tuple[Any, ...]]:
    arguments = {"out": "*fp32", "n": "i64", "BLOCK": "constexpr"}
    for kind in ("fp32", "bf16"):
        yield f"frugal {kind}", _exponential, {"x": f"*{kind}", **arguments}, {"BLOCK": 256}, 4, 2
    square = {"x": "*fp32", "out": "*fp32", "BLOCK": "constexpr"}
    yield "greedy fp32", _square, square, {"BLOCK": 128}, 1, 2
    yield "broken fp32", _exponential, {"x": "*i1", **arguments}, {"BLOCK": 100}, 4, 2
