"""Gradformer: attention among all nodes of a graph that fades with their distance.

Liu et al., *Gradformer: graph transformer with exponential decay*, IJCAI 2024, arXiv 2404.15729.
"""

from gattn.nn.gradformer.attention import GradformerAttention
from gattn.nn.gradformer.layer import GradformerLayer
from gattn.nn.gradformer.model import Gradformer

__all__ = ["Gradformer", "GradformerAttention", "GradformerLayer"]
