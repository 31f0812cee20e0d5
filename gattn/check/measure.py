"""One case: draw it, compute it by a backend and by the reference, and measure the error.

**The measure.** For each output and gradient, with ``truth`` the reference in fp64 from the same inputs (sums
over edges rounded once), and for two norms, of all entries and of the row where it is largest:

    score = |backend - truth| / max(|reference - truth|, |jittered - truth|, |floor|)

- ``reference`` is the reference in the case's own dtype: the error that users accept today.
- ``jittered`` is the fp64 reference after every input moved by a random unit roundoff of the accumulate
  dtype: what any arithmetic in that dtype may do to an ill-conditioned case.
- ``floor`` is ``eps(result) / 4 * |truth| + eps(accumulate) * terms`` entry by entry: the mean error of
  rounding the stored result, and the rounding of the sum that it is, ``terms`` being the summands without
  their signs. It decides where the reference happens to be exact, as in a gradient of zero through a
  softmax over one edge.

A score of at most :data:`LIMIT` passes; ``inf`` stands for a number that is not finite where the truth is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

import gattn
from gattn import reference
from gattn.backends import interprets_triton
from gattn.check.exact import ExactSums
from gattn.check.graphs import EdgeList, Random, draw_graph
from gattn.check.registry import MODIFIERS, Draw, Op, Tensors
from gattn.graph import Graph
from gattn.reference.dropout import accumulate_dtype

#: A backend may be this many times as far from the truth as the reference.
LIMIT = 2.0
DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16}

HEADS = (1, 1, 2, 3, 4, 5, 8, 16)
CHANNELS = (1, 2, 3, 7, 8, 15, 16, 17, 32, 33, 64, 100)
#: The reference's largest tensor has E * H * C entries.
MAX_ENTRIES = 400_000


@dataclass(frozen=True)
class Case:
    """Everything that a backend and the reference are given."""

    op: Op
    dtype: torch.dtype
    edges: EdgeList
    tensors: Tensors
    options: dict[str, Any]
    #: Each modifier's options.
    modifiers: dict[str, dict[str, Any]]
    constants: Tensors
    layout: str
    index_dtype: torch.dtype
    seed: int
    heads: int
    channels: int

    def describe(self) -> dict[str, Any]:
        """The case as JSON types."""
        return {
            "graph": self.edges.kind,
            "num_src": self.edges.num_src,
            "num_dst": self.edges.num_dst,
            "num_edges": self.edges.num_edges,
            "heads": self.heads,
            "channels": self.channels,
            "inputs": {name: str(value.dtype).removeprefix("torch.") for name, value in self.tensors.items()},
            "constants": {name: str(value.dtype).removeprefix("torch.") for name, value in self.constants.items()},
            "options": {**self.options, **{k: v for options in self.modifiers.values() for k, v in options.items()}},
            "modifiers": list(self.modifiers),
            "layout": self.layout,
            "index": str(self.index_dtype).removeprefix("torch."),
        }


def draw_case(op: Op, dtype: torch.dtype, seed: int, number: int, modifiers: Collection[str] | None = None) -> Case:
    """Case ``number`` of the sweep that ``seed`` starts: the same for the same arguments, on any machine.

    With ``modifiers``, just those of them that the op takes; else any, each with its own probability.
    """
    random = Random(seed, number)
    edges = draw_graph(random)
    heads, channels = random.choice(HEADS), random.choice(CHANNELS)
    while edges.num_edges * heads * channels > MAX_ENTRIES:
        heads, channels = max(1, heads // 2), max(1, channels - channels // 3)
    draw = Draw(random, edges, heads, channels, op.has_values)
    drawn = op.draw(draw)
    tensors, constants = dict(drawn.tensors), dict(drawn.constants)
    chosen = {}
    for modifier in MODIFIERS.values():
        if modifier.name in op.without:
            continue
        if random.chance(modifier.chance) if modifiers is None else modifier.name in modifiers:
            extra = modifier.draw(draw)
            tensors.update(extra.tensors)
            constants.update(extra.constants)
            chosen[modifier.name] = extra.options
    wide = {*tensors} - {*drawn.tensors} | {*op.wide} if random.chance(0.3) else set()
    for name, value in tensors.items():
        tensors[name] = value.to(accumulate_dtype(dtype) if name in wide else dtype)
    return Case(
        op,
        dtype,
        edges,
        tensors,
        dict(drawn.options),
        chosen,
        constants,
        layout=random.choice(("contiguous", "contiguous", "transposed", "expanded gradient")),
        index_dtype=random.choice((torch.int64, torch.int32)),
        seed=random.integer(0, 2**62),
        heads=heads,
        channels=channels,
    )


def _transposed(value: Tensor) -> Tensor:
    """The same numbers in another memory order, not contiguous."""
    return value.transpose(0, -1).contiguous().transpose(0, -1)


def _options(case: Case, tensors: Tensors) -> dict[str, Any]:
    """Keyword arguments: the op's own options and constants, and each modifier's."""
    device = next(iter(tensors.values())).device
    constants = {name: value.to(device) for name, value in case.constants.items()}
    options = {**case.options, **{name: constants[name] for name in case.op.constants if name in constants}}
    for name, own in case.modifiers.items():
        options.update(MODIFIERS[name].arguments({**tensors, **constants}, own))
    return options


def _cotangents(case: Case, outputs: Tensors) -> Tensors:
    """Gradients of the outputs: random, exact in the case's dtype, the same whoever computes."""
    generator = torch.Generator().manual_seed(case.seed)
    result = {}
    for name, value in outputs.items():
        if case.layout == "expanded gradient":
            gradient = torch.ones((), dtype=value.dtype, device=value.device).expand_as(value)
        else:
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            gradient = drawn.to(case.dtype).to(value.device, value.dtype)
        result[name] = _transposed(gradient) if case.layout == "transposed" and value.dim() > 1 else gradient
    return result


def _evaluate(case: Case, library: Any, graph: Graph, tensors: Tensors, **extra: Any) -> Tensors:
    """Outputs, and the gradients of all inputs as ``grad <name>``."""
    leaves = {name: value.detach().requires_grad_() for name, value in tensors.items()}
    outputs = case.op.call(library, leaves, graph, {**_options(case, leaves), **extra})
    gradients = torch.autograd.grad(
        list(outputs.values()),
        list(leaves.values()),
        list(_cotangents(case, outputs).values()),
        allow_unused=True,
    )
    results = {name: value.detach() for name, value in outputs.items()}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        results[f"grad {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return results


def home(backend: str) -> torch.device:
    """Where a backend computes."""
    on_gpu = backend == "cuda" or (backend == "triton" and not interprets_triton())
    return torch.device("cuda" if on_gpu else "cpu")


def run_backend(case: Case, backend: str) -> Tensors:
    """Outputs and gradients by a backend where it computes, from inputs in the case's dtype and memory layout."""
    device = home(backend)
    edge_index = case.edges.edge_index.to(device, case.index_dtype)
    graph = Graph.from_edge_index(edge_index, (case.edges.num_src, case.edges.num_dst))
    tensors = {name: value.to(device) for name, value in case.tensors.items()}
    if case.layout == "transposed":
        tensors = {name: _transposed(value) for name, value in tensors.items()}
    return _evaluate(case, gattn.ops, graph, tensors, backend=backend)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Without it PyTorch adds up large gradients of indexing in an order that changes from run to run."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import the compiler
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


@dataclass(frozen=True)
class Standard:
    """What a case's results are measured against."""

    truth: Tensors
    own_errors: list[Tensors]

    @classmethod
    def of(cls, case: Case) -> Standard:
        """Run the reference: in fp64, in the case's dtype, and in fp64 from jittered inputs."""
        graph = cast(Graph, case.edges)
        exact = {name: value.double() for name, value in case.tensors.items()}
        with ExactSums():
            truth = _evaluate(case, reference, graph, exact)
        with _deterministic():
            own = _evaluate(case, reference, graph, case.tensors)
        generator = torch.Generator().manual_seed(case.seed + 1)
        wide_eps = torch.finfo(accumulate_dtype(case.dtype)).eps
        jittered = {
            name: value * (1 + wide_eps / 2 * (2 * torch.rand(value.shape, generator=generator).double() - 1))
            for name, value in exact.items()
        }
        with ExactSums():
            moved = _evaluate(case, reference, graph, jittered)
        outputs = {name: value for name, value in truth.items() if not name.startswith("grad ")}
        terms = case.op.terms(exact, _cotangents(case, outputs), graph, _options(case, exact))
        floor = {}
        for name, value in truth.items():
            stored = torch.finfo(own[name].dtype)
            rounding = stored.eps / 4 * value.abs().clamp(min=stored.smallest_normal)
            floor[name] = rounding + wide_eps * terms[name]
        errors = [{name: other[name] - truth[name] for name in truth} for other in (own, moved)]
        return cls(truth, [*errors, floor])

    def scores(self, results: Tensors) -> dict[str, float]:
        """For each output and gradient the larger of the two norms' scores."""
        if results.keys() != self.truth.keys():
            raise ValueError(f"got {sorted(results)}, expected {sorted(self.truth)}")
        return {
            name: max(self._score(name, value, norm) for norm in (_l2, _largest_row)) for name, value in results.items()
        }

    def _score(self, name: str, value: Tensor, norm: Any) -> float:
        truth, value = self.truth[name], value.cpu()
        if value.shape != truth.shape:
            raise ValueError(f"{name} has shape {list(value.shape)}, expected {list(truth.shape)}")
        error = norm(value - truth)
        own = max(norm(errors[name]) for errors in self.own_errors)
        if error == 0:
            return 0.0
        return error / own if own > 0 and math.isfinite(error) else math.inf


def _l2(value: Tensor) -> float:
    return float(value.norm())


def _largest_row(value: Tensor) -> float:
    return float(value.reshape(len(value), -1).norm(dim=1).max()) if value.numel() else 0.0
