"""``FusedGATv2Conv``: PyG's ``GATv2Conv`` on the fused kernel."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.nn import GATv2Conv
from torch_geometric.typing import Adj, OptTensor, PairTensor

from gattn.nn._edges import Edges, read_edges, unmapped_features, with_loop_attr
from gattn.nn._fused import FusedConv
from gattn.nn._gat import finish, odd_flow
from gattn.nn._scores import as_rows, same_dtype
from gattn.ops import gatv2


class FusedGATv2Conv(FusedConv, GATv2Conv):  # type: ignore[misc]  # PyG has no types
    r"""PyG's :class:`~torch_geometric.nn.GATv2Conv`, several times faster and in less memory.

    Constructor, parameters, initialisation, state dict, inputs, outputs and errors are PyG's
    (`How Attentive are Graph Attention Networks? <https://arxiv.org/abs/2105.14491>`_); nothing of size
    :math:`E \times H \times C` is stored but projected edge features. What the fused kernel does not cover runs on
    PyG's own path, as in :class:`~gattn.FusedGATConv`.

    Args:
        in_channels, out_channels, heads, concat, negative_slope, dropout, add_self_loops, edge_dim,
            fill_value, bias, share_weights, residual, kwargs: as in PyG.
        backend: ``"cpu"``, ``"reference"``, ... to insist on one of ``gattn.backends()``; ``None`` picks by
            device.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | Tensor | str = "mean",
        bias: bool = True,
        share_weights: bool = False,
        residual: bool = False,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            heads,
            concat,
            negative_slope,
            dropout,
            add_self_loops,
            edge_dim,
            fill_value,
            bias,
            share_weights,
            residual,
            **kwargs,
        )
        self.backend = backend

    def forward(
        self,
        x: Tensor | PairTensor,
        edge_index: Adj,
        edge_attr: OptTensor = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Run the layer; arguments, results and errors as in :meth:`torch_geometric.nn.GATv2Conv.forward`.

        Args:
            x: ``[N, F]``, or a pair ``([N_src, F_src], [N_dst, F_dst])``; fp32, fp64, bf16 or fp16.
            edge_index: ``[2, E]`` integer tensor or EdgeIndex, or a transposed sparse adjacency (torch COO,
                CSR, CSC or SparseTensor; rows are targets).
            edge_attr: ``[E, D]`` or ``[E]`` edge features, for layers with ``edge_dim``.
            return_attention_weights: when true, also return the (rewritten) edges and the attention
                ``[E, H]`` after dropout.
        """
        reason = (
            self._fallback_reason() or odd_flow(self.flow, x) or unmapped_features(self.lin_edge, edge_index, edge_attr)
        )
        if reason is not None:
            return self._fall_back(reason, x, edge_index, edge_attr, return_attention_weights)

        x_src, x_dst, res = self._project(x)
        edges = read_edges(self, edge_index, edge_attr, None, x_src, x_dst, self_loops=self.add_self_loops)
        x_src, x_dst, x_edge = same_dtype(x_src, x_dst, self._edge_features(edges))
        wanted = bool(return_attention_weights)
        result = gatv2(
            x_src,
            x_dst,
            self.att.view(self.heads, self.out_channels),
            edges.graph,
            x_edge,
            negative_slope=self.negative_slope,
            return_attention=wanted,
            **self._op_options(),
        )
        out, alpha = result if wanted else (result, None)
        return finish(self, out, alpha, res, self.bias, edges, self.att.dtype)

    def _project(self, x: Tensor | PairTensor) -> tuple[Tensor, Tensor, OptTensor]:
        """``(x_src [N_src, H, C], x_dst [N_dst, H, C], residual | None)``, called in PyG's order."""
        single = isinstance(x, Tensor)
        src, dst = (x, x) if single else x
        assert src.dim() == 2, "Static graphs not supported in 'GATv2Conv'"
        res = None if self.res is None or dst is None else self.res(dst)
        x_src = self._split_heads(self.lin_l(src))
        assert dst is not None, "Target features are required in 'GATv2Conv'"
        if single and self.share_weights:
            return x_src, x_src, res
        return x_src, self._split_heads(self.lin_r(dst)), res

    def _edge_features(self, edges: Edges) -> OptTensor:
        """Projected features ``[E, H, C]`` of the rewritten edges."""
        if edges.edge_attr is None:
            return None
        edge_attr = as_rows(with_loop_attr(edges.edge_attr, edges, self.fill_value, self.flow))
        return self._split_heads(self.lin_edge(edge_attr))
