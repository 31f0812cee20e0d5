"""Layers for all pairs of a graph's nodes, or for its edges: SAN's and GraphiT's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn.graph import Graph
from gattn.nn.graph_transformer.attention import ExplicitBias
from gattn.nn.graph_transformer.layer import AttentionLayer
from gattn.nn.graph_transformer.pairs import check_real, remembered
from gattn.reference.dropout import accumulate_dtype


class SANLayer(AttentionLayer):
    r"""The layer of the spectral attention network, on the edges of a graph or on all pairs of its nodes.

    :class:`GraphTransformerLayer` without the stream of edges. With ``full_graph`` the pairs that are not edges take
    part, with query, key and edge maps of their own; one softmax weights edges and added pairs against each other:

    .. math::
        \alpha_{ij} \propto \frac{\exp s_{ij}}{1 + \gamma} \text{ for edges}, \quad
        \alpha_{ij} \propto \frac{\gamma \exp s_{ij}}{1 + \gamma} \text{ for added pairs}

    Kreuzer et al., *Rethinking graph transformers with spectral attention*, NeurIPS 2021, arXiv 2106.03893. The paper's
    equation 5 has a softmax for each of the two; this is their program, whose normaliser sums over both. ::

        dataset = ZINC(root, subset=True, pre_transform=gattn.transforms.FullGraph())
        layer = gattn.nn.SANLayer(56, 8, full_graph=True, gamma=0.1)
        x = layer(x, data.edge_index, edge_attr, data.edge_real)

    Args:
        channels: Width of nodes, in and out, a multiple of ``heads``.
        heads: Attention heads.
        full_graph: Whether ``forward`` is given added pairs. The kernel then reads twice as many channels an edge, see
            ``kinds`` of :class:`GTAttention`; the last ``C`` of the ``2 C`` channels a head of ``query``, ``key`` and
            ``edge`` are those of added pairs.
        gamma: Weight of added pairs, not negative; with 0 they take no part.
        explicit_bias: As for :class:`GraphTransformerLayer`. Added pairs have a ``k'`` and an ``e'`` of their own; the
            slot of ``"kv_slot"`` has weight 1 and meets the query of the edges.
        **options: ``edge_dim``, ``dropout``, ``attention_dropout``, ``norm``, ``residual``, ``bias``, ``clip`` and
            ``backend``, as for :class:`GraphTransformerLayer`.

    Raises:
        ValueError: An argument is out of its range; the message says what was expected.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        *,
        full_graph: bool = False,
        gamma: float = 1e-5,
        explicit_bias: ExplicitBias | None = None,
        **options: Any,
    ) -> None:
        super().__init__(channels, heads, explicit_bias=explicit_bias, kinds=2 if full_graph else 1, **options)
        if not 0.0 <= gamma < float("inf"):
            raise ValueError(f"Expected gamma >= 0 (got {gamma}).")
        self.full_graph, self.gamma = full_graph, gamma

    def forward(
        self, x: Tensor, edge_index: Tensor | Graph, edge_attr: Tensor | None = None, real: Tensor | None = None
    ) -> Tensor:
        """Applies the layer.

        Args:
            x: ``[N, channels]``.
            edge_index: ``[2, E]``, row 0 sources, or a :class:`gattn.Graph`; with ``full_graph`` edges and added pairs.
            edge_attr: ``[E, edge_dim]``.
            real: ``[E]`` bool, which of them are edges, as :class:`gattn.transforms.FullGraph` stores it in
                ``data.edge_real``. For ``full_graph`` alone.

        Returns:
            ``[N, channels]``.

        Raises:
            ValueError: A shape does not fit, or something is missing or too much.
            IndexError: ``edge_index`` names nodes that ``x`` does not have.
        """
        weight = None
        if self.full_graph:
            real = check_real(real, edge_index.num_edges if isinstance(edge_index, Graph) else edge_index.size(-1))
            weight = self._weights(real, accumulate_dtype(x.dtype))
        elif real is not None:
            raise ValueError(
                "Expected no 'real' with full_graph=False (got one). Build the layer with full_graph=True."
            )
        out, _ = self.attend(x, edge_index, edge_attr, weight, real)
        nodes: Tensor = self.nodes(x, out)
        return nodes

    def _weights(self, real: Tensor, dtype: torch.dtype) -> Tensor:
        gamma = self.gamma

        def make() -> Tensor:
            added, edge = (torch.tensor(a / (1 + gamma), dtype=dtype, device=real.device) for a in (gamma, 1.0))
            return torch.where(real, edge, added)

        return remembered(real, (gamma, dtype), make)

    def extra_repr(self) -> str:
        full = f", full_graph=True, gamma={self.gamma}" if self.full_graph else ""
        return super().extra_repr() + full


class GraphiTLayer(AttentionLayer):
    r"""The layer of GraphiT, on the edges of a graph or on all pairs of its nodes.

    :class:`GraphTransformerLayer` without the stream of edges. With ``full_graph`` all pairs attend to each other and a
    kernel on the graph multiplies the exponentials of their scores:

    .. math::
        \alpha_{ij} \propto \exp(s_{ij}) \left((I - \gamma L)^p\right)_{ij}

    Mialon et al., *GraphiT: encoding graph structure in transformers*, 2021, arXiv 2106.05667, with the random-walk
    kernel on the normalised Laplacian :math:`L`, here in the layer of the LSPE program (Dwivedi et al., ICLR 2022,
    arXiv 2110.07875), which has maps of their own for added pairs as well (``added_maps``). ::

        transform = Compose([gattn.transforms.FullGraph(), gattn.transforms.RandomWalkKernel()])
        dataset = ZINC(root, subset=True, pre_transform=transform)
        layer = gattn.nn.GraphiTLayer(64, 8, full_graph=True)
        x = layer(x, data.edge_index, edge_attr, data.edge_kernel)

    Args:
        channels: Width of nodes, in and out, a multiple of ``heads``.
        heads: Attention heads.
        full_graph: Whether ``forward`` is given all pairs and their kernel.
        added_maps: Whether pairs that are not edges have query, key and edge maps of their own, as in
            :class:`SANLayer`; for ``full_graph`` alone.
        explicit_bias: As for :class:`SANLayer`, with ``added_maps``; the slot of ``"kv_slot"`` has weight 1 here too.
        **options: As for :class:`SANLayer`.

    Raises:
        ValueError: An argument is out of its range; the message says what was expected.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        *,
        full_graph: bool = False,
        added_maps: bool = False,
        explicit_bias: ExplicitBias | None = None,
        **options: Any,
    ) -> None:
        super().__init__(channels, heads, explicit_bias=explicit_bias, kinds=2 if added_maps else 1, **options)
        if added_maps and not full_graph:
            raise ValueError("Expected full_graph=True with added_maps=True (got False): there are no added pairs.")
        self.full_graph, self.added_maps = full_graph, added_maps

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | Graph,
        edge_attr: Tensor | None = None,
        kernel: Tensor | None = None,
        real: Tensor | None = None,
    ) -> Tensor:
        """Applies the layer.

        Args:
            x: ``[N, channels]``.
            edge_index: ``[2, E]``, row 0 sources, or a :class:`gattn.Graph`; with ``full_graph`` all pairs.
            edge_attr: ``[E, edge_dim]``.
            kernel: ``[E]``, floating, not negative, as :class:`gattn.transforms.RandomWalkKernel` stores it in
                ``data.edge_kernel``. For ``full_graph`` alone.
            real: ``[E]`` bool, which pairs are edges, as :class:`gattn.transforms.FullGraph` stores it in
                ``data.edge_real``. For ``added_maps`` alone.

        Returns:
            ``[N, channels]``.

        Raises:
            ValueError: A shape does not fit, something is missing or too much, or the kernel is negative somewhere.
            IndexError: ``edge_index`` names nodes that ``x`` does not have.
        """
        for name, given, option in (("kernel", kernel, "full_graph"), ("real", real, "added_maps")):
            if given is not None and not getattr(self, option):
                raise ValueError(
                    f"Expected no {name!r} with {option}=False (got one). Build the layer with {option}=True."
                )
        if self.full_graph and kernel is None:
            raise ValueError(
                "Expected 'kernel' for all pairs (got None). Add gattn.transforms.RandomWalkKernel() to the transforms "
                "of the data set, after FullGraph(), and pass data.edge_kernel."
            )
        weight = None if kernel is None else kernel.to(accumulate_dtype(x.dtype))
        out, _ = self.attend(x, edge_index, edge_attr, weight, real)
        nodes: Tensor = self.nodes(x, out)
        return nodes

    def extra_repr(self) -> str:
        full = f", full_graph=True, added_maps={self.added_maps}" if self.full_graph else ""
        return super().extra_repr() + full
