"""Block sizes of the kernels: what ``gattn tune`` has found, else a fixed rule, and a way to override both.

A tile holds about ``ELEMENTS[kernel]`` numbers: one edge's heads and channels if they fill it (heads that do not fit go
to other programs), else several edges. Small rows take four lanes each, so that the few edges of a row
are loaded at once; other rows take all lanes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from gattn.backends import interprets_triton

from . import tuned

#: Numbers in a tile, by kernel.
ELEMENTS = {
    "forward": 2048,
    "merge": 2048,
    "alpha": 1024,
    "d": 2048,
    "d_of_out": 2048,
    "target": 1024,
    "source": 1024,
    "largest": 512,
}
#: The interpreter runs one program after the other, so it gets fewer and larger ones.
_SCALE = 8 if interprets_triton() else 1
#: Numbers a thread: fewer where many tiles are alive at once, and of two registers each.
_PER_THREAD = {"target": 8, "source": 8}
#: What is known of an edge, of whatever width, takes registers too.
_EDGES_PER_THREAD = 8
_MAX_WARPS = 8
_SMALL_LANES = 4
_MAX_LANES = {"rows": 1, "small": _SMALL_LANES, "middle": 32, "hub": 128, "chunk": 128, "edges": 256}


class Blocks(NamedTuple):
    """A tile's shape, and the warps that work on it."""

    heads: int
    channels: int
    rows: int
    lanes: int
    warps: int
    stages: int


_overrides: dict[str, dict[str, int]] = {}


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below ``n``."""
    return 1 << (n - 1).bit_length()


@cache
def choose(kernel: str, group: str, heads: int, channels: int, wide: bool, score: str = "", dtype: str = "") -> Blocks:
    """The blocks of ``kernel`` for a group of rows; ``wide`` is for float64. Without score and dtype, by the rule."""
    options = _overrides.get(kernel)
    if options is None:
        options = tuned.table().get(tuned.Key(kernel, score, heads, channels, dtype), {})
    elements = options.get("elements", _SCALE * ELEMENTS[kernel]) // (2 if wide else 1)
    block_channels = power_of_two(channels)
    block_heads = power_of_two(heads)
    while block_heads > 1 and block_heads * block_channels > elements:
        block_heads //= 2
    edge = block_heads * block_channels
    edges = max(1, elements // edge)
    lanes = min(edges, _MAX_LANES[group])
    rows = edges // lanes if group in ("small", "rows") else 1
    threads = rows * lanes * edge * (2 if wide else 1) // _PER_THREAD.get(kernel, 16)
    threads = max(threads, rows * lanes * (2 if wide else 1) // _EDGES_PER_THREAD)
    warps = min(_MAX_WARPS, max(1, threads // 32))
    return Blocks(block_heads, block_channels, rows, lanes, options.get("warps", warps), options.get("stages", 2))


@contextlib.contextmanager
def override(kernel: str, **options: int) -> Iterator[None]:
    """Inside the ``with`` block, ``elements``, ``warps`` or ``stages`` of ``kernel`` are these."""
    unknown = options.keys() - {"elements", "warps", "stages"}
    if kernel not in ELEMENTS or unknown:
        raise ValueError(
            f"Expected a kernel out of {(*ELEMENTS,)} and elements, warps or stages (got {kernel!r}, {options})."
        )
    before = _overrides.get(kernel)
    _overrides[kernel] = options
    choose.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del _overrides[kernel]
        else:
            _overrides[kernel] = before
        choose.cache_clear()


#: What has been launched in this process.
_launched: dict[tuple[Any, ...], dict[str, str | int]] = {}


def note(kernel: str, device: str, dtype: str, group: str, heads: int, channels: int, blocks: Blocks) -> None:
    """Keeps a launch's blocks for :func:`choices`."""
    key = (kernel, device, dtype, group, heads, channels, blocks)
    if key not in _launched:
        names = ("block_heads", "block_channels", "rows", "lanes", "warps", "stages")
        _launched[key] = {
            "kernel": kernel,
            "device": device,
            "dtype": dtype,
            "group": group,
            "heads": heads,
            "channels": channels,
            **dict(zip(names, blocks, strict=True)),
        }


def forget() -> None:
    """Forgets what has been launched."""
    _launched.clear()


def choices() -> list[dict[str, str | int]]:
    """The blocks of every kernel launched in this process."""
    return list(_launched.values())
