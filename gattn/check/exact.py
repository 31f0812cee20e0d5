"""fp64 sums without the error of summing, for a truth that fp64 kernels can be measured against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten: Any = torch.ops.aten


def split(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``values`` as ``high + low``, exactly, where any ``count`` of the highs add up without rounding.

    Adding and subtracting a large power of two leaves the leading bits, all multiples of one unit (the
    extraction step of Rump, Ogita and Oishi's accurate summation, 2008); the lows are so small that the
    rounding of their sum does not matter.
    """
    largest = values.abs().max() if values.numel() else values.new_zeros(())
    _, exponent = torch.frexp(largest * max(1, count))
    anchor = torch.ldexp(torch.ones_like(largest), exponent + 1)
    high = (values + anchor) - anchor
    return high, values - high


class ExactSums(TorchDispatchMode):
    """While entered, fp64 sums by index, forward and backward, are rounded once, not after every addition.

    These are the sums over a node's edges: ``index_add``, and the gradient of indexing (``index_put``).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is _aten.index_add.default and args[0].dtype == torch.float64:
            start, dim, index, values = args
            high, low = split(values, len(index))
            zero = torch.zeros_like(start)
            return start + (func(zero, dim, index, high) + func(zero, dim, index, low))
        if func is _aten.index_put.default and args[0].dtype == torch.float64 and args[3:] == (True,):
            start, index, values, _ = args
            high, low = split(values, values.numel())
            zero = torch.zeros_like(start)
            return start + (func(zero, index, high, True) + func(zero, index, low, True))
        return func(*args, **kwargs)
