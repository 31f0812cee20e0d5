"""The conservation law of graph attention networks: what gradient descent cannot change, and how to rebalance it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from gattn.analysis.chain import Layer, attention_chain

#: Bounds of the factors that :func:`rebalance_` applies, as published.
_FACTORS = (1e-5, 2.0)


@dataclass(frozen=True, eq=False)
class Conservation:
    """The law at every neuron of one hidden layer; all ``[neurons]``, in the parameters' dtype.

    Attributes:
        produced: The left side, from the rows that make the neuron and its entries of the attention vectors.
        consumed: The right side, from the columns of the next layer that read it.
        invariant: What gradient flow keeps constant; 0 in a balanced network.
    """

    produced: Tensor
    consumed: Tensor
    invariant: Tensor

    @property
    def residual(self) -> Tensor:
        """How far the law is from holding, relative to the layer's largest term; rounding, if the law applies."""
        largest = torch.maximum(self.produced.abs().max(), self.consumed.abs().max())
        return (self.produced - self.consumed).abs() / largest.clamp(min=torch.finfo(largest.dtype).tiny)


def conservation(convs: nn.Module | Sequence[nn.Module]) -> list[Conservation]:
    r"""The conservation law at every hidden layer, after a backward.

    For neuron :math:`i` of a hidden layer :math:`l`, with weights :math:`W` (sources' and targets', edge features' in
    GATv2, residual), biases :math:`b`, attention vectors :math:`a` and the loss's gradients by them :math:`\partial`:

    .. math::
        \sum \langle W^l_{i:}, \partial W^l_{i:} \rangle + \sum b_i \, \partial b_i - \sum a_i \, \partial a_i
            &= \sum \langle W^{l+1}_{:i}, \partial W^{l+1}_{:i} \rangle \\
        c_i = \sum \|W^l_{i:}\|^2 + \sum b_i^2 - \sum a_i^2 - \sum \|W^{l+1}_{:i}\|^2 &= \mathrm{const}
            \text{ under gradient flow}

    because the network's output does not change when :math:`W^l_{i:}` and :math:`b_i` grow by a factor that
    :math:`a_i` and :math:`W^{l+1}_{:i}` shrink by. That asks for positively homogeneous activations (ReLU, LeakyReLU,
    none; not ELU) and nothing but them and dropout between the layers.

    Mustafa, Bojchevski and Burkholz, *Are GATs out of balance?*, NeurIPS 2023, arXiv 2310.07235.

    Args:
        convs: The attention layers in order, or a model that they are found in: PyG's GATConv and GATv2Conv or
            gattn's, with or without shared weights.

    Returns:
        One entry a hidden layer, that is for all layers but the last.

    Raises:
        TypeError: A layer of another type.
        ValueError: The layers are no chain, or a parameter has no gradient.
    """
    layers = attention_chain(convs)
    _check_gradients(layers)
    invariants = conserved([layer.conv for layer in layers])
    return [
        Conservation(
            before.rows(_by_gradient) - before.attentions(_by_gradient), after.columns(_by_gradient), invariant
        )
        for (before, after), invariant in zip(pairwise(layers), invariants, strict=True)
    ]


@torch.no_grad()
def conserved(convs: nn.Module | Sequence[nn.Module]) -> list[Tensor]:
    """The invariants ``c_i`` of :func:`conservation` alone, ``[neurons]`` a hidden layer; needs no gradients."""
    square = torch.Tensor.square
    return [
        before.rows(square) - before.attentions(square) - after.columns(square)
        for before, after in pairwise(attention_chain(convs))
    ]


@torch.no_grad()
def rebalance_(convs: nn.Module | Sequence[nn.Module], *, sweeps: int = 1) -> list[Tensor]:
    r"""Rebalances a network in place without changing what it computes, but for rounding.

    Neuron :math:`i` of a hidden layer is scaled by

    .. math::
        t_i = \left( \frac{\|W^{l+1}_{:i}\|^2 + a_i^2}{\|W^l_{i:}\|^2} \right)^{1/4}, \quad 10^{-5} \le t_i \le 2,

    after which its invariant (:func:`conservation`) is 0, where the bounds allow: rows and biases grow by :math:`t_i`,
    attention and the next layer's columns shrink. From the first layer to the last; a later layer's step unbalances
    the one before, so that the whole is balanced after some ``sweeps``. A neuron without weights on either side is
    left alone. The optimiser's own state (momentum) is not scaled.

    Mustafa and Burkholz, *Dynamic rescaling for training GNNs*, NeurIPS 2024.

    Returns:
        The factors ``[neurons]`` a hidden layer, the product over all sweeps.

    Raises:
        TypeError: A layer of another type.
        ValueError: The layers are no chain, one has LipschitzNorm (its scores are not homogeneous), or
            ``sweeps < 1``.
    """
    layers = attention_chain(convs)
    if sweeps < 1:
        raise ValueError(f"Expected 'sweeps' to be at least 1 (got {sweeps}).")
    normalised = [i for i, layer in enumerate(layers) if getattr(layer.conv, "norm", None) is not None]
    if normalised:
        raise ValueError(
            f"Expected layers without LipschitzNorm (got it in layers {normalised}): rescaling changes their scores."
        )
    totals = [torch.ones_like(before.rows(torch.Tensor.square)) for before in layers[:-1]]
    for _ in range(sweeps):
        for total, (before, after) in zip(totals, pairwise(layers), strict=True):
            total.mul_(_rescale(before, after))
    return totals


def _rescale(before: Layer, after: Layer) -> Tensor:
    """One step of :func:`rebalance_` between two layers; returns its factors."""
    square = torch.Tensor.square
    rows, rest = before.rows(square), after.columns(square) + before.attentions(square)
    factor = torch.where((rows > 0) & (rest > 0), (rest / rows).pow(0.25), 1.0).clamp(*_FACTORS)
    before.scale_rows(factor)
    for attention in before.attention:
        attention.div_(before.to_rows(factor, attention.numel()).view_as(attention))
    for weight in after.node_weights:
        weight.div_(factor)
    return factor


def _by_gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.detach() * parameter.grad


def _check_gradients(layers: list[Layer]) -> None:
    for number, layer in enumerate(layers):
        for parameter in (*layer.all_rows, *layer.attention):
            if parameter.grad is None:
                raise ValueError(
                    f"Expected gradients of all parameters of the attention layers (got one of shape "
                    f"{list(parameter.shape)} in layer {number} without). Call this after a backward."
                )
