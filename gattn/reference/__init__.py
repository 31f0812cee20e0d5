"""The ops in plain PyTorch: the definition of the numbers, on any device, differentiable any number of times."""

from gattn.reference.gat import gat, gat_layer
from gattn.reference.softmax import dropout_mask, edge_softmax

__all__ = ["dropout_mask", "edge_softmax", "gat", "gat_layer"]
