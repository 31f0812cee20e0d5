"""Calls of the compiled core, which reads and fills PyTorch's tensors without knowing PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[attr-defined]

#: Whether C code can look into a tensor (DLPack 1.3, torch 2.10); else it gets a capsule, which takes longer to make.
_TRANSPARENT = hasattr(Tensor, "__dlpack_c_exchange_api__")


def call_core(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """``kernel(*arguments)``; tensors may be arguments, values of dictionaries or in tuples."""
    if _TRANSPARENT:
        try:
            return kernel(*arguments)
        except BufferError:  # torch.func.vjp has wrapped some for the backward, which runs after the transform's end
            return kernel(*(_with_tensors(_unwrapped, argument) for argument in arguments))
    return kernel(*(_with_tensors(_capsule, argument) for argument in arguments))


def _with_tensors(function: Callable[[Tensor], Any], argument: Any) -> Any:
    """The argument with ``function`` of the tensors that it is or holds."""
    if isinstance(argument, dict):
        return {name: _with_tensors(function, value) for name, value in argument.items()}
    if isinstance(argument, tuple):
        return tuple(_with_tensors(function, value) for value in argument)
    return function(argument) if isinstance(argument, Tensor) else argument


def _unwrapped(tensor: Tensor) -> Tensor:
    found: Tensor = torch._C._functorch.unwrap_if_dead(tensor)
    return found


def _capsule(tensor: Tensor) -> Any:
    return to_dlpack(_unwrapped(tensor))
