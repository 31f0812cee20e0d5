"""Graph transformer layers with edge features, in whose attention massive activations were found.

Bini, Sorbi and Marchand-Maillet, arXiv 2409.03463, examine the layers of Dwivedi and Bresson, SAN and GraphiT.
"""

from gattn.nn.graph_transformer.attention import GTAttention
from gattn.nn.graph_transformer.full import GraphiTLayer, SANLayer
from gattn.nn.graph_transformer.layer import GraphTransformerLayer

__all__ = ["GTAttention", "GraphTransformerLayer", "GraphiTLayer", "SANLayer"]
