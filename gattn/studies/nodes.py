"""What the studies of node classification share: data and accuracy."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from gattn.train.config import Config
from gattn.train.data import NodeData, load


@cache
def node_data(dataset: str, root: str | None, split: int = 0, *, normalize: bool) -> NodeData:
    """The data set; ``normalize``: PyG's features scaled to rows of sum 1."""
    return load(Config(dataset=dataset, root=root, split=split, raw_features=not normalize))


def accuracy(scores: Tensor, data: NodeData, mask: Tensor) -> float:
    """Share of the masked nodes whose class has the largest score."""
    return float((scores[mask].argmax(-1) == data.y[mask]).double().mean())
