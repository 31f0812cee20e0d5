"""Node classification data: the embedded ones, and every such data set of PyTorch Geometric by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout

from gattn.terminal import UsageError, require
from gattn.train.config import Config
from gattn.train.roots import pyg_root

#: Data sets that go by a name of their own: PyG class -> (folder below the root, names).
FAMILIES = {
    "Planetoid": ("planetoid", ("Cora", "CiteSeer", "PubMed")),
    "WebKB": ("webkb", ("Cornell", "Texas", "Wisconsin")),
    "WikipediaNetwork": ("wikipedia", ("Chameleon", "Squirrel")),
    "Amazon": ("amazon", ("Computers", "Photo")),
    "Coauthor": ("coauthor", ("CS", "Physics")),
    "HeterophilousGraphDataset": (
        "heterophilous",
        ("Roman-empire", "Amazon-ratings", "Minesweeper", "Tolokers", "Questions"),
    ),
}

#: The digits graph: neighbours of each image, share of the labels for training and for validation.
DIGITS_NEIGHBOURS, DIGITS_TRAIN, DIGITS_VAL = 8, 0.05, 0.2
#: Planetoid's protocol, for data sets that come without a split.
TRAIN_PER_CLASS, VAL_TOTAL = 20, 500


@dataclass(frozen=True)
class NodeData:
    """One graph: ``x`` [N, F] fp32, ``edge_index`` [2, E] int64, ``y`` [N] int64, three bool masks [N].

    A node without a label has ``y`` -1 and is in no mask.
    """

    name: str
    x: Tensor
    edge_index: Tensor
    y: Tensor
    train: Tensor
    val: Tensor
    test: Tensor

    @property
    def num_classes(self) -> int:
        """Labels are ``0 .. num_classes - 1``."""
        return int(self.y.max()) + 1

    @cached_property
    def _nonzero(self) -> tuple[Tensor, Tensor]:
        """Positions in the flattened features, and values, of what is not zero."""
        flat = self.x.flatten()
        positions = flat.nonzero().flatten()
        return positions, flat[positions]

    def dropped_features(self, p: float) -> Tensor:
        """``x`` with dropout.

        Bags of words are nearly all zeros: drawing for the others only has the same outcome, and saves the
        random numbers that would otherwise take most of an epoch's time.
        """
        positions, values = self._nonzero
        if 4 * len(values) > self.x.numel():
            return dropout(self.x, p)
        x = torch.zeros_like(self.x)
        x.view(-1)[positions] = dropout(values, p)
        return x


def load(config: Config) -> NodeData:
    """The data set that ``config`` names, validated; :class:`UsageError` when it cannot be had."""
    if config.dataset.lower() == "digits":
        return _digits()
    datasets = require("torch_geometric.datasets", f"data set {config.dataset!r}")
    if config.dataset.lower() == "karate":
        return _karate(datasets)
    return _from_pyg(datasets, config)


def _digits() -> NodeData:
    """1797 handwritten digits of 8 x 8 pixels, each joined with its nearest neighbours, both ways."""
    loader = require("sklearn.datasets", "the digits data set")
    digits = loader.load_digits()
    x = torch.from_numpy(digits.data).float() / 16
    y = torch.from_numpy(digits.target).long()
    nodes = torch.arange(len(x))
    distance = torch.cdist(x.double(), x.double()).fill_diagonal_(float("inf"))
    near = distance.topk(DIGITS_NEIGHBOURS, largest=False).indices
    joined = torch.zeros(len(x), len(x), dtype=torch.bool)
    joined[nodes[:, None], near] = True
    train, val, test = _random_split(y, round(len(x) * DIGITS_TRAIN / 10), round(len(x) * DIGITS_VAL))
    return NodeData("digits", x, (joined | joined.T).nonzero().T.contiguous(), y, train, val, test)


def _karate(datasets: Any) -> NodeData:
    """Zachary's karate club: 34 members, 4 communities, one labelled member each."""
    data = datasets.KarateClub()[0]
    rest = (~data.train_mask).nonzero().flatten()
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))]
    val, test = _mask(rest[:10], 34), _mask(rest[10:], 34)
    return NodeData("karate", data.x, data.edge_index, data.y, data.train_mask, val, test)


def _from_pyg(datasets: Any, config: Config) -> NodeData:
    class_name, name, family = _resolve(datasets, config.dataset)
    cls = getattr(datasets, class_name)
    arguments: dict[str, Any] = {} if name is None else {"name": name}
    if "root" in inspect.signature(cls.__init__).parameters:
        arguments["root"] = str(pyg_root(config.root, family, name or ""))
    try:
        dataset = cls(**arguments)
    except Exception as error:  # PyG raises whatever its downloader and its readers do
        where = f" under {arguments['root']}" if "root" in arguments else ""
        raise UsageError(
            f"cannot load {config.dataset}{where}: {type(error).__name__}: {error}. "
            "Without a network, put its raw files there in PyG's layout (<root>/<name>/raw)"
        ) from error
    if len(dataset) != 1:
        raise UsageError(f"{config.dataset} holds {len(dataset)} graphs, not one to classify nodes on")
    return _node_data(config, name or class_name, dataset[0])


def _resolve(datasets: Any, wanted: str) -> tuple[str, str | None, str]:
    """``Cora`` or ``Class:name`` -> (PyG class, name argument, folder of the family)."""
    class_part, colon, name_part = wanted.partition(":")
    known = {cls.lower(): cls for cls in datasets.__all__}
    for cls, (folder, names) in FAMILIES.items():
        for name in names:
            if (not colon and name.lower() == wanted.lower()) or (
                class_part.lower() == cls.lower() and name.lower() == name_part.lower()
            ):
                return cls, name, folder
    if class_part.lower() in known:
        return known[class_part.lower()], name_part or None, class_part.lower()
    listed = ", ".join(sorted(name for _, group in FAMILIES.values() for name in group))
    raise UsageError(f"unknown data set {wanted!r}: give digits, karate, {listed}, or PyG's Class:name")


def _node_data(config: Config, name: str, data: Any) -> NodeData:
    x, y, edge_index = data.x, data.y, data.edge_index
    if x is None or y is None or edge_index is None:
        raise UsageError(f"{config.dataset} has no node features or labels to train on: {data}")
    y = y.squeeze(-1) if y.dim() == 2 and y.size(1) == 1 else y
    if y.shape != (x.size(0),) or y.is_floating_point():
        raise UsageError(f"{config.dataset} has labels {list(y.shape)} {y.dtype}, not one class per node")
    x = x.to_dense().float()
    if not config.raw_features:  # PyG's NormalizeFeatures
        x = x - x.min()
        x = x / x.sum(-1, keepdim=True).clamp(min=1)
    masks = [_one_split(config, getattr(data, f"{part}_mask", None)) for part in ("train", "val", "test")]
    if any(mask is None for mask in masks):
        masks = list(_random_split(y, TRAIN_PER_CLASS, VAL_TOTAL))
    return NodeData(name, x, edge_index, y, *(mask & (y >= 0) for mask in masks))


def _one_split(config: Config, mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    splits = mask.reshape(mask.size(0), -1)
    if config.split >= splits.size(1):
        raise UsageError(f"--split {config.split}: {config.dataset} has splits 0 to {splits.size(1) - 1}")
    return splits[:, config.split].bool()


def _random_split(y: Tensor, per_class: int, val_total: int) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed split: ``per_class`` labels of each class, ``val_total`` others, and the rest."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    order = order[y[order] >= 0]
    train = torch.cat([order[y[order] == label][:per_class] for label in range(int(y.max()) + 1)])
    rest = order[~torch.isin(order, train)]
    return _mask(train, len(y)), _mask(rest[:val_total], len(y)), _mask(rest[val_total:], len(y))


def _mask(index: Tensor, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[index] = True
    return mask
