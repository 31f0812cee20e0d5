"""The module that has the CUDA kernels."""

from __future__ import annotations

from typing import Any

try:
    from gattn import _C
except ImportError:  # gattn.backends says why
    core: Any = None
else:
    #: ``None`` where the core was built without them. Tests put the kernels that are compiled for the CPU here.
    core = None if _C.no_cuda else _C
