"""The graphs of the report: sizes that users know, uniform and power-law, drawn on the device in a moment."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from gattn.bench.graphs import RMAT_A, RMAT_B, RMAT_C, GraphCase
from torch import Tensor

#: Nodes, and edges with one self-loop a node.
SIZES = {
    "cora": (2_708, 13_264),
    "pubmed": (19_717, 108_365),
    "arxiv": (169_343, 1_335_586),
    "reddit": (232_965, 114_848_857),
    "products": (2_449_029, 124_000_000),
}
#: In a dry run graphs shrink to this many edges.
DRY_EDGES = 3_000


def _case(size: str, kind: str) -> GraphCase:
    nodes, edges = SIZES[size]
    name = f"{size}-{kind}"
    return GraphCase(name, f"{size}'s size, {kind}", kind, nodes, edges, sampled_gate=edges > 10_000_000)


CASES = {case.name: case for size in SIZES for kind in ("uniform", "rmat") for case in (_case(size, kind),)}


def reduced(case: GraphCase) -> GraphCase:
    """The case with :data:`DRY_EDGES` edges at most, and as many edges a node as far as that goes."""
    edges = min(case.num_edges, DRY_EDGES)
    return replace(case, num_nodes=max(edges * case.num_nodes // case.num_edges, 200), num_edges=edges)


def _uniform(case: GraphCase, generator: torch.Generator) -> Tensor:
    """Independent pairs of different nodes."""
    draw: dict[str, Any] = {"device": generator.device, "generator": generator}
    source = torch.randint(case.num_nodes, (case.given_edges,), **draw)
    distance = torch.randint(1, case.num_nodes, (case.given_edges,), **draw)
    return torch.stack([source, (source + distance) % case.num_nodes])


def _rmat_keys(case: GraphCase, count: int, generator: torch.Generator) -> Tensor:
    """About ``count`` draws from R-MAT without loops, as ``source * nodes + target``."""
    source = torch.zeros(count, dtype=torch.int64, device=generator.device)
    target = torch.zeros_like(source)
    for _ in range(max(1, (case.num_nodes - 1).bit_length())):
        draw = torch.rand(count, device=generator.device, generator=generator)
        lower = draw >= RMAT_A + RMAT_B
        right = torch.where(lower, draw >= RMAT_A + RMAT_B + RMAT_C, draw >= RMAT_A)
        source, target = 2 * source + lower, 2 * target + right
    keys = source * case.num_nodes + target
    return keys[(source < case.num_nodes) & (target < case.num_nodes) & (source != target)]


def _rmat(case: GraphCase, generator: torch.Generator) -> Tensor:
    """A power-law graph without loops or duplicates, nodes and edges shuffled: :func:`gattn.bench.graphs.rmat`."""
    keys = torch.empty(0, dtype=torch.int64, device=generator.device)
    while (missing := case.given_edges - len(keys)) > 0:
        parts = [_rmat_keys(case, min(2 * missing + 64, 1 << 26), generator)]
        keys = torch.cat([keys, *parts]).unique()
    order = torch.randperm(len(keys), device=generator.device, generator=generator)[: case.given_edges]
    names = torch.randperm(case.num_nodes, device=generator.device, generator=generator)
    keys = keys[order]
    return torch.stack([names[keys // case.num_nodes], names[keys % case.num_nodes]])


@lru_cache(maxsize=1)
def edges_of(case: GraphCase, device: torch.device) -> Tensor:
    """``[2, given_edges]`` int64 on the device; the last graph is kept. Another device draws another graph."""
    generator = torch.Generator(device).manual_seed(case.seed)
    return (_uniform if case.kind == "uniform" else _rmat)(case, generator)
