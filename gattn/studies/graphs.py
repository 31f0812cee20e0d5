"""What studies of many small graphs share: data sets with their encodings and distances, splits and batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric import transforms
from torch_geometric.data import Batch, Data

from gattn.studies.generated import GENERATED, LABELLED
from gattn.terminal import Progress, UsageError, require
from gattn.train.roots import pyg_root
from gattn.transforms import ShortestPath

#: TU data sets (Morris et al. 2020): classes of graphs, features of nodes.
TU = ("NCI1", "PROTEINS", "MUTAG")
#: Molecules with several labels, NaN where one is missing (Wu et al. 2018).
MOLECULES = "TOX21"
#: What the nodes' encodings are made of, and their width.
Encoding = tuple[Literal["random-walk", "laplacian"], int]

_SUBSTITUTE = (
    "The training molecules are not the official ones but a substitute drawn from the same 250,000 molecules; those "
    "for validation and test are the official ones, with other numbers for the kinds of atoms."
)


@dataclass(frozen=True)
class GraphSet:
    """Graphs with ``encoding``, and with ``distance`` if asked for.

    ``in_channels`` are features or categories of nodes, ``edge_channels`` categories of edges (0: not used), all
    columns together where there are several; ``out_channels`` classes, labels or 1. ``fixed`` are the sizes of training
    and validation set, if the data set has its own split, in this order. ``note`` is what a report has to say of the
    data.
    """

    graphs: Sequence[Data]
    in_channels: int
    out_channels: int
    edge_channels: int = 0
    fixed: tuple[int, int] | None = None
    note: str = ""

    def split(self, seed: int, percent: float = 100.0) -> tuple[list[Data], list[Data], list[Data]]:
        """Training, validation and test set: the data set's own, or 8:1:1 drawn with ``seed``.

        ``percent`` of the training set are kept, drawn with ``seed``; what is kept of less is part of what is kept of
        more.
        """
        generator = torch.Generator().manual_seed(seed)
        count = len(self.graphs)
        train, val = self.fixed or (count * 8 // 10, count // 10)
        if self.fixed is None:
            order = torch.randperm(count, generator=generator)
        else:
            order = torch.cat([torch.randperm(train, generator=generator), torch.arange(train, count)])
        graphs = [self.graphs[i] for i in order.tolist()]
        kept = max(1, round(train * percent / 100))
        return graphs[:kept], graphs[train : train + val], graphs[train + val :]


def batches(graphs: Sequence[Data], size: int) -> list[Any]:
    """The graphs in order, ``size`` in a batch; draws no random numbers, as a loader would."""
    return [Batch.from_data_list(list(graphs[i : i + size])) for i in range(0, len(graphs), size)]


def parse_name(dataset: str) -> tuple[str, int]:
    """``CLUSTER:1200`` is the name as the tables have it, and the number of graphs; 0 for as many as were published.

    Raises:
        UsageError: There is no such data set.
    """
    name, colon, size = dataset.partition(":")
    known = {each.lower(): each for each in (*TU, "ZINC", MOLECULES, *GENERATED)}
    found = known.get(name.lower())
    if found is None:
        listed = ", ".join(known.values())
        raise UsageError(f"unknown data set {dataset!r}; expected some of {listed}, with :SIZE for generated ones")
    if colon and (found not in GENERATED or not size.isdecimal() or int(size) < 12):
        raise UsageError(f"data set {dataset!r}: only {', '.join(GENERATED)} take a size, of at least 12 graphs")
    return found, int(size or 0)


@cache
def graph_set(
    dataset: str, root: str | None, encoding: Encoding, sample: int = 0, *, distances: bool = True
) -> GraphSet:
    """The data set with encodings, and with distances or without, made once a process, with progress.

    ``sample`` takes so many graphs of the training set of seed 0 alone, without a split.

    Raises:
        UsageError: There is no such data set, or its files cannot be had.
    """
    with torch.random.fork_rng(devices=[]):  # a run draws the same numbers whether or not it is the first to come here
        torch.manual_seed(0)
        name, size = parse_name(dataset)
        found = _load(name, size, root)
        encode = _encode(encoding)
        transform = transforms.Compose([encode, ShortestPath()]) if distances else encode
        chosen = found.split(0)[0][:sample] if sample else found.graphs
        with Progress(len(chosen), f"{name} graph") as progress:
            graphs = list(_prepared(chosen, transform, progress))
    return replace(found, graphs=graphs, fixed=None if sample else found.fixed)


def _prepared(graphs: Sequence[Data], transform: Any, progress: Progress) -> Iterator[Data]:
    for data in graphs:
        yield transform(data)
        progress.advance("encodings")


class _DenseLaplacianPE(transforms.AddLaplacianEigenvectorPE):  # type: ignore[misc]  # PyG has no types
    """Never the sparse solver, which starts from a vector that the seeds do not reach."""

    SPARSE_THRESHOLD = 1 << 30


def _encode(encoding: Encoding) -> Any:
    kind, width = encoding
    if kind == "laplacian":
        require("scipy.sparse", "Laplacian encodings")
        return _DenseLaplacianPE(width, attr_name="encoding", is_undirected=True)
    return transforms.AddRandomWalkPE(width, attr_name="encoding")


def require_reader(name: str) -> None:
    """Raises UsageError if the data set needs a package that is not installed."""
    if name == MOLECULES:
        require("rdkit", f"{MOLECULES}, which is made from SMILES,", "molecules")


def _load(name: str, size: int, root: str | None) -> GraphSet:
    if name in GENERATED:
        return _generate(name, size)
    from torch_geometric import datasets

    place = pyg_root(root, {"ZINC": "", MOLECULES: "molnet"}.get(name, "tu"), name)
    try:
        if name == "ZINC":
            place = next((entry for entry in place.iterdir() if entry.name.lower() == "zinc"), place / "zinc")
            parts = [datasets.ZINC(str(place), subset=True, split=split) for split in ("train", "val", "test")]
        elif name == MOLECULES:
            require_reader(name)
            parts = [datasets.MoleculeNet(str(place), name)]
        else:
            parts = [datasets.TUDataset(str(place), name)]
    except UsageError:
        raise
    except Exception as error:  # PyG raises whatever its downloader and its readers do
        raise UsageError(
            f"cannot load {name} under {place}: {type(error).__name__}: {error}. Without a network, put its raw files "
            f"there in PyG's layout (<root>/<name>/raw)"
        ) from error
    if name == "ZINC":
        return _molecules(parts, (place / "atom_types.json").exists())
    if name == MOLECULES:
        molecules = list(parts[0])
        bare = sum(not data.num_edges for data in molecules)
        return _labelled(molecules, f"{len(molecules):,} molecules, {bare} of them without bonds, split at random.")
    graphs = [Data(x=data.x, edge_index=data.edge_index, y=data.y) for data in parts[0]]
    return GraphSet(graphs, parts[0].num_features, parts[0].num_classes)


def _molecules(parts: list[Any], substitute: bool) -> GraphSet:
    graphs = [
        Data(x=data.x.long(), edge_index=data.edge_index.long(), edge_attr=data.edge_attr.long(), y=data.y)
        for part in parts
        for data in part
    ]
    kinds = [1 + max(int(getattr(data, what).max()) for data in graphs) for what in ("x", "edge_attr")]
    return GraphSet(graphs, kinds[0], 1, kinds[1], (len(parts[0]), len(parts[1])), _SUBSTITUTE if substitute else "")


def _labelled(graphs: Sequence[Data], note: str) -> GraphSet:
    """Columns of categories are numbered on from one to the next. Graphs may have no edges."""
    first = {what: _columns([getattr(data, what) for data in graphs]) for what in ("x", "edge_attr")}
    numbered = [
        Data(
            x=data.x.long() + first["x"][:-1],
            edge_index=data.edge_index,
            edge_attr=data.edge_attr.long() + first["edge_attr"][:-1],
            y=data.y.float(),
        )
        for data in graphs
    ]
    kinds = [int(first[what][-1]) for what in ("x", "edge_attr")]
    return GraphSet(numbered, kinds[0], numbered[0].y.size(1), kinds[1], note=note)


def _columns(attributes: list[Tensor]) -> Tensor:
    """Where the categories of every column begin, and how many there are."""
    most = torch.cat(attributes).amax(0).long() + 1
    return torch.cat([most.new_zeros(1), most.cumsum(0)])


def _generate(name: str, size: int) -> GraphSet:
    make, published = GENERATED[name]
    size = size or published
    generator = torch.Generator().manual_seed(0)
    graphs = [make(generator) for _ in range(size)]
    if name == LABELLED:
        return _labelled(graphs, f"{size:,} generated graphs.")
    note = f"{size:,} graphs, generated as published{'' if size == published else f' ({published:,})'}."
    labels = 1 + int(torch.cat([data.y for data in graphs]).max())
    fixed = (size * 10 // 12, size // 12) if name == "CLUSTER" else None
    return GraphSet(graphs, graphs[0].x.size(1), labels, fixed=fixed, note=note)
