"""Transforms of PyTorch Geometric's data sets that prepare what gattn's ops and layers read."""

from gattn.transforms.shortest_path import ShortestPath

__all__ = ["ShortestPath"]
