"""Graph attention layers on gattn's kernels: drop-ins for PyTorch Geometric's, and graph transformers.

The only part of gattn that imports ``torch_geometric``.
"""

from gattn.nn._swap import fuse, unfuse
from gattn.nn.gat_conv import FusedGATConv
from gattn.nn.gated_gcn import GatedGCNConv
from gattn.nn.gatv2_conv import FusedGATv2Conv
from gattn.nn.gradformer import Gradformer, GradformerAttention, GradformerLayer
from gattn.nn.graph_transformer import GraphiTLayer, GraphTransformerLayer, GTAttention, SANLayer
from gattn.nn.transformer_conv import FusedTransformerConv

__all__ = [
    "FusedGATConv",
    "FusedGATv2Conv",
    "FusedTransformerConv",
    "GTAttention",
    "GatedGCNConv",
    "Gradformer",
    "GradformerAttention",
    "GradformerLayer",
    "GraphTransformerLayer",
    "GraphiTLayer",
    "SANLayer",
    "fuse",
    "unfuse",
]
