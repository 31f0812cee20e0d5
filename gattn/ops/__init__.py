"""Attention over graphs as differentiable functions, on every backend."""

from gattn.ops.edge_softmax import edge_softmax
from gattn.ops.gat import gat
from gattn.ops.gat_layer import gat_layer
from gattn.reference.softmax import dropout_mask

__all__ = ["dropout_mask", "edge_softmax", "gat", "gat_layer"]
