"""The depth study of balanced initialisation (Mustafa, Bojchevski and Burkholz, NeurIPS 2023, arXiv 2310.07235)."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gattn.analysis import conserved
from gattn.init import balanced_
from gattn.studies.nodes import (
    accuracy,
    depth_panel,
    depth_table,
    gradient_norms,
    gradient_panel,
    node_data,
    percent,
)
from gattn.studies.page import Section
from gattn.studies.plan import Result, Run, Tick, grid_keys
from gattn.terminal import UsageError

TITLE = "Balanced initialisation: how deep GATv2 networks train"
INITS = ("xavier", "balanced-xavier", "balanced-orthogonal")
NAMES = {"xavier": "Xavier", "balanced-xavier": "balanced Xavier", "balanced-orthogonal": "balanced orthogonal"}

GRID = {
    "datasets": (("Cora", "CiteSeer", "Texas", "Wisconsin"), ("karate",), str, "data sets"),
    "inits": (INITS, INITS, str, f"of {', '.join(INITS)}"),
    "depths": ((2, 5, 10, 20, 40, 64, 80), (2, 8), int, "attention layers"),
    "seeds": ((3,), (1,), int, "runs of each, from seeds 0, 1, ..."),
}

#: Splits of a WebKB data set: seed s takes split s modulo this.
_SPLITS = {"texas": 10, "wisconsin": 10, "cornell": 10}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the protocol."""
    parser.add_argument("--epochs", type=int, help="at the most (default: 5000; with --quick 100)")
    parser.add_argument("--beta", type=float, default=1.0, help="of the balanced initialisation")


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The paper's, but for the largest number of epochs where that is given."""
    epochs = args.epochs if args.epochs is not None else 100 if args.quick else 5000
    return {"epochs": epochs, "hidden": 64, "heads": 1, "lr": 0.1, "converged": 1e-5, "beta": args.beta}


def runs(protocol: dict[str, Any], grid: dict[str, list[Any]]) -> list[Run]:
    """All runs."""
    for init in grid["inits"]:
        if init not in INITS:
            raise UsageError(f"unknown initialisation {init!r}; expected some of {', '.join(INITS)}")
    return [Run(key, protocol["epochs"]) for key in grid_keys(grid)]


class DeepGATv2(nn.Module):
    """GATv2 layers with shared weights, without biases, ReLU between them."""

    def __init__(self, width_in: int, width_out: int, depth: int, protocol: dict[str, Any]) -> None:
        super().__init__()
        if protocol["backend"] == "pyg":
            from torch_geometric.nn import GATv2Conv as Conv
        else:
            from gattn import FusedGATv2Conv as Conv
        hidden, heads = protocol["hidden"], protocol["heads"]
        widths = [width_in, *[hidden] * (depth - 1)]
        self.convs = nn.ModuleList(
            [
                Conv(
                    width,
                    width_out if last else hidden // heads,
                    heads,
                    concat=not last,
                    share_weights=True,
                    bias=False,
                )
                for width, last in zip(widths, [*[False] * (depth - 1), True], strict=True)
            ]
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for conv in self.convs[:-1]:
            x = conv(x, edge_index).relu()
        scores: Tensor = self.convs[-1](x, edge_index)
        return scores


def train(run: Run, protocol: dict[str, Any], tick: Tick) -> Result:
    """Full-batch gradient descent until the training loss is small; the epoch of the best validation counts."""
    dataset, seed = run.key["dataset"], run.key["seed"]
    data = node_data(dataset, protocol["root"], seed % _SPLITS.get(dataset.lower(), 1))
    model = DeepGATv2(data.x.size(1), data.num_classes, run.key["depth"], protocol)
    if run.key["init"] != "xavier":
        balanced_(model.convs, run.key["init"].removeprefix("balanced-"), protocol["beta"])
    optimizer = torch.optim.SGD(model.parameters(), protocol["lr"])
    before = conserved(model.convs)
    started, best, epochs, first = time.perf_counter(), (-1.0, 0.0, 0), run.epochs, [0.0]
    loss = float("nan")
    for epoch in range(run.epochs):
        optimizer.zero_grad()
        scores = model(data.x, data.edge_index)  # no dropout: these are the evaluation's scores too
        objective = F.cross_entropy(scores[data.train], data.y[data.train])
        loss, found = objective.item(), accuracy(scores, data, data.val)
        if found > best[0]:
            best = (found, accuracy(scores, data, data.test), epoch)
        if not loss >= protocol["converged"]:  # converged, or not a number
            epochs = epoch
            break
        objective.backward()
        if epoch == 0:
            first = gradient_norms(list(model.convs))
        optimizer.step()
        tick(1, f"loss {loss:.2e} val {found:.3f}")
    drift = [float((a - b).abs().max()) for a, b in zip(before, conserved(model.convs), strict=True)]
    return {
        "epochs": epochs,
        "converged": loss < protocol["converged"],
        "loss": loss,
        "val_accuracy": best[0],
        "test_accuracy": best[1],
        "best_epoch": best[2],
        "gradient_first": first,
        "imbalance": max((float(c.abs().max()) for c in before), default=0.0),
        "drift": max(drift, default=0.0),
        "ms_per_epoch": (time.perf_counter() - started) / max(1, epochs) * 1e3,
    }


def sections(protocol: dict[str, Any], results: list[Result]) -> list[Section]:
    """One a data set: accuracy, epochs and imbalance by depth, gradients of the deepest."""
    found = []
    for dataset in dict.fromkeys(r["dataset"] for r in results):
        here = [r for r in results if r["dataset"] == dataset]
        lines = {name: [r for r in here if r["init"] == init] for init, name in NAMES.items()}
        lines = {name: rows for name, rows in lines.items() if rows}
        seeds = sorted({r["seed"] for r in here})
        deepest = max(r["depth"] for r in here)
        number = lambda mean, deviation: f"{mean:.0f}" + (f" ± {deviation:.0f}" if deviation else "")  # noqa: E731
        found.append(
            Section(
                dataset,
                f"Test accuracy in per cent at the epoch of the best validation; epochs until the training loss is "
                f"below {protocol['converged']:g} (at most {protocol['epochs']}); the largest change of an invariant "
                f"of the conservation law during training; milliseconds an epoch. Mean and standard deviation of "
                f"{len(seeds)} seed(s).",
                [
                    depth_table(lines, "test_accuracy", percent, {}),
                    depth_table(lines, "epochs", number, {}),
                    depth_table(lines, "drift", lambda mean, _: f"{mean:.2g}", {}),
                    depth_table(lines, "ms_per_epoch", lambda mean, _: f"{mean:.1f}", {}),
                ],
                [
                    depth_panel(lines, "test_accuracy", "test accuracy, %", {}, 100),
                    depth_panel(lines, "epochs", "epochs to converge", {}),
                    gradient_panel(lines, "gradient_first", deepest, f"gradient norm, first epoch, {deepest} layers"),
                ],
            )
        )
    return found
