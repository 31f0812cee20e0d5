"""The graphs that benchmarks run on: seeded, generated in seconds, every one named by its size.

A :class:`GraphCase` is plain data, so a subprocess can be told which graph to build. Edge counts are those
the layer works on, that is *after* it has added its self-loops: ogbn-arxiv's 1 166 243 edges and 169 343
nodes are 1 335 586. :func:`load` returns the edges without loops, as a user holds them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Edges = npt.NDArray[np.integer[Any]]  # [2, E], row 0 sources

#: Quadrant probabilities of Graph500's R-MAT; the fourth is what is left, 0.05.
RMAT_A, RMAT_B, RMAT_C = 0.57, 0.19, 0.19
_CHUNK = 1 << 22


@dataclass(frozen=True)
class GraphCase:
    """One graph of the benchmark, and the layer's size on it."""

    name: str
    title: str
    kind: str  #: a key of :data:`GENERATORS`
    num_nodes: int
    num_edges: int  #: with one self-loop a node
    in_channels: int = 128
    heads: int = 4
    channels: int = 32
    index_dtype: str = "int64"
    seed: int = 0
    sampled_gate: bool = False  #: the whole graph's fp64 reference would not fit: check a sample

    @property
    def given_edges(self) -> int:
        """Edges before self-loops are added."""
        return self.num_edges - self.num_nodes

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``GraphCase(**case.as_dict())`` is the way back."""
        return asdict(self)


CASES = {
    case.name: case
    for case in (
        GraphCase("cora", "Cora", "cora", 2_708, 13_264),
        GraphCase("uniform", "uniform, ogbn-arxiv's size", "uniform", 169_343, 1_335_586),
        GraphCase("rmat", "R-MAT, ogbn-arxiv's size", "rmat", 169_343, 1_335_586),
        GraphCase("dense", "dense, 50 edges a node", "uniform", 20_000, 1_000_000),
        GraphCase(
            "products",
            "R-MAT, ogbn-products' size",
            "rmat",
            2_449_029,
            124_000_000,
            index_dtype="int32",
            sampled_gate=True,
        ),
        GraphCase("uniform-small", "uniform, small", "uniform", 20_000, 160_000),
        GraphCase("rmat-small", "R-MAT, small", "rmat", 20_000, 160_000),
    )
}
DEFAULT = ("cora", "uniform", "rmat", "dense")
QUICK = ("cora", "rmat-small")


def uniform(case: GraphCase, rng: np.random.Generator) -> Edges:
    """Independent, uniformly drawn ordered pairs of different nodes."""
    source = rng.integers(0, case.num_nodes, case.given_edges)
    distance = rng.integers(1, case.num_nodes, case.given_edges)
    return np.stack([source, (source + distance) % case.num_nodes])


def _rmat_pairs(count: int, levels: int, rng: np.random.Generator) -> tuple[Edges, Edges]:
    """``count`` draws from the R-MAT distribution over ``2**levels`` nodes: one quadrant a level."""
    a, ab, abc = (round(65536 * p) for p in (RMAT_A, RMAT_A + RMAT_B, RMAT_A + RMAT_B + RMAT_C))
    source = np.zeros(count, np.int64)
    target = np.zeros(count, np.int64)
    for _ in range(levels):
        draw = rng.integers(0, 65536, count, dtype=np.uint16)
        lower = draw >= ab
        source += source
        source += lower
        target += target
        target += np.where(lower, draw >= abc, draw >= a)
    return source, target


def rmat(case: GraphCase, rng: np.random.Generator) -> Edges:
    """A power-law graph (Chakrabarti, Zhan & Faloutsos, SDM 2004) without loops or duplicates.

    Node numbers and the order of the edges are shuffled: left as drawn, the hubs would sit side by side at
    the front and flatter every cache.
    """
    nodes, wanted = case.num_nodes, case.given_edges
    if wanted > nodes * (nodes - 1) // 8:
        raise ValueError(
            f"R-MAT of {nodes} nodes got {wanted} distinct edges to draw, expected at most an eighth of all "
            f"pairs, {nodes * (nodes - 1) // 8}: ask for fewer edges or more nodes"
        )
    levels = max(1, (nodes - 1).bit_length())
    keys = np.empty(0, np.int64)
    while len(keys) < wanted:
        parts, missing = [keys], wanted - len(keys)
        while missing > 0:
            source, target = _rmat_pairs(min(_CHUNK, 2 * missing + 64), levels, rng)
            valid = (source < nodes) & (target < nodes) & (source != target)
            parts.append(source[valid] * nodes + target[valid])
            missing -= len(parts[-1])
        keys = np.concatenate(parts)
        del parts
        keys.sort()
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
    rng.shuffle(keys)
    relabel = rng.permutation(nodes).astype(case.index_dtype)
    edges = np.empty((2, wanted), case.index_dtype)
    for start in range(0, wanted, _CHUNK):
        source, target = np.divmod(keys[start : start + _CHUNK][: wanted - start], nodes)
        edges[0, start : start + len(source)] = relabel[source]
        edges[1, start : start + len(target)] = relabel[target]
    return edges


def cora_file() -> Path | None:
    """The raw file with Cora's edges under ``$GATTN_DATA``, if it is there."""
    root = os.environ.get("GATTN_DATA")
    path = Path(root, "planetoid", "Cora", "raw", "ind.cora.graph") if root else None
    return path if path is not None and path.is_file() else None


def cora(case: GraphCase, rng: np.random.Generator) -> Edges:
    """Cora's citations, both directions; without ``$GATTN_DATA`` random pairs in the same number."""
    path = cora_file()
    if path is None:
        pairs = case.given_edges // 2
        keys = np.unique(np.sort(rng.integers(0, case.num_nodes, (4 * pairs, 2)), axis=1), axis=0)
        half = rng.permutation(keys[keys[:, 0] != keys[:, 1]])[:pairs].T
        return np.concatenate([half, half[::-1]], axis=1)
    with path.open("rb") as file:
        neighbours: dict[int, list[int]] = pickle.load(file, encoding="latin1")
    pairs_given = [(i, j) for i, found in neighbours.items() for j in found if i != j]
    return np.unique(np.array(pairs_given), axis=0).T


GENERATORS: dict[str, Callable[[GraphCase, np.random.Generator], Edges]] = {
    "uniform": uniform,
    "rmat": rmat,
    "cora": cora,
}


def title(case: GraphCase) -> str:
    """The graph's name in tables; a stand-in says that it is one."""
    return "Cora's size (synthetic)" if case.kind == "cora" and cora_file() is None else case.title


def cache_dir() -> Path:
    """Where large graphs are kept between runs: ``$GATTN_BENCH_CACHE``, else the user's cache folder."""
    named = os.environ.get("GATTN_BENCH_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gattn"


def generate(case: GraphCase) -> Edges:
    """The case's edges ``[2, given_edges]`` in its index type, always drawn anew."""
    edges = GENERATORS[case.kind](case, np.random.default_rng(case.seed))
    if edges.shape != (2, case.given_edges):
        raise ValueError(f"graph {case.name!r}: got {edges.shape[1]} edges, expected {case.given_edges}")
    return np.ascontiguousarray(edges.astype(case.index_dtype, copy=False))


def load(case: GraphCase) -> Tensor:
    """The case's ``edge_index`` ``[2, given_edges]``, without self-loops; large ones come from the cache."""
    if case.num_edges < 10_000_000:
        return torch.from_numpy(generate(case))
    facts = (case.kind, case.num_nodes, case.num_edges, case.seed, case.index_dtype)
    path = cache_dir() / f"graph-{'-'.join(map(str, facts))}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part.npy")
        np.save(partial, generate(case))
        partial.replace(path)
    return torch.from_numpy(np.load(path))
