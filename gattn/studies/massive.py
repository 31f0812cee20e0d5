"""The study of massive activations (Bini, Sorbi and Marchand-Maillet, arXiv 2409.03463)."""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import nn
from torch_geometric.loader import DataLoader

from gattn.analysis import MassiveActivations
from gattn.analysis.massive import Findings, Report
from gattn.studies.generated import GENERATED
from gattn.studies.graphs import batches, graph_set, parse_name
from gattn.studies.loop import Loop
from gattn.studies.massive_model import ENCODING, KINDS, TASKS, Network, Plateau, loss_of
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
        ("BA-2motifs:120",),
        str,
        f"data sets, of {', '.join(TASKS)}; a generated one as BA-2motifs:200 with fewer graphs",
    ),
    "models": (tuple(KINDS), tuple(KINDS), str, f"of {', '.join(KINDS)}"),
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
        "--patience", type=bounded(int, 1), default=15, help="epochs until the learning rate is halved (default: 15)"
    )
    parser.add_argument(
        "--graphs", type=bounded(int, 1), default=500, help="of the test set that are examined (default: 500)"
    )
    parser.add_argument(
        "--copies", type=bounded(int, 1), default=3, help="untrained copies that make the base (default: 3)"
    )


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The paper's, but for what is given; ``None`` stands for what depends on data set and network."""
    if args.backend == "pyg":
        raise UsageError("--backend pyg: PyTorch Geometric has none of these layers")
    require("scipy.stats", "the gamma fit")
    return {
        "epochs": 10 if args.quick and args.epochs is None else args.epochs,
        "lr": args.lr,
        "batch": args.batch_size or (16 if args.quick else 128),
        "patience": args.patience,
        "graphs": args.graphs,
        "copies": args.copies,
    }


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
        thousands = TASKS[name].nodes / 1000 * (size / GENERATED[name][1] if size else 1)
        found.append(Run(key, protocol["epochs"] or TASKS[name].epochs, max(1, round(thousands))))
    return found


def train(run: Run, protocol: dict[str, Any], loop: Loop) -> Result:
    """Trains to the last epoch, or until the loss is no finite number; then examines the network of that epoch, beside
    untrained ones, on graphs of the test set."""
    dataset, seed, kind = run.key["dataset"], run.key["seed"], run.key["model"]
    task, nan = TASKS[parse_name(dataset)[0]], math.nan
    data = graph_set(dataset, protocol["root"], ENCODING, distances=False)
    parts = data.split(seed)
    loader = DataLoader(parts[0], protocol["batch"], shuffle=True)
    val, test = (batches(part, protocol["batch"]) for part in parts[1:])
    term = None if run.key["term"] == "none" else run.key["term"]
    model = Network(data, kind, run.depth, term)
    plateau = Plateau(protocol["lr"] or KINDS[kind].lr, protocol["patience"])
    optimizer = torch.optim.Adam(model.parameters(), plateau.lr)
    record: dict[str, Any] = {"loss": nan, "val": nan, **plateau.start()}
    for _ in loop.epochs(model, optimizer, record):
        for group in optimizer.param_groups:
            group["lr"] = record["rate"]
        record["loss"] = _epoch(model, loader, optimizer, task)
        if not math.isfinite(record["loss"]):
            break
        record["val"] = loss_of(model, val, task)
        plateau.step(record, record["val"])
        loop.text = f"loss {record['loss']:.3f} val {record['val']:.3f}"
    trained = math.isfinite(record["loss"])
    return {
        "epochs": loop.epoch,
        "loss": record["loss"],
        "val": record["val"] if trained else nan,
        "test": loss_of(model, test, task) if trained else nan,
        "training_graphs": len(parts[0]),
        "note": data.note,
        "ms_per_epoch": loop.ms_per_epoch,
        **_examined(model, batches(parts[2][: protocol["graphs"]], protocol["batch"]), protocol["copies"]),
    }


def _epoch(model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, task: Any) -> float:
    """The mean loss of the graphs; not finite as soon as a batch's is not."""
    model.train()
    total, count = 0.0, 0
    for batch in loader:
        optimizer.zero_grad()
        loss = task.each(model(batch), batch.y).mean()
        value = loss.item()
        total, count = total + value * batch.num_graphs, count + batch.num_graphs
        if not math.isfinite(value):
            return float(value)
        loss.backward()
        optimizer.step()
    return total / count


def _examined(model: nn.Module, data: list[Any], copies: int) -> dict[str, Any]:
    """Lists with a number a layer, and of every layer's graphs."""

    def evaluate(model: nn.Module, _: MassiveActivations) -> None:
        model.eval()
        with torch.no_grad():
            for batch in data:
                model(batch)

    watching = MassiveActivations(model)
    base = watching.base(evaluate, seeds=range(copies))
    with watching:
        evaluate(model, watching)
    return summary(watching.report(base), base)


def summary(report: Report, base: list[Findings]) -> dict[str, Any]:
    """What a result keeps of a report."""
    layers = list(report.layers.values())
    found: dict[str, Any] = {
        "largest_ratio": [float(layer.maxima[0]) if len(layer.maxima) else math.nan for layer in layers],
        "base_ratio": [layer.base_largest for layer in layers],
        "massive": [_massive(layer) for layer in layers],
        "base_massive": [
            sum(copy.stats["activations"].above[layer.threshold] for copy in layer.base) / len(layer.base)
            for layer in layers
        ],
        "massive_graphs": [layer.massive_graphs for layer in layers],
        "graphs_above_base": [layer.graphs_above for layer in layers],
        "graphs": report.settings["graphs"],
        "bad_edges": [layer.stats.bad_rows if layer.stats else 0 for layer in layers],
        "zero_medians": [layer.stats.zero_median_rows if layer.stats else 0 for layer in layers],
    }
    for name, fits in (("", [layer.fits for layer in layers]), ("base_", [layer.base_fits for layer in layers])):
        found[f"{name}statistic"] = [_of(fit.get("activations"), "statistic") for fit in fits]
        found[f"{name}likelihood"] = [_of(fit.get("activations"), "likelihood") for fit in fits]
    found["maxima"] = [[round(float(ratio), 3) for ratio in layer.maxima] for layer in layers]
    bands = [layer.band for layer in layers]
    for name, side in (("band_low", 0), ("band_high", 1)):
        found[name] = [[] if band is None else [round(float(ratio), 3) for ratio in band[side]] for band in bands]
    return {**found, **_carriers(layers)}


def _massive(layer: Any) -> int:
    return int(layer.stats.above[layer.threshold]) if layer.stats else 0


def _of(fit: Any, name: str) -> float:
    return math.nan if fit is None else float(getattr(fit, name))


def _carriers(layers: list[Any]) -> dict[str, Any]:
    """All layers together, by type of edge: how many there are and how many have a massive activation."""
    tables = [layer.record.tables.get("type", {}) for layer in layers]
    kinds = sorted({kind for table in tables for kind in table})
    numbers = [[table[kind] for table in tables if kind in table] for kind in kinds]
    return {
        "types": kinds,
        "type_edges": [sum(each.edges for each in of) for of in numbers],
        "type_carrying": [sum(each.carrying for each in of) for of in numbers],
    }
