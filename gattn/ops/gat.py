"""Score ``gat`` (Velickovic et al. 2018): ``LeakyReLU(a_src[j] + a_dst[i] + a_edge[ij])``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn import observers
from gattn.backends import _C, select_backend
from gattn.exchange import call_core
from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops.attention import attend
from gattn.ops.double_backward import differentiate_backward, unpack_graph
from gattn.ops.library import register, seed_tensor, seed_value
from gattn.ops.neighbourhood import neighbourhood_maximum
from gattn.ops.validation import (
    check_compiled,
    check_dropout,
    check_features,
    check_graph,
    check_logits,
    check_modifiers,
)
from gattn.reference.attention import Inputs, Settings, attention, with_modifiers
from gattn.reference.scores import pick


def gat(
    x: Tensor,
    a_src: Tensor,
    a_dst: Tensor | None,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    lipschitz: Lipschitz | None = None,
    decay: Decay | None = None,
    sink: Sink | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_attention: bool | str = False,
    backend: str | None = None,
) -> Any:
    r"""Graph attention with additive scores, fused: nothing of size ``E * H * C`` is stored.

    .. math::
        s_{ij} = \mathrm{LeakyReLU}(a^{src}_j + a^{dst}_i + a^{edge}_{ij}), \quad
        \alpha_{ij} = \mathrm{softmax}_{j}(s_{ij}), \quad
        out_i = \sum_j \mathrm{drop}(\alpha_{ij}) \, x_j

    A target without in-edges gets zeros. Backward keeps the inputs, ``out`` and two numbers a row and head, recomputes
    alpha, and sums over the transposed graph without atomics: the same input gives the same bits.

    Args:
        x: ``[N_src, H, C]``, float32, float64, bfloat16 or float16.
        a_src: ``[N_src, H]``; like the other parts of the logits in ``x``'s dtype, or float32 for half precision.
        a_dst: ``[N_dst, H]`` or ``None`` for 0.
        graph: The adjacency.
        a_edge: ``[E, H]`` in the caller's edge order, or ``None`` for 0.
        negative_slope: Slope of LeakyReLU below 0.
        lipschitz, decay, sink: Modifiers (:class:`gattn.Lipschitz`, :class:`gattn.Decay`, :class:`gattn.Sink`).
        dropout_p: Probability to drop an attention weight; kept ones grow by ``1 / (1 - p)``.
        seed: Dropout seed; ``None`` draws one from torch's generator.
        return_attention: Returns ``alpha`` too, ``[E, H]`` after dropout, in the caller's edge order and the
            accumulate dtype (float32; float64 for float64), differentiable. ``"before_dropout"`` for the weights
            that dropout has not touched.
        backend: ``"reference"``, ``"cpu"``, ``"cuda"``, ``"triton"`` or ``None`` for the fastest usable.

    Returns:
        ``out`` ``[N_dst, H, C]`` in ``x``'s dtype, or ``(out, alpha)``.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    check_features("x", x, graph.num_src, graph)
    heads = x.size(1)
    a_src = check_logits("a_src", a_src, (graph.num_src, heads), x.dtype, graph)
    if a_dst is not None:
        a_dst = check_logits("a_dst", a_dst, (graph.num_dst, heads), x.dtype, graph)
    if a_edge is not None:
        a_edge = check_logits("a_edge", a_edge, (graph.num_edges, heads), x.dtype, graph)
    plain = decay is None and sink is None and return_attention in (True, False)
    if not plain or select_backend(backend, x.device) != "cpu":
        results = attend(
            Inputs(v=x, a_src=a_src, a_dst=a_dst, a_edge=a_edge),
            Settings("gat", negative_slope),
            graph,
            lipschitz=lipschitz,
            decay=decay,
            sink=sink,
            dropout_p=dropout_p,
            seed=seed,
            return_attention=return_attention,
            backend=backend,
        )
        return pick(results, return_attention)
    check_dropout(dropout_p)
    inputs = Inputs(v=x, a_src=a_src, a_dst=a_dst, a_edge=a_edge)
    if lipschitz is not None:
        lipschitz, _, _ = check_modifiers(lipschitz, None, None, x, True, graph)
        check_compiled(lipschitz, "cpu")
        inputs = with_modifiers(inputs, graph, lipschitz, None, None, neighbourhood_maximum)
    if observers.present:
        observers.show(observers.Attended(inputs, Settings("gat", negative_slope), graph))
    out, _, alpha = _gat(
        x.contiguous(),
        a_src,
        a_dst,
        a_edge,
        None if inputs.divisor is None else inputs.divisor.contiguous(),
        graph.data,
        seed_tensor(dropout_p, seed),
        graph.num_dst,
        graph.num_edges,
        negative_slope,
        dropout_p,
        bool(return_attention),
    )
    return (out, alpha) if return_attention else out


def _forward_cpu(*flat: Any) -> tuple[Tensor | None, ...]:
    outputs = _forward_fake(*flat)
    *inputs, graph, seed = flat[:7]
    negative_slope, dropout_p, _ = flat[9:]
    numbers = (negative_slope, dropout_p, seed_value(seed))
    call_core(_C.gat_forward, graph, *inputs, *numbers, *outputs, torch.get_num_threads())
    return outputs


def _forward_fake(x: Tensor, a_src: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    num_dst, num_edges, _, _, with_alpha = rest[-5:]
    _, heads, channels = x.shape
    return (
        x.new_empty(num_dst, heads, channels),
        a_src.new_empty(num_dst, 2, heads),
        a_src.new_empty(num_edges, heads) if with_alpha else None,
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
    *tensors, _, _, ctx.negative_slope, ctx.dropout_p, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad_out: Tensor | None, _: Any, grad_alpha: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_out is None and grad_alpha is None:
        return (None,) * 12
    *inputs, alpha = ctx.saved_tensors
    grads = _gat_backward(
        torch.zeros_like(inputs[-2]) if grad_out is None else grad_out.contiguous(),
        None if grad_alpha is None else grad_alpha.contiguous(),
        *inputs,
        None if grad_alpha is None else alpha,
        ctx.negative_slope,
        ctx.dropout_p,
        *ctx.needs_input_grad[2:5],
    )
    return *grads, *[None] * 7


def _backward_cpu(*flat: Any) -> tuple[Tensor | None, ...]:
    grads = _backward_fake(*flat)
    grad_out, grad_alpha, *inputs, graph, seed, out, row_stats, alpha = flat[:12]
    numbers = (*flat[12:14], seed_value(seed))
    saved = (out, row_stats, alpha, grad_out, grad_alpha)
    call_core(_C.gat_backward, graph, *inputs, *numbers, *saved, *grads, torch.get_num_threads())
    return grads


def _backward_fake(
    grad_out: Tensor, grad_alpha: Tensor | None, x: Tensor, a_src: Tensor, *rest: Any
) -> tuple[Tensor | None, ...]:
    optional, needs = rest[:3], rest[-3:]  # a_dst, a_edge, divisor
    return (
        torch.empty_like(x),
        torch.empty_like(a_src),
        *(torch.empty_like(t) if need and t is not None else None for t, need in zip(optional, needs, strict=True)),
    )


def _setup_double(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
    *tensors, out, _, _, ctx.negative_slope, ctx.dropout_p, _, _, _ = inputs
    ctx.num_dst = out.shape[0]
    ctx.save_for_backward(*tensors)


def _double_backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_out, grad_alpha, *inputs, packed, seed = ctx.saved_tensors
    graph = unpack_graph(packed, ctx.num_dst, num_src=inputs[0].size(0))
    settings = Settings("gat", ctx.negative_slope, dropout_p=ctx.dropout_p)

    def forward(
        x: Tensor, a_src: Tensor, a_dst: Tensor | None, a_edge: Tensor | None, divisor: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        tensors = Inputs(v=x, a_src=a_src, a_dst=a_dst, a_edge=a_edge, divisor=divisor)
        out, alpha = attention(tensors, settings, graph, seed)[:2]
        assert out is not None
        return out, alpha

    grads = differentiate_backward(forward, inputs, (grad_out, grad_alpha), grad_grads)
    return (grads[5], grads[6], *grads[:5], *[None] * 10)


_gat_backward = register(
    "gat_backward(Tensor grad_out, Tensor? grad_alpha, Tensor x, Tensor a_src, Tensor? a_dst, Tensor? a_edge, "
    "Tensor? divisor, Tensor graph, Tensor? seed, Tensor out, Tensor row_stats, Tensor? alpha, float negative_slope, "
    "float dropout_p, bool need_a_dst, bool need_a_edge, bool need_divisor) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    cpu=_backward_cpu,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_gat = register(
    "gat(Tensor x, Tensor a_src, Tensor? a_dst, Tensor? a_edge, Tensor? divisor, Tensor graph, Tensor? seed, "
    "SymInt num_dst, SymInt num_edges, float negative_slope, float dropout_p, bool with_alpha) "
    "-> (Tensor, Tensor, Tensor)",
    cpu=_forward_cpu,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)
