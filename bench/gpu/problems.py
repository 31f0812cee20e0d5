"""Benchmark problems on the device, in either dtype, and what is expected of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from gattn.bench import gate
from gattn.bench.gpu.cases import CASES, edges_of, reduced
from gattn.bench.gpu.task import DTYPES, Context
from gattn.bench.graphs import GraphCase
from gattn.bench.problem import Problem

#: The op inside every layer, as :mod:`gattn.check` calls it.
OPS = {"gat": "gat", "gatv2": "gatv2", "transformer": "dot"}
#: Half precision: error of the whole tensor, ``|found - expected| / |expected|`` in the Euclidean norm, or twice eager
#: PyG's where that is larger. A logit's rounding may take an edge over LeakyReLU's kink, so single entries say nothing.
HALF_TOLERANCE = 0.03


class Chosen(NamedTuple):
    """What is measured: a layer on a graph, in a dtype."""

    layer: str
    graph: str
    dtype: str

    @property
    def key(self) -> str:
        """As part of a task's."""
        return "/".join(self)


def plan(context: Context) -> Iterator[Chosen]:
    """Most telling first: when time runs out, what is left is said and the next run goes on there."""
    first = ("arxiv-rmat", "cora-uniform", "arxiv-uniform", "pubmed-uniform", "products-rmat", "reddit-rmat")
    graphs = [*first, *(name for name in CASES if name not in first)]
    found = [Chosen("gat", graph, "fp32") for graph in first]
    found += [Chosen(layer, "arxiv-rmat", dtype) for dtype in DTYPES for layer in OPS]
    found += [Chosen("gat", graph, "bf16") for graph in first]
    if not context.dry:
        found += [Chosen(layer, graph, dtype) for dtype in DTYPES for graph in graphs for layer in OPS]
    yield from dict.fromkeys(found)


def case_of(chosen: Chosen, context: Context) -> GraphCase:
    """The graph; a small one in a dry run."""
    case = CASES[chosen.graph]
    return reduced(case) if context.dry else case


@lru_cache(maxsize=1)
def _build(case: GraphCase, layer: str, dtype: str, device: torch.device) -> tuple[Problem, gate.Expected]:
    problem = Problem.build(case, layer, edges_of(case, device))
    chosen = DTYPES[dtype]
    if chosen != torch.float32:
        problem = replace(
            problem,
            x=problem.x.to(chosen),
            grad_out=problem.grad_out.to(chosen),
            parameters={name: value.to(chosen) for name, value in problem.parameters.items()},
        )
    return problem, gate.expected(problem)


def build(chosen: Chosen, context: Context) -> tuple[Problem, gate.Expected]:
    """The problem in its dtype, and the fp64 results of exactly those numbers."""
    return _build(case_of(chosen, context), chosen.layer, chosen.dtype, context.device)


def forget() -> None:
    """Frees the last problem."""
    _build.cache_clear()


def judge(
    found: dict[str, torch.Tensor], want: gate.Expected, dtype: str, yardstick: dict[str, float]
) -> gate.Judgement:
    """Green or why not: in fp32 entry by entry (:func:`gattn.bench.gate.judge`), else tensor by tensor.

    ``yardstick`` has eager PyG's errors, as far as they are known.
    """
    if dtype == "fp32":
        return gate.judge(found, want)
    errors = {}
    for name, value in want.values.items():
        rows = found[name][want.rows[name]] if name in want.rows else found[name]
        norm = value.norm()
        # A gradient that is zero but for rounding, as of a key's bias, has no scale.
        if float(norm) > gate.ZERO * value.numel() ** 0.5:
            errors[name] = float((rows.double() - value).norm() / norm)
    limits = {name: max(HALF_TOLERANCE, 2 * yardstick.get(name, 0.0)) for name in errors}
    over = ", ".join(f"{name} {error:.1e}" for name, error in errors.items() if not error <= limits[name])
    reason = f"differs from the fp64 reference beyond {HALF_TOLERANCE} and twice eager PyG's errors: {over}"
    return gate.Judgement(errors, reason if over else "")
