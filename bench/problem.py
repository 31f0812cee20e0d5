"""One benchmark problem: a graph, a layer, and the tensors that every contender is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from gattn.bench.graphs import GraphCase, load
from gattn.bench.layers import LAYERS, Layer, Parameters
from torch import Tensor


@dataclass
class Problem:
    """Inputs of one forward and backward; contenders copy what they change.

    ``x`` ``[N, F]``, ``edge_attr`` ``[E, D]``, ``grad_out`` ``[N, H*C]`` and ``parameters`` are fp32;
    ``edge_index`` ``[2, E]`` has no self-loops, ``looped`` has them appended in the order in which the layer would.
    """

    case: GraphCase
    layer: Layer
    edge_index: Tensor
    x: Tensor
    grad_out: Tensor
    parameters: Parameters
    edge_attr: Tensor | None = None

    @classmethod
    def build(cls, case: GraphCase, layer: str = "gat", edge_index: Tensor | None = None) -> Problem:
        """The problem of a case; the same tensors every time, on the device of ``edge_index`` if that is given."""
        chosen = LAYERS[layer]
        edge_index = load(case) if edge_index is None else edge_index
        device = edge_index.device
        generator = torch.Generator().manual_seed(case.seed + 1)
        problem = cls(
            case,
            chosen,
            edge_index,
            torch.randn(case.num_nodes, case.in_channels, generator=generator).to(device),
            torch.randn(case.num_nodes, case.heads * case.channels, generator=generator).to(device),
            {name: value.to(device) for name, value in chosen.parameters(case, generator).items()},
        )
        if chosen.edge_channels:
            attr = torch.randn(case.given_edges, chosen.edge_channels, generator=generator)
            problem.edge_attr = attr.to(device)
        if not case.sampled_gate:  # a sample leaves such nodes out instead
            problem._leave_kinks(generator)
        return problem

    def _leave_kinks(self, generator: torch.Generator) -> None:
        """Redraw nodes at edges so near LeakyReLU's kink that rounding would decide the gradient.

        Among a million edges there are some, and no contender could then be told right from wrong.
        """
        degree = torch.bincount(self.looped.flatten(), minlength=self.case.num_nodes)
        for _ in range(20):
            near = self.layer.near_kink(self.x, self.parameters, self.looped, self.looped_attr)
            if not near.any():
                return
            # Of either edge's nodes the one with fewer edges that could come near a kink next time.
            source, target = self.looped[:, near]
            nodes = torch.where(degree[source] < degree[target], source, target).unique()
            self.x[nodes] = torch.randn(len(nodes), self.x.size(1), generator=generator).to(self.x.device)
        raise RuntimeError(
            f"graph {self.case.name!r}: got logits at LeakyReLU's kink in 20 draws, expected none; "
            "choose another seed or fewer edges"
        )

    @property
    def given(self) -> tuple[Tensor, Tensor | None]:
        """The edges and their features as the layer is called with them."""
        if self.layer.adds_loops:
            return self.edge_index, self.edge_attr
        return self.looped, self.looped_attr

    @cached_property
    def looped_attr(self) -> Tensor | None:
        """The features of ``looped``: a loop's are the mean of its node's in-edges', as PyG's layers fill them."""
        if self.edge_attr is None:
            return None
        target, nodes = self.edge_index[1].long(), self.case.num_nodes
        total = self.edge_attr.new_zeros(nodes, self.edge_attr.size(1)).index_add(0, target, self.edge_attr)
        count = torch.bincount(target, minlength=nodes).clamp(min=1)
        return torch.cat([self.edge_attr, total / count.unsqueeze(1)])

    @cached_property
    def looped(self) -> Tensor:
        """``edge_index`` with one loop a node appended, for contenders that do not add loops themselves."""
        loops = torch.arange(self.case.num_nodes, dtype=self.edge_index.dtype, device=self.edge_index.device)
        return torch.cat([self.edge_index, loops.expand(2, -1)], dim=1)
