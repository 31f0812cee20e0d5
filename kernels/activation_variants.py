"""What the kernels of statistics of activations are compiled for ahead of time, as ``variants.py``."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gattn.reference.activation_stats import COUNTS
from gattn.reference.dropout import accumulate_dtype

from . import activation
from .launch import Launch, keep_launches
from .variants import Variant, describe, empty

#: Numbers of a row: heads times channels of common layers, what is no power of two, and what takes several tiles.
WIDTHS = (1, 8, 64, 100, 128, 256, 257, 1024, 1500)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_ROWS, _THRESHOLDS, _EDGES = 1000, 3, 1001


def variants() -> Iterator[Variant]:
    """Every launch, each once."""
    seen = set()
    for width in WIDTHS:
        for dtype in DTYPES:
            for launch in _launches(width, dtype):
                variant = describe(launch, _label(launch, dtype))
                if variant[0] not in seen:
                    seen.add(variant[0])
                    yield variant


def _label(launch: Launch, dtype: torch.dtype) -> str:
    setup = launch.arguments.get("s")
    return str(launch.arguments["ratio"].dtype) if setup is None else f"{setup.width} {dtype}"


def _launches(width: int, dtype: torch.dtype) -> list[Launch]:
    by_row = [empty(accumulate_dtype(dtype), _ROWS) for _ in range(3)]
    counts = empty(torch.int64, COUNTS + _THRESHOLDS + _EDGES + 1)
    outputs = activation.Outputs(*by_row, empty(torch.float64, 2), counts, empty(torch.float64, 2, 3))
    thresholds, edges = empty(torch.float64, _THRESHOLDS), empty(torch.float64, _EDGES)
    with keep_launches() as kept:
        activation.activation_stats(empty(dtype, _ROWS, width), thresholds, edges, outputs)
    return kept
