"""What the kernels over all pairs of a graph's nodes are compiled for ahead of time, as ``variants.py``."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gattn.reference.dropout import accumulate_dtype

from . import ragged
from .launch import Launch, keep_launches
from .ragged_blocks import LARGE
from .variants import Variant, describe, empty

#: Heads and channels of a head, with the dtypes; the last two are what no layer has and every mask is needed for.
SIZES = (
    ((4, 16), (torch.float32, torch.bfloat16)),
    ((8, 64), (torch.float32, torch.bfloat16)),
    ((3, 33), (torch.float64,)),
    ((6, 257), (torch.float16,)),
)
#: Nodes a graph, on average.
_NODES = {"small": LARGE, "large": LARGE + 1}
_GRAPHS = 2


def variants() -> Iterator[Variant]:
    """Every launch, each once: with distances, with dropout too and, of the first size, with neither."""
    seen = set()
    for (heads, channels), dtypes in SIZES:
        for dtype in dtypes:
            for size in _NODES:
                for options in ("plain", "decay", "everything")[(heads, channels) != SIZES[0][0] :]:
                    for launch in _launches(heads, channels, dtype, size, options):
                        variant = describe(launch, _label(launch, dtype, size, options))
                        if variant[0] not in seen:
                            seen.add(variant[0])
                            yield variant


def _label(launch: Launch, dtype: torch.dtype, size: str, options: str) -> str:
    setup = launch.arguments.get("s")
    if setup is None:
        return str(launch.arguments["ptr"].dtype)
    rows = "by query" if setup.by_query else "by key"
    return f"{setup.heads}x{setup.channels} {dtype} {size} {rows} {options}"


def _launches(heads: int, channels: int, dtype: torch.dtype, size: str, options: str) -> list[Launch]:
    nodes, wide = _NODES[size] * _GRAPHS, accumulate_dtype(dtype)
    features, hop = empty(dtype, nodes, heads, channels), empty(wide, heads)
    decay, dropout = options != "plain", options == "everything"
    inputs = ragged.Inputs(
        features,
        features,
        features,
        hop if decay else None,
        empty(torch.int64, _GRAPHS + 1),
        empty(torch.int16, nodes * _NODES[size]) if decay else None,
        empty(torch.int64) if dropout else None,
    )
    numbers = ragged.Numbers(channels**-0.5, 0.6, 0.1, 0.3 if dropout else 0.0)
    exact, stats = empty(wide, nodes, heads, channels), empty(wide, nodes, 2, heads)
    with keep_launches() as kept:
        ragged.forward(inputs, numbers, features, stats, None if dtype == wide else exact)
        saved = ragged.Saved(stats, exact, features)
        ragged.backward(inputs, numbers, saved, features, features, features, hop if decay else None)
    return kept
