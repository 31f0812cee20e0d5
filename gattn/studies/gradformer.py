"""The study of Gradformer (Liu et al., IJCAI 2024, arXiv 2404.15729): decay against none, by depth and training set."""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor
from torch_geometric.loader import DataLoader

from gattn.nn import Gradformer
from gattn.studies.depth import gradient_norms
from gattn.studies.generated import GENERATED
from gattn.studies.gradformer_report import NAMES, sections
from gattn.studies.gradformer_settings import METRICS, SETTINGS, Setting
from gattn.studies.graphs import GraphSet, batches, graph_set, parse_name
from gattn.studies.loop import Loop
from gattn.studies.padded import PaddedGradformer
from gattn.studies.plan import Result, Run, bounded, grid_keys
from gattn.terminal import UsageError

__all__ = ["GRID", "NAMES", "TITLE", "UNIT", "add_arguments", "protocol", "runs", "sections", "train"]

TITLE = "Gradformer: attention that fades with distance, beside attention that does not"
MODELS = tuple(NAMES)
UNIT = "layer × 1000 nodes"

GRID = {
    "datasets": (
        ("MUTAG", "PROTEINS", "NCI1"),
        ("BA-2motifs:200",),
        str,
        f"data sets, of {', '.join(SETTINGS)}; generated ones as CLUSTER:1200 with fewer graphs",
    ),
    "models": (MODELS, MODELS, str, f"of {', '.join(MODELS)}"),
    "fractions": ((100,), (100,), bounded(int, 1, 100), "per cent of the training graphs"),
    "depths": ((4,), (2,), bounded(int, 1), "blocks"),
    "seeds": ((10,), (1,), bounded(int, 1), "runs of each, from seeds 0, 1, ..., which also draw the split"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the protocol."""
    parser.add_argument("--epochs", type=bounded(int, 1), help="of every run (default: the data set's; --quick 10)")
    parser.add_argument("--lr", type=bounded(float, 0.0), help="learning rate (default: the data set's)")
    parser.add_argument("--gamma", type=bounded(float, 0.0, 1.0), help="decay a hop (default: the data set's)")
    parser.add_argument("--batch-size", type=bounded(int, 1), help="graphs in a step (default: the data set's)")
    parser.add_argument(
        "--attention-dropout",
        type=_probability,
        default=0.5,
        help="of attention weights (default: 0.5); 0 makes both backends train alike, up to rounding",
    )
    parser.add_argument(
        "--hops",
        choices=("shared", "layer"),
        default="shared",
        help="one set of hops for all layers, as in the released program, or one a layer, as in the paper",
    )


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be at least 0 and at most 1, got {text}")
    return value


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The released program's, but for what is given; ``None`` stands for what depends on the data set."""
    return {
        "epochs": 10 if args.quick and args.epochs is None else args.epochs,
        "lr": args.lr,
        "gamma": args.gamma,
        "batch": args.batch_size,
        "attention_dropout": args.attention_dropout,
        "hops": args.hops,
    }


def variant(protocol: dict[str, Any]) -> list[str]:
    """None has a page of its own."""
    return []


def runs(protocol: dict[str, Any], grid: dict[str, list[Any]]) -> list[Run]:
    """All runs."""
    for model in grid["models"]:
        if model not in MODELS:
            raise UsageError(f"unknown model {model!r}; expected some of {', '.join(MODELS)}")
    found = []
    for key in grid_keys(grid):
        name, size = parse_name(key["dataset"])
        if name not in SETTINGS:
            raise UsageError(f"data set {name!r} has no settings here; expected some of {', '.join(SETTINGS)}")
        thousands = SETTINGS[name].nodes / 1000 * key["fraction"] / 100
        if size:
            thousands *= size / GENERATED[name][1]
        found.append(Run(key, protocol["epochs"] or SETTINGS[name].epochs, max(1, round(thousands))))
    return found


def network(data: GraphSet, run: Run, protocol: dict[str, Any], setting: Setting) -> Gradformer:
    """A new network for the data."""
    kind = PaddedGradformer if protocol["backend"] == "pyg" else Gradformer
    return kind(
        data.in_channels,
        data.out_channels,
        channels=setting.channels,
        layers=run.depth,
        heads=setting.heads,
        edge_channels=data.edge_channels or None,
        edge_encoder="embedding",
        encoding="encoding",
        encoding_channels=setting.encoding[1],
        attention="decay" if run.key["model"] == "gradformer" else "plain",
        attention_dropout=protocol["attention_dropout"],
        share_hops=protocol["hops"] == "shared",
        hop=setting.hop,
        gamma=protocol["gamma"] or setting.gamma,
        slope=setting.slope,
        **setting.network,
    )


def train(run: Run, protocol: dict[str, Any], loop: Loop) -> Result:
    """Trains to the last epoch, or until the loss is no finite number; the epoch of the best validation counts."""
    dataset, seed = run.key["dataset"], run.key["seed"]
    setting = SETTINGS[parse_name(dataset)[0]]
    data = graph_set(dataset, protocol["root"], setting.encoding)
    parts = data.split(seed, run.key["fraction"])
    size = protocol["batch"] or setting.batch
    # It shuffles with numbers from torch's stream, which the checkpoint holds.
    loader = DataLoader(parts[0], size, shuffle=True)
    val, test = (batches(part, size) for part in parts[1:])
    metric = METRICS[setting.metric]
    model = network(data, run, protocol, setting)
    optimizer = setting.optimizer(model, protocol["lr"])
    nan = math.nan
    record: dict[str, Any] = {
        "loss": nan,
        "val": nan,
        "test": nan,
        "best_epoch": 0,
        "gradient_first": [nan] * run.depth,
    }
    for epoch in loop.epochs(model, optimizer, record):
        setting.set_rate(optimizer, protocol["lr"], epoch, run.epochs)
        if not _train_epoch(model, loader, optimizer, setting, record):
            break
        found = metric.of(model, val)
        if epoch == 0 or metric.better(found, record["val"]):
            record.update(val=found, test=metric.of(model, test), best_epoch=epoch)
        loop.text = f"loss {record['loss']:.3f} val {found:.3f}"
    trained = math.isfinite(record["loss"])
    return {
        "epochs": loop.epoch,
        "loss": record["loss"],
        "metric": setting.metric,
        "val": record["val"] if trained else nan,
        "test": record["test"] if trained else nan,
        "best_epoch": record["best_epoch"],
        "training_graphs": len(parts[0]),
        "note": data.note,
        "hops": model.hops.tolist(),
        "gradient_first": record["gradient_first"],
        "ms_per_epoch": loop.ms_per_epoch,
    }


def _train_epoch(
    model: Gradformer, loader: Any, optimizer: torch.optim.Optimizer, setting: Setting, record: dict[str, Any]
) -> bool:
    """Whether the loss stayed finite; its mean over the graphs goes into ``record``."""
    model.train()
    total, count = 0.0, 0
    for batch in loader:
        optimizer.zero_grad()
        loss: Tensor = METRICS[setting.metric].loss(model(batch), batch.y)
        value = loss.item()
        total, count = total + value * batch.num_graphs, count + batch.num_graphs
        if not math.isfinite(value):
            break
        loss.backward()
        if any(map(math.isnan, record["gradient_first"])):
            record["gradient_first"] = gradient_norms(list(model.layers))
        optimizer.step()
    record["loss"] = total / count
    return math.isfinite(record["loss"])
