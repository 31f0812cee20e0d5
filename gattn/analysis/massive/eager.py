"""Compiled code runs eagerly while anybody watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _Stance:
    """One for all threads, as dynamo's is: contexts that overlap without one being inside the other must not leave
    behind what they found."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._set: Any = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._set is None and "torch._dynamo" in sys.modules:  # nothing is compiled before that is loaded
                self._set = torch.compiler.set_stance("force_eager")
                self._set.__enter__()

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._set is not None:
                stance, self._set = self._set, None
                stance.__exit__(None, None, None)


_stance = _Stance()


@contextmanager
def eagerly() -> Iterator[None]:
    """While the first of these contexts is open, and until the last is closed, in whatever threads."""
    _stance.enter()
    try:
        yield
    finally:
        _stance.leave()
