"""The ops in plain PyTorch: the definition of the numbers, on any device, differentiable any number of times."""

from gattn.reference.dropout import dropout_mask
from gattn.reference.ragged import ragged_attention
from gattn.reference.scores import dot, edge_softmax, gat, gat_layer, gatv2, gt
from gattn.reference.shortest_path import shortest_path

__all__ = [
    "dot",
    "dropout_mask",
    "edge_softmax",
    "gat",
    "gat_layer",
    "gatv2",
    "gt",
    "ragged_attention",
    "shortest_path",
]
