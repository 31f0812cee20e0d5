"""The attention on a device that Triton compiles for: allocations and launches, without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
from torch import Tensor

from gattn.backends import interprets_triton
from gattn.reference.attention import Inputs, Settings

from . import require_triton
from .choices import power_of_two
from .d_pass import d_kernel, d_of_out_kernel
from .forward import alpha_kernel, forward_kernel, merge_kernel
from .launch import Launcher, launch, on_device
from .neighbourhood import first_largest_kernel
from .reductions import sum_chunks_kernel, sum_programs_kernel
from .setup import Gradients, Results
from .source_pass import source_kernel
from .target_pass import target_kernel
from .walk import Walk, walks

require_triton(triton.__version__)
if interprets_triton():
    from .interpreter import repair

    repair()

#: Programs that sum over all rows, each a part of its own.
PROGRAMS = 1024


def forward(
    graph: Tensor,
    groups: Tensor,
    inputs: Inputs,
    settings: Settings,
    seed: Tensor | None,
    call: Any,
    outputs: Sequence[Tensor | None],
) -> None:
    """Fills ``outputs``: ``out``, row statistics, ``alpha`` and the edge stream, ``None`` for what is not asked for."""
    results = Results(*outputs)
    rows, columns = walks(graph, groups, call.group_sizes, call.num_dst, call.num_edges)
    launcher = Launcher(inputs, settings, seed)
    scratch = (None, None)
    if rows.side.chunks > 0:
        heads, channels = launcher.heads, launcher.channels
        values = None if results.out is None else launcher.empty(rows.side.chunks, heads, channels)
        scratch = (launcher.empty(rows.side.chunks, 2, heads), values)
    with on_device(graph):
        for group in rows.present("chunk", "middle", "small"):
            setup, blocks = launcher.setup("forward", group)
            launcher.launch(
                forward_kernel,
                rows.programs(group, blocks.rows),
                setup,
                blocks,
                graph=graph,
                groups=groups,
                inputs=inputs,
                results=results,
                scratch=scratch if group == "chunk" else None,
                seed=seed,
                **rows.integers(),
                **launcher.dropout,
            )
        if rows.side.chunks > 0:
            setup, blocks = launcher.setup("merge", "hub")
            at = {name: rows.integers()[name] for name in ("counts_at", "order_at", "chunk_ptr_at")}
            launcher.launch(
                merge_kernel,
                rows.side.hubs,
                setup,
                blocks,
                groups=groups,
                inputs=inputs,
                results=results,
                scratch=scratch,
                **at,
            )
        if results.alpha is not None:
            setup, blocks = launcher.setup("alpha", "edges", channels=1)
            setup = setup._replace(dropout=setup.dropout and not settings.undropped)
            launcher.launch(
                alpha_kernel,
                -(-call.num_edges // blocks.lanes),
                setup,
                blocks,
                graph=graph,
                inputs=inputs,
                stats=results.stats,
                alpha=results.alpha,
                seed=seed,
                row_at=columns.sections["node_at"],
                edge_at=columns.sections["edge_at"],
                num_edges=call.num_edges,
                **launcher.dropout,
            )


_PER_TARGET = ("q", "a_dst", "divisor")
_PER_SOURCE = ("k", "v", "a_src")
_OVER_ROWS = ("att", "hop", "sink_value")
_PER_EDGE = ("edge", "a_edge", "edge_weight", "sink_logit")  # and what only a row's first program writes


def backward(
    graph: Tensor,
    groups: Tensor,
    inputs: Inputs,
    settings: Settings,
    seed: Tensor | None,
    call: Any,
    saved: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
) -> None:
    """Fills ``gradients``, in the inputs' order and without the last; ``None`` for what is not asked for.

    ``saved`` are the row statistics, ``out`` if it has not been rounded, and the gradients of ``out``, ``alpha`` and
    the edge stream.
    """
    found = {name: x for name, x in zip(Inputs._fields, gradients, strict=False) if x is not None}
    by_target = {name: found[name] for name in (*_PER_TARGET, *_OVER_ROWS, *_PER_EDGE) if name in found}
    by_source = {name: found[name] for name in _PER_SOURCE if name in found}
    rows, columns = walks(graph, groups, call.group_sizes, call.num_dst, call.num_edges)
    launcher = Launcher(inputs, settings, seed)
    stats, out, grad_out, grad_alpha, grad_edge = saved
    d = launcher.empty(call.num_dst, launcher.heads)
    given = Gradients(grad_out, grad_alpha, grad_edge, stats, d)
    # Where values are not part of the score, a pass that has gathered them for dalpha spares the next one doing so.
    dalpha = launcher.empty(call.num_edges, launcher.heads) if by_target and inputs.v is not None else None
    with on_device(graph):
        if out is not None and grad_out is not None and grad_alpha is None:
            setup, blocks = launcher.setup("d_of_out", "rows")
            programs = -(-call.num_dst // blocks.rows)
            launcher.launch(
                d_of_out_kernel, programs, setup, blocks, out=out, grad_out=grad_out, d=d, num_rows=call.num_dst
            )
            given = given._replace(dalpha_t=dalpha)
        else:
            given = given._replace(dalpha=dalpha)
            _pass(launcher, "d", d_kernel, rows, inputs, given, {"divisor": d})
        if by_source:
            _pass(launcher, "source", source_kernel, columns, inputs, given, by_source)
        elif given.dalpha_t is not None:
            given = given._replace(dalpha_t=None)
        if by_target:
            _pass(launcher, "target", target_kernel, rows, inputs, given, by_target)


def _pass(
    launcher: Launcher,
    name: str,
    kernel: Any,
    walk: Walk,
    inputs: Inputs,
    given: Gradients,
    found: dict[str, Tensor],
) -> None:
    """Launches ``kernel`` for every group of rows, and the second stages of its sums."""
    tiles = {group: launcher.setup(name, group) for group in walk.present("chunk", "middle", "small")}
    programs = {group: walk.programs(group, blocks.rows) for group, (_, blocks) in tiles.items()}
    extra: dict[str, int] = {}
    over_rows: dict[str, Tensor] = {}
    if name == "target":
        extra = {"num_blocks": 0, "program_at": 0, "transposed_at": walk.transposed_at}
        totals = [key for key in _OVER_ROWS if key in found]
        if totals:
            programs = {group: min(count, PROGRAMS) for group, count in programs.items()}
        over_rows = {key: launcher.empty(sum(programs.values()), *found[key].shape) for key in totals}
    chunks = {
        key: launcher.empty(walk.side.chunks, *x.shape[1:])
        for key, x in found.items()
        if walk.side.chunks > 0 and key in (*_PER_TARGET, *_PER_SOURCE)
    }
    for group, (setup, blocks) in tiles.items():
        if name == "target":
            extra["num_blocks"] = walk.programs(group, blocks.rows)
        where = Inputs(**{**found, **over_rows, **(chunks if group == "chunk" else {})})
        launcher.launch(
            kernel,
            programs[group],
            setup,
            blocks,
            graph=walk.graph,
            groups=walk.groups,
            inputs=inputs,
            grads=given,
            found=where,
            seed=launcher.seed,
            **walk.integers(),
            **launcher.dropout,
            **extra,
        )
        if name == "target":
            extra["program_at"] += programs[group]
    for key, parts in chunks.items():
        width = parts[0].numel()
        block = min(power_of_two(width), 1024)
        at = {key: walk.integers()[key] for key in ("counts_at", "order_at", "chunk_ptr_at")}
        launch(
            sum_chunks_kernel,
            (walk.side.hubs, -(-width // block)),
            warps=4,
            groups=walk.groups,
            parts=parts,
            found=found[key],
            **at,
            width=width,
            block=block,
        )
    for key, parts in over_rows.items():
        width = found[key].numel()
        block = min(power_of_two(width), 32)
        launch(
            sum_programs_kernel,
            (-(-width // block),),
            warps=4,
            parts=parts,
            found=found[key],
            count=len(parts),
            width=width,
            block=block,
            lanes=32,
        )


def first_largest(
    values: Tensor, graph: Tensor, groups: Tensor, sizes: Sequence[int], num_edges: int, found: Tensor
) -> None:
    """Fills ``found`` ``[N_dst, H]`` with the source of each target's first edge of the largest value, or -1."""
    rows, _ = walks(graph, groups, sizes, found.shape[0], num_edges)
    launcher = Launcher(Inputs(a_src=values), Settings("edge_softmax"), None)
    with on_device(graph):
        for group in rows.present("hub", "middle", "small"):
            setup, blocks = launcher.setup("largest", group)
            launcher.launch(
                first_largest_kernel,
                rows.programs(group, blocks.rows),
                setup,
                blocks,
                graph=graph,
                groups=groups,
                values=values,
                found=found,
                **rows.integers(),
            )
