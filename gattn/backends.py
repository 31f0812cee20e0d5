"""Which programs can compute the ops: what is usable here, and which one is chosen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

try:
    from gattn import _C
except ImportError as error:  # the package was not built; the reason is shown wherever the backend is asked for
    _C = None  # type: ignore[assignment]
    _BUILD_ERROR = str(error)
else:
    _BUILD_ERROR = ""

__all__ = ["BACKENDS", "_C", "backends", "select_backend", "use_backend"]

BACKENDS = ("reference", "cpu")


class _Choice(threading.local):
    """What :func:`use_backend` chose. Not a context variable: torch.compile reads and guards this one."""

    def __init__(self) -> None:  # runs once a thread
        self.name: str | None = None


_choice = _Choice()


def backends() -> dict[str, tuple[bool, str]]:
    """Maps each backend's name to ``(usable, reason)``.

    ``reference`` is plain PyTorch and runs on every device; ``cpu`` is the compiled C++ core.
    """
    if _C is None:
        cpu = (False, f"the compiled core gattn._C does not import ({_BUILD_ERROR}); run 'pip install .'")
    else:
        cpu = (True, f"instruction set {_C.isa()}, threads from {_C.pool()}")
    return {"reference": (True, "plain PyTorch, any device"), "cpu": cpu}


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


def select_backend(backend: str | None, device: torch.device) -> str:
    """The backend for tensors on ``device``: the argument, else :func:`use_backend`'s, else the fastest usable.

    Raises:
        ValueError: the name is no backend, or the backend does not compute on ``device``.
        RuntimeError: the backend cannot be used here; the message says why.
    """
    name = backend if backend is not None else _choice.name
    if name is None:
        if device.type != "cpu":
            return "reference"
        name = "cpu"
    elif name not in BACKENDS:
        _check_name(name)
    if name == "cpu":
        if device.type != "cpu":
            raise ValueError(
                f"Expected tensors on the CPU for backend 'cpu' (got device '{device}'). Move them, or choose another "
                f"backend."
            )
        if _C is None:
            raise RuntimeError(f"Backend 'cpu' is not usable: {backends()['cpu'][1]}")
    return name


def _check_name(name: str | None) -> None:
    if name is not None and name not in BACKENDS:
        raise ValueError(f"Expected a backend out of {BACKENDS} (got {name!r}).")
