"""Score ``gatv2`` (Brody et al. 2022): ``att . LeakyReLU(x_src[j] + x_dst[i] + x_edge[ij])``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops.attention import attend
from gattn.ops.validation import check_features, check_graph, check_logits, check_same_features
from gattn.reference.attention import Inputs, Settings
from gattn.reference.scores import pick


def gatv2(
    x_src: Tensor,
    x_dst: Tensor,
    att: Tensor,
    graph: Graph,
    x_edge: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    lipschitz: Lipschitz | None = None,
    decay: Decay | None = None,
    sink: Sink | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_attention: bool | str = False,
    return_stats: bool | Sequence[float] = False,
    backend: str | None = None,
) -> Any:
    r"""Graph attention with dynamic scores, fused: nothing of size ``E * H * C`` is stored.

    .. math::
        t_{ij} = att \cdot \mathrm{LeakyReLU}(x^{src}_j + x^{dst}_i + x^{edge}_{ij}), \quad
        \alpha_{ij} = \mathrm{softmax}_{j}(t_{ij}), \quad
        out_i = \sum_j \mathrm{drop}(\alpha_{ij}) \, x^{src}_j

    Brody, Alon and Yahav, *How attentive are graph attention networks?*, ICLR 2022, equation 7.

    Args:
        x_src: ``[N_src, H, C]``, float32, float64, bfloat16 or float16. The values too.
        x_dst: ``[N_dst, H, C]`` in the same dtype.
        att: ``[H, C]`` in that dtype, or float32 for half precision.
        graph: The adjacency.
        x_edge: ``[E, H, C]`` in the features' dtype and the caller's edge order, or ``None`` for 0. (Rows in another
            order, such as the graph's CSR order, cannot be told from right ones.)
        negative_slope: Slope of LeakyReLU below 0.
        lipschitz, decay, sink: Modifiers (:class:`gattn.Lipschitz`, :class:`gattn.Decay`, :class:`gattn.Sink`).
        dropout_p: Probability to drop an attention weight; kept ones grow by ``1 / (1 - p)``.
        seed: Dropout seed; ``None`` draws one from torch's generator.
        return_attention: Returns ``alpha`` too, ``[E, H]`` after dropout, in the caller's edge order and the
            accumulate dtype (float32; float64 for float64), differentiable. ``"before_dropout"`` for the weights
            that dropout has not touched.
        return_stats: Returns statistics of the activations too, the numbers whose sums are the scores, a row an edge
            (:func:`gattn.ops.activation_stats`): on the CPU taken inside the kernel, elsewhere of some edges at a
            time, never stored. ``True`` for its thresholds, or a list of thresholds. Not in compiled programs.
        backend: ``"reference"``, ``"cpu"``, ``"cuda"``, ``"triton"`` or ``None`` for the fastest usable.

    Returns:
        ``out`` ``[N_dst, H, C]`` in ``x_src``'s dtype, or ``(out, alpha)``.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    check_features("x_src", x_src, graph.num_src, graph)
    _, heads, channels = x_src.shape
    check_same_features("x_dst", x_dst, (graph.num_dst, heads, channels), x_src, graph)
    att = check_logits("att", att, (heads, channels), x_src.dtype, graph)
    if x_edge is not None:
        check_same_features("x_edge", x_edge, (graph.num_edges, heads, channels), x_src, graph)
    results = attend(
        Inputs(q=x_dst, k=x_src, edge=x_edge, att=att),
        Settings("gatv2", negative_slope),
        graph,
        lipschitz=lipschitz,
        decay=decay,
        sink=sink,
        dropout_p=dropout_p,
        seed=seed,
        return_attention=return_attention,
        return_stats=return_stats,
        backend=backend,
    )
    return pick(results, return_attention)
