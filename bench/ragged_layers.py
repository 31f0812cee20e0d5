"""Gradformer's whole block on batches of 128 graphs, forward and backward: without padding, and padded as others do.

    python -m gattn.bench.ragged_layers --sets NCI1,PROTEINS,ZINC,CLUSTER --json bench/results/ragged-layers.json

The contenders have the same parameters and take turns in one process. What a data loader would make once a batch (the
padded distances, as well as gattn's packed ones) is made before. The numbers of the attention within are held against
fp64 first: beyond :data:`gattn.bench.gate.TOLERANCE` no time is reported. (Those of the whole block are not: its ReLUs
make single gradients jump.)
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from gattn.bench import gate, timing
from gattn.bench.machine import describe
from gattn.bench.peers import Contender
from gattn.bench.tables import seconds, times
from torch import Tensor, nn
from torch_geometric.data import Batch

from gattn.files import write_json
from gattn.nn import Gradformer, GradformerLayer
from gattn.studies.gradformer_settings import SETTINGS
from gattn.studies.graphs import graph_set
from gattn.studies.padded import Pairs, pad, use_padding
from gattn.terminal import say, table

#: Data sets by name, as :func:`gattn.studies.graphs.graph_set` knows them.
SETS = {"NCI1": "NCI1", "PROTEINS": "PROTEINS", "ZINC": "ZINC", "CLUSTER": "CLUSTER:160"}
GRAPHS = 128


@dataclass(frozen=True)
class Problem:
    """A batch of a data set, a block as its study has it, and what goes in."""

    batch: Any
    layer: GradformerLayer
    x: Tensor
    edge_attr: Tensor | None
    grad_out: Tensor

    @classmethod
    def build(cls, name: str, root: str | None, dropout: float, dtype: torch.dtype = torch.float32) -> Problem:
        setting = SETTINGS[name]
        data = graph_set(SETS[name], root, setting.encoding, GRAPHS)
        batch = Batch.from_data_list(list(data.graphs))
        torch.manual_seed(0)
        network = Gradformer(
            data.in_channels,
            1,
            channels=setting.channels,
            layers=1,
            heads=setting.heads,
            edge_channels=data.edge_channels or None,
            edge_encoder="embedding",
            attention_dropout=dropout,
            gamma=setting.gamma,
            slope=setting.slope,
            **{key: value for key, value in setting.network.items() if not key.startswith("encoding")},
        )
        layer: Any = network.layers[0].to(dtype)
        with torch.no_grad():  # off the integers, where the decay has no derivative
            layer.attention.hop.copy_(torch.linspace(0.3, 4.7, setting.heads))
        x, grad_out = torch.randn(2, batch.num_nodes, setting.channels, dtype=dtype)
        edges = torch.randn(batch.num_edges, setting.channels, dtype=dtype) if data.edge_channels else None
        return cls(batch, layer, x, edges, grad_out)

    def contender(self, call: Callable[[nn.Module, Tensor], Tensor], module: nn.Module) -> Contender:
        """Steps of ``call(module, x)``."""
        x = self.x.to(next(module.parameters()).dtype, copy=True).requires_grad_()
        leaves = {"x": x, **dict(module.named_parameters())}
        return Contender(lambda: call(module, x), leaves, self.grad_out.to(x.dtype))

    @property
    def pairs(self) -> Pairs:
        """The padding."""
        return pad(self.batch.ptr, self.batch.distance, self.x.dtype)


def contenders(problem: Problem) -> dict[str, Contender]:
    """The whole block: gattn's, padded, and padded in a compiled program."""
    batch, pairs = problem.batch, problem.pairs
    padded, compiled = (copy.deepcopy(problem.layer) for _ in range(2))
    for layer in (padded, compiled):
        use_padding(layer)

    def call(module: nn.Module, x: Tensor, distance: Any = batch.distance) -> Tensor:
        out: Tensor = module(x, batch.edge_index, batch.ptr, distance, edge_attr=problem.edge_attr)
        return out

    program = torch.compile(compiled, dynamic=False)
    return {
        "gattn": problem.contender(call, problem.layer),
        "padded": problem.contender(lambda module, x: call(module, x, pairs), padded),
        "padded, compiled": problem.contender(lambda _, x: call(program, x, pairs), compiled),
    }


def judge(problem: Problem) -> dict[str, gate.Judgement]:
    """The attentions against gattn's reference in fp64, without dropout: it draws other masks for each."""
    attention = copy.deepcopy(problem.layer.attention).eval()
    wide, padded = copy.deepcopy(attention).double(), copy.deepcopy(attention)
    wide.backend = "reference"
    use_padding(padded)
    batch, pairs = problem.batch, problem.pairs

    def packed(module: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = module(x, batch.ptr, batch.distance)
        return out

    steps = {
        "gattn": problem.contender(packed, attention),
        "padded": problem.contender(lambda module, x: module(x, batch.ptr, pairs), padded),
    }
    like = {"x": problem.x, **dict(attention.named_parameters())}
    want = gate.Expected(problem.contender(packed, wide).result(like), {})
    return {name: gate.judge(step.result(like), want) for name, step in steps.items()}


def measure(name: str, root: str | None, dropout: float, rounds: int) -> dict[str, Any]:
    """One data set's entry of the results."""
    problem = Problem.build(name, root, dropout)
    sizes = problem.batch.ptr.diff()
    entry: dict[str, Any] = {
        "name": name,
        "nodes": int(sizes.sum()),
        "largest": int(sizes.max()),
        "pairs": int(sizes.square().sum()),
        "heads": problem.layer.attention.heads,
        "channels": problem.layer.channels,
        "errors": {},
        "times": {},
    }
    for judged, verdict in judge(problem).items():
        entry["errors"][judged] = verdict.errors
        if verdict.reason:
            entry["reason"] = f"{judged}: {verdict.reason}"
            return entry
    steps = {title: contender.step for title, contender in contenders(problem).items()}
    entry["times"] = {title: timing.summary(found) for title, found in timing.alternate(steps, rounds).items()}
    return entry


def show(entry: dict[str, Any]) -> str:
    """The entry as text."""
    title = "{name}: {nodes:,} nodes, largest graph {largest}, {pairs:,} pairs, {heads} heads of {channels}"
    lines = [title.format(**{**entry, "channels": entry["channels"] // entry["heads"]})]
    if "reason" in entry:
        return "\n".join([*lines, f"no times: {entry['reason']}"])
    own = entry["times"]["gattn"]["median"]
    rows = [[name, seconds(t["median"]), times(t["median"] / own)] for name, t in entry["times"].items()]
    return "\n".join([*lines, table(rows, ["forward + backward", "median", "/ gattn"])])


def main() -> int:
    """Measures what the command line asks for; 1 if a contender's numbers are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS), help="data sets (default: all)")
    parser.add_argument("--dropout", type=float, default=0.0, help="of attention weights (default: 0)")
    parser.add_argument("--rounds", type=int, default=10, help="at the least (default: 10)")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: torch's)")
    parser.add_argument("--root", help="folder of PyG's raw files (default: a copy of $GATTN_DATA)")
    parser.add_argument("--json", type=Path, help="write results here, again after every data set")
    args = parser.parse_args()
    names = args.sets.split(",")
    if unknown := [name for name in names if name not in SETS]:
        parser.error(f"unknown data sets {', '.join(unknown)}; expected some of {', '.join(SETS)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    record: dict[str, Any] = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe(),
        "settings": {"threads": torch.get_num_threads(), "dropout": args.dropout, "graphs": GRAPHS},
        "batches": [],
    }
    for name in names:
        say(f"{name}: data, numbers, times")
        record["batches"].append(measure(name, args.root, args.dropout, args.rounds))
        print(show(record["batches"][-1]), flush=True)
        if args.json is not None:
            write_json(args.json, record)
    return int(any("reason" in entry for entry in record["batches"]))


if __name__ == "__main__":
    raise SystemExit(main())
