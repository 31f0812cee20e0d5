"""Multi-head attention among all nodes of a graph, with Gradformer's decay or without."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gattn.ops import ragged_attention

#: With Gradformer's decay, or the softmax of the scaled products alone (as in GraphGPS).
Kind = Literal["decay", "plain"]
KINDS: tuple[Kind, ...] = ("decay", "plain")


class GradformerAttention(nn.Module):
    r"""Attention of every node to all nodes of its graph, logits shrunk with distance (Gradformer, equations 4 to 6).

    .. math::
        M_{ij} = \gamma^{\rho(\psi_{ij} - hop)}, \quad
        out = \left(\mathrm{softmax}\left(M \odot q k^\top / \sqrt d\right) v\right) W_{out}, \quad
        \rho = \mathrm{LeakyReLU}_{slope}

    Liu et al., *Gradformer: graph transformer with exponential decay*, IJCAI 2024, arXiv 2404.15729. The graphs of a
    batch need no padding: :func:`gattn.ops.ragged_attention` goes from graph to graph.

    Args:
        channels: Width of the input and the output, a multiple of ``heads``.
        heads: Attention heads.
        hop: Distance within which logits stay as they are, to begin with; every head learns its own. A
            :class:`~torch.nn.Parameter` ``[heads]`` is taken as it is, so that several layers can share one.
        gamma: Decay a hop beyond that, in (0, 1].
        slope: Of the LeakyReLU on distances below ``hop``; 0 is the paper's ReLU, the released program has 0 to 0.2.
        dropout: Probability with which an attention weight is dropped in training.
        bias: Whether the four linear maps have one.
        attention: ``"plain"`` has no decay, no ``hop``, and takes no distances.
        backend: Of :func:`gattn.ops.ragged_attention`.

    Raises:
        ValueError: An argument is out of its range; the message says what was expected.
    """

    hop: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        *,
        hop: float | nn.Parameter = 5.0,
        gamma: float = 0.6,
        slope: float = 0.0,
        dropout: float = 0.0,
        bias: bool = True,
        attention: Kind = "decay",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or channels < 1 or channels % heads:
            raise ValueError(f"Expected channels to be a multiple of heads (got {channels} channels, {heads} heads).")
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"Expected gamma in (0, 1] (got {gamma}).")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"Expected dropout in [0, 1] (got {dropout}).")
        if attention not in KINDS:
            raise ValueError(f"Expected attention out of {KINDS} (got {attention!r}).")
        self.channels, self.heads, self.attention = channels, heads, attention
        self.gamma, self.slope, self.dropout, self.backend = gamma, slope, dropout, backend
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels, bias) for _ in range(4))
        self.register_parameter("hop", None if attention == "plain" else _hop_parameter(hop, heads))
        self._start = None if isinstance(hop, nn.Parameter) else float(hop)

    def reset_parameters(self) -> None:
        """As for a new module; a ``hop`` that was given as a parameter is left alone."""
        for linear in (self.query, self.key, self.value, self.out):
            linear.reset_parameters()
        if self.hop is not None and self._start is not None:
            nn.init.constant_(self.hop, self._start)

    def forward(
        self, x: Tensor, ptr: Tensor | None = None, distance: Tensor | None = None, *, batch: Tensor | None = None
    ) -> Tensor:
        """Applies the attention.

        Args:
            x: ``[N, channels]``, the nodes of all graphs of a batch, graph after graph.
            ptr: ``[B + 1]``, where each graph begins, and N: ``ptr`` of PyG's batches. Without ``ptr`` and ``batch``
                all nodes are of one graph.
            distance: Hop counts packed graph after graph, ``n * n`` each, as :class:`gattn.transforms.ShortestPath`
                stores them in ``data.distance``.
            batch: ``[N]``, the graph of every node, ascending, in place of ``ptr``. Needs a look at its values, which
                a GPU has to be waited for.

        Returns:
            ``[N, channels]``.

        Raises:
            ValueError: ``distance`` is missing, or both ``ptr`` and ``batch`` are given; and whatever
                :func:`gattn.ops.ragged_attention` raises.
        """
        if self.hop is None:
            distance = None
        elif distance is None:
            raise ValueError(
                "Expected the distances between the nodes of every graph (got None). Add "
                "gattn.transforms.ShortestPath() to the transforms of the data set and pass data.distance, or choose "
                "attention='plain'."
            )
        shape = (x.size(0), self.heads, self.channels // self.heads)
        q, k, v = (linear(x).view(shape) for linear in (self.query, self.key, self.value))
        mixed = ragged_attention(
            q,
            k,
            v,
            graph_offsets(x, ptr, batch),
            distance=distance,
            hop=self.hop,
            gamma=self.gamma,
            slope=self.slope,
            dropout_p=self.dropout if self.training else 0.0,
            backend=self.backend,
        )
        out: Tensor = self.out(mixed.flatten(1))
        return out

    def extra_repr(self) -> str:
        decay = "" if self.hop is None else f", gamma={self.gamma}, slope={self.slope}"
        return f"{self.channels}, heads={self.heads}, attention={self.attention!r}{decay}, dropout={self.dropout}"


def graph_offsets(x: Tensor, ptr: Tensor | None, batch: Tensor | None) -> Tensor:
    """``ptr`` ``[B + 1]`` of the graphs whose nodes are the rows of ``x``; see :class:`GradformerAttention`."""
    if ptr is not None and batch is not None:
        raise ValueError("Expected ptr or batch (got both). Leave one out.")
    if ptr is not None:
        return ptr
    if batch is None:
        return torch.arange(2, device=x.device) * x.size(0)
    if batch.shape != x.shape[:1] or batch.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"Expected batch of shape [{x.size(0)}], int32 or int64 (got {list(batch.shape)}, {batch.dtype})."
        )
    if batch.numel() and (batch[0] < 0 or (batch.diff() < 0).any()):
        raise ValueError("Expected batch to ascend from graph 0 on (got another order). Sort the nodes by graph.")
    graphs = int(batch[-1]) + 1 if batch.numel() else 0
    return torch._convert_indices_from_coo_to_csr(batch, graphs)


def _hop_parameter(hop: float | nn.Parameter, heads: int) -> nn.Parameter:
    if not isinstance(hop, nn.Parameter):
        return nn.Parameter(torch.full((heads,), float(hop)))
    if hop.shape != (heads,):
        raise ValueError(f"Expected a shared hop of shape [{heads}], one a head (got {list(hop.shape)}).")
    return hop
