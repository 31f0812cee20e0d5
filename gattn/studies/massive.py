"""The study of massive activations (Bini, Sorbi and Marchand-Maillet, arXiv 2409.03463)."""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import nn
from torch_geometric.loader import DataLoader

from gattn.studies.generated import GENERATED, LABELLED
from gattn.studies.graphs import batches, graph_set, parse_name, require_reader
from gattn.studies.loop import Loop
from gattn.studies.massive_data import ENCODING, TASKS, Task, full_graphs
from gattn.studies.massive_examine import examined
from gattn.studies.massive_model import ALONG_EDGES, KINDS, Judged, Network, Plateau, judge
from gattn.studies.massive_perturb import perturbed
from gattn.studies.massive_report import sections
from gattn.studies.plan import Result, Run, bounded, grid_keys
from gattn.terminal import UsageError, require

__all__ = ["GRID", "TITLE", "UNIT", "add_arguments", "protocol", "runs", "sections", "train"]

TITLE = "Massive activations in the attention of graph transformers"
UNIT = "layer × 1000 nodes"
TERMS = ("none", "edge_bias", "kv_slot")

GRID = {
    "datasets": (
        ("ZINC", "TOX21", "PROTEINS"),
        ("BA-2motifs:120", f"{LABELLED}:120"),
        str,
        f"data sets, of {', '.join(TASKS)}; a generated one as BA-2motifs:200 with fewer graphs",
    ),
    "models": (ALONG_EDGES, ALONG_EDGES, str, f"of {', '.join(KINDS)}; the last two attend over all pairs of nodes"),
    "terms": (("none", "edge_bias"), ("none", "edge_bias"), str, f"explicit bias terms, of {', '.join(TERMS)}"),
    "depths": ((10,), (2,), bounded(int, 1), "layers"),
    "seeds": ((1,), (1,), bounded(int, 1), "runs of each, from seeds 0, 1, ..., which also draw the split"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the protocol."""
    parser.add_argument("--epochs", type=bounded(int, 1), help="of every run (default: the data set's; --quick 10)")
    parser.add_argument("--lr", type=bounded(float, 0.0), help="learning rate (default: the network's)")
    parser.add_argument("--batch-size", type=bounded(int, 1), help="graphs in a step (default: 128; --quick 16)")
    parser.add_argument(
        "--train-graphs", type=bounded(int, 1), help="of the training set, drawn with the seed (default: all)"
    )
    parser.add_argument(
        "--patience", type=bounded(int, 1), default=15, help="epochs until the learning rate is halved (default: 15)"
    )
    parser.add_argument(
        "--graphs", type=bounded(int, 1), default=500, help="of the test set that are examined (default: 500)"
    )
    parser.add_argument(
        "--copies", type=bounded(int, 1), default=3, help="untrained copies that make the base (default: 3)"
    )
    parser.add_argument(
        "--perturb", action="store_true", help="perturb the nodes' embeddings of the examined graphs, too"
    )


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The paper's, but for what is given; ``None`` stands for what depends on data set and network."""
    if args.backend == "pyg":
        raise UsageError("--backend pyg: PyTorch Geometric has none of these layers")
    require("scipy.stats", "the gamma fit")
    require("sklearn.metrics", "ROC-AUC")
    return {
        "epochs": 10 if args.quick and args.epochs is None else args.epochs,
        "lr": args.lr,
        "batch": args.batch_size or (16 if args.quick else 128),
        "train_graphs": args.train_graphs,
        "patience": args.patience,
        "graphs": args.graphs,
        "copies": args.copies,
        "perturb": args.perturb,
    }


def variant(protocol: dict[str, Any]) -> list[str]:
    """None has a page of its own."""
    return []


def runs(protocol: dict[str, Any], grid: dict[str, list[Any]]) -> list[Run]:
    """All runs."""
    for option, known in (("models", tuple(KINDS)), ("terms", TERMS)):
        for value in grid[option]:
            if value not in known:
                raise UsageError(f"unknown {option[:-1]} {value!r}; expected some of {', '.join(known)}")
    found = []
    for key in grid_keys(grid):
        name, size = parse_name(key["dataset"])
        if name not in TASKS:
            raise UsageError(f"data set {name!r} has no task here; expected some of {', '.join(TASKS)}")
        require_reader(name)
        found.append(Run(key, protocol["epochs"] or TASKS[name].epochs, _thousands(name, size, protocol)))
    return found


def _thousands(name: str, size: int, protocol: dict[str, Any]) -> int:
    """Of nodes in an epoch, at least 1."""
    task = TASKS[name]
    graphs = task.graphs * (size / GENERATED[name][1] if size else 1)
    return max(1, round(min(graphs, protocol["train_graphs"] or math.inf) * task.nodes / task.graphs / 1000))


def train(run: Run, protocol: dict[str, Any], loop: Loop) -> Result:
    """Trains to the last epoch, or until the loss is no finite number; then examines the network of that epoch, beside
    untrained ones, on graphs of the test set."""
    dataset, seed, kind = run.key["dataset"], run.key["seed"], run.key["model"]
    task, nan = TASKS[parse_name(dataset)[0]], math.nan
    data = graph_set(dataset, protocol["root"], ENCODING, distances=False)
    term = None if run.key["term"] == "none" else run.key["term"]
    model = Network(data, kind, run.depth, term)
    own, *others = data.split(seed)
    parts = [own[: protocol["train_graphs"]], *others]
    if KINDS[kind].pairs is not None:
        parts = [full_graphs(part, model.added) for part in parts]
    loader = DataLoader(parts[0], protocol["batch"], shuffle=True)
    val, test, shown = (batches(part, protocol["batch"]) for part in (*parts[1:], parts[2][: protocol["graphs"]]))
    plateau = Plateau(protocol["lr"] or KINDS[kind].lr, protocol["patience"])
    optimizer = torch.optim.Adam(model.parameters(), plateau.lr)
    record: dict[str, Any] = {"loss": nan, "val": nan, **plateau.start()}
    for _ in loop.epochs(model, optimizer, record):
        for group in optimizer.param_groups:
            group["lr"] = record["rate"]
        record["loss"] = _epoch(model, loader, optimizer, task)
        if not math.isfinite(record["loss"]):
            break
        record["val"] = judge(model, val, task).loss
        plateau.step(record, record["val"])
        loop.text = f"loss {record['loss']:.3f} val {record['val']:.3f}"
    trained = math.isfinite(record["loss"])
    judged = judge(model, test, task) if trained else Judged(nan, nan)
    return {
        "epochs": loop.epoch,
        "loss": record["loss"],
        "val": record["val"] if trained else nan,
        "test": judged.loss,
        "metric": judged.metric,
        "training_graphs": len(parts[0]),
        "of_training_graphs": len(own),
        "note": data.note,
        "ms_per_epoch": loop.ms_per_epoch,
        **examined(model, shown, protocol["copies"], task, model.added),
        **(perturbed(model, shown, task, seed) if protocol["perturb"] and trained else {}),
    }


def _epoch(model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, task: Task) -> float:
    """The mean loss of everything that is labelled; not finite as soon as a batch's is not."""
    model.train()
    total, count = 0.0, 0
    for batch in loader:
        if batch.num_nodes == 1:  # BatchNorm refuses to train on one row
            continue
        optimizer.zero_grad()
        each = task.each(model(batch), batch.y)
        if not len(each):  # no label of these graphs is known
            continue
        loss = each.mean()
        value = loss.item()
        total, count = total + value * len(each), count + len(each)
        if not math.isfinite(value):
            return float(value)
        loss.backward()
        optimizer.step()
    return total / count if count else math.nan
