"""Drop-in graph attention layers: PyTorch Geometric's modules running on gattn's kernels.

The only part of gattn that imports ``torch_geometric``.
"""

from gattn.nn._swap import fuse, unfuse
from gattn.nn.gat_conv import FusedGATConv
from gattn.nn.gatv2_conv import FusedGATv2Conv
from gattn.nn.transformer_conv import FusedTransformerConv

__all__ = ["FusedGATConv", "FusedGATv2Conv", "FusedTransformerConv", "fuse", "unfuse"]
