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

    ``x`` ``[N, F]``, ``grad_out`` ``[N, H*C]`` and ``parameters`` are fp32; ``edge_index`` ``[2, E]`` has no
    self-loops, ``looped`` has them appended in the order in which the layer would.
    """

    case: GraphCase
    layer: Layer
    edge_index: Tensor
    x: Tensor
    grad_out: Tensor
    parameters: Parameters

    @classmethod
    def build(cls, case: GraphCase, layer: str = "gat") -> Problem:
        """The problem of a case; the same tensors every time."""
        chosen = LAYERS[layer]
        generator = torch.Generator().manual_seed(case.seed + 1)
        problem = cls(
            case,
            chosen,
            load(case),
            torch.randn(case.num_nodes, case.in_channels, generator=generator),
            torch.randn(case.num_nodes, case.heads * case.channels, generator=generator),
            chosen.parameters(case, generator),
        )
        if not case.sampled_gate:  # a sample leaves such nodes out instead
            problem._leave_kinks(generator)
        return problem

    def _leave_kinks(self, generator: torch.Generator) -> None:
        """Redraw nodes at edges so near LeakyReLU's kink that rounding would decide the gradient.

        Among a million edges there are some, and no contender could then be told right from wrong.
        """
        for _ in range(20):
            near = self.layer.near_kink(self.x, self.parameters, self.looped)
            if not near.any():
                return
            nodes = self.looped[1, near].unique()
            self.x[nodes] = torch.randn(len(nodes), self.x.size(1), generator=generator)
        raise RuntimeError(
            f"graph {self.case.name!r}: got logits at LeakyReLU's kink in 20 draws, expected none; "
            "choose another seed or fewer edges"
        )

    @cached_property
    def looped(self) -> Tensor:
        """``edge_index`` with one loop a node appended, for contenders that do not add loops themselves."""
        loops = torch.arange(self.case.num_nodes, dtype=self.edge_index.dtype)
        return torch.cat([self.edge_index, loops.expand(2, -1)], dim=1)
