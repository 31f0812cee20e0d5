"""Score ``gat`` (Velickovic et al. 2018): ``LeakyReLU(a_src[j] + a_dst[i] + a_edge[ij])``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn import observers, reference
from gattn.backends import _C, select_backend
from gattn.exchange import call_core
from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops.attention import attend
from gattn.ops.double_backward import differentiate_backward, unpack_graph
from gattn.ops.library import register, seed_tensor, seed_value
from gattn.ops.validation import check_dropout, check_features, check_graph, check_logits
from gattn.reference.attention import Inputs, Settings
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
    plain = lipschitz is None and decay is None and sink is None and return_attention in (True, False)
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
    if observers.present:
        inputs = Inputs(v=x, a_src=a_src, a_dst=a_dst, a_edge=a_edge)
        observers.show(observers.Attended(inputs, Settings("gat", negative_slope), graph))
    out, _, alpha = _gat(
        x.contiguous(),
        a_src,
        a_dst,
        a_edge,
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
    *inputs, graph, seed = flat[:6]
    negative_slope, dropout_p, _ = flat[8:]
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
    x, a_src, a_dst, a_edge, graph, seed, _, _, ctx.negative_slope, ctx.dropout_p, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, a_src, a_dst, a_edge, graph, seed, *output)


def _backward(ctx: Any, grad_out: Tensor | None, _: Any, grad_alpha: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_out is None and grad_alpha is None:
        return (None,) * 11
    *inputs, alpha = ctx.saved_tensors
    grads = _gat_backward(
        torch.zeros_like(inputs[-2]) if grad_out is None else grad_out.contiguous(),
        None if grad_alpha is None else grad_alpha.contiguous(),
        *inputs,
        None if grad_alpha is None else alpha,
        ctx.negative_slope,
        ctx.dropout_p,
        *ctx.needs_input_grad[2:4],
    )
    return *grads, *[None] * 7


def _backward_cpu(*flat: Any) -> tuple[Tensor | None, ...]:
    grads = _backward_fake(*flat)
    grad_out, grad_alpha, *inputs, graph, seed, out, row_stats, alpha = flat[:11]
    numbers = (*flat[11:13], seed_value(seed))
    saved = (out, row_stats, alpha, grad_out, grad_alpha)
    call_core(_C.gat_backward, graph, *inputs, *numbers, *saved, *grads, torch.get_num_threads())
    return grads


def _backward_fake(
    grad_out: Tensor, grad_alpha: Tensor | None, x: Tensor, a_src: Tensor, *rest: Any
) -> tuple[Tensor | None, ...]:
    (a_dst, a_edge), (need_a_dst, need_a_edge) = rest[:2], rest[-2:]
    return (
        torch.empty_like(x),
        torch.empty_like(a_src),
        torch.empty_like(a_dst) if need_a_dst and a_dst is not None else None,
        torch.empty_like(a_edge) if need_a_edge and a_edge is not None else None,
    )


def _setup_double(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
    grad_out, grad_alpha, x, a_src, a_dst, a_edge, graph, seed, out, _, _, *arguments = inputs
    ctx.negative_slope, ctx.dropout_p = arguments[:2]
    ctx.num_dst = out.shape[0]
    ctx.save_for_backward(grad_out, grad_alpha, x, a_src, a_dst, a_edge, graph, seed)


def _double_backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_out, grad_alpha, x, a_src, a_dst, a_edge, packed, seed = ctx.saved_tensors
    graph = unpack_graph(packed, ctx.num_dst, num_src=x.size(0))

    def forward(x: Tensor, a_src: Tensor, a_dst: Tensor | None, a_edge: Tensor | None) -> tuple[Tensor, Tensor]:
        out, alpha = reference.gat(
            x,
            a_src,
            a_dst,
            graph,
            a_edge,
            negative_slope=ctx.negative_slope,
            dropout_p=ctx.dropout_p,
            seed=seed,
            return_attention=True,
        )
        return out, alpha

    inputs = (x, a_src, a_dst, a_edge)
    grads = differentiate_backward(forward, inputs, (grad_out, grad_alpha), grad_grads)
    return (grads[4], grads[5], *grads[:4], *[None] * 9)


_gat_backward = register(
    "gat_backward(Tensor grad_out, Tensor? grad_alpha, Tensor x, Tensor a_src, Tensor? a_dst, Tensor? a_edge, "
    "Tensor graph, Tensor? seed, Tensor out, Tensor row_stats, Tensor? alpha, float negative_slope, float dropout_p, "
    "bool need_a_dst, bool need_a_edge) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_backward_cpu,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_gat = register(
    "gat(Tensor x, Tensor a_src, Tensor? a_dst, Tensor? a_edge, Tensor graph, Tensor? seed, SymInt num_dst, "
    "SymInt num_edges, float negative_slope, float dropout_p, bool with_alpha) -> (Tensor, Tensor, Tensor)",
    cpu=_forward_cpu,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)
