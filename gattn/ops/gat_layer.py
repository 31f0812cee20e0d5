"""The GAT layer behind its linear map in one op: node scores, attention with score ``gat``, bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn import observers, reference
from gattn.backends import _C, GROUPED, select_backend
from gattn.exchange import call_core
from gattn.graph import Graph
from gattn.modifiers import Lipschitz
from gattn.ops.double_backward import differentiate_backward, unpack_graph
from gattn.ops.gat import gat
from gattn.ops.library import register, seed_tensor, seed_value
from gattn.ops.node_terms import node_terms
from gattn.ops.validation import check_dropout, check_features, check_graph, check_logits
from gattn.reference.attention import Inputs, Settings, with_modifiers
from gattn.reference.scores import lipschitz_weight, weighted_gat_layer


def gat_layer(
    x: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    lipschitz: bool = False,
    negative_slope: float = 0.2,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_attention: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r""":func:`gattn.ops.gat` with :math:`a^{src}_j = \langle x_j, att^{src} \rangle`, :math:`a^{dst}_i` likewise,
    plus ``bias``, for graphs with one set of nodes.

    The node scores and their gradients, and with ``lipschitz`` the norms, ride along in passes over ``x`` that are made
    anyway, which spares a layer several tensors of size ``N * H * C`` in each direction.

    Args:
        x: ``[N, H, C]``, float32, float64, bfloat16 or float16.
        att_src: ``[H, C]``, like ``att_dst`` and ``bias`` in ``x``'s dtype, or float32 for half precision.
        att_dst: ``[H, C]``.
        graph: The adjacency, with as many sources as targets.
        a_edge: ``[E, H]``, added to the logits, or ``None``.
        bias: ``[H * C]``, added to the result, or ``None``.
        lipschitz: Divides the logits by LipschitzNorm's :math:`c_i` (:meth:`gattn.Lipschitz.gat`), from the norms of
            ``x`` and of :math:`[att^{src} \Vert att^{dst}]`.
        negative_slope, dropout_p, seed, return_attention, backend: As in :func:`gattn.ops.gat`.

    Returns:
        ``out`` ``[N, H, C]`` in ``x``'s dtype, or ``(out, alpha)``.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    if graph.num_src != graph.num_dst:
        raise ValueError(
            f"Expected a graph with one set of nodes (got {graph.num_src} sources and {graph.num_dst} targets). Use "
            f"gattn.ops.gat for bipartite graphs."
        )
    check_features("x", x, graph.num_src, graph)
    _, heads, channels = x.shape
    att_src = check_logits("att_src", att_src, (heads, channels), x.dtype, graph)
    att_dst = check_logits("att_dst", att_dst, (heads, channels), x.dtype, graph)
    if bias is not None:
        bias = check_logits("bias", bias, (heads * channels,), x.dtype, graph)
    if a_edge is not None:
        a_edge = check_logits("a_edge", a_edge, (graph.num_edges, heads), x.dtype, graph)
    check_dropout(dropout_p)
    if not isinstance(lipschitz, bool):
        raise TypeError(
            f"Expected 'lipschitz' to be True or False (got '{type(lipschitz).__name__}'). The layer takes the norms "
            f"of its own x; gattn.ops.gat takes a gattn.Lipschitz."
        )
    chosen = select_backend(backend, x.device)
    if chosen in GROUPED:
        return _by_attention(
            x,
            att_src,
            att_dst,
            graph,
            a_edge,
            bias,
            lipschitz=lipschitz,
            negative_slope=negative_slope,
            dropout_p=dropout_p,
            seed=seed,
            return_attention=return_attention,
            backend=backend,
        )
    weight = lipschitz_weight(att_src, att_dst) if lipschitz else None
    if observers.present:
        with torch.no_grad():
            observers.show(_attended(x, att_src, att_dst, graph, a_edge, weight, negative_slope, chosen))
    if chosen == "reference":
        result = reference.gat_layer(
            x,
            att_src,
            att_dst,
            graph,
            a_edge,
            bias=bias,
            lipschitz=lipschitz,
            negative_slope=negative_slope,
            dropout_p=dropout_p,
            seed=seed,
        )
        return result if return_attention else result[0]
    *results, alpha = _gat_layer(
        x if x.is_contiguous() else x.contiguous(),
        att_src,
        att_dst,
        a_edge,
        bias,
        weight,
        graph.data,
        seed_tensor(dropout_p, seed),
        graph.num_edges,
        negative_slope,
        dropout_p,
        return_attention,
    )
    return (results[0], alpha) if return_attention else results[0]


def _attended(
    x: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    graph: Graph,
    a_edge: Tensor | None,
    weight: Tensor | None,
    negative_slope: float,
    backend: str,
) -> observers.Attended:
    """What an observer is shown of a layer."""
    a_src, a_dst, norm = node_terms(x, att_src, att_dst, norm=weight is not None, backend=backend)
    inputs = Inputs(v=x, a_src=a_src, a_dst=a_dst, a_edge=a_edge)
    if norm is not None and weight is not None:
        inputs = with_modifiers(inputs, graph, Lipschitz.gat(norm, norm, weight), None, None)
    return observers.Attended(inputs, Settings("gat", negative_slope), graph)


def _by_attention(
    x: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    graph: Graph,
    a_edge: Tensor | None,
    bias: Tensor | None,
    *,
    lipschitz: bool,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """The layer on a backend that has no kernel of its own for it. ``options`` are :func:`gat`'s."""
    a_src, a_dst, norm = node_terms(x, att_src, att_dst, norm=lipschitz, backend=options["backend"])
    assert a_src is not None
    modifier = None if norm is None else Lipschitz.gat(norm, norm, lipschitz_weight(att_src, att_dst))
    out, alpha = gat(x, a_src, a_dst, graph, a_edge, lipschitz=modifier, **options), None
    if options["return_attention"]:
        out, alpha = out
    if bias is not None:
        out = (out + bias.view(x.shape[1:])).to(x.dtype)
    return out if alpha is None else (out, alpha)


def _forward_cpu(*flat: Any) -> tuple[Tensor | None, ...]:
    outputs = _forward_fake(*flat)
    *inputs, graph, seed = flat[:8]
    negative_slope, dropout_p, _ = flat[9:]
    out, *terms, row_stats, alpha = outputs
    numbers = (negative_slope, dropout_p, seed_value(seed))
    results = (out, row_stats, alpha)
    call_core(_C.gat_layer_forward, graph, *inputs, *terms, *numbers, *results, torch.get_num_threads())
    return outputs


def _forward_fake(x: Tensor, att_src: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    weight, (num_edges, _, _, with_alpha) = rest[3], rest[-4:]
    nodes, heads = x.shape[0], x.shape[1]
    a_src, a_dst = att_src.new_empty(nodes, heads), att_src.new_empty(nodes, heads)
    norm = None if weight is None else att_src.new_empty(nodes, heads)
    row_stats = att_src.new_empty(nodes, 2, heads)
    alpha = att_src.new_empty(num_edges, heads) if with_alpha else None
    return torch.empty_like(x), a_src, a_dst, norm, row_stats, alpha


def _setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
    *tensors, _, ctx.negative_slope, ctx.dropout_p, _ = inputs
    ctx.mark_non_differentiable(*(x for x in outputs[1:5] if x is not None))
    ctx.save_for_backward(*tensors, *outputs)


def _backward(ctx: Any, grad_out: Tensor | None, *others: Any) -> tuple[Tensor | None, ...]:
    grad_alpha = others[-1]
    if grad_out is None and grad_alpha is None:
        return (None,) * 12
    *saved, alpha = ctx.saved_tensors
    grads = _gat_layer_backward(
        torch.zeros_like(saved[0]) if grad_out is None else grad_out.contiguous(),
        None if grad_alpha is None else grad_alpha.contiguous(),
        *saved,
        None if grad_alpha is None else alpha,
        ctx.negative_slope,
        ctx.dropout_p,
        ctx.needs_input_grad[3],
    )
    return *grads, *[None] * 6


def _backward_cpu(*flat: Any) -> tuple[Tensor | None, ...]:
    grads = _backward_fake(*flat)
    grad_out, grad_alpha, *inputs, graph, seed, out, a_src, a_dst, norm, row_stats, alpha = flat[:16]
    dx, datt_src, datt_dst, da_edge, dbias, dweight = grads
    numbers = (*flat[16:18], seed_value(seed))
    saved = (out, row_stats, alpha, grad_out, grad_alpha)
    given = (*inputs, a_src, a_dst, norm, *numbers, *saved)
    results = (dx, da_edge, datt_src, datt_dst, dbias, dweight)
    call_core(_C.gat_layer_backward, graph, *given, *results, torch.get_num_threads())
    return grads


def _backward_fake(grad_out: Tensor, grad_alpha: Tensor | None, *rest: Any) -> tuple[Tensor | None, ...]:
    x, att_src, att_dst, a_edge, bias, weight = rest[:6]
    return (
        torch.empty_like(x),
        torch.empty_like(att_src),
        torch.empty_like(att_dst),
        torch.empty_like(a_edge) if rest[-1] and a_edge is not None else None,
        *(None if t is None else torch.empty_like(t) for t in (bias, weight)),
    )


def _setup_double(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
    ctx.negative_slope, ctx.dropout_p = inputs[16:18]
    ctx.save_for_backward(*inputs[:10])


def _double_backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_out, grad_alpha, *inputs, packed, seed = ctx.saved_tensors
    nodes = inputs[0].size(0)
    graph = unpack_graph(packed, nodes, num_src=nodes)

    def forward(
        x: Tensor,
        att_src: Tensor,
        att_dst: Tensor,
        a_edge: Tensor | None,
        bias: Tensor | None,
        weight: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        return weighted_gat_layer(
            x,
            att_src,
            att_dst,
            graph,
            a_edge,
            bias=bias,
            weight=weight,
            negative_slope=ctx.negative_slope,
            dropout_p=ctx.dropout_p,
            seed=seed,
        )

    grads = differentiate_backward(forward, inputs, (grad_out, grad_alpha), grad_grads)
    return (grads[6], grads[7], *grads[:6], *[None] * 11)


_gat_layer_backward = register(
    "gat_layer_backward(Tensor grad_out, Tensor? grad_alpha, Tensor x, Tensor att_src, Tensor att_dst, "
    "Tensor? a_edge, Tensor? bias, Tensor? weight, Tensor graph, Tensor? seed, Tensor out, Tensor a_src, Tensor a_dst, "
    "Tensor? norm, Tensor row_stats, Tensor? alpha, float negative_slope, float dropout_p, bool need_a_edge) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    cpu=_backward_cpu,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_gat_layer = register(
    "gat_layer(Tensor x, Tensor att_src, Tensor att_dst, Tensor? a_edge, Tensor? bias, Tensor? weight, Tensor graph, "
    "Tensor? seed, SymInt num_edges, float negative_slope, float dropout_p, bool with_alpha) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    cpu=_forward_cpu,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)
