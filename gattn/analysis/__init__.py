"""What the papers say about attention over graphs, as functions of a layer's tensors."""

from gattn.analysis.conservation import Conservation, conservation, conserved, rebalance_
from gattn.analysis.gatv2 import GATv2Gradients, gatv2_gradients

__all__ = ["Conservation", "GATv2Gradients", "conservation", "conserved", "gatv2_gradients", "rebalance_"]
