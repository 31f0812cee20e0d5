"""What every fused layer shares: when to take PyG's own path instead, and saying so once."""

from __future__ import annotations

import logging
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch_geometric.nn.aggr import SumAggregation
from torch_geometric.nn.conv import MessagePassing

from gattn import observers

_log = logging.getLogger("gattn")
_said: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()

# Methods PyG's path calls and the fused path does not: replacing one must bring PyG's path back.
_ROUTED = frozenset(
    {"propagate", "edge_updater", "message", "edge_update", "aggregate", "update", "message_and_aggregate"}
)
# PyG compiles these two per class from a template, keeping what it found as the explainable original.
_COMPILED = ("propagate", "edge_updater")

_PYG_HOOKS = tuple(
    (f"_{stage}_forward{kind}_hooks", stage)
    for stage in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    for kind in ("_pre", "")
)


class FusedConv:
    """Mixin in front of a PyG attention layer whose ``forward`` runs on ``gattn.ops``.

    A layer built on it asks :meth:`_fallback_reason` first and, given a reason, returns :meth:`_fall_back`. It adds
    no per-instance state but ``backend`` and ``norm``, so that a PyG layer becomes a fused one by changing its class
    (:func:`gattn.fuse`).
    """

    backend: str | None = None
    norm: str | None = None
    _overridden: ClassVar[frozenset[str]] = frozenset()

    # What all of PyG's attention layers have.
    heads: int
    out_channels: int
    concat: bool
    dropout: float
    training: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._overridden = frozenset(name for name in _ROUTED if _overrides(cls, name))
        for name in _COMPILED:
            # A compiled `propagate` inherited from the parent class would pass for the original and
            # ignore explanation masks; start every class from the real one.
            if name not in cls._overridden:
                setattr(cls, name, getattr(MessagePassing, name))

    def _fallback_reason(self) -> str | None:
        """Why this call needs PyG's message passing, or ``None`` when the fused path covers it."""
        state = self.__dict__
        if state["_explain"]:
            return "explain mode is on"
        if state["_decomposed_layers"] != 1:
            return f"decomposed_layers={state['_decomposed_layers']}"
        for attribute, stage in _PYG_HOOKS:
            if state[attribute]:
                return f"{stage} hooks are registered"
        if self._overridden:
            return f"{type(self).__name__} overrides {', '.join(sorted(self._overridden))}"
        if (replaced := state.keys() & _ROUTED) and (replaced := self._replaced(replaced)):
            return f"{', '.join(sorted(replaced))} replaced on this instance"
        aggregation = state["_modules"].get("aggr_module")
        if type(aggregation) is not SumAggregation:
            return f"aggr={state['aggr']!r} is not 'add'"
        if has_forward_hooks(aggregation):
            return "hooks are registered on aggr_module"
        return None

    def _replaced(self, names: set[str]) -> set[str]:
        # Leaving explain mode parks the class's compiled `propagate` on the instance.
        own = type(self).__dict__.get("_jinja_propagate")
        return {n for n in names if n != "propagate" or getattr(self.__dict__[n], "__func__", None) is not own}

    def _fall_back(self, reason: str, *args: Any) -> Any:
        """PyG's ``forward``.

        Raises:
            NotImplementedError: The layer has a norm, which PyG's path would leave out.
        """
        if self.norm is not None:
            raise NotImplementedError(
                f"Expected a call that the fused path covers, because PyTorch Geometric's message passing has no "
                f"norm={self.norm!r} (got a reason to leave it: {reason}). Remove that reason, or build the layer with "
                f"norm=None."
            )
        self._report_fallback(reason)
        forward = super().forward  # type: ignore[misc]  # PyG's layer comes next in the order of resolution
        if not observers.present:
            return forward(*args)
        with observers.message_passing(self):
            return forward(*args)

    def _op_options(self) -> dict[str, Any]:
        return {"dropout_p": self.dropout if self.training else 0.0, "backend": self.backend}

    def _split_heads(self, x: Tensor) -> Tensor:
        """``[N, H * C]`` -> ``[N, H, C]``."""
        return x.view(-1, self.heads, self.out_channels)

    def _join_heads(self, out: Tensor) -> Tensor:
        """``[N, H, C]`` -> ``[N, H * C]``, or the heads' mean ``[N, C]``."""
        return out.view(-1, self.heads * self.out_channels) if self.concat else out.mean(dim=1)

    def _report_fallback(self, reason: str) -> None:
        """Log ``reason``, once for this module."""
        assert isinstance(self, nn.Module)
        said = _said.setdefault(self, set())
        if reason not in said:
            said.add(reason)
            _log.warning("%s runs PyTorch Geometric's message passing: %s", self, reason)


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether calling ``module`` runs more than its ``forward``."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _overrides(cls: type, name: str) -> bool:
    """Whether ``cls`` resolves ``name`` to something other than what PyG gave the fused layer."""
    for owner in cls.__mro__:
        if name in owner.__dict__:
            if "_overridden" in owner.__dict__ and owner is not cls:
                return name in owner.__dict__["_overridden"]
            return not owner.__module__.startswith("torch_geometric.")
    return False
