"""The depth study of LipschitzNorm (Dasoulas, Scaman and Virmaux, ICML 2021, arXiv 2103.04886)."""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gattn.studies.depth import Published, depth_panel, depth_table, gradient_norms, gradient_panel, percent
from gattn.studies.loop import Loop
from gattn.studies.nodes import accuracy, node_data
from gattn.studies.page import Section
from gattn.studies.plan import Result, Run, bounded, grid_keys
from gattn.terminal import UsageError
from gattn.train.data import NodeData

TITLE = "LipschitzNorm: how deep attention networks train"
UNIT = "layer-epoch"
MODELS = ("gat", "gat-pairnorm", "gat-lip", "gt-lip")
NAMES = {"gat": "GAT", "gat-pairnorm": "GAT + PairNorm", "gat-lip": "GAT-Lip", "gt-lip": "GT-Lip"}

GRID = {
    "datasets": (("Cora", "CiteSeer"), ("digits",), str, "data sets"),
    "missings": (
        (0, 100),
        (0,),
        bounded(int, 0, 100),
        "per cent of the nodes outside the training set without features",
    ),
    "models": (MODELS, ("gat", "gat-lip"), str, f"of {', '.join(MODELS)}"),
    "depths": ((2, 5, 10, 15, 20, 25, 30), (2, 6), bounded(int, 1), "attention layers"),
    "seeds": ((3,), (1,), bounded(int, 1), "runs of each, from seeds 0, 1, ..."),
}

#: Cora, all features, read off the paper's figure (+-.01).
_DEPTHS = (2, 5, 10, 15, 20, 25, 30)
_CORA: dict[str, Published] = {
    "GAT": dict(zip(_DEPTHS, (0.82, 0.79, 0.57, 0.35, 0.32, 0.25, 0.23), strict=True)),
    "GAT-Lip": dict(zip(_DEPTHS, (0.82, 0.83, 0.81, 0.79, 0.77, 0.72, 0.69), strict=True)),
    "GT-Lip": dict(zip(_DEPTHS, (0.82, 0.81, 0.81, 0.81, 0.78, 0.75, 0.72), strict=True)),
}
#: The paper's table at the best depth: (data set, missing) -> model -> depth, accuracy.
_BEST: dict[tuple[str, int], dict[str, Published]] = {
    ("Cora", 0): {"GAT": {2: 0.823}, "GAT + PairNorm": {4: 0.788}, "GAT-Lip": {5: 0.831}},
    ("Cora", 100): {"GAT": {4: 0.653}, "GAT + PairNorm": {12: 0.738}, "GAT-Lip": {11: 0.753}},
    ("CiteSeer", 0): {"GAT": {2: 0.693}, "GAT + PairNorm": {4: 0.672}, "GAT-Lip": {3: 0.691}},
    ("CiteSeer", 100): {"GAT": {4: 0.428}, "GAT + PairNorm": {10: 0.517}, "GAT-Lip": {9: 0.509}},
}

_HEADS, _HIDDEN = 8, 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the protocol."""
    parser.add_argument(
        "--epochs",
        type=bounded(int, 1),
        help="of every run (default: 1000 to 4 layers, 1500 to 7, 2500 beyond; with --quick 30)",
    )
    parser.add_argument("--lr", type=bounded(float, 0.0), default=0.005, help="learning rate (default: 0.005)")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="scale the features to rows of sum 1, which the authors' program does not",
    )


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The paper's, but for what is given."""
    return {
        "epochs": 30 if args.quick and args.epochs is None else args.epochs,
        "hidden": _HIDDEN,
        "heads": _HEADS,
        "dropout": 0.6,
        "attention_dropout": 0.3,
        "lr": args.lr,
        "weight_decay": 5e-4,
        "normalize": args.normalize,
    }


def runs(protocol: dict[str, Any], grid: dict[str, list[Any]]) -> list[Run]:
    """All runs; with PyG's layers those that PyG has."""
    for model in grid["models"]:
        if model not in MODELS:
            raise UsageError(f"unknown model {model!r}; expected some of {', '.join(MODELS)}")
        if model.endswith("-lip") and protocol["backend"] == "pyg":
            raise UsageError(f"{model}: PyTorch Geometric's layers have no LipschitzNorm; leave it out with --models")
    return [Run(key, protocol["epochs"] or _epochs(key["depth"])) for key in grid_keys(grid)]


def _epochs(depth: int) -> int:
    return 1000 if depth <= 4 else 1500 if depth <= 7 else 2500


class DeepNet(nn.Module):
    """Linear, attention layers with dropout before and ELU between them, linear."""

    def __init__(self, model: str, depth: int, data: NodeData, protocol: dict[str, Any]) -> None:
        super().__init__()
        width, heads, self.dropout = protocol["hidden"], protocol["heads"], protocol["dropout"]
        self.first = nn.Linear(data.x.size(1), width)
        kind, options = _layer(model, protocol)
        self.convs = nn.ModuleList([kind(width, width // heads, heads, **options) for _ in range(depth)])
        self.norm: nn.Module | None = None
        if model == "gat-pairnorm":
            from torch_geometric.nn import PairNorm

            self.norm = PairNorm()
        self.last = nn.Linear(width, data.num_classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.first(x)
        for number, conv in enumerate(self.convs):
            x = conv(F.dropout(x, self.dropout, self.training), edge_index)
            if number + 1 < len(self.convs):
                x = F.elu(x)
            if self.norm is not None:
                x = self.norm(x)
        scores: Tensor = self.last(x)
        return scores


def _layer(model: str, protocol: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    options: dict[str, Any] = {"dropout": protocol["attention_dropout"]}
    if protocol["backend"] == "pyg":
        from torch_geometric.nn import GATConv

        return GATConv, options
    import gattn

    norm = "lipschitz" if model.endswith("-lip") else None
    return gattn.FusedTransformerConv if model.startswith("gt") else gattn.FusedGATConv, {**options, "norm": norm}


def _without_features(data: NodeData, per_cent: int, seed: int) -> Tensor:
    """``x`` with the rows of ``per_cent`` of the nodes outside the training set zeroed."""
    others = (~data.train).nonzero().flatten()
    chosen = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))]
    return data.x.index_fill(0, chosen[: round(len(others) * per_cent / 100)], 0.0)


def train(run: Run, protocol: dict[str, Any], loop: Loop) -> Result:
    """Trains to the last epoch, whose test accuracy counts, or until the loss is no finite number."""
    data = node_data(run.key["dataset"], protocol["root"], normalize=protocol["normalize"])
    x = _without_features(data, run.key["missing"], run.key["seed"])
    model = DeepNet(run.key["model"], run.depth, data, protocol)
    optimizer = torch.optim.Adam(model.parameters(), protocol["lr"], weight_decay=protocol["weight_decay"])
    nan = math.nan
    record: dict[str, Any] = {"loss": nan, "gradient_first": [nan] * run.depth, "gradient_last": [nan] * run.depth}
    for epoch in loop.epochs(model, optimizer, record):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, data.edge_index)[data.train], data.y[data.train])
        record["loss"] = loss.item()
        if not math.isfinite(record["loss"]):
            break
        loss.backward()
        if epoch == 0:
            record["gradient_first"] = gradient_norms(list(model.convs))
        if epoch == run.epochs - 1:
            record["gradient_last"] = gradient_norms(list(model.convs))
        optimizer.step()
        loop.text = f"loss {record['loss']:.3f}"
    model.eval()
    with torch.no_grad():
        scores = model(x, data.edge_index)
    trained = bool(scores.isfinite().all())
    return {
        "epochs": loop.epoch,
        "loss": record["loss"],
        "test_accuracy": accuracy(scores, data, data.test) if trained else nan,
        "val_accuracy": accuracy(scores, data, data.val) if trained else nan,
        "gradient_first": record["gradient_first"],
        "gradient_last": record["gradient_last"],
        "ms_per_epoch": loop.ms_per_epoch,
    }


def sections(protocol: dict[str, Any], results: list[Result]) -> list[Section]:
    """One a data set and missing rate: accuracy and time by depth, gradients of the deepest."""
    found = []
    for dataset, missing in dict.fromkeys((r["dataset"], r["missing"]) for r in results):
        here = [r for r in results if (r["dataset"], r["missing"]) == (dataset, missing)]
        lines = {name: [r for r in here if r["model"] == model] for model, name in NAMES.items()}
        lines = {name: rows for name, rows in lines.items() if rows}
        published = {name: dict(curve) for name, curve in (_CORA if (dataset, missing) == ("Cora", 0) else {}).items()}
        for name, best in _BEST.get((dataset, missing), {}).items():
            published.setdefault(name, {}).update(best)
        seeds = sorted({r["seed"] for r in here})
        deepest = max(r["depth"] for r in here)
        found.append(
            Section(
                f"{dataset}, {missing} % of the features missing",
                f"Features {'scaled to rows of sum 1' if protocol['normalize'] else 'as they are'}. "
                f"Test accuracy in per cent after the last epoch, mean and standard deviation of {len(seeds)} seed(s), "
                f"and the median milliseconds of a training epoch. Dashed and in italics: published (5 runs; Cora's "
                f"curves are read off a figure).",
                [
                    depth_table(lines, "test_accuracy", percent, {"published": published}),
                    depth_table(lines, "ms_per_epoch", lambda mean, _: f"{mean:.1f}", {}),
                ],
                [
                    depth_panel(lines, "test_accuracy", "test accuracy, %", published, 100),
                    gradient_panel(lines, "gradient_first", deepest, f"gradient norm, first epoch, {deepest} layers"),
                ],
            )
        )
    return found
