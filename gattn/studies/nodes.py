"""What the studies of node classification share: data and accuracy."""

from __future__ import annotations

import warnings
from functools import cache

import torch
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


def sparse_where_that_pays(x: Tensor) -> Tensor:
    """Features as CSR where few are not zero: of a bag of words (1 to 5 %) the first layer's linear map and its
    gradient then take a tenth of the time, which would be most of a shallow network's epoch."""
    if torch.count_nonzero(x).item() > x.numel() / 10:
        return x
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return x.to_sparse_csr()
