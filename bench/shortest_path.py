"""Hop counts between all pairs of nodes of a data set's graphs: ``gattn.ops.shortest_path`` beside SciPy's.

``python -m gattn.bench.shortest_path`` reads TU data sets from ``$GATTN_DATA/tu``. All contenders make the same packed
int16, which is compared first: no speed is shown for wrong distances. SciPy is timed as it has to be called, from edge
lists to the packed result, and its search alone, on matrices made before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gattn.bench import machine, timing
from gattn.bench.results import Record, ratio
from gattn.bench.tables import seconds, times
from scipy.sparse import csgraph, csr_matrix
from torch import Tensor

from gattn.ops import shortest_path
from gattn.terminal import UsageError, say, table

UNREACHABLE = 510
TITLES = {
    "gattn": "gattn, one batch",
    "gattn-single": "gattn, graph by graph",
    "scipy": "SciPy, from edges to packed int16",
    "scipy-search": "SciPy, the search alone",
}


class Graphs:
    """A data set as one edge list ``[2, E]`` with ``ptr`` ``[B + 1]``, and its graphs one by one."""

    def __init__(self, edge_index: Tensor, ptr: Tensor) -> None:
        self.edge_index, self.ptr = edge_index, ptr
        ends = ptr.tolist()
        first_edge = torch.searchsorted(edge_index[0].contiguous(), ptr).tolist()
        self.single = [
            (edge_index[:, e0:e1].sub(first).contiguous(), torch.tensor([0, last - first]))
            for (first, last), (e0, e1) in zip(pairwise(ends), pairwise(first_edge), strict=True)
        ]

    def contenders(self) -> dict[str, Callable[[], object]]:
        """What is timed."""
        matrices = [_matrix(*graph) for graph in self.single]
        return {
            "gattn": lambda: shortest_path(self.edge_index, self.ptr, unreachable=UNREACHABLE),
            "gattn-single": lambda: [shortest_path(*graph, unreachable=UNREACHABLE) for graph in self.single],
            "scipy": self.by_scipy,
            "scipy-search": lambda: [csgraph.shortest_path(matrix, unweighted=True) for matrix in matrices],
        }

    def by_scipy(self) -> np.ndarray[Any, Any]:
        """The packed int16."""
        blocks = [csgraph.shortest_path(_matrix(*graph), unweighted=True) for graph in self.single]
        return np.concatenate([np.minimum(block, UNREACHABLE).astype(np.int16).ravel() for block in blocks])

    def differ(self) -> int:
        """Entries in which gattn's distances, of the batch and graph by graph, are not SciPy's."""
        expected = torch.from_numpy(self.by_scipy())
        found = shortest_path(self.edge_index, self.ptr, unreachable=UNREACHABLE)
        single = torch.cat([shortest_path(*graph, unreachable=UNREACHABLE) for graph in self.single])
        return int((found != expected).sum() + (single != expected).sum())

    def case(self, name: str) -> dict[str, Any]:
        nodes = self.ptr.diff()
        return {
            "name": name,
            "graphs": len(self.single),
            "nodes": int(self.ptr[-1]),
            "edges": self.edge_index.shape[1],
            "largest": int(nodes.max()),
            "pairs": int((nodes**2).sum()),
        }


def _matrix(edge_index: Tensor, ptr: Tensor) -> csr_matrix:
    nodes = int(ptr[-1])
    return csr_matrix((np.ones(edge_index.shape[1]), tuple(edge_index.numpy())), shape=(nodes, nodes))


def load(name: str) -> Graphs:
    """A TU data set from a copy of its raw files, lest PyG write beside them."""
    from torch_geometric.data import Batch
    from torch_geometric.datasets import TUDataset

    root = os.environ.get("GATTN_DATA")
    if root is None or not (Path(root) / "tu" / name / "raw").is_dir():
        raise UsageError(
            f"expected {name}'s raw files in $GATTN_DATA/tu/{name}/raw (GATTN_DATA is {root or 'not set'})"
        )
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(Path(root) / "tu" / name / "raw", Path(copy) / name / "raw", copy_function=shutil.copyfile)
        batch: Any = Batch.from_data_list(list(TUDataset(copy, name)))
    order = batch.edge_index[0].argsort(stable=True)
    return Graphs(batch.edge_index[:, order], batch.ptr)


def measure(name: str, graphs: Graphs, rounds: int) -> dict[str, Any]:
    """An entry of the record; without times where distances differ."""
    different = graphs.differ()
    entry: dict[str, Any] = {"case": graphs.case(name), "different": different, "contenders": {}, "complete": True}
    if different == 0:
        samples = timing.alternate(graphs.contenders(), rounds)
        for contender, found in samples.items():
            entry["contenders"][contender] = {"title": TITLES[contender], "time": timing.summary(found)}
    return entry


def show(entry: dict[str, Any]) -> str:
    case, contenders = entry["case"], entry["contenders"]
    rows = [
        [
            found["title"],
            seconds(found["time"]["median"]),
            f"{seconds(found['time']['q1'])} - {seconds(found['time']['q3'])}",
            times(ratio(entry, contender)),
        ]
        for contender, found in contenders.items()
    ]
    title = "{name}: {graphs} graphs, {nodes} nodes, {edges} edges, {pairs} pairs".format(**case)
    return f"{title}\n{table(rows, ['', 'median', 'quartiles', 'of gattn'])}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 where distances differ, 2 for a mistake of the caller."""
    parser = argparse.ArgumentParser(prog="python -m gattn.bench.shortest_path", description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["NCI1"], metavar="NAME", help="TU data sets; default NCI1")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of gattn; SciPy has one")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, at the least")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write results here")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    settings = {"threads": args.threads, "repeats": args.repeats, "unreachable": UNREACHABLE}
    try:
        data = {name: load(name) for name in args.data}
    except UsageError as error:
        say(f"error: {error}")
        return 2
    record = Record(args.json, settings, machine.describe())
    for name, graphs in data.items():
        entry = measure(name, graphs, args.repeats)
        if entry["different"]:
            say(f"error: {name}: {entry['different']} distances are not SciPy's; nothing was timed")
            return 1
        record.data["graphs"].append(entry)
        print(show(entry))
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
