"""What the kernels are compiled for ahead of time: every launch that common layers make, each score plain and with all
that it can be combined with, as the launching code itself makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gattn.groups import numel as groups_numel
from gattn.ops.attention import Call
from gattn.packed import numel as graph_numel
from gattn.reference.attention import Inputs, Settings
from gattn.reference.dropout import accumulate_dtype

from . import attention
from .launch import Launch, keep_launches

#: Heads and channels of a head, with the dtypes; the last two are what no layer has and every mask is needed for.
SIZES = (
    ((8, 8), (torch.float32,)),
    ((8, 32), (torch.float32, torch.bfloat16)),
    ((8, 64), (torch.float32, torch.bfloat16)),
    ((1, 64), (torch.float16,)),
    ((3, 33), (torch.float64,)),
    ((6, 257), (torch.float16,)),
)
SCORES = ("gat", "gatv2", "dot", "gt", "edge_softmax")
_NODES, _EDGES, _HUBS = 64, 4096, (1, 4, 8, 55) * 2
_TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
Variant = tuple[str, Any, dict[str, Any], dict[Any, Any], int, int, dict[Any, Any], int | None]


def variants() -> Iterator[Variant]:
    """``(name, function, signature, constants, warps, stages, attributes, registers)`` of every launch, each once."""
    seen = set()
    for (heads, channels), dtypes in SIZES:
        for dtype in dtypes:
            for score in SCORES:
                for everything in (False, True):
                    for launch in _launches(score, heads, channels, dtype, everything):
                        variant = describe(launch, _label(launch, dtype, everything))
                        if variant[0] not in seen:
                            seen.add(variant[0])
                            yield variant


def _launches(score: str, heads: int, channels: int, dtype: torch.dtype, everything: bool) -> list[Launch]:
    wide = accumulate_dtype(dtype)
    inputs = _inputs(score, heads, channels, dtype, everything)
    settings = Settings(score, 0.2, channels**-0.5, 5.0, 1e-6 if score == "gt" else 0.0)
    if everything:
        settings = settings._replace(gamma=0.6, decay_slope=0.1, dropout_p=0.3)
    graph = empty(torch.int32, graph_numel(_NODES, _NODES, _EDGES))
    groups = empty(torch.int32, groups_numel(_NODES, _NODES, _EDGES))
    seed = empty(torch.int64) if everything else None
    out = None if score == "edge_softmax" else empty(dtype, _NODES, heads, channels)
    stats, alpha = empty(wide, _NODES, 2, heads), empty(wide, _EDGES, heads)
    whole = out if dtype == wide else None
    given = alpha if everything or score == "edge_softmax" else None
    edge = empty(dtype, _EDGES, heads, channels) if everything and score == "gt" else None
    call = Call(_EDGES, _NODES, given is not None, edge is not None, None, _HUBS, "triton")
    with keep_launches() as kept:
        attention.forward(graph, groups, inputs, settings, seed, call, (out, stats, given, edge))
        attention.backward(graph, groups, inputs, settings, seed, call, (stats, whole, out, given, edge), inputs[:-1])
        if everything and inputs.a_src is not None:
            found = empty(torch.int64, _NODES, heads)
            attention.first_largest(inputs.a_src, graph, groups, _HUBS, _EDGES, found)
    return kept


def _inputs(score: str, heads: int, channels: int, dtype: torch.dtype, everything: bool) -> Inputs:
    """Those that the score needs or, with ``everything``, can have."""
    wide = accumulate_dtype(dtype)
    features, by_head = empty(dtype, _NODES, heads, channels), empty(wide, _NODES, heads)
    edge, edge_logit = empty(dtype, _EDGES, heads, channels), empty(wide, _EDGES, heads)
    needed, more = {
        "gat": ({"v": features, "a_src": by_head, "a_dst": by_head}, {"a_edge": edge_logit}),
        "gatv2": ({"q": features, "k": features, "att": empty(wide, heads, channels)}, {"edge": edge}),
        "dot": ({"q": features, "k": features, "v": features}, {"edge": edge}),
        "gt": ({"q": features, "k": features, "v": features, "edge": edge}, {"edge_weight": edge_logit}),
        "edge_softmax": ({"a_edge": edge_logit}, {}),
    }[score]
    if not everything:
        return Inputs(**needed)
    modifiers = {
        "divisor": by_head,
        "hop": empty(wide, heads),
        "distance": empty(torch.int16, _EDGES),
        "sink_logit": by_head,
        "sink_value": None if score == "edge_softmax" else empty(wide, heads, channels),
    }
    return Inputs(**needed, **more, **modifiers)


def empty(dtype: torch.dtype, *shape: int) -> Tensor:
    """Without memory: launches are kept, not run."""
    return torch.empty(shape, dtype=dtype, device="meta")


def _label(launch: Launch, dtype: torch.dtype, everything: bool) -> str:
    setup, arguments = launch.arguments.get("s"), launch.arguments
    if setup is None:
        return f"{arguments['width']} {arguments['parts'].dtype} to {arguments['found'].dtype}"
    kind = "everything" if everything else "plain"
    return f"{setup.score} {setup.heads}x{setup.channels} {dtype} {setup.group} {kind}"


def describe(launch: Launch, label: str) -> Variant:
    """The launch as a variant, with a name of the kernel's and ``label``."""
    function, arguments = launch.kernel, launch.arguments
    signature: dict[str, Any] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    for i, (parameter, name) in enumerate(zip(function.params, function.arg_names, strict=True)):
        value = arguments[name]
        if parameter.is_constexpr:
            signature[name], constants[i,] = "constexpr", value
        else:
            signature[name] = _sign(value, (i,), parameter.annotation_type, constants, attributes)
    name = f"{function.__name__.removesuffix('_kernel')} {label.replace('torch.', '')}"
    return name, function, signature, constants, launch.warps, launch.stages, attributes, launch.registers


def _sign(
    value: Any, path: tuple[int, ...], annotated: str, constants: dict[Any, Any], attributes: dict[Any, Any]
) -> Any:
    """The type of an argument, as Triton's own launches would find it."""
    if isinstance(value, tuple):
        types = [_sign(x, (*path, j), "", constants, attributes) for j, x in enumerate(value)]
        return type(value)(*types) if hasattr(value, "_fields") else tuple(types)
    if isinstance(value, Tensor):
        attributes[path] = [["tt.divisibility", 16]]
        return _TYPES[value.dtype]
    if value is None:
        constants[path] = None
        return "constexpr"
    return annotated
