"""Swap a model's PyG attention layers for fused ones in place, and back."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

from gattn.nn.gat_conv import FusedGATConv
from gattn.nn.gatv2_conv import FusedGATv2Conv
from gattn.nn.transformer_conv import FusedTransformerConv

# PyG layer -> fused layer. Exact types only: a user's subclass may have changed what the layer computes.
_FUSED: dict[Any, Any] = {GATConv: FusedGATConv, GATv2Conv: FusedGATv2Conv, TransformerConv: FusedTransformerConv}
_PLAIN = {fused: plain for plain, fused in _FUSED.items()}


def fuse(model: nn.Module, *, backend: str | None = None) -> list[str]:
    """Make every supported PyG attention layer of ``model`` a fused one, in place.

    A layer keeps its identity and everything it holds (parameters, buffers, hooks, training flag): only its
    class changes. So optimizers, shared modules and references from elsewhere stay valid, and the
    state dict does not change. Subclasses of PyG's layers are left alone.

    Args:
        model: any module; may itself be a layer.
        backend: as in the layers' constructors, set on every swapped layer.

    Returns:
        The names of the swapped layers, as in ``model.named_modules()`` (``""`` for ``model`` itself; a
        layer that occurs under several names is listed once).
    """
    swapped = _reclass(model, _FUSED)
    if backend is not None:
        for module in swapped.values():
            module.backend = backend
    return list(swapped)


def unfuse(model: nn.Module) -> list[str]:
    """Undo :func:`fuse`: make every fused layer of ``model`` PyG's own again, in place.

    Also turns layers constructed as fused ones into PyG's. Returns the names, as :func:`fuse` does.

    Raises:
        ValueError: A layer computes what PyG's cannot (``norm="lipschitz"``). Nothing is swapped then.
    """
    normed = [name for name, module in model.named_modules() if type(module) in _PLAIN and module.norm is not None]
    if normed:
        raise ValueError(
            f"Expected layers that PyTorch Geometric has (got a norm in {normed}). Set their 'norm' to None, or leave "
            f"them fused."
        )
    swapped = _reclass(model, _PLAIN)
    for module in swapped.values():
        for extra in ("backend", "norm"):
            module.__dict__.pop(extra, None)
    return list(swapped)


def _reclass(model: nn.Module, classes: dict[Any, Any]) -> dict[str, Any]:
    swapped = {name: module for name, module in model.named_modules() if type(module) in classes}
    for module in swapped.values():
        own, state = type(module), module.__dict__
        module.__class__ = classes[own]
        # PyG compiles `propagate` per class when it first meets one, and would take what it finds parked on
        # an instance for the class's own. A compiled one parked there (by an explainer) is the old class's.
        parked = state.pop("propagate", None)
        module._set_jittable_templates()
        compiled = own.__dict__.get("_jinja_propagate")
        if parked is not None and getattr(parked, "__func__", None) is not compiled:
            state["propagate"] = parked
    return swapped
