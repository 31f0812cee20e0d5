"""The numerics gate: no speed is reported for an implementation whose numbers are wrong.

The output and every gradient of one step are compared with the fp64 reference of the same weights and inputs.
On graphs too large for that, the output and the input's gradient are compared at sampled nodes, for which the
reference needs only the edges around them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from gattn.bench.problem import Problem
from torch import Tensor

from gattn.graph import Graph

#: Largest accepted error of an fp32 contender, see :func:`error`. Eager PyG's is about 1e-6 to 1e-5.
TOLERANCE = 1e-4
#: Sampled sources, the out-edges of each at the least, and the bound on the edges that their reference reads.
SAMPLE_SOURCES, SAMPLE_DEGREE, SAMPLE_EDGES = 64, 8, 1_000_000
#: A gradient this small beside its weight's is the rounding of fp64: exactly it is zero.
ZERO = 1e-12
#: Numbers in the largest tensors, edges x heads x channels, of the whole reference's parts.
CHUNK_ENTRIES = 1 << 25


@dataclass(frozen=True)
class Expected:
    """fp64 values of ``out``, ``grad x`` and ``grad <parameter>``; ``rows`` says which rows, if not all."""

    values: dict[str, Tensor]
    rows: dict[str, Tensor]


@dataclass(frozen=True)
class Judgement:
    """Errors by tensor; ``reason`` is empty when the gate is green."""

    errors: dict[str, float]
    reason: str = ""

    @property
    def worst(self) -> float:
        return max(self.errors.values(), default=math.nan)


def _rms(values: Tensor) -> Tensor:
    return values.double().square().mean().sqrt()


def error(found: Tensor, expected: Tensor, like: Tensor | None = None) -> float:
    """``max |found - expected| / (|expected| + rms)``: relative where values are large, absolute in units of the
    tensor's own scale where they are small; NaN or infinite when ``found`` is not finite.

    ``rms`` is that of ``expected``, or of ``like`` where ``expected`` beside it is zero but for rounding.
    """
    expected = expected.double()
    rms = _rms(expected)
    if like is not None and float(rms) < ZERO * float(_rms(like)):
        rms = _rms(like)
    scale = expected.abs() + rms
    return float(((found.double() - expected).abs() / scale.clamp_min(torch.finfo(torch.float64).tiny)).max())


def expected(problem: Problem) -> Expected:
    """The reference's values for the problem, all of them or a sample as the case says."""
    return _sample(problem) if problem.case.sampled_gate else _everything(problem)


def judge(found: dict[str, Tensor], want: Expected) -> Judgement:
    """Compare one step's tensors with what is expected."""
    errors = {}
    for name, value in want.values.items():
        tensor = found[name]
        # The softmax does not see a bias of keys: its gradient is zero, and only its weight's has a scale.
        weight = want.values.get(f"{name.removesuffix('.bias')}.weight")
        errors[name] = error(tensor[want.rows[name]] if name in want.rows else tensor, value, weight)
    red = {name: e for name, e in errors.items() if not e <= TOLERANCE}  # NaN is red too
    if red:
        worst = ", ".join(f"{name} {e:.1e}" for name, e in red.items())
        return Judgement(errors, f"differs from the fp64 reference beyond {TOLERANCE:.0e}: {worst}")
    return Judgement(errors)


def _reference(
    problem: Problem, x: Tensor, graph: Graph, edge_attr: Tensor | None, grad_out: Tensor
) -> dict[str, Tensor]:
    x = x.double().requires_grad_()
    parameters = {name: value.double().requires_grad_() for name, value in problem.parameters.items()}
    wide = None if edge_attr is None else edge_attr.double()
    out = problem.layer.reference(x, parameters, graph, wide, problem.case.channels)
    gradients = torch.autograd.grad(out, [x, *parameters.values()], grad_out.double())
    names = ["grad x", *(f"grad {name}" for name in parameters)]
    return {"out": out.detach(), **dict(zip(names, gradients, strict=True))}


def _everything(problem: Problem) -> Expected:
    """Part by part of the targets: their results do not see each other's edges, and gradients add up."""
    case, attr = problem.case, problem.looped_attr
    target = problem.looped[1].long()
    entries = torch.bincount(target, minlength=case.num_nodes).cumsum(0) * (case.heads * case.channels)
    part = entries // CHUNK_ENTRIES  # of every node
    values: dict[str, Tensor] = {}
    for number in part.unique():
        rows = (part == number).unsqueeze(1)
        edges = (part[target] == number).nonzero().flatten()
        graph = Graph.from_edge_index(problem.looped[:, edges], case.num_nodes)
        found = _reference(
            problem, problem.x, graph, None if attr is None else attr[edges], torch.where(rows, problem.grad_out, 0.0)
        )
        found["out"] = torch.where(rows, found["out"], 0.0)
        values = {name: value + values[name] if values else value for name, value in found.items()}
    return Expected(values, {})


def _sources(problem: Problem) -> Tensor:
    """Random nodes, as many as keep the in-edges of everything they point to within ``SAMPLE_EDGES``.

    Each has ``SAMPLE_DEGREE`` out-edges at the least, so that there is a sum to get wrong; hubs on the way are
    read in full, so candidates are tried cheapest first among a random thousand.
    """
    source, target = problem.edge_index
    nodes = problem.case.num_nodes
    degree = torch.bincount(target, minlength=nodes) + 1
    candidates = (torch.bincount(source, minlength=nodes) >= SAMPLE_DEGREE).nonzero().flatten()
    generator = torch.Generator().manual_seed(problem.case.seed)
    device = source.device
    shuffled = torch.randperm(len(candidates), generator=generator)[:1000].to(device)
    candidates = candidates[shuffled]
    place = torch.full((nodes,), -1, device=device)
    place[candidates] = torch.arange(len(candidates), device=device)
    mine = place[source]
    from_candidate = mine >= 0
    cost = degree[candidates].index_add_(0, mine[from_candidate], degree[target[from_candidate]])
    order = cost.argsort()
    affordable = (cost[order].cumsum(0) <= SAMPLE_EDGES)[:SAMPLE_SOURCES]
    return candidates[order[:SAMPLE_SOURCES][affordable]]


def _sample(problem: Problem) -> Expected:
    """Exact values at sampled nodes: all in-edges of every target that a sampled source reaches.

    A source's gradient needs each of its targets' whole softmax and, for its own target score, its own row.
    """
    source, target = problem.edge_index
    nodes = problem.case.num_nodes
    sources = _sources(problem)
    chosen = torch.zeros(nodes, dtype=torch.bool, device=source.device)
    chosen[sources] = True
    is_target = chosen.clone()
    is_target[target[chosen[source]]] = True
    keep = is_target[target]
    kept = problem.edge_index[:, keep].long()
    targets = is_target.nonzero().flatten()
    members = torch.cat([kept[0], targets]).unique()
    number = torch.full_like(chosen, -1, dtype=torch.int64)
    number[members] = torch.arange(len(members), device=source.device)
    local = number[torch.cat([kept, targets.expand(2, -1)], dim=1)]
    attr = problem.looped_attr
    if attr is not None:
        attr = torch.cat([attr[: len(keep)][keep], attr[len(keep) :][targets]])
    near = local[:, problem.layer.near_kink(problem.x[members], problem.parameters, local, attr)]
    sources = sources[~torch.isin(number[sources], near)]
    grad_out = torch.where(is_target[members, None], problem.grad_out[members], 0.0)
    values = _reference(problem, problem.x[members], Graph.from_edge_index(local, len(members)), attr, grad_out)
    rows = {"out": targets, "grad x": sources}
    return Expected({name: values[name][number[rows[name]]] for name in rows}, rows)
