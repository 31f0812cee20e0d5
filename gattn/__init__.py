"""Fast, reproducible attention over graphs: fused kernels behind functional ops and PyTorch Geometric layers."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gattn import ops, reference
from gattn.backends import backends, use_backend
from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink

if TYPE_CHECKING:
    from gattn import analysis, init, nn, transforms
    from gattn.nn import FusedGATConv, FusedGATv2Conv, FusedTransformerConv, fuse, unfuse

__version__ = version("gattn")
__all__ = [
    "Decay",
    "FusedGATConv",
    "FusedGATv2Conv",
    "FusedTransformerConv",
    "Graph",
    "Lipschitz",
    "Sink",
    "analysis",
    "backends",
    "fuse",
    "init",
    "nn",
    "ops",
    "reference",
    "transforms",
    "unfuse",
    "use_backend",
]

# What needs PyTorch Geometric loads on first use: importing gattn stays quick, and gattn.ops works without it.
_LAZY_MODULES = {"analysis", "init", "nn", "transforms"}
_LAZY = {"FusedGATConv", "FusedGATv2Conv", "FusedTransformerConv", "fuse", "unfuse"}


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return import_module(f"gattn.{name}")
    if name in _LAZY:
        return getattr(import_module("gattn.nn"), name)
    raise AttributeError(f"module 'gattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
