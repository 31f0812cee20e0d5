"""Transforms of PyTorch Geometric's data sets that prepare what gattn's ops and layers read."""

from gattn.transforms.full_graph import FullGraph, RandomWalkKernel
from gattn.transforms.shortest_path import ShortestPath

__all__ = ["FullGraph", "RandomWalkKernel", "ShortestPath"]
