"""The depth study of LipschitzNorm (Dasoulas, Scaman and Virmaux, ICML 2021, arXiv 2103.04886)."""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gattn.studies.depth import (
    Published,
    depth_panel,
    depth_table,
    gradient_norms,
    gradient_panel,
    percent,
    seeds_text,
)
from gattn.studies.loop import Loop
from gattn.studies.nodes import accuracy, node_data
from gattn.studies.page import Section
from gattn.studies.plan import Result, Run, bounded, grid_keys
from gattn.terminal import UsageError
from gattn.train.data import NodeData

TITLE = "LipschitzNorm: how deep attention networks train"
UNIT = "layer-epoch"
SCHEDULES = ("plateau", "constant")
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
#: Below this learning rate Adam moves no weight by more than .00025 in the 2500 epochs of the longest run.
_LAST_LR = 1e-7


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
    parser.add_argument(
        "--channels",
        type=bounded(int, 1),
        default=_HIDDEN // _HEADS,
        help=f"of each of the {_HEADS} heads (default: %(default)s, as wide as the first map; the authors' program "
        f"makes layers of {_HEADS} x {_HIDDEN})",
    )
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default=SCHEDULES[0],
        help="of the learning rate: a tenth of it after ten epochs without a better validation loss, as the authors' "
        "program does, or the same to the end (default: %(default)s)",
    )


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The paper's, but for what is given."""
    return {
        "epochs": 30 if args.quick and args.epochs is None else args.epochs,
        "hidden": _HIDDEN,
        "heads": _HEADS,
        "channels": args.channels,
        "dropout": 0.6,
        "attention_dropout": 0.3,
        "lr": args.lr,
        "schedule": args.schedule,
        "weight_decay": 5e-4,
        "normalize": args.normalize,
    }


def variant(protocol: dict[str, Any]) -> list[str]:
    """Scaled features, wide layers, a constant rate."""
    return [
        *(["normalized"] if protocol["normalize"] else []),
        *([f"{protocol['channels']}-channels"] if protocol["channels"] != _HIDDEN // _HEADS else []),
        *(["constant"] if protocol["schedule"] == "constant" else []),
    ]


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
        heads, channels, self.dropout = protocol["heads"], protocol["channels"], protocol["dropout"]
        widths = [protocol["hidden"], *[heads * channels] * depth]
        self.first = nn.Linear(data.x.size(1), widths[0])
        kind, options = _layer(model, protocol)
        self.convs = nn.ModuleList([kind(width, channels, heads, **options) for width in widths[:-1]])
        self.norm: nn.Module | None = None
        if model == "gat-pairnorm":
            from torch_geometric.nn import PairNorm

            self.norm = PairNorm()
        self.last = nn.Linear(widths[-1], data.num_classes)

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
    """Trains to the last epoch, whose test accuracy counts, until no weight moves any more, or until the loss is no
    finite number."""
    data = node_data(run.key["dataset"], protocol["root"], normalize=protocol["normalize"])
    x = _without_features(data, run.key["missing"], run.key["seed"])
    model = DeepNet(run.key["model"], run.depth, data, protocol)
    optimizer = torch.optim.Adam(model.parameters(), protocol["lr"], weight_decay=protocol["weight_decay"])
    schedule = ReduceLROnPlateau(optimizer) if protocol["schedule"] == "plateau" else None
    unknown = [math.nan] * run.depth
    record: dict[str, Any] = {
        **dict.fromkeys(("loss", "test_accuracy", "val_accuracy", "test_at_best"), math.nan),
        "best": -1.0,
        "gradient_first": unknown,
        "gradient_last": unknown,
    }
    for epoch in loop.epochs(model, optimizer, record, schedule):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, data.edge_index)[data.train], data.y[data.train])
        record["loss"] = loss.item()
        if not math.isfinite(record["loss"]):
            break
        loss.backward()
        record["gradient_last"] = gradient_norms(list(model.convs))
        if epoch == 0:
            record["gradient_first"] = record["gradient_last"]
        optimizer.step()
        val_loss = _evaluate(model, x, data, record)
        loop.text = f"loss {record['loss']:.3f} val {record['val_accuracy']:.3f}"
        if schedule is not None:
            schedule.step(val_loss)
            if optimizer.param_groups[0]["lr"] < _LAST_LR:
                break
    if not math.isfinite(record["loss"]):
        record.update(test_accuracy=math.nan, val_accuracy=math.nan)
    record.pop("best")
    return {"epochs": loop.epoch, **record, "ms_per_epoch": loop.ms_per_epoch}


@torch.no_grad()
def _evaluate(model: nn.Module, x: Tensor, data: NodeData, record: dict[str, Any]) -> float:
    """The validation loss; accuracies go into ``record``, NaN where scores are not finite."""
    model.eval()
    scores = model(x, data.edge_index)
    finite = bool(scores.isfinite().all())
    record["val_accuracy"] = accuracy(scores, data, data.val) if finite else math.nan
    record["test_accuracy"] = accuracy(scores, data, data.test) if finite else math.nan
    if record["val_accuracy"] > record["best"]:
        record["best"], record["test_at_best"] = record["val_accuracy"], record["test_accuracy"]
    return F.cross_entropy(scores[data.val], data.y[data.val]).item()


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
        deepest = max(r["depth"] for r in here)
        found.append(
            Section(
                f"{dataset}, {missing} % of the features missing",
                _described(protocol, seeds_text(lines)),
                [
                    depth_table(lines, "test_accuracy", percent, {"published": published}),
                    depth_table(lines, "test_at_best", percent, {}),
                    depth_table(lines, "ms_per_epoch", lambda mean, _: f"{mean:.1f}", {}),
                ],
                [
                    depth_panel(lines, "test_accuracy", "test accuracy, %", published, 100),
                    gradient_panel(lines, "gradient_first", deepest, f"gradient norm, first epoch, {deepest} layers"),
                ],
            )
        )
    return found


def _described(protocol: dict[str, Any], seeds: str) -> str:
    rate = {
        "plateau": "a tenth of the learning rate after every ten epochs without a better validation loss",
        "constant": "a constant learning rate",
    }[protocol["schedule"]]
    return (
        f"{protocol['heads']} heads of {protocol['channels']} channels, features "
        f"{'scaled to rows of sum 1' if protocol['normalize'] else 'as they are'}, {rate}. Test accuracy in per cent, "
        f"mean and standard deviation of {seeds}, after the last epoch and then at the epoch of the best "
        f"validation accuracy; the median milliseconds of an epoch, evaluation included. Dashed and in italics: "
        f"published, after the last epoch (5 runs; Cora's curves are read off a figure)."
    )
