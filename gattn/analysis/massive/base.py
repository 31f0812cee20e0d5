"""Untrained copies of a model."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn


def untrained(model: nn.Module, seed: int, reset: Callable[[nn.Module], object] | None = None) -> nn.Module:
    """A copy of ``model`` with parameters as they are before training, from ``seed``; torch's generators go on as if
    nothing had been drawn.

    Raises:
        ValueError: A parameter is of no module with ``reset_parameters``, nor of one inside such, without ``reset``.
    """
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if reset is not None:
            reset(fresh)
            return fresh
        left = _without_reset(fresh)
        if left:
            raise ValueError(
                f"Expected every parameter to be of a module with 'reset_parameters' (got {', '.join(left[:5])}"
                f"{', ...' if len(left) > 5 else ''}). Pass reset=, a function that initialises a copy."
            )
        with torch.no_grad():
            for module in fresh.modules():
                again = getattr(module, "reset_parameters", None)
                if callable(again):
                    again()
    return fresh


def _resets(module: nn.Module) -> bool:
    return callable(getattr(module, "reset_parameters", None))


def _without_reset(model: nn.Module, prefix: str = "") -> list[str]:
    """Names of the parameters that no ``reset_parameters`` is responsible for."""
    if _resets(model):
        return []
    own = [f"{prefix}{name}" for name, parameter in model.named_parameters(recurse=False) if parameter.requires_grad]
    for name, child in model.named_children():
        own += _without_reset(child, f"{prefix}{name}.")
    return own
