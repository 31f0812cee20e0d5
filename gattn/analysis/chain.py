"""A network as its chain of attention layers: which parameters belong to a neuron, on either side of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv


@dataclass(frozen=True, eq=False)
class Layer:
    """The parameters of a GAT or GATv2 layer by what scaling one of its output neurons by ``t > 0`` does to them."""

    conv: nn.Module
    #: ``[H * C | neurons, F]``, of node features: their rows grow by ``t``, and the columns of the next layer's shrink
    node_weights: tuple[nn.Parameter, ...]
    #: ``[H * C, D]``, of edge features in GATv2, and ``[H * C | neurons]``: their rows grow by ``t`` too
    edge_weights: tuple[nn.Parameter, ...]
    biases: tuple[nn.Parameter, ...]
    #: those of ``node_weights`` that read the target alone, where the layer has such
    target_weights: tuple[nn.Parameter, ...]
    #: ``[1, H, C]``, attention vectors: their entries shrink by ``t``
    attention: tuple[nn.Parameter, ...]

    @property
    def all_rows(self) -> tuple[nn.Parameter, ...]:
        """Every parameter with a row for a neuron."""
        return (*self.node_weights, *self.edge_weights, *self.biases)

    @property
    def channels(self) -> int:
        """Channels a head."""
        return int(self.attention[0].shape[2])

    @property
    def neurons(self) -> int:
        """Width of the output: ``H * C``, or ``C`` where the heads' mean is taken."""
        heads, channels = self.attention[0].shape[1:]
        return int(heads * channels if self.conv.concat else channels)

    @property
    def width(self) -> int:
        """Width of the input."""
        return int(self.node_weights[0].shape[1])

    def by_neuron(self, rows: Tensor) -> Tensor:
        """``[H * C | neurons] -> [neurons]``: the sum over what belongs to a neuron, its heads if they are averaged."""
        return rows.view(-1, self.neurons).sum(0)

    @torch.no_grad()
    def scale_rows(self, factors: Tensor) -> None:
        """Multiplies all rows that make a neuron by its entry of ``factors`` ``[neurons]``, in place."""
        for parameter in self.all_rows:
            parameter.mul_(self.to_rows(factors, parameter.shape[0]).view(-1, *[1] * (parameter.dim() - 1)))

    def to_rows(self, by_neuron: Tensor, rows: int) -> Tensor:
        """``[neurons] -> [rows]``: every row gets its neuron's number."""
        return by_neuron.repeat(rows // self.neurons)

    def rows(self, product: Callable[[Tensor], Tensor]) -> Tensor:
        """``[neurons]``: the sum of ``product(parameter)`` over all rows that make the neuron."""
        return _sum(self.by_neuron(product(p).reshape(p.shape[0], -1).sum(1)) for p in self.all_rows)

    def attentions(self, product: Callable[[Tensor], Tensor]) -> Tensor:
        """``[neurons]``: the sum of ``product(parameter)`` over the neuron's entries of the attention vectors."""
        return _sum(self.by_neuron(product(p).flatten()) for p in self.attention)

    def columns(self, product: Callable[[Tensor], Tensor]) -> Tensor:
        """``[width]``: the sum of ``product(parameter)`` over all columns that read an input neuron."""
        return _sum(product(p).sum(0) for p in self.node_weights)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(0)


def attention_chain(convs: nn.Module | Sequence[nn.Module]) -> list[Layer]:
    """The attention layers of a model, or those given, as a chain in which each feeds the next.

    A model's layers are taken in the order in which it registers them. That its activations are positively
    homogeneous (ReLU, LeakyReLU, none) and that nothing else stands between the layers cannot be seen here.

    Raises:
        TypeError: A layer is neither PyG's GATConv or GATv2Conv nor gattn's.
        ValueError: No layer, one that is not initialised, or one whose input is not as wide as its predecessor's
            output.
    """
    if isinstance(convs, nn.Module) and not isinstance(convs, (GATConv, GATv2Conv, nn.ModuleList, nn.Sequential)):
        found = [m for m in convs.modules() if isinstance(m, (GATConv, GATv2Conv))]
    else:
        found = [convs] if isinstance(convs, (GATConv, GATv2Conv)) else list(convs)
    if not found:
        raise ValueError("Expected at least one GATConv or GATv2Conv layer (got none).")
    layers = [_layer(conv) for conv in found]
    for number, (before, after) in enumerate(pairwise(layers)):
        if before.neurons != after.width:
            raise ValueError(
                f"Expected attention layer {number + 1} to read the {before.neurons} neurons of layer {number} (got an "
                f"input of {after.width}): these layers are no chain. Pass the layers of one chain as a list."
            )
    return layers


def _layer(conv: nn.Module) -> Layer:
    if not isinstance(conv, (GATConv, GATv2Conv)):
        raise TypeError(
            f"Expected layers of type GATConv or GATv2Conv, PyG's or gattn's (got '{type(conv).__name__}'). The "
            f"conservation law is known for these."
        )
    if isinstance(conv, GATv2Conv):
        linear = [conv.lin_l] if conv.lin_l is conv.lin_r else [conv.lin_l, conv.lin_r]
        attention: tuple[nn.Parameter, ...] = (conv.att,)
        edges = [] if conv.lin_edge is None else [conv.lin_edge.weight]
    else:
        linear = [lin for lin in (conv.lin, conv.lin_src, conv.lin_dst) if lin is not None]
        attention = (conv.att_src, conv.att_dst)
        edges = []  # they have logits of their own
    targets = [lin.weight for lin in linear[1:]]
    if conv.res is not None:
        linear.append(conv.res)
    weights = tuple(lin.weight for lin in linear)
    if any(nn.parameter.is_lazy(weight) for weight in weights):
        raise ValueError("Expected initialised layers (got one with lazy channels). Run the model once.")
    if len({weight.shape[1] for weight in weights}) > 1:
        raise ValueError(
            f"Expected layers with one set of nodes (got input widths {[weight.shape[1] for weight in weights]})."
        )
    biases = [lin.bias for lin in linear if lin.bias is not None]
    if conv.bias is not None:
        biases.append(conv.bias)
    return Layer(conv, weights, tuple(edges), tuple(biases), tuple(targets), attention)
