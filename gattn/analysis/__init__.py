"""What the papers say about attention over graphs, as functions of a layer's tensors."""

from gattn.analysis.gatv2 import GATv2Gradients, gatv2_gradients

__all__ = ["GATv2Gradients", "gatv2_gradients"]
