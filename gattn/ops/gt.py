"""Score ``gt`` (Dwivedi and Bresson 2021): ``sum((k[j] * q[i]) / sqrt(C) * edge[ij])``, clipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops.attention import attend
from gattn.ops.validation import check_features, check_graph, check_logits, check_not_negative, check_same_features
from gattn.reference.attention import Inputs, Settings
from gattn.reference.scores import GT_EPSILON, pick


def gt(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edge: Tensor,
    graph: Graph,
    *,
    clip: float = 5.0,
    edge_weight: Tensor | None = None,
    return_edge: bool = False,
    lipschitz: Lipschitz | None = None,
    decay: Decay | None = None,
    sink: Sink | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_attention: bool | str = False,
    return_stats: bool | Sequence[float] = False,
    backend: str | None = None,
) -> Any:
    r"""Graph-transformer attention with edge features, fused.

    .. math::
        w_{ij} = \frac{q_i \odot k_j}{\sqrt{C}} \odot e_{ij}, \quad
        s_{ij} = \mathrm{clip}(\sum_c w_{ijc}, \pm clip), \quad
        \alpha_{ij} = \frac{u_{ij} \exp(s_{ij})}{\sum_k u_{ik} \exp(s_{ik}) + 10^{-6}}, \quad
        out_i = \sum_j \mathrm{drop}(\alpha_{ij}) \, v_j

    Dwivedi and Bresson, *A generalization of transformer networks to graphs*, 2021 (arXiv 2012.09699), equations 12
    to 15, with their program's clip and epsilon; SAN and GraphiT use it with weights :math:`u`.

    Args:
        q: ``[N_dst, H, C]``, float32, float64, bfloat16 or float16, like the others.
        k: ``[N_src, H, C]``.
        v: ``[N_src, H, C]``.
        edge: ``[E, H, C]`` in the caller's edge order.
        graph: The adjacency.
        clip: Bound of the scores, positive; ``inf`` for none.
        edge_weight: ``[E]`` or ``[E, H]``, not negative, multiplies ``exp`` of the score; ``None`` for 1.
        return_edge: Returns :math:`w` too, ``[E, H, C]`` in the features' dtype: the edge stream, and the activations
            that massive-activation analysis examines.
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
        ``out`` ``[N_dst, H, C]`` in the features' dtype, or a tuple of ``out``, ``alpha`` (with
        ``return_attention``), ``w`` (with ``return_edge``) and :class:`gattn.analysis.ActivationStats` (with
        ``return_stats``), in this order.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    check_features("q", q, graph.num_dst, graph)
    _, heads, channels = q.shape
    check_same_features("k", k, (graph.num_src, heads, channels), q, graph)
    check_same_features("v", v, (graph.num_src, heads, channels), q, graph)
    check_same_features("edge", edge, (graph.num_edges, heads, channels), q, graph)
    if not clip > 0:
        raise ValueError(f"Expected 'clip' > 0 (got {clip}). Use math.inf for no clipping.")
    results = attend(
        Inputs(q, k, v, edge, edge_weight=_check_edge_weight(edge_weight, q, graph)),
        Settings("gt", scale=channels**-0.5, clip=float(clip), epsilon=GT_EPSILON),
        graph,
        lipschitz=lipschitz,
        decay=decay,
        sink=sink,
        dropout_p=dropout_p,
        seed=seed,
        return_attention=return_attention,
        return_edge=return_edge,
        return_stats=return_stats,
        backend=backend,
    )
    return pick(results, return_attention, return_edge)


def _check_edge_weight(weight: Tensor | None, q: Tensor, graph: Graph) -> Tensor | None:
    if weight is None:
        return None
    heads, given = q.shape[1], weight
    if weight.dim() == 1:
        weight = check_logits("edge_weight", weight, (graph.num_edges,), q.dtype, graph)
        weight = weight.unsqueeze(1).expand(-1, heads)
    weight = check_logits("edge_weight", weight, (graph.num_edges, heads), q.dtype, graph)
    check_not_negative("'edge_weight'", given, "It multiplies the exponential of the scores.")
    return weight
