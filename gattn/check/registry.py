"""What the sweep knows of an op and of an optional argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gattn.backends import BACKENDS
from gattn.check.graphs import EdgeList, Random
from gattn.graph import Graph

#: Tensors by name: inputs, outputs, gradients.
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """What inputs are drawn from: the graph, the shape, and a source of random numbers."""

    random: Random
    graph: EdgeList
    heads: int
    channels: int
    #: Whether the op has values, or only weights.
    has_values: bool = True

    def values(self, rows: int) -> Tensor:
        """Features ``[rows, H, C]`` fp64: usual, tiny, or far from zero."""
        scale, offset = self.random.choice(((1.0, 0.0), (1.0, 0.0), (1e-3, 0.0), (1.0, 8.0)))
        return scale * self.random.normal(rows, self.heads, self.channels) + offset

    def logits(self, rows: int) -> Tensor:
        """Part of a score, ``[rows, H]`` fp64: usual, negative, sharp, beyond exp's range, equal, or zero."""
        usual, shifted, sharp, extreme, far = (
            (1.0, 0.0),
            (1.0, -5.0),
            (20.0, 0.0),
            (300.0, 0.0),
            (1.0, 1000.0),
        )
        equal, zero = (0.0, 1.5), (0.0, 0.0)
        scale, offset = self.random.choice((usual, usual, shifted, sharp, extreme, far, equal, zero))
        return scale * self.random.normal(rows, self.heads) + offset


@dataclass(frozen=True)
class Drawn:
    """Differentiable ``tensors`` (fp64, cast later), integer ``constants`` and plain ``options`` (JSON types)."""

    tensors: Tensors = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    constants: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class Modifier:
    """An optional argument of every op, present in a case with probability ``chance``."""

    name: str
    chance: float
    draw: Callable[[Draw], Drawn]
    #: The op's keyword arguments from the drawn tensors (cast, requiring gradients), constants and options.
    arguments: Callable[[Tensors, dict[str, Any]], dict[str, Any]] = lambda tensors, options: options


@dataclass(frozen=True)
class Op:
    """An op in every program that computes it, and the size of the terms that its results are sums of."""

    name: str
    draw: Callable[[Draw], Drawn]
    #: (gattn.ops or gattn.reference, inputs, graph, keyword arguments) -> outputs.
    call: Callable[[ModuleType, Tensors, Graph, dict[str, Any]], Tensors]
    #: (inputs, gradients of outputs, graph, keyword arguments), all fp64 -> for outputs and gradients
    #: ("grad x") the sum of the absolute values of the terms that they are sums of: what rounding errors are
    #: proportional to when terms cancel.
    terms: Callable[[Tensors, Tensors, Graph, dict[str, Any]], Tensors]
    #: Inputs that may be float32 beside half-precision features.
    wide: tuple[str, ...] = ()
    #: Modifiers that it does not take.
    without: tuple[str, ...] = ()
    #: Whether it has values, or only weights.
    has_values: bool = True
    #: Constants among its keyword arguments.
    constants: tuple[str, ...] = ()
    #: Those that compute it.
    backends: tuple[str, ...] = BACKENDS


OPS: dict[str, Op] = {}
MODIFIERS: dict[str, Modifier] = {}


def register(entry: Op | Modifier) -> None:
    """Make an op or a modifier part of every sweep."""
    known: dict[str, Any] = OPS if isinstance(entry, Op) else MODIFIERS
    if entry.name in known:
        raise ValueError(f"{entry.name!r} is registered already")
    known[entry.name] = entry


def sum_rows(values: Tensor, index: Tensor, rows: int) -> Tensor:
    """``values`` [E, ...] summed by ``index`` [E] -> [rows, ...]."""
    return torch.zeros(rows, *values.shape[1:], dtype=values.dtype).index_add(0, index, values)
