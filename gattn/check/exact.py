"""fp64 sums without the error of summing, for a truth that fp64 kernels can be measured against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


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


class _Sum(torch.autograd.Function):
    """``start.index_add(0, index, values)``, rounded once."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, index: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        high, low = split(values, len(index))
        zero = torch.zeros_like(start)
        return start + (zero.index_add(0, index, high) + zero.index_add(0, index, low))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return grad, None, _rows(grad, index)


class _Rows(torch.autograd.Function):
    """``values[index]``; its gradient is a sum over the places that a row goes to."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = values.shape
        return values[index]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return _sum(grad.new_zeros(ctx.shape), index, grad), None


_sum: Any = _Sum.apply
_rows: Any = _Rows.apply


class ExactSums(TorchFunctionMode):
    """While entered, fp64 sums by index are rounded once, not after every addition.

    These are the sums over a node's edges: ``index_add(0, ...)``, and the gradient of ``values[index]``. (A dispatch
    mode would see both without being told of gradients, at the price of a call of Python for every operator.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.index_add and args[0].dtype == torch.float64 and args[1] == 0 and not kwargs:
            return _sum(args[0], *args[2:])
        if func is Tensor.__getitem__ and args[0].dtype == torch.float64 and isinstance(args[1], Tensor):
            return _rows(*args)
        return func(*args, **(kwargs or {}))
