"""Attention with edge features, with an explicit bias term or without: what the three layers share."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gattn.graph import Graph
from gattn.modifiers import Sink
from gattn.ops import gt
from gattn.reference.dropout import accumulate_dtype

#: Where the explicit bias term goes: into the product of every edge, or into one more slot of the softmax.
ExplicitBias = Literal["edge_bias", "kv_slot"]
BIASES: tuple[ExplicitBias, ...] = ("edge_bias", "kv_slot")


class GTAttention(nn.Module):
    r"""Multi-head attention of :func:`gattn.ops.gt`, from queries, keys, values and edges that are projected already.

    .. math::
        w_{ij} = \frac{q_i \odot k_j}{\sqrt C} \odot e_{ij}, \quad
        \alpha_{ij} \propto u_{ij} \exp(\mathrm{clip}(\textstyle\sum_c w_{ijc}, \pm clip)), \quad
        out_i = \sum_j \alpha_{ij} v_j

    :math:`w_{ij}`, :math:`H C` numbers an edge, are the activations that Bini, Sorbi and Marchand-Maillet examine
    (*Characterizing massive activations of attention mechanism in graph neural networks*, arXiv 2409.03463). Whoever
    wants to see them hooks this module: a forward pre-hook (``with_kwargs=True``) sees ``q``, ``k``, ``v``, ``edge``
    and ``graph`` as documented at :meth:`forward`, and may set ``return_edge=True``; a forward hook then finds
    ``(out, w)``, where ``w`` comes out of the same kernel as ``out``.

    The explicit bias term of the same paper, parameters drawn anew by :meth:`reset_parameters`:

    - ``"edge_bias"``, the authors' program: :math:`w_{ij}` grows by :math:`(q_i \cdot k' / \sqrt C)\, e'`, and
      :math:`v_j` by :math:`v'`; all three from :math:`N(0, 1)`. The score so grows by a number that is the same for all
      edges of a target. The softmax does not see it where the clip does not bite: there, ``out`` is what it is without
      the term, plus :math:`v'`. The number is one more channel of query, key and edge, so that the kernel reads
      :math:`C + 1` channels and ``edge`` is copied once.
    - ``"kv_slot"`` (Sun et al., *Massive activations in large language models*, 2024): every target has one more key
      :math:`k'` and value :math:`v'`, as of an edge with features 1 and weight 1; from :math:`N(0, 0.02^2)`. It is a
      :class:`gattn.Sink` and costs next to nothing. A target without edges gets :math:`v'`.

    With ``kinds=2`` edges are of two kinds with queries, keys, edge features and bias terms of their own, and one
    softmax. Channels are then twice as many, one kind after the other, and source ``2 j + t`` of the graph stands for
    node ``j`` at the other end of an edge of kind ``t``. The kernel reads the channels of both kinds for every edge,
    those of the other kind against a key of zeros.

    Args:
        channels: ``H * C``.
        heads: ``H``.
        kinds: Of edges, 1 or more.
        explicit_bias: ``None``, ``"edge_bias"`` or ``"kv_slot"``.
        clip: Bound of the scores, positive; ``inf`` for none.
        dropout: Probability with which an attention weight is dropped in training; the papers have none.
        backend: Of :func:`gattn.ops.gt`.

    Attributes:
        bias_key: ``k'`` ``[H, kinds * C]``, for ``"kv_slot"`` ``[H, C]``; ``None`` without a bias term.
        bias_edge: ``e'`` ``[H, kinds * C]``, for ``"edge_bias"`` alone.
        bias_value: ``v'`` ``[H, C]``.

    Raises:
        ValueError: An argument is out of its range; the message says what was expected.
    """

    bias_key: nn.Parameter | None
    bias_edge: nn.Parameter | None
    bias_value: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        kinds: int = 1,
        explicit_bias: ExplicitBias | None = None,
        clip: float = 5.0,
        dropout: float = 0.0,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or channels < 1 or channels % heads:
            raise ValueError(f"Expected channels to be a multiple of heads (got {channels} channels, {heads} heads).")
        if kinds < 1:
            raise ValueError(f"Expected kinds >= 1 (got {kinds}).")
        if explicit_bias is not None and explicit_bias not in BIASES:
            raise ValueError(f"Expected explicit_bias out of {(None, *BIASES)} (got {explicit_bias!r}).")
        if not clip > 0:
            raise ValueError(f"Expected clip > 0 (got {clip}). Use math.inf for no clipping.")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"Expected a dropout of attention weights in [0, 1] (got {dropout}).")
        self.channels, self.heads, self.kinds = channels, heads, kinds
        self.explicit_bias, self.clip, self.dropout, self.backend = explicit_bias, clip, dropout, backend
        self.head_channels = channels // heads
        self.head_scale: float = self.head_channels**-0.5
        own, wide = (heads, self.head_channels), (heads, kinds * self.head_channels)
        shapes = {"edge_bias": (wide, wide, own), "kv_slot": (own, None, own), None: (None, None, None)}[explicit_bias]
        for name, shape in zip(("bias_key", "bias_edge", "bias_value"), shapes, strict=True):
            self.register_parameter(name, None if shape is None else nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the explicit bias term anew."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=1.0 if self.explicit_bias == "edge_bias" else 0.02)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        edge: Tensor,
        graph: Graph,
        edge_weight: Tensor | None = None,
        *,
        return_edge: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Applies the attention.

        Args:
            q: ``[N_dst, H, kinds * C]``.
            k: ``[N_src, H, kinds * C]``.
            v: ``[N_src, H, C]``.
            edge: ``[E, H, kinds * C]`` in the caller's edge order.
            graph: The adjacency, with ``kinds * N_src`` sources.
            edge_weight: ``u`` of :func:`gattn.ops.gt`.
            return_edge: Whether to return :math:`w`.

        Returns:
            ``out`` ``[N_dst, H, C]``, and ``w`` ``[E, H, C]`` (before clip, softmax and dropout, with the explicit bias
            term; of an edge's own kind) or ``None``.

        Raises:
            TypeError, ValueError: What does not fit together, as :func:`gattn.ops.gt` tells it.
        """
        shift = self._shift(q)
        if self.bias_value is not None and shift is not None:
            v = v + self.bias_value.to(v.dtype)
        results = gt(
            *self._widen(q, k, v, edge, shift),
            graph,
            clip=self.clip,
            edge_weight=edge_weight,
            return_edge=return_edge,
            sink=self._slot(q),
            dropout_p=self.dropout if self.training else 0.0,
            backend=self.backend,
        )
        out, products = results if return_edge else (results, None)
        out = out[..., : self.head_channels]
        return out, None if products is None else self._narrow(products, shift, graph)

    def _by_kind(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.kinds, self.head_channels)

    def _shift(self, q: Tensor) -> Tensor | None:
        """``q . k' / sqrt(C)`` ``[N_dst, H, kinds]`` in the accumulate dtype, for ``"edge_bias"``."""
        if self.bias_edge is None or self.bias_key is None:
            return None
        wide = accumulate_dtype(q.dtype)
        shift: Tensor = (self._by_kind(q).to(wide) * self._by_kind(self.bias_key).to(wide)).sum(-1)
        return shift * self.head_scale

    def _slot(self, q: Tensor) -> Sink | None:
        if self.explicit_bias != "kv_slot" or self.bias_key is None or self.bias_value is None:
            return None
        wide = accumulate_dtype(q.dtype)
        own = q[..., : self.head_channels].to(wide)
        logit = (own * self.bias_key.to(wide)).sum(-1) * self.head_scale
        value = F.pad(self.bias_value.to(wide), (0, q.size(-1) - self.head_channels))
        return Sink(logit.clamp(-self.clip, self.clip), value)

    def _widen(
        self, q: Tensor, k: Tensor, v: Tensor, edge: Tensor, shift: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What :func:`gattn.ops.gt` reads, a channel more a kind for ``shift``, the sources of both kinds in turn."""
        if shift is None and self.kinds == 1:
            return q, k, v, edge
        q, k = self._by_kind(q), self._by_kind(k)
        if shift is not None and self.bias_edge is not None:
            total = self._by_kind(self.bias_edge).to(shift.dtype).sum(-1)
            q = torch.cat([q, (shift * total).unsqueeze(-1) * self.head_channels**0.5], -1)
            k = F.pad(k, (0, 1), value=1.0)
            edge = F.pad(self._by_kind(edge), (0, 1), value=1.0).flatten(2)
        width = edge.size(-1)
        # The op divides by the root of the channels that it sees.
        q = (q.flatten(2) * (width / self.head_channels) ** 0.5).to(edge.dtype)
        if self.kinds > 1:
            own = torch.eye(self.kinds, dtype=k.dtype, device=k.device).view(self.kinds, 1, self.kinds, 1)
            k = (k.unsqueeze(1) * own).flatten(0, 1)
            v = v.unsqueeze(1).expand(-1, self.kinds, -1, -1).flatten(0, 1)
        return q, k.flatten(2), F.pad(v, (0, width - self.head_channels)), edge

    def _narrow(self, products: Tensor, shift: Tensor | None, graph: Graph) -> Tensor:
        """``w`` ``[E, H, C]`` from the op's products of all channels."""
        if shift is None and self.kinds == 1:
            return products
        own = products.unflatten(-1, (self.kinds, products.size(-1) // self.kinds))[..., : self.head_channels]
        w: Tensor = own.sum(-2) if self.kinds > 1 else own.squeeze(-2)
        if shift is None or self.bias_edge is None:
            return w
        source, target = graph.edge_index
        kind = (source % self.kinds).unsqueeze(1) == torch.arange(self.kinds, device=source.device)
        by_edge, e = shift[target] * kind.unsqueeze(1), self._by_kind(self.bias_edge).to(shift.dtype)
        return (w + torch.einsum("ehk,hkc->ehc", by_edge, e)).to(w.dtype)

    def extra_repr(self) -> str:
        kinds = f", kinds={self.kinds}" if self.kinds > 1 else ""
        return (
            f"{self.channels}, heads={self.heads}{kinds}, explicit_bias={self.explicit_bias!r}, clip={self.clip}, "
            f"dropout={self.dropout}"
        )
