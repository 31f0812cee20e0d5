"""The implementations that are measured side by side, each behind one small adapter.

A :class:`Peer` says whether it can run a case here (and why not) and builds a :class:`Contender`; the
adapters are :mod:`gattn.bench.peers.pyg`, :mod:`~gattn.bench.peers.dgl` and :mod:`~gattn.bench.peers.fused`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from gattn.bench.graphs import GraphCase
from gattn.bench.machine import available_memory
from gattn.bench.problem import Problem
from torch import Tensor

Verdict = tuple[bool, str]  #: (can run, why not)


@dataclass
class Contender:
    """A layer with its weights and inputs in place, ready to be stepped.

    ``leaves`` holds ``x`` and every parameter under its canonical name (:mod:`gattn.bench.layers`), in the
    shape that the implementation wants.
    """

    forward: Callable[[], Tensor]
    leaves: dict[str, Tensor]
    grad_out: Tensor

    def step(self) -> Tensor:
        """Forward, and backward to the input and every parameter, gradients starting from none."""
        self.clear()
        out = self.forward().flatten(1)
        out.backward(self.grad_out)
        return out

    def clear(self) -> None:
        """Drop the gradients, as ``optimizer.zero_grad()`` does."""
        for leaf in self.leaves.values():
            leaf.grad = None

    def result(self, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """``out`` and every gradient after one step, in the shapes of the tensors in ``like``."""
        found = {"out": self.step().detach()}
        for name, leaf in self.leaves.items():
            if leaf.grad is None:
                raise RuntimeError(f"no gradient reached {name!r}: got None, expected a tensor")
            found[f"grad {name}"] = leaf.grad.reshape(like[name].shape)
        self.clear()
        return found


@dataclass(frozen=True)
class Peer:
    """One implementation of the layers in ``build``."""

    name: str
    title: str
    #: packages it imports
    packages: Sequence[str]
    #: adapters by layer name
    build: dict[str, Callable[[Problem], Contender]]
    #: bytes a step certainly needs, and where they come from
    least_memory: Callable[[GraphCase], tuple[int, str]]
    #: anything else that may stand in the way
    obstacle: Callable[[], str | None] = lambda: None

    def can_run(self, case: GraphCase, layer: str) -> Verdict:
        """Whether this peer can run the case on this machine now, and if not, why."""
        if layer not in self.build:
            return False, f"has no layer {layer!r}"
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if absent:
            return False, f"not installed: {', '.join(absent)}"
        obstacle = self.obstacle()
        if obstacle is not None:
            return False, obstacle
        needed, origin = self.least_memory(case)
        free = available_memory()
        if needed > free:
            return False, f"needs {needed / 1e9:.0f} GB ({origin}); {free / 1e9:.0f} GB are available"
        return True, ""

    def contender(self, problem: Problem) -> Contender:
        """The peer's layer on the problem, with the problem's weights copied in."""
        return self.build[problem.layer.name](problem)


def node_bytes(case: GraphCase) -> int:
    """What any layer holds for nodes at its peak: the problem's input and output gradient, its own copy of
    the input, projected features, output before and after the bias, gradients of features and input."""
    return 8 * 4 * case.num_nodes * max(case.in_channels, case.heads * case.channels)


def copy_parameters(module: torch.nn.Module, values: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Copy canonical ``values`` into ``module``; ``names`` maps its parameters to canonical names.

    Returns the module's parameters by canonical name. A parameter left over on either side is an error, so
    that no contender can quietly compute less.
    """
    own = dict(module.named_parameters())
    if set(own) != set(names) or set(names.values()) != set(values):
        raise RuntimeError(f"parameters differ: got {sorted(own)}, expected {sorted(names)}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(values[names[name]].view_as(parameter))
    return {names[name]: parameter for name, parameter in own.items()}


def all_peers() -> dict[str, Peer]:
    """Every peer by name, gattn first."""
    from gattn.bench.peers import dgl, fused, pyg

    return {peer.name: peer for peer in (fused.GATTN, *pyg.PEERS, dgl.DGL)}
