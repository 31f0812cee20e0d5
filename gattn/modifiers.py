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

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """Divisor ``c_i`` of the scores that bounds the attention's Lipschitz constant (LipschitzNorm).

    Dasoulas, Scaman and Virmaux, *Lipschitz normalization for self-attention layers*, ICML 2021, arXiv 2103.04886.
    Gradients flow through every norm, a maximum's to its first arg-max in the caller's edge order. Build it with
    :meth:`gat` or :meth:`dot`.

    Attributes:
        form: Which of the two formulas.
        source_norms: Norms ``[N_src, H]`` whose largest over a target's in-edges the formula takes.
        others: The formula's other tensors.
    """

    form: Literal["gat", "dot"]
    source_norms: tuple[Tensor, ...]
    others: tuple[Tensor, ...]

    @classmethod
    def gat(cls, source_norm: Tensor, target_norm: Tensor, weight: Tensor) -> Lipschitz:
        r"""For additive scores (theorem 4.1 and equation 13 of the paper).

        .. math:: c_i = weight \sqrt{target\_norm_i^2 + \max_{j \in N(i)} source\_norm_j^2} + 10^{-12}

        Args:
            source_norm: ``[N_src, H]``, the norms of the projected features.
            target_norm: ``[N_dst, H]``, the targets'.
            weight: ``[H]``, for GAT ``4 * norm([att_src, att_dst])``.
        """
        return cls("gat", (source_norm,), (target_norm, weight))

    @classmethod
    def dot(cls, query_norm: Tensor, key_norm: Tensor, value_norm: Tensor) -> Lipschitz:
        r"""For dot-product scores.

        .. math:: c_i = \max(u v_i, u w_i, v_i w_i) + 10^{-12}, \quad
            v_i = \max_{j \in N(i)} key\_norm_j, \quad w_i = \max_{j \in N(i)} value\_norm_j

        Args:
            query_norm: ``u`` ``[H]``, the Frobenius norm of all queries of a head.
            key_norm: ``[N_src, H]``.
            value_norm: ``[N_src, H]``.
        """
        return cls("dot", (key_norm, value_norm), (query_norm,))

    def divisor(self, largest: list[Tensor]) -> Tensor:
        """``c`` ``[N_dst, H]`` from the largest source norms of every neighbourhood, ``[N_dst, H]`` each."""
        if self.form == "gat":
            target_norm, weight = self.others
            square = target_norm.square() + largest[0].square()
            positive = square > 0  # the root has no finite gradient at 0: there, as for norms, it is 0
            root = torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)
            return weight * root + _TINY
        u, (v, w) = self.others[0], largest
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
