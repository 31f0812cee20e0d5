"""Checks of a batch of graphs of different sizes: typed errors that say what was got, expected and what to do."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gattn.ops.validation import FLOATING, check_not_negative
from gattn.reference.dropout import accumulate_dtype

DISTANCES = (torch.int8, torch.int16, torch.int32)
#: Pointers seen, with the version, the number of nodes and the number of pairs of each.
_seen: MutableMapping[Tensor, tuple[int, int, int]] = WeakTensorKeyDictionary()


def check_queries(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises unless all are floating, of one dtype, device and shape ``[N, H, C]`` with H, C >= 1."""
    if q.dim() != 3 or q.shape[1] < 1 or q.shape[2] < 1:
        raise ValueError(f"Expected 'q' to have shape [nodes, heads, channels] (got {list(q.shape)}).")
    _check_dtype("q", q, FLOATING)
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape:
            raise ValueError(f"Expected '{name}' to have shape {list(q.shape)}, as 'q' has (got {list(x.shape)}).")
        _check_dtype(name, x, (q.dtype,))
        _check_device(name, x, q)


def check_ptr(ptr: Tensor, q: Tensor, distance: Tensor | None) -> None:
    """Raises unless ``ptr`` ``[B + 1]`` goes from 0 to the number of nodes, never down, and ``distance`` fits it.

    Looks at a tensor once, as long as it is not changed in place: on a GPU it has to wait for the answer. A compiled
    program raises RuntimeError while it runs.
    """
    _check_ptr_form(ptr)
    _check_device("ptr", ptr, q)
    if torch.compiler.is_compiling():
        return _assert_while_running(ptr, q, distance)
    nodes = q.shape[0]
    keeps_version = not ptr.is_inference() and not torch._C._functorch.is_functorch_wrapped_tensor(ptr)
    known = _seen.get(ptr) if keeps_version else None
    if known is not None and known[:2] == (ptr._version, nodes):
        pairs = known[2]
    else:
        pairs = _count_pairs(ptr, nodes)
        if keeps_version:
            _seen[ptr] = (ptr._version, nodes, pairs)
    if distance is not None and distance.shape[0] != pairs:
        raise _wrong_pairs(distance, pairs)


def check_distance(distance: Tensor | None, hop: Tensor | None, q: Tensor) -> Tensor | None:
    """Raises unless both are given or none, ``distance`` in integers and ``hop`` ``[H]``; returns ``hop`` wide."""
    if (distance is None) != (hop is None):
        given, missing = ("hop", "distance") if distance is None else ("distance", "hop")
        raise ValueError(f"Expected 'distance' and 'hop' together (got '{given}' without '{missing}').")
    if distance is None or hop is None:
        return None
    if distance.dim() != 1:
        raise ValueError(
            f"Expected 'distance' to be one-dimensional, the graphs' pairs one after the other (got shape "
            f"{list(distance.shape)})."
        )
    _check_dtype("distance", distance, DISTANCES)
    _check_device("distance", distance, q)
    wide = accumulate_dtype(q.dtype)
    if hop.shape != q.shape[1:2]:
        raise ValueError(f"Expected 'hop' to have shape [{q.shape[1]}], a number a head (got {list(hop.shape)}).")
    _check_dtype("hop", hop, (q.dtype, wide))
    _check_device("hop", hop, q)
    return hop.to(wide)


def check_pairs(distance: Tensor, ptr: Tensor) -> None:
    """Raises unless ``distance`` is the packed pairs of the graphs of ``ptr``, in integers."""
    _check_ptr_form(ptr)
    _check_dtype("distance", distance, DISTANCES)
    if distance.device != ptr.device:
        raise ValueError(f"Expected 'distance' on the device of 'ptr', '{ptr.device}' (got '{distance.device}').")
    pairs = _count_pairs(ptr, int(ptr[-1]))
    if distance.shape != (pairs,):
        raise _wrong_pairs(distance, pairs)


def check_negative(distance: Tensor | None) -> None:
    """Raises ValueError for a negative distance."""
    if distance is not None:
        check_not_negative("'distance'", distance, "Give unreachable pairs a large one, such as 510.")


def check_numbers(gamma: float, slope: float, scale: float) -> None:
    """Raises ValueError for numbers that the decay or the scale cannot have."""
    if not 0.0 < gamma <= 1.0:
        raise ValueError(f"Expected 'gamma' in (0, 1] (got {gamma}).")
    if not 0.0 <= slope < math.inf:
        raise ValueError(f"Expected 'slope' to be finite and not negative (got {slope}).")
    if not -math.inf < scale < math.inf:
        raise ValueError(f"Expected 'scale' to be finite (got {scale}).")


def _assert_while_running(ptr: Tensor, q: Tensor, distance: Tensor | None) -> None:
    sizes = ptr.long().diff()
    good = (ptr[0] == 0) & (ptr[-1] == q.shape[0]) & (sizes >= 0).all()
    torch._assert_async(good, "Expected 'ptr' to go from 0 to the number of nodes without going down.")
    if distance is not None:
        good = sizes.square().sum() == distance.shape[0]
        torch._assert_async(good, "Expected 'distance' to have n * n numbers for a graph of n nodes.")


def _count_pairs(ptr: Tensor, nodes: int) -> int:
    bounds: list[int] = ptr.tolist()
    if bounds[0] != 0:
        raise ValueError(f"Expected 'ptr' to begin with 0 (got {bounds[0]}).")
    sizes = [end - begin for begin, end in pairwise(bounds)]
    if sizes and min(sizes) < 0:
        at = next(i for i, size in enumerate(sizes) if size < 0)
        raise ValueError(
            f"Expected 'ptr' not to go down (got {bounds[at]} and then {bounds[at + 1]} at {at + 1}). Sort the nodes "
            f"by graph."
        )
    if bounds[-1] != nodes:
        raise ValueError(f"Expected 'ptr' to end with the number of nodes, {nodes} (got {bounds[-1]}).")
    return sum(size * size for size in sizes)


def _check_ptr_form(ptr: Tensor) -> None:
    if ptr.dim() != 1 or ptr.shape[0] < 1:
        raise ValueError(f"Expected 'ptr' to have shape [graphs + 1] (got {list(ptr.shape)}).")
    _check_dtype("ptr", ptr, (torch.int32, torch.int64))


def _wrong_pairs(distance: Tensor, pairs: int) -> ValueError:
    return ValueError(
        f"Expected 'distance' to have shape [{pairs}], n * n numbers for a graph of n nodes, row by row (got "
        f"{list(distance.shape)})."
    )


def _check_dtype(name: str, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if x.dtype not in dtypes:
        wanted = " or ".join(dict.fromkeys(str(dtype) for dtype in dtypes))
        raise TypeError(f"Expected '{name}' to be of dtype {wanted} (got {x.dtype}). Convert it with .to().")


def _check_device(name: str, x: Tensor, q: Tensor) -> None:
    if x.device != q.device:
        raise ValueError(f"Expected '{name}' on the device of 'q', '{q.device}' (got '{x.device}'). Move one of them.")
