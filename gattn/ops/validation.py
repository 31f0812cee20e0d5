"""Checks shared by the ops: typed errors that say what was got, what was expected and what to do."""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.reference.dropout import accumulate_dtype

DISTANCES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
#: Tensors without a negative entry, and their versions when that was seen.
_not_negative: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_graph(graph: Graph) -> None:
    """Raises TypeError unless ``graph`` is a Graph."""
    if not isinstance(graph, Graph):
        raise TypeError(
            f"Expected 'graph' to be a gattn.Graph (got '{type(graph).__name__}'). Build one with "
            f"gattn.Graph.from_edge_index(edge_index, num_nodes)."
        )


def check_features(name: str, x: Tensor, rows: int, graph: Graph) -> None:
    """Checks ``x``: floating, ``[rows, H, C]`` with H, C >= 1, on the graph's device."""
    shape = x.shape
    if len(shape) != 3 or shape[0] != rows or shape[1] < 1 or shape[2] < 1:
        raise ValueError(
            f"Expected '{name}' to have shape [{rows}, heads, channels], {rows} being the graph's number of nodes on "
            f"that side (got {list(x.shape)})."
        )
    check_dtype_and_device(name, x, FLOATING, graph)


def check_same_features(name: str, x: Tensor, shape: tuple[int, ...], like: Tensor, graph: Graph) -> None:
    """Checks features that go with others: of ``shape``, in ``like``'s dtype, on the graph's device."""
    if x.shape != shape:
        raise ValueError(f"Expected '{name}' to have shape {list(shape)} (got {list(x.shape)}).")
    check_dtype_and_device(name, x, (like.dtype,), graph)


def check_logits(name: str, a: Tensor, shape: tuple[int, ...], dtype: torch.dtype, graph: Graph) -> Tensor:
    """Checks a part of the logits, or a parameter that accumulates with them.

    Returns it contiguous in the accumulate dtype of ``dtype``.

    Logits may be given in the features' own dtype or in the accumulate dtype.
    """
    if a.shape != shape:
        raise ValueError(f"Expected '{name}' to have shape {list(shape)} (got {list(a.shape)}).")
    wide = accumulate_dtype(dtype)
    check_dtype_and_device(name, a, (dtype, wide), graph)
    if a.dtype != wide:
        a = a.to(wide)
    return a if a.is_contiguous() else a.contiguous()


def check_dtype_and_device(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...], graph: Graph) -> None:
    """Raises TypeError for another dtype, ValueError for another device than the graph's."""
    if tensor.dtype not in dtypes:
        wanted = " or ".join(dict.fromkeys(str(dtype) for dtype in dtypes))
        raise TypeError(f"Expected '{name}' to be of dtype {wanted} (got {tensor.dtype}). Convert it with .to().")
    if tensor.device != graph.device:
        raise ValueError(
            f"Expected '{name}' on the graph's device '{graph.device}' (got '{tensor.device}'). Move one of them."
        )


def check_dropout(p: float) -> None:
    """Raises ValueError unless ``p`` is a probability."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"Expected 'dropout_p' to be a probability in [0, 1] (got {p}).")


def check_attention(wanted: bool | str) -> None:
    """Raises ValueError unless ``wanted`` is what ``return_attention`` takes."""
    if wanted not in (True, False, "before_dropout"):
        raise ValueError(f"Expected 'return_attention' to be True, False or 'before_dropout' (got {wanted!r}).")


def check_modifiers(
    lipschitz: Lipschitz | None, decay: Decay | None, sink: Sink | None, like: Tensor, has_values: bool, graph: Graph
) -> tuple[Lipschitz | None, Decay | None, Sink | None]:
    """Checks the modifiers against ``like`` ``[_, H, ...]`` and the graph; returns them in the accumulate dtype."""
    for name, got, kind in (("lipschitz", lipschitz, Lipschitz), ("decay", decay, Decay), ("sink", sink, Sink)):
        if got is not None and not isinstance(got, kind):
            raise TypeError(f"Expected '{name}' to be a gattn.{kind.__name__} (got '{type(got).__name__}').")
    heads, dtype = like.shape[1], like.dtype

    def check(name: str, x: Tensor, *shape: int) -> Tensor:
        return check_logits(name, x, shape, dtype, graph)

    if lipschitz is not None:
        if lipschitz.variant not in ("paper", "as-released"):
            raise ValueError(f"Expected Lipschitz variant 'paper' or 'as-released' (got {lipschitz.variant!r}).")
        query_shape = (heads,) if lipschitz.variant == "paper" else (graph.num_dst, heads)
        names, shapes = {
            "gat": (("target_norm", "weight"), ((graph.num_dst, heads), (heads,))),
            "dot": (("query_norm",), (query_shape,)),
        }[lipschitz.form]
        source_names = ("source_norm",) if lipschitz.form == "gat" else ("key_norm", "value_norm")
        lipschitz = Lipschitz(
            lipschitz.form,
            tuple(check(n, x, graph.num_src, heads) for n, x in zip(source_names, lipschitz.source_norms, strict=True)),
            tuple(check(n, x, *shape) for n, x, shape in zip(names, lipschitz.others, shapes, strict=True)),
            lipschitz.variant,
        )
    if decay is not None:
        _check_distance(decay.distance, graph)
        if not 0.0 < decay.gamma <= 1.0:
            raise ValueError(f"Expected the decay's 'gamma' in (0, 1] (got {decay.gamma}).")
        decay = Decay(decay.distance, check("hop", decay.hop, heads), float(decay.gamma), float(decay.slope))
    if sink is not None:
        if sink.value is not None and not has_values:
            raise ValueError("Expected a sink without 'value' (got one): this op has no values to add it to.")
        value = None if sink.value is None else check("sink value", sink.value, *like.shape[1:])
        sink = Sink(check("sink logit", sink.logit, graph.num_dst, heads), value)
    return lipschitz, decay, sink


def check_compiled(lipschitz: Lipschitz | None, backend: str) -> None:
    """Raises ValueError for what only the reference computes."""
    if lipschitz is not None and lipschitz.variant != "paper":
        raise ValueError(
            f"Expected Lipschitz variant 'paper' on backend {backend!r} (got {lipschitz.variant!r}). Use "
            f"backend='reference'."
        )


def _check_distance(distance: Tensor, graph: Graph) -> None:
    """Raises TypeError for another dtype than the integers, ValueError for another shape or a negative entry."""
    check_dtype_and_device("distance", distance, DISTANCES, graph)
    if distance.shape != (graph.num_edges,):
        raise ValueError(
            f"Expected the decay's 'distance' to have shape [{graph.num_edges}], one number an edge in the caller's "
            f"order (got {list(distance.shape)})."
        )
    check_not_negative("the decay's 'distance'", distance, "Give unreachable pairs a large one.")


def check_not_negative(name: str, x: Tensor, advice: str) -> None:
    """Raises ValueError for a negative entry; a compiled program raises RuntimeError while it runs.

    Looks at a tensor once, as long as it is not changed in place: on a GPU it has to wait for the answer.
    """
    expected = f"Expected {name} >= 0"
    if torch.compiler.is_compiling():
        torch._assert_async((x >= 0).all(), f"{expected}. {advice}")
        return
    keeps_version = not x.is_inference() and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    if keeps_version and _not_negative.get(x) == x._version:
        return
    if x.numel() and bool((least := x.min()) < 0):
        raise ValueError(f"{expected} (got {least.item()}). {advice}")
    if keeps_version:
        _not_negative[x] = x._version
