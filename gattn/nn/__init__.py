"""Drop-in graph attention layers: PyTorch Geometric's modules running on gattn's kernels.

The only part of gattn that imports ``torch_geometric``.
"""

from gattn.nn._swap import fuse, unfuse
from gattn.nn.gat_conv import FusedGATConv

__all__ = ["FusedGATConv", "fuse", "unfuse"]
