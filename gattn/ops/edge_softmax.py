"""Softmax of given logits over the in-edges of each target."""

from __future__ import annotations

from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.ops.attention import attend
from gattn.ops.validation import FLOATING, check_dtype_and_device, check_graph, check_modifiers
from gattn.reference.attention import Inputs, Settings
from gattn.reference.dropout import accumulate_dtype


def edge_softmax(
    logits: Tensor,
    graph: Graph,
    *,
    lipschitz: Lipschitz | None = None,
    decay: Decay | None = None,
    sink: Sink | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    backend: str | None = None,
) -> Tensor:
    """Softmax over the in-edges of each target, then dropout.

    Args:
        logits: ``[E, H]`` in the caller's edge order; float32, float64, bfloat16 or float16 (computed in float32).
        graph: The adjacency.
        lipschitz, decay, sink: Modifiers of the logits (:class:`gattn.Lipschitz`, :class:`gattn.Decay`,
            :class:`gattn.Sink` without value, whose weight is not among the results).
        dropout_p: Probability to drop a weight; kept ones grow by ``1 / (1 - p)``.
        seed: Dropout seed; ``None`` draws one from torch's generator.
        backend: ``"reference"``, ``"cpu"``, ``"cuda"``, ``"triton"`` or ``None`` for the fastest usable.

    Returns:
        ``[E, H]`` in ``logits``'s dtype; the weights of one target and head sum to 1 (without dropout).

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    if logits.dim() != 2 or logits.size(0) != graph.num_edges or logits.size(1) < 1:
        raise ValueError(
            f"Expected 'logits' to have shape [{graph.num_edges}, heads], one row an edge of the graph (got "
            f"{list(logits.shape)})."
        )
    check_dtype_and_device("logits", logits, FLOATING, graph)
    # Against the logits' own dtype: below they are wide, and narrow modifiers would not fit.
    lipschitz, decay, sink = check_modifiers(lipschitz, decay, sink, logits, False, graph)
    wide = logits.to(accumulate_dtype(logits.dtype)).contiguous()
    alpha = attend(
        Inputs(a_edge=wide),
        Settings("edge_softmax"),
        graph,
        lipschitz=lipschitz,
        decay=decay,
        sink=sink,
        dropout_p=dropout_p,
        seed=seed,
        return_attention=True,
        backend=backend,
    ).alpha
    return alpha.to(logits.dtype)
