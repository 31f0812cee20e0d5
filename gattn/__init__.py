"""Fast, reproducible attention over graphs: fused kernels behind functional ops and PyTorch Geometric layers."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gattn import ops, reference
from gattn.backends import backends, use_backend
from gattn.graph import Graph

if TYPE_CHECKING:
    from gattn import nn
    from gattn.nn import FusedGATConv, fuse, unfuse

__version__ = version("gattn")
__all__ = [
    "FusedGATConv",
    "Graph",
    "backends",
    "fuse",
    "nn",
    "ops",
    "reference",
    "unfuse",
    "use_backend",
]

# What needs PyTorch Geometric loads on first use: importing gattn stays quick, and gattn.ops works without it.
_LAZY = {"FusedGATConv", "fuse", "unfuse"}


def __getattr__(name: str) -> Any:
    if name == "nn":
        return import_module("gattn.nn")
    if name in _LAZY:
        return getattr(import_module("gattn.nn"), name)
    raise AttributeError(f"module 'gattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
