"""Score ``dot`` (Shi et al. 2021): ``q[i] . (k[j] + edge[ij]) * scale``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops.attention import attend
from gattn.ops.validation import check_features, check_graph, check_same_features
from gattn.reference.attention import Inputs, Settings
from gattn.reference.scores import pick


def dot(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: Graph,
    edge: Tensor | None = None,
    *,
    scale: float | None = None,
    lipschitz: Lipschitz | None = None,
    decay: Decay | None = None,
    sink: Sink | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_attention: bool | str = False,
    return_stats: bool | Sequence[float] = False,
    backend: str | None = None,
) -> Any:
    r"""Scaled dot-product attention over edges, fused: nothing of size ``E * H * C`` is stored.

    .. math::
        t_{ij} = scale \cdot q_i \cdot (k_j + e_{ij}), \quad \alpha_{ij} = \mathrm{softmax}_{j}(t_{ij}), \quad
        out_i = \sum_j \mathrm{drop}(\alpha_{ij}) \, (v_j + e_{ij})

    Shi et al., *Masked label prediction*, IJCAI 2021, equations 3 and 4 (PyG's ``TransformerConv``).

    Args:
        q: ``[N_dst, H, C]``, float32, float64, bfloat16 or float16, like the others.
        k: ``[N_src, H, C]``.
        v: ``[N_src, H, C]``.
        graph: The adjacency.
        edge: ``[E, H, C]`` in the caller's edge order, added to keys and values, or ``None`` for 0. (Rows in another
            order, such as the graph's CSR order, cannot be told from right ones.)
        scale: Of the scores; by default ``C ** -0.5``.
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
        ``return_attention``) and :class:`gattn.analysis.ActivationStats` (with ``return_stats``), in this order.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    check_features("q", q, graph.num_dst, graph)
    _, heads, channels = q.shape
    check_same_features("k", k, (graph.num_src, heads, channels), q, graph)
    check_same_features("v", v, (graph.num_src, heads, channels), q, graph)
    if edge is not None:
        check_same_features("edge", edge, (graph.num_edges, heads, channels), q, graph)
    results = attend(
        Inputs(q, k, v, edge),
        Settings("dot", scale=channels**-0.5 if scale is None else float(scale)),
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
