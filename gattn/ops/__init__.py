"""Attention over graphs as differentiable functions, on every backend."""

from gattn.ops import build_graph as _build_graph  # noqa: F401  # registers gattn::build_graph
from gattn.ops.activation_stats import activation_stats
from gattn.ops.dot import dot
from gattn.ops.edge_softmax import edge_softmax
from gattn.ops.gat import gat
from gattn.ops.gat_layer import gat_layer
from gattn.ops.gatv2 import gatv2
from gattn.ops.gt import gt
from gattn.ops.ragged_attention import ragged_attention
from gattn.ops.ragged_sparse import NearPairs, near_cutoff, near_pairs
from gattn.ops.shortest_path import shortest_path
from gattn.reference.dropout import dropout_mask

__all__ = [
    "NearPairs",
    "activation_stats",
    "dot",
    "dropout_mask",
    "edge_softmax",
    "gat",
    "gat_layer",
    "gatv2",
    "gt",
    "near_cutoff",
    "near_pairs",
    "ragged_attention",
    "shortest_path",
]
