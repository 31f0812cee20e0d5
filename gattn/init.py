"""Initialisation of deep graph attention networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from gattn.analysis.chain import Layer, attention_chain

__all__ = ["balanced_"]

#: Norm of the first layer's rows.
_FIRST_NORM = 2.0**0.5


@torch.no_grad()
def balanced_(
    convs: nn.Module | Sequence[nn.Module],
    base: Literal["xavier", "orthogonal"] = "xavier",
    beta: float = 1.0,
    *,
    targets: Literal["balanced", "zero"] = "balanced",
) -> None:
    r"""Initialises a chain of attention layers in place so that every neuron is in balance, and deep ones train.

    The constants of the conservation law (:func:`gattn.analysis.conservation`) are then zero to rounding. In order:

    1. Weights from ``base``; attention vectors and biases 0.
    2. Rows of the first layer are scaled to norm :math:`\sqrt 2`.
    3. For every further layer, with the already scaled :math:`W^{l-1}`: column :math:`i` is scaled to norm
       :math:`\sqrt\beta \, \|W^{l-1}_{i:}\|`, and the attention vectors get
       :math:`\|a^{l-1}_i\| = \sqrt{1-\beta} \, \|W^{l-1}_{i:}\|`.

    Norms of a neuron are over all weights that make it: sources' and targets', those of edge features in GATv2, the
    residual's. GAT's two attention vectors share the norm equally; where heads are averaged, a neuron has a row and an
    entry in each. Mustafa, Bojchevski and Burkholz, *Are GATs out of balance?*, NeurIPS 2023, arXiv 2310.07235.

    Args:
        convs: The attention layers in order, or a model that they are found in: PyG's GATConv and GATv2Conv or
            gattn's. Between them stand positively homogeneous activations (ReLU, LeakyReLU, none).
        base: ``"xavier"`` (normal) or ``"orthogonal"``, which looks linear through ReLUs: neurons come in pairs of
            opposite sign within a head, :math:`[U; -U]`, :math:`[[U, -U], [-U, U]]`, :math:`[U, -U]` with orthogonal
            :math:`U`; channels of the hidden layers must be even.
        beta: In (0, 1]: the share of a neuron's norm that the next layer's columns balance; attention vectors balance
            the rest.
        targets: For layers with targets' weights of their own: ``"balanced"`` with the sources' (the default), or
            ``"zero"``: targets' weights start at 0. The authors' program has both variants.

    Raises:
        TypeError: A layer of another type.
        ValueError: The layers are no chain, ``beta`` or a name does not fit, or a hidden width is odd for
            ``"orthogonal"``.
    """
    layers = attention_chain(convs)
    if not 0.0 < beta <= 1.0:
        raise ValueError(f"Expected 'beta' in (0, 1] (got {beta}).")
    if targets not in ("balanced", "zero"):
        raise ValueError(f"Expected 'targets' to be 'balanced' or 'zero' (got {targets!r}).")
    if base == "orthogonal":
        _check_pairs(layers)
    elif base != "xavier":
        raise ValueError(f"Expected 'base' to be 'xavier' or 'orthogonal' (got {base!r}).")

    for number, layer in enumerate(layers):
        for parameter in (*layer.attention, *layer.biases):
            nn.init.zeros_(parameter)
        for weight in layer.edge_weights:
            nn.init.xavier_normal_(weight)
        for weight in layer.node_weights:
            if base == "xavier":
                nn.init.xavier_normal_(weight)
            else:
                _looks_linear_(weight, layers, number)
        if targets == "zero":
            for weight in layer.target_weights:
                nn.init.zeros_(weight)

    first = layers[0]
    first.scale_rows(_FIRST_NORM / first.rows(torch.square).sqrt())
    for before, after in pairwise(layers):
        made = before.rows(torch.square)
        columns = (beta * made / after.columns(torch.square)).sqrt()
        for weight in after.node_weights:
            weight.mul_(columns)
        for attention in before.attention:
            heads = attention.numel() // before.neurons
            share = ((1 - beta) * made / (heads * len(before.attention))).sqrt()
            attention.copy_(before.to_rows(share, attention.numel()).view_as(attention))


def _check_pairs(layers: list[Layer]) -> None:
    for number, layer in enumerate(layers[:-1]):
        if layer.channels % 2:
            raise ValueError(
                f"Expected an even number of channels in hidden layers for base 'orthogonal', whose neurons come in "
                f"pairs (got {layer.channels} in layer {number})."
            )


def _looks_linear_(weight: Tensor, layers: list[Layer], number: int) -> None:
    """Fills ``weight [rows, width]`` with signed copies of one orthogonal matrix: minus in a pair's second half.

    A pair is neurons ``c`` and ``c + C / 2`` of one head: rows pair up in hidden layers, columns behind them.
    """
    rows = 1 if number == len(layers) - 1 else 2
    pairs = 1 if rows == 1 else layers[number].channels // 2
    behind = 1 if number == 0 else 2
    across = 1 if behind == 1 else layers[number - 1].channels // 2
    half = weight.new_empty(weight.shape[0] // rows, weight.shape[1] // behind)
    nn.init.orthogonal_(half)
    # [head, sign, pair] x [head, sign, pair]
    blocks = weight.view(-1, rows, pairs, weight.shape[1] // (behind * across), behind, across)
    half = half.view(-1, 1, pairs, blocks.shape[3], 1, across)
    signs = weight.new_tensor([1.0, -1.0])
    blocks.copy_(half * signs[:rows].view(rows, 1, 1, 1, 1) * signs[:behind].view(behind, 1))
