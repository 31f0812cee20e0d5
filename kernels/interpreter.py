"""Triton's interpreter, which runs the kernels on CPU tensors with ``TRITON_INTERPRET=1``, made to round as GPUs do.

It cuts bfloat16 off where GPUs round to nearest, and multiplies matrices of it as the integers that it keeps them as;
before Triton 3.7 it makes scalars, arrays of one number, indices in a way that NumPy 2.4 refuses; and it looks through
all of ``triton.language`` at every call of a device function, most of the time that a kernel takes.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter


def repair() -> None:
    """Patches the interpreter of this process; a second call changes nothing."""
    if interpreter._patch_lang is not _patch_once:
        interpreter._patch_lang = _patch_once
        interpreter.InterpreterBuilder.cast_impl = _cast
        interpreter.InterpreterBuilder.create_dot = _dot


_convert = interpreter.InterpreterBuilder.cast_impl
_multiply = interpreter.InterpreterBuilder.create_dot
_patch = interpreter._patch_lang
_patched: set[frozenset[str]] = set()
_LASTING = SimpleNamespace(restore=lambda: None)  # what the interpreter, since Triton 3.6, undoes its patches with


def _cast(self: Any, src: Any, dst_type: Any) -> Any:
    types = src.dtype.scalar, dst_type.scalar
    if types == (tl.float32, tl.bfloat16):
        rounded = torch.from_numpy(np.ascontiguousarray(src.data)).bfloat16().view(torch.int16)
        return interpreter.TensorHandle(rounded.numpy().view(np.uint16).reshape(src.data.shape), tl.bfloat16)
    if types == (tl.bfloat16, tl.float32):
        return _widen(src)
    return _convert(self, src, dst_type)


def _widen(handle: Any) -> Any:
    return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
    if a.dtype.scalar == tl.bfloat16:
        a, b = _widen(a), _widen(b)
    return _multiply(self, a, b, *rest)


def _patch_once(function: Any) -> Any:
    """Leaves the language patched for the life of the process: in one that interprets nothing else uses it."""
    languages = frozenset(
        module.__name__
        for module in function.__globals__.values()
        if inspect.ismodule(module) and module in (tl, tl.core)
    )
    if languages not in _patched:
        _patched.add(languages)
        _patch(function)
        tl.core.tensor.__index__ = lambda scalar: scalar.handle.data.item()
    return _LASTING
