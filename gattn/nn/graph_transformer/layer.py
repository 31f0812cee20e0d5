"""Graph transformer layers: the projections that all have, and the one with a stream of edges."""

from __future__ import annotations

import functools
from typing import Literal

from torch import Tensor, nn

from gattn.adjacency import check_edge_index
from gattn.graph import Graph
from gattn.nn.graph_transformer.attention import ExplicitBias, GTAttention
from gattn.nn.graph_transformer.block import Block, Norm
from gattn.nn.graph_transformer.pairs import as_graph, as_graph_of_kinds, check_real

#: Width of edge features: a number, that of the nodes, or ``None`` where there are none.
EdgeDim = int | Literal["channels"] | None


class AttentionLayer(nn.Module):
    """Query, key, value and edge maps, :class:`GTAttention`, and the :class:`Block` of the nodes.

    ``kinds`` is 2 for maps of their own for added pairs; the other arguments are :class:`GraphTransformerLayer`'s.
    """

    edge_stream = False  # whether edges have a block too

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        *,
        edge_dim: EdgeDim = "channels",
        explicit_bias: ExplicitBias | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm: Norm | None = "batch",
        residual: bool = True,
        bias: bool = False,
        clip: float = 5.0,
        backend: str | None = None,
        kinds: int = 1,
    ) -> None:
        super().__init__()
        self.attention = GTAttention(
            channels,
            heads,
            kinds=kinds,
            explicit_bias=explicit_bias,
            clip=clip,
            dropout=attention_dropout,
            backend=backend,
        )
        if isinstance(edge_dim, str):
            if edge_dim != "channels":
                raise ValueError(f"Expected edge_dim to be a number, 'channels' or None (got {edge_dim!r}).")
            edge_dim = channels
        self.channels, self.heads, self.edge_dim = channels, heads, edge_dim
        self.query, self.key = (nn.Linear(channels, kinds * channels, bias) for _ in range(2))
        self.value = nn.Linear(channels, channels, bias)
        self.edge = None if edge_dim is None else nn.Linear(edge_dim, kinds * channels, bias)
        block = functools.partial(Block, channels, dropout=dropout, norm=norm, residual=residual)
        self.nodes = block(channels)
        self.edges = block(edge_dim) if self.edge_stream and edge_dim is not None else None

    def reset_parameters(self) -> None:
        """As for a new layer."""
        for part in (self.attention, self.query, self.key, self.value, self.edge, self.nodes, self.edges):
            if part is not None:
                part.reset_parameters()

    def attend(
        self,
        x: Tensor,
        edges: Tensor | Graph,
        edge_attr: Tensor | None,
        edge_weight: Tensor | None = None,
        real: Tensor | None = None,
        *,
        return_edge: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """``[N, channels]`` before the block, and :class:`GTAttention`'s products ``[E, channels]`` if asked for."""
        num_edges = self._check(x, edges, edge_attr)
        if self.attention.kinds == 1:
            graph = as_graph(edges, x.size(0))
        else:
            graph = as_graph_of_kinds(edges, check_real(real, num_edges), x.size(0))
        q, k, v = (linear(x).unflatten(-1, (self.heads, -1)) for linear in (self.query, self.key, self.value))
        if self.edge is None:
            edge = q.new_ones(num_edges, *q.shape[1:])
        else:
            edge = self.edge(edge_attr).unflatten(-1, (self.heads, -1))
        out, products = self.attention(q, k, v, edge, graph, edge_weight, return_edge=return_edge)
        return out.flatten(1), None if products is None else products.flatten(1)

    def _check(self, x: Tensor, edges: Tensor | Graph, edge_attr: Tensor | None) -> int:
        """The number of edges, of inputs that fit the layer and each other."""
        if x.dim() != 2 or x.size(1) != self.channels:
            raise ValueError(f"Expected 'x' of shape [nodes, {self.channels}] (got {list(x.shape)}).")
        if not isinstance(edges, Graph):
            check_edge_index(edges)
        num_edges = edges.num_edges if isinstance(edges, Graph) else edges.size(1)
        if self.edge_dim is None:
            if edge_attr is not None:
                raise ValueError(
                    f"Expected no 'edge_attr' in a layer with edge_dim=None (got {list(edge_attr.shape)}). Leave it "
                    f"out, or give the layer its width."
                )
        elif edge_attr is None:
            raise ValueError(
                f"Expected 'edge_attr' of shape [{num_edges}, {self.edge_dim}] (got None). A layer for edges without "
                f"features has edge_dim=None."
            )
        elif edge_attr.shape != (num_edges, self.edge_dim):
            raise ValueError(
                f"Expected 'edge_attr' of shape [{num_edges}, {self.edge_dim}], a row an edge of 'edge_index' (got "
                f"{list(edge_attr.shape)})."
            )
        return num_edges

    def extra_repr(self) -> str:
        return f"{self.channels}, heads={self.heads}, edge_dim={self.edge_dim}"


class GraphTransformerLayer(AttentionLayer):
    r"""The graph transformer layer with a stream of nodes and a stream of edges.

    .. math::
        w_{ij} = \frac{Q x_i \odot K x_j}{\sqrt C} \odot E e_{ij}, \quad
        \alpha_{ij} = \frac{\exp s_{ij}}{\sum_k \exp s_{ik} + 10^{-6}}, \quad
        s_{ij} = \mathrm{clip}(\textstyle\sum_c w_{ijc}, \pm 5)

    a head. Nodes go on with :math:`\sum_j \alpha_{ij} V x_j` and edges with :math:`w_{ij}`, both through dropout, a
    linear map, the residual connection, normalisation, and a feed-forward network with a residual connection and
    normalisation of its own.

    Dwivedi and Bresson, *A generalization of transformer networks to graphs*, 2021, arXiv 2012.09699, equations 10 to
    18, with the clip and the epsilon of their program. Without edge features (``edge_dim=None``) it is their layer of
    equations 3 to 9, with the same clip. ::

        layer = gattn.nn.GraphTransformerLayer(64, 8)
        x, edge_attr = layer(x, edge_index, edge_attr)

    Args:
        channels: Width of nodes, in and out, a multiple of ``heads``.
        heads: Attention heads.
        edge_dim: Width of edges, in and out; ``"channels"`` for that of the nodes, ``None`` for edges without features:
            then ``forward`` has no ``edge_attr``, and the kernel reads a tensor of ones.
        explicit_bias: The explicit bias term of Bini et al. (arXiv 2409.03463) against massive activations, ``None``,
            ``"edge_bias"`` or ``"kv_slot"``; see :class:`GTAttention`.
        dropout: After the attention and within the feed-forward networks.
        attention_dropout: Of attention weights; the papers have none.
        norm: ``"batch"`` (BatchNorm), ``"layer"`` (LayerNorm) or ``None``.
        residual: Whether there are residual connections.
        bias: Whether query, key, value and edge maps have a bias.
        clip: Bound of the scores; ``inf`` for none.
        backend: Of :func:`gattn.ops.gt`; ``None`` for the fastest usable.

    Raises:
        ValueError: An argument is out of its range; the message says what was expected.
    """

    edge_stream = True

    def forward(
        self, x: Tensor, edge_index: Tensor | Graph, edge_attr: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Applies the layer.

        Args:
            x: ``[N, channels]``.
            edge_index: ``[2, E]``, row 0 sources, or a :class:`gattn.Graph`.
            edge_attr: ``[E, edge_dim]``.

        Returns:
            Nodes ``[N, channels]`` and edges ``[E, edge_dim]``, ``None`` where there are no edge features.

        Raises:
            ValueError: A shape does not fit, or edge features are missing or too many.
            IndexError: ``edge_index`` names nodes that ``x`` does not have.
        """
        out, products = self.attend(x, edge_index, edge_attr, return_edge=self.edges is not None)
        nodes = self.nodes(x, out)
        return nodes, None if self.edges is None else self.edges(edge_attr, products)
