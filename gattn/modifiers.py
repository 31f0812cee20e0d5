"""What every op takes beside its score: LipschitzNorm, exponential decay, a sink.

A modifier holds tensors and numbers; an op checks them against its graph and computes with them::

    s_ij = M_ij phi(t_ij / c_i),   alpha_ij = exp(s_ij) / (sum_k exp(s_ik) + exp(sink_i))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Decay", "Lipschitz", "Sink"]

Variant = Literal["paper", "as-released"]
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """Divisor ``c_i`` of the scores that bounds the attention's Lipschitz constant (LipschitzNorm).

    Dasoulas, Scaman and Virmaux, *Lipschitz normalization for self-attention layers*, ICML 2021, arXiv 2103.04886.
    Gradients flow through every norm, a maximum's to its first arg-max in the caller's edge order. Build it with
    :meth:`gat` or :meth:`dot`.

    The authors' program differs from the paper; ``variant="as-released"`` reproduces it, on the reference backend
    only, for comparisons: the score ``gat`` takes the edge's own source norm where the formula has the target's, and
    looks the maximum of target ``i`` up at entry ``i`` of the flattened ``[N_dst, H]``, the right one for one head
    only; the score ``dot`` sums ``u`` over the queries of all edges, not of all nodes.

    Attributes:
        form: Which of the two formulas.
        source_norms: Norms ``[N_src, H]`` whose largest over a target's in-edges the formula takes.
        others: The formula's other tensors.
        variant: Whose formula.
    """

    form: Literal["gat", "dot"]
    source_norms: tuple[Tensor, ...]
    others: tuple[Tensor, ...]
    variant: Variant = "paper"

    @classmethod
    def gat(cls, source_norm: Tensor, target_norm: Tensor, weight: Tensor, *, variant: Variant = "paper") -> Lipschitz:
        r"""For additive scores (theorem 4.1 and equation 13 of the paper).

        .. math:: c_i = weight \sqrt{target\_norm_i^2 + \max_{j \in N(i)} source\_norm_j^2} + 10^{-12}

        Args:
            source_norm: ``[N_src, H]``, the norms of the projected features.
            target_norm: ``[N_dst, H]``, the targets'.
            weight: ``[H]``, for GAT ``4 * norm([att_src, att_dst])``.
            variant: ``"paper"`` or ``"as-released"``.
        """
        return cls("gat", (source_norm,), (target_norm, weight), variant)

    @classmethod
    def dot(cls, query_norm: Tensor, key_norm: Tensor, value_norm: Tensor, *, variant: Variant = "paper") -> Lipschitz:
        r"""For dot-product scores.

        .. math:: c_i = \max(u v_i, u w_i, v_i w_i) + 10^{-12}, \quad
            v_i = \max_{j \in N(i)} key\_norm_j, \quad w_i = \max_{j \in N(i)} value\_norm_j

        Args:
            query_norm: ``u`` ``[H]``, the Frobenius norm of all queries of a head. (``"as-released"``: ``[N_dst, H]``,
                the norm of every query.)
            key_norm: ``[N_src, H]``.
            value_norm: ``[N_src, H]``.
            variant: ``"paper"`` or ``"as-released"``.
        """
        return cls("dot", (key_norm, value_norm), (query_norm,), variant)

    def divisor(self, largest: list[Tensor]) -> Tensor:
        """``c`` ``[N_dst, H]`` from the largest source norms of every neighbourhood, ``[N_dst, H]`` each."""
        if self.form == "gat":
            target_norm, weight = self.others
            return weight * _root(target_norm.square() + largest[0].square()) + _TINY
        return _largest_product(self.others[0], *largest)

    def edge_divisor(self, largest: list[Tensor], source: Tensor, target: Tensor) -> Tensor:
        """The ``c`` ``[E, H]`` of the authors' program, from the maxima and the edges' ends ``[E]``."""
        if self.form == "gat":
            own = self.source_norms[0][source].square()
            found = largest[0].square().reshape(-1)[target].unsqueeze(1)
            return self.others[1] * _root(found + own) + _TINY
        u = _root(self.others[0][target].square().sum(0))
        return _largest_product(u, *largest)[target]


def _root(square: Tensor) -> Tensor:
    """The square root, with the gradient 0 at 0, as norms have it."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def _largest_product(u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.stack([u * v, u * w, v * w]).max(dim=0).values + _TINY


@dataclass(frozen=True, eq=False)
class Decay:
    r"""Exponential decay of the scores with the distance between two nodes (Gradformer).

    Liu et al., *Gradformer: graph transformer with exponential decay*, IJCAI 2024, arXiv 2404.15729, equation 5:

    .. math:: M_{ij} = \gamma^{\rho(\psi_{ij} - hop)}, \quad \rho = \mathrm{LeakyReLU}_{slope}

    Attributes:
        distance: ``psi``, ``[E]`` in the caller's edge order, int8, int16, int32 or int64, not negative.
        hop: ``[H]``, floating; may require a gradient.
        gamma: In (0, 1].
        slope: Of rho below 0; the paper has 0.
    """

    distance: Tensor
    hop: Tensor
    gamma: float
    slope: float = 0.0


@dataclass(frozen=True, eq=False)
class Sink:
    """One more slot in every target's softmax: weight that goes to no neighbour.

    With ``value`` it is the key/value slot of Sun et al. (2024) that Bini et al. (arXiv 2409.03463) use against
    massive activations. A target without in-edges gives it all its weight. Dropout does not touch it.

    Attributes:
        logit: ``[N_dst, H]``, after all other modifiers.
        value: ``[H, C]`` or ``None`` for 0.
    """

    logit: Tensor
    value: Tensor | None = None
