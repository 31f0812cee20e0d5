"""The depth study of balanced initialisation (Mustafa, Bojchevski and Burkholz, NeurIPS 2023, arXiv 2310.07235)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gattn.analysis import conserved
from gattn.init import balanced_
from gattn.studies.depth import depth_panel, depth_table, gradient_norms, gradient_panel, percent, seeds_text
from gattn.studies.loop import Loop
from gattn.studies.nodes import accuracy, node_data, sparse_where_that_pays
from gattn.studies.page import Section
from gattn.studies.plan import Result, Run, bounded, grid_keys
from gattn.terminal import UsageError
from gattn.train.data import FAMILIES

TITLE = "Balanced initialisation: how deep GATv2 networks train"
UNIT = "layer-epoch"
INITS = ("xavier", "balanced-xavier", "balanced-orthogonal")
NAMES = {"xavier": "Xavier", "balanced-xavier": "balanced Xavier", "balanced-orthogonal": "balanced orthogonal"}

GRID = {
    "datasets": (("Cora", "CiteSeer", "Texas", "Wisconsin"), ("karate",), str, "data sets"),
    "inits": (INITS, INITS, str, f"of {', '.join(INITS)}"),
    "depths": ((2, 5, 10, 20, 40, 64, 80), (2, 8), bounded(int, 1), "attention layers"),
    "seeds": ((3,), (1,), bounded(int, 1), "runs of each, from seeds 0, 1, ..."),
}

#: Splits of a WebKB data set: seed s takes split s modulo this.
_SPLITS = {"texas": 10, "wisconsin": 10, "cornell": 10}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the protocol."""
    parser.add_argument("--epochs", type=bounded(int, 1), help="at the most (default: 5000; with --quick 100)")
    parser.add_argument("--lr", type=bounded(float, 0.0), default=0.1, help="learning rate (default: 0.1)")
    parser.add_argument(
        "--beta", type=bounded(float, 0.0, 1.0), default=1.0, help="of the balanced initialisation (default: 1)"
    )
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale the features to rows of sum 1 (default: those of citation networks alone)",
    )


def protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The paper's, but for what is given."""
    return {
        "epochs": args.epochs or (100 if args.quick else 5000),
        "hidden": 64,
        "heads": 1,
        "lr": args.lr,
        "converged": 1e-5,
        "beta": args.beta,
        "normalize": args.normalize,
    }


def _normalize(dataset: str, asked: bool | None) -> bool:
    """Whether rows are scaled: if not asked for, as in the authors' program, which scales Planetoid's and leaves the
    features of heterophilic graphs as they are. (Scaled, two layers are at a training loss of 1.1 on Texas after 1000
    epochs, and of .02 otherwise.)"""
    citation = [name.lower() for name in FAMILIES["Planetoid"][1]]
    return dataset.rpartition(":")[2].lower() in citation if asked is None else asked


def variant(protocol: dict[str, Any]) -> list[str]:
    """Scaled features where the paper's are not."""
    return ["normalized"] if protocol["normalize"] else []


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


def train(run: Run, protocol: dict[str, Any], loop: Loop) -> Result:
    """Full-batch gradient descent until the training loss is small; the epoch of the best validation counts."""
    dataset, seed = run.key["dataset"], run.key["seed"]
    split = seed % _SPLITS.get(dataset.lower(), 1)
    data = node_data(dataset, protocol["root"], split, normalize=_normalize(dataset, protocol["normalize"]))
    model = DeepGATv2(data.x.size(1), data.num_classes, run.depth, protocol)
    if run.key["init"] != "xavier":
        balanced_(model.convs, run.key["init"].removeprefix("balanced-"), protocol["beta"])
    x = sparse_where_that_pays(data.x)
    optimizer = torch.optim.SGD(model.parameters(), protocol["lr"])
    before = conserved(model.convs)
    nan = math.nan
    record: dict[str, Any] = {
        "loss": nan,
        "val": nan,
        "test": nan,
        "best_epoch": 0,
        "gradient_first": [nan] * run.depth,
    }
    last_loss, still = nan, False
    for epoch in loop.epochs(model, optimizer, record):
        optimizer.zero_grad()
        scores = model(x, data.edge_index)  # no dropout: these are the evaluation's scores too
        objective = F.cross_entropy(scores[data.train], data.y[data.train])
        record["loss"] = objective.item()
        if not math.isfinite(record["loss"]):
            break
        found = accuracy(scores, data, data.val)
        if epoch == 0 or found > record["val"]:
            record.update(val=found, test=accuracy(scores, data, data.test), best_epoch=epoch)
        if record["loss"] < protocol["converged"]:
            break
        objective.backward()
        if epoch == 0:
            record["gradient_first"] = gradient_norms(list(model.convs))
        still = record["loss"] == last_loss and stands_still(model.parameters(), protocol["lr"])
        if still:
            break
        last_loss = record["loss"]
        optimizer.step()
        loop.text = f"loss {record['loss']:.2e} val {found:.3f}"
    return {
        "epochs": nan if not math.isfinite(record["loss"]) else run.epochs if still else loop.epoch,
        "still": still,
        "converged": record["loss"] < protocol["converged"],
        "loss": record["loss"],
        "val_accuracy": record["val"],
        "test_accuracy": record["test"],
        "best_epoch": record["best_epoch"],
        "gradient_first": record["gradient_first"],
        "imbalance": _largest(before),
        "drift": _largest([a - b for a, b in zip(before, conserved(model.convs), strict=True)]),
        "ms_per_epoch": loop.ms_per_epoch,
    }


def stands_still(parameters: Iterable[Tensor], lr: float) -> bool:
    """Whether a step of gradient descent changes no bit of them. Without random numbers all steps after it are the
    same, so a run may end there: in deep networks whose gradients vanish."""
    return all(torch.equal(p.add(p.grad, alpha=-lr), p) for p in parameters if p.grad is not None)  # as SGD rounds


def _largest(tensors: Sequence[Tensor]) -> float:
    """The largest magnitude, NaN if one is; 0 for no tensor."""
    return float(torch.cat([tensor.abs() for tensor in tensors]).max()) if tensors else 0.0


def _number(mean: float, deviation: float) -> str:
    return f"{mean:.0f}" + (f" ± {deviation:.0f}" if deviation else "")


def sections(protocol: dict[str, Any], results: list[Result]) -> list[Section]:
    """One a data set: accuracy, epochs, drift and time by depth, gradients of the deepest."""
    found = []
    for dataset in dict.fromkeys(r["dataset"] for r in results):
        here = [r for r in results if r["dataset"] == dataset]
        lines = {name: [r for r in here if r["init"] == init] for init, name in NAMES.items()}
        lines = {name: rows for name, rows in lines.items() if rows}
        deepest = max(r["depth"] for r in here)
        scaled = _normalize(dataset, protocol["normalize"])
        found.append(
            Section(
                dataset,
                f"Features {'scaled to rows of sum 1' if scaled else 'as they are'}. "
                f"Test accuracy in per cent at the epoch of the best validation; epochs until the training loss is "
                f"below {protocol['converged']:g} (at most {protocol['epochs']}, and as many for a run whose steps no "
                f"longer change a parameter); the largest change of an invariant of the conservation law during "
                f"training; the median milliseconds of an epoch. Mean and standard deviation of {seeds_text(lines)}.",
                [
                    depth_table(lines, "test_accuracy", percent, {}),
                    depth_table(lines, "epochs", _number, {}),
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
