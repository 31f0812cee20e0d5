"""Which programs can compute the ops: what is usable here, and which one is chosen."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from gattn import cuda_core
from gattn.gpu_choice import RIVALS, Case, faster

try:
    from gattn import _C
except ImportError as error:  # the package was not built; the reason is shown wherever the backend is asked for
    _C = None  # type: ignore[assignment]
    _BUILD_ERROR = str(error)
else:
    _BUILD_ERROR = ""

__all__ = ["BACKENDS", "_C", "backends", "select_backend", "use_backend"]

BACKENDS = ("reference", "cpu", "cuda", "triton")
#: Those that share out nodes by degree (:mod:`gattn.groups`).
GROUPED = ("cuda", "triton")


class _Choice(threading.local):
    """What :func:`use_backend` chose. Not a context variable: torch.compile reads and guards this one."""

    def __init__(self) -> None:  # runs once a thread
        self.name: str | None = None


_choice = _Choice()


def backends() -> dict[str, tuple[bool, str]]:
    """Maps each backend's name to ``(usable, reason)``.

    ``reference`` is plain PyTorch and runs on every device; ``cpu`` is the compiled C++ core; ``cuda`` are its kernels
    for NVIDIA's GPUs; ``triton`` are kernels for every GPU that Triton compiles for, which run on CPU tensors, for
    tests, where ``TRITON_INTERPRET=1`` is set.
    """
    cpu = (False, _no_core()) if _C is None else (True, f"instruction set {_C.isa()}, threads from {_C.pool()}")
    reference = (True, "plain PyTorch, any device")
    return {"reference": reference, "cpu": cpu, "cuda": _find_cuda(), "triton": _find_triton()}


def _no_core() -> str:
    return f"the compiled core gattn._C does not import ({_BUILD_ERROR}); run 'pip install .'"


def _find_cuda(index: int | None = None) -> tuple[bool, str]:
    """On the GPU of that number, else on the current one."""
    if cuda_core.core is None:
        return False, _no_core() if _C is None else f"the compiled core has no CUDA kernels: {_C.no_cuda}"
    if cuda_core.core.cuda_device == "cuda":
        if not torch.cuda.is_available():
            return False, "compiled, but PyTorch finds no GPU or no driver for it"
        capability = torch.cuda.get_device_capability(index)
        if not cuda_core.runs_on(capability):
            found = "".join(map(str, capability))
            return False, (
                f"compiled by {cuda_core.core.cuda_compiler}, but this GPU is {found}; run 'pip install .' again with "
                f"CMAKE_CUDA_ARCHITECTURES={found}"
            )
    return True, f"compiled, on {cuda_core.core.cuda_device} tensors"


def interprets_triton() -> bool:
    """Whether Triton's kernels run in its interpreter, which takes CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _missing_triton() -> str:
    """Why Triton's package cannot be used, or nothing. Does not import it: that is left to the first call."""
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return "the package triton is not installed; run 'pip install triton'"
    if importlib.util.find_spec("gattn.kernels") is None:  # a source tree that is not installed
        return f"there is no gattn.kernels beside {Path(__file__).parent}; run 'pip install .' in the source tree"
    from gattn.kernels import require_triton

    found = re.search(r"^__version__ = ['\"](.+?)['\"]", Path(spec.origin).read_text(), re.MULTILINE)
    try:
        require_triton(found[1] if found else "0.0")
    except RuntimeError as error:
        return str(error)
    return ""


def _find_triton() -> tuple[bool, str]:
    if _missing_triton():
        return False, _missing_triton()
    if interprets_triton():
        return True, "interpreted, TRITON_INTERPRET=1 is set"
    if torch.cuda.is_available():
        return True, "compiled for GPUs at the first call"
    return (
        False,
        "PyTorch finds no GPU; on CPU tensors Triton's interpreter runs the kernels if TRITON_INTERPRET=1 is set",
    )


@contextlib.contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Makes ``name`` the backend of every op called inside the ``with`` block that does not name its own.

    Raises:
        ValueError: ``name`` is not a backend.
    """
    _check_name(name)
    before, _choice.name = _choice.name, name
    try:
        yield
    finally:
        _choice.name = before


def select_backend(
    backend: str | None, device: torch.device, case: Case | None = None, among: tuple[str, ...] = BACKENDS
) -> str:
    """The backend for tensors on ``device``: the argument, else :func:`use_backend`'s, else the fastest usable.

    ``case`` says which of two usable ones for GPUs has been faster; ``among`` are those that compute the op.

    Raises:
        ValueError: the name is no backend, or the backend does not compute the op or not on ``device``.
        RuntimeError: the backend cannot be used here; the message says why.
    """
    name = backend if backend is not None else _choice.name
    if name is None:
        if device.type != "cpu":
            name = _fastest(device.index, *(case or ())) if device.type == "cuda" else "reference"
            return name if name in among else "reference"
        name = "cpu" if "cpu" in among else "reference"
    elif name not in BACKENDS:
        _check_name(name)
    if name not in among:
        raise ValueError(f"Expected one of the backends that compute this op, {among} (got {name!r}).")
    if name == "cpu":
        if device.type != "cpu":
            raise ValueError(
                f"Expected tensors on the CPU for backend 'cpu' (got device '{device}'). Move them, or choose another "
                f"backend."
            )
        if _C is None:
            raise RuntimeError(f"Backend 'cpu' is not usable: {backends()['cpu'][1]}")
    elif name == "cuda":
        _check_cuda(device)
    elif name == "triton":
        _check_triton(device)
    return name


def _fastest(index: int | None, *case: Any) -> str:
    """Of those that can run on the tensors of a GPU; ``case`` has the fields of a :class:`Case`."""
    return _fastest_on(index, Case(*case) if case else None)


# It looks for packages and files, which cannot be traced. torch.compiler.assume_constant_result does the same, and
# imports all of dynamo.
_fastest._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=4096)
def _fastest_on(index: int | None, case: Case | None) -> str:
    compiled = cuda_core.core is not None and cuda_core.core.cuda_device == "cuda" and _find_cuda(index)[0]
    if interprets_triton() or _missing_triton():
        return "cuda" if compiled else "reference"
    if not compiled:
        return "triton"
    return RIVALS[0] if case is None else faster(case)


def _check_cuda(device: torch.device) -> None:
    usable, reason = _find_cuda(device.index if device.type == "cuda" else None)
    if not usable:
        raise RuntimeError(f"Backend 'cuda' is not usable: {reason}")
    expected = cuda_core.core.cuda_device
    if device.type != expected:
        raise ValueError(
            f"Expected tensors on device '{expected}' for backend 'cuda' (got device '{device}'). Move them, or choose "
            f"another backend."
        )


def _check_triton(device: torch.device) -> None:
    if _missing_triton():
        raise RuntimeError(f"Backend 'triton' is not usable: {_missing_triton()}")
    if device.type != ("cpu" if interprets_triton() else "cuda"):
        wanted = (
            "the CPU for backend 'triton' with TRITON_INTERPRET=1"
            if interprets_triton()
            else ("a GPU for backend 'triton'")
        )
        raise ValueError(f"Expected tensors on {wanted} (got device '{device}'). Move them, or choose another backend.")


def _check_name(name: str | None) -> None:
    if name is not None and name not in BACKENDS:
        raise ValueError(f"Expected a backend out of {BACKENDS} (got {name!r}).")
