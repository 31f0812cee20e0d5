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
        return cls(
            case,
            chosen,
            load(case),
            torch.randn(case.num_nodes, case.in_channels, generator=generator),
            torch.randn(case.num_nodes, case.heads * case.channels, generator=generator),
            chosen.parameters(case, generator),
        )

    @cached_property
    def looped(self) -> Tensor:
        """``edge_index`` with one loop a node appended, for contenders that do not add loops themselves."""
        loops = torch.arange(self.case.num_nodes, dtype=self.edge_index.dtype)
        return torch.cat([self.edge_index, loops.expand(2, -1)], dim=1)
