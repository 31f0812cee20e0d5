"""The op behind every score: one forward, one backward, one table of inputs.

The public functions beside this file check their arguments, name them as :class:`Inputs` and call :func:`attend`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gattn import observers
from gattn.activations import BINS, ActivationStats
from gattn.backends import _C, GROUPED, select_backend
from gattn.exchange import call_core
from gattn.gpu_choice import Case
from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops import cuda
from gattn.ops.activation_stats import as_stats, limits_of, room, taken_apart
from gattn.ops.attention_stats import check_stats, stats_in_chunks
from gattn.ops.double_backward import differentiate_backward, unpack_graph
from gattn.ops.library import register, seed_tensor, seed_value
from gattn.ops.neighbourhood import neighbourhood_maximum
from gattn.ops.validation import check_attention, check_compiled, check_dropout, check_modifiers
from gattn.reference.attention import (
    Inputs,
    Results,
    Settings,
    attention,
    edge_divisor,
    with_decay,
    with_modifiers,
)
from gattn.reference.dropout import accumulate_dtype

#: Inputs that have gradients; the last one, ``distance``, has none.
_NAMES = Inputs._fields[:-1]
_COUNT = len(_NAMES)
_SETTINGS = (
    "str score, float negative_slope, float scale, float clip, float epsilon, float gamma, float decay_slope, "
    "float dropout_p, bool undropped"
)


class Call(NamedTuple):
    """The op's arguments behind its tensors and settings."""

    num_edges: int
    num_dst: int
    with_alpha: bool
    with_edge: bool
    thresholds: Sequence[float] | None  # of statistics of activations, where these are wanted
    group_sizes: Sequence[int]  # of gattn.groups.Groups, for backends that share out nodes by degree
    backend: str


def attend(
    inputs: Inputs,
    settings: Settings,
    graph: Graph,
    *,
    lipschitz: Lipschitz | None,
    decay: Decay | None,
    sink: Sink | None,
    dropout_p: float,
    seed: int | None,
    return_attention: bool | str,
    return_edge: bool = False,
    return_stats: bool | Sequence[float] = False,
    backend: str | None,
) -> Results:
    """Checks what all ops share and computes, on the chosen backend."""
    check_attention(return_attention)
    asked = check_stats(return_stats)
    check_dropout(dropout_p)
    storage = next(x for x in inputs if x is not None)
    values = _values(inputs)
    lipschitz, decay, sink = check_modifiers(
        lipschitz, decay, sink, storage if values is None else values, values is not None, graph
    )
    case = _case(settings.score, storage if values is None else values, graph) if storage.is_cuda else None
    chosen = select_backend(backend, storage.device, case)
    undropped = return_attention == "before_dropout"
    settings = with_decay(settings._replace(dropout_p=dropout_p, undropped=undropped), decay)
    if chosen == "reference":
        inputs = with_modifiers(inputs, graph, lipschitz, decay, sink)
        by_edge = edge_divisor(lipschitz, graph)
        stats = None if asked is None else stats_in_chunks(inputs, settings, graph, asked, chosen)
        if observers.present:
            observers.show(observers.Attended(inputs, settings, graph, by_edge))
        return attention(inputs, settings, graph, seed, by_edge)._replace(stats=stats)
    check_compiled(lipschitz, chosen)
    maximum = functools.partial(neighbourhood_maximum, backend=chosen)
    inputs = with_modifiers(inputs, graph, lipschitz, decay, sink, maximum)
    # The CPU's kernel takes statistics of scores made of features on its way; what observers want is in them too.
    fused = chosen == "cpu" and inputs.q is not None
    attended = observers.Attended(inputs, settings, graph) if observers.present else None
    watched = observers.thresholds(attended) if fused and attended is not None else set()
    taken = sorted(watched.union(asked or ())) if watched or (fused and asked is not None) else None
    groups, sizes = (graph.groups.data, graph.groups.sizes) if chosen in GROUPED else (None, ())
    out, _, alpha, edge, *found = _attention(
        graph.data,
        groups,
        *(x if x is None or x.is_contiguous() else x.contiguous() for x in inputs),
        seed_tensor(dropout_p, seed, storage.device),
        *settings,
        *Call(graph.num_edges, graph.num_dst, bool(return_attention), return_edge, taken, sizes, chosen),
    )
    stats = None if taken is None else _as_stats(found, storage, taken)
    if attended is not None:
        observers.show(attended._replace(stats=stats))
    if asked is None:
        return Results(out, alpha, edge)
    if stats is None:
        stats = stats_in_chunks(inputs, settings, graph, asked)
    return Results(out, alpha, edge, stats.with_thresholds(asked))


def _as_stats(found: Sequence[Tensor], storage: Tensor, thresholds: Sequence[float]) -> ActivationStats:
    rows, *others = taken_apart(*found)  # an edge's numbers lie side by side
    return as_stats((rows.t(), *others), storage.shape[1:].numel(), thresholds)


def _case(score: str, features: Tensor, graph: Graph) -> Case:
    """Without the graph's sizes in a program that is compiled for all of them; for each width it is compiled anew."""
    sizes = () if torch.compiler.is_compiling() else (graph.num_dst, graph.num_edges)
    channels = int(features.shape[2]) if features.dim() == 3 else 1
    return Case(score, str(features.dtype).removeprefix("torch."), int(features.shape[1]), channels, *sizes)


def _values(inputs: Inputs) -> Tensor | None:
    return inputs.k if inputs.v is None else inputs.v


def _by_name(names: tuple[str, ...], tensors: Sequence[Tensor | None]) -> dict[str, Any]:
    return {name: x for name, x in zip(names, tensors, strict=True) if x is not None}


# Both ops take the graph, its groups, the inputs, the seed, (the backward) row statistics and gradients, settings and a
# call, flat.
_FIRST = 2
_SEED = _FIRST + len(Inputs._fields)
_RESULTS = ("out", "row_stats", "alpha", "edge_out")
_STATS = len(_RESULTS)  # results from here on are those of activations
_SAVED = ("row_stats", "out", "grad_out", "grad_alpha", "grad_edge")


def _run_cuda(name: str, flat: Sequence[Any], settings: Sequence[Any], call: Call, *tensors: dict[str, Any]) -> None:
    launch = cuda.Launch(flat[0], flat[1], call.group_sizes, call.num_dst, call.num_edges)
    inputs = _by_name(Inputs._fields, flat[_FIRST:_SEED])
    cuda.run(name, launch, inputs, settings, flat[_SEED], *tensors)


def _forward(*flat: Any) -> tuple[Tensor | None, ...]:
    outputs, call = _forward_fake(*flat), Call(*flat[-len(Call._fields) :])
    settings = flat[_SEED + 1 : _SEED + 1 + len(Settings._fields)]
    if call.backend == "triton":
        from gattn.kernels import attention as triton  # not before it is asked for: it imports Triton

        inputs = Inputs(*flat[_FIRST:_SEED])
        triton.forward(flat[0], flat[1], inputs, Settings(*settings), flat[_SEED], call, outputs[:_STATS])
        return outputs
    if call.backend == "cuda":
        _run_cuda("cuda_attention_forward", flat, settings, call, _by_name(_RESULTS, outputs[:_STATS]))
        return outputs
    limits: tuple[Tensor, ...] = ()
    statistics: tuple[Tensor, ...] = ()
    if call.thresholds is not None:
        limits = limits_of(call.thresholds, flat[0].device)
        statistics = taken_apart(*outputs[_STATS:])  # type: ignore[arg-type]  # there are three
    call_core(
        _C.attention_forward,
        flat[0],
        _by_name(Inputs._fields, flat[_FIRST:_SEED]),
        settings,
        seed_value(flat[_SEED]),
        _by_name(_RESULTS, outputs[:_STATS]),
        limits,
        statistics,
        torch.get_num_threads(),
    )
    return outputs


def _forward_fake(*flat: Any) -> tuple[Tensor | None, ...]:
    """``out, row_stats, alpha, edge``, and of activations the rows' numbers ``[E, 3]``, sums and extremes ``[8]`` and
    counts; ``None`` for what there is not, which costs least."""
    inputs, call = Inputs(*flat[_FIRST:_SEED]), Call(*flat[-len(Call._fields) :])
    first = next(x for x in inputs if x is not None)
    wide = accumulate_dtype(first.dtype)
    heads = first.shape[1]
    values = _values(inputs)
    return (
        None if values is None else values.new_empty(call.num_dst, *values.shape[1:]),
        first.new_empty(call.num_dst, 2, heads, dtype=wide),
        first.new_empty(call.num_edges, heads, dtype=wide) if call.with_alpha else None,
        torch.empty_like(inputs.edge) if call.with_edge and inputs.edge is not None else None,
        *(
            (None,) * 3
            if call.thresholds is None
            else room(first, (call.num_edges, 3), len(call.thresholds) + BINS + 2)
        ),
    )


def _setup_context(ctx: Any, flat: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(outputs[1], *(x for x in outputs[_STATS:] if x is not None))
    ctx.arguments = flat[_SEED + 1 :]
    # From a result that has not been rounded the backward finds the rows' D without a pass over the edges. (The CPU's
    # score gat does so from one that has, and takes the error out.)
    score, backend, out = ctx.arguments[0], flat[-1], cast("Tensor | None", outputs[0])
    rounded = out is not None and out.dtype != accumulate_dtype(out.dtype)
    if rounded if backend in GROUPED else score != "gat":
        out = None
    ctx.save_for_backward(*flat[: _SEED + 1], outputs[1], out)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_out, _, grad_alpha, grad_edge = grads[:_STATS]
    arguments = _SEED + 1 + len(ctx.arguments)
    if grad_out is None and grad_alpha is None and grad_edge is None:
        return (None,) * arguments
    needs = ctx.needs_input_grad[_FIRST : _FIRST + _COUNT]
    found = _attention_backward(
        *ctx.saved_tensors,
        *(None if g is None else g.contiguous() for g in (grad_out, grad_alpha, grad_edge)),
        *ctx.arguments,
        list(needs),
    )
    return None, None, *found, *[None] * (arguments - _FIRST - _COUNT)


def _backward_fake(*flat: Any) -> tuple[Tensor | None, ...]:
    """Room for the gradients, ``None`` for those not asked for."""
    inputs, needs = flat[_FIRST : _FIRST + _COUNT], flat[-1]
    return tuple(torch.empty_like(x) if x is not None and need else None for x, need in zip(inputs, needs, strict=True))


def _backward_kernel(*flat: Any) -> tuple[Tensor | None, ...]:
    saved, at = _SEED + 1, _SEED + 1 + len(_SAVED)
    settings = flat[at : at + len(Settings._fields)]
    gradients, call = _backward_fake(*flat), Call(*flat[-len(Call._fields) - 1 : -1])
    if call.backend == "triton":
        from gattn.kernels import attention as triton

        inputs = Inputs(*flat[_FIRST:_SEED])
        triton.backward(flat[0], flat[1], inputs, Settings(*settings), flat[_SEED], call, flat[saved:at], gradients)
        return gradients
    if call.backend == "cuda":
        given = _by_name(_SAVED, flat[saved:at])
        _run_cuda("cuda_attention_backward", flat, settings, call, given, _by_name(_NAMES, gradients))
        return gradients
    call_core(
        _C.attention_backward,
        flat[0],
        _by_name(Inputs._fields, flat[_FIRST:_SEED]),
        settings,
        seed_value(flat[_SEED]),
        _by_name(_SAVED, flat[saved:at]),
        _by_name(_NAMES, gradients),
        torch.get_num_threads(),
    )
    return gradients


def _setup_double(ctx: Any, flat: tuple[Any, ...], _: Any) -> None:
    tensors = _FIRST + _COUNT + 1 + 1 + len(_SAVED)  # graph and groups, inputs, seed, what is saved, gradients
    ctx.settings = Settings(*flat[tensors : tensors + len(Settings._fields)])
    ctx.arguments = len(flat)
    ctx.num_edges, ctx.num_dst = flat[tensors + len(Settings._fields) :][:2]
    ctx.save_for_backward(*flat[:tensors])


def _double_backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    packed, _, *rest = ctx.saved_tensors
    inputs, seed, grads = Inputs(*rest[: _COUNT + 1]), rest[_COUNT + 1], rest[_COUNT + 4 :]
    graph = unpack_graph(packed, ctx.num_dst, num_edges=ctx.num_edges)
    wanted = [i for i, grad in enumerate(grads) if grad is not None]

    def forward(*tensors: Tensor | None) -> list[Tensor]:
        results = attention(Inputs(*tensors)._replace(distance=inputs.distance), ctx.settings, graph, seed)
        return [results[i] for i in wanted]  # type: ignore[misc]

    found = differentiate_backward(forward, inputs[:-1], [grads[i] for i in wanted], grad_grads)
    grad_of_grads: list[Tensor | None] = [None, None, None]
    for i, grad in zip(wanted, found[_COUNT:], strict=True):
        grad_of_grads[i] = grad
    result = [None, None, *found[:_COUNT], *[None] * 4, *grad_of_grads]
    return (*result, *[None] * (ctx.arguments - len(result)))


_TENSORS = ", ".join(
    ["Tensor graph", "Tensor? groups", *(f"Tensor? {name}" for name in Inputs._fields), "Tensor? seed"]
)
_CALL = (
    "SymInt num_edges, SymInt num_dst, bool with_alpha, bool with_edge, float[]? thresholds, SymInt[] group_sizes, "
    "str backend"
)
_attention_backward = register(
    f"attention_backward({_TENSORS}, Tensor row_stats, Tensor? out, Tensor? grad_out, Tensor? grad_alpha, "
    f"Tensor? grad_edge, {_SETTINGS}, {_CALL}, bool[] needs) -> ({', '.join(['Tensor'] * _COUNT)})",
    cpu=_backward_kernel,
    cuda=True,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_attention = register(
    f"attention({_TENSORS}, {_SETTINGS}, {_CALL}) -> ({', '.join(['Tensor'] * (_STATS + 3))})",
    cpu=_forward,
    cuda=True,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)
