"""``FusedTransformerConv``: PyG's ``TransformerConv`` on the fused kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import TransformerConv
from torch_geometric.typing import Adj, OptTensor, PairTensor, SparseTensor

from gattn.nn._edges import read_edges, unmapped_features
from gattn.nn._fused import FusedConv
from gattn.nn._norm import check_norm, dot_lipschitz
from gattn.nn._scores import same_dtype
from gattn.ops import dot


class FusedTransformerConv(FusedConv, TransformerConv):  # type: ignore[misc]  # PyG has no types
    r"""PyG's :class:`~torch_geometric.nn.TransformerConv`, several times faster and in less memory.

    Constructor, parameters, initialisation, state dict, inputs, outputs and errors are PyG's
    (`Masked Label Prediction <https://arxiv.org/abs/2009.03509>`_); nothing of size :math:`E \times H \times C` is
    stored but projected edge features. What the fused kernel does not cover runs on PyG's own path, as in
    :class:`~gattn.FusedGATConv`; so do edge features given to a layer without ``edge_dim``, which PyG adds to the
    values unprojected.

    Args:
        in_channels, out_channels, heads, concat, beta, dropout, edge_dim, bias, root_weight, kwargs: as in PyG.
        norm: ``"lipschitz"`` divides the scores by :math:`c_i`
            (`LipschitzNorm <https://arxiv.org/abs/2103.04886>`_, for deep networks), per head:

            .. math::
                c_i = \max(u v_i, u w_i, v_i w_i), \quad u = \|Q\|_F, \quad
                v_i = \max_{j \in N(i)} \|k_j\|, \quad w_i = \max_{j \in N(i)} \|v_j\|

            :math:`u` is over all targets of the call. Edge features take part in the scores and not in :math:`c_i`.
            PyG's path has no norm: a call that needs it raises NotImplementedError.
        backend: ``"cpu"``, ``"reference"``, ... to insist on one of ``gattn.backends()``; ``None`` picks by
            device.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        beta: bool = False,
        dropout: float = 0.0,
        edge_dim: int | None = None,
        bias: bool = True,
        root_weight: bool = True,
        *,
        norm: str | None = None,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, heads, concat, beta, dropout, edge_dim, bias, root_weight, **kwargs)
        self.norm = check_norm(norm)
        self.backend = backend

    def forward(
        self,
        x: Tensor | PairTensor,
        edge_index: Adj,
        edge_attr: OptTensor = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Run the layer; arguments, results and errors as in :meth:`torch_geometric.nn.TransformerConv.forward`.

        Args:
            x: ``[N, F]``, or a pair ``([N_src, F_src], [N_dst, F_dst])``; fp32, fp64, bf16 or fp16.
            edge_index: ``[2, E]`` integer tensor or EdgeIndex, or a transposed sparse adjacency (torch COO,
                CSR, CSC or SparseTensor; rows are targets).
            edge_attr: ``[E, D]`` edge features, for layers with ``edge_dim``.
            return_attention_weights: ``True`` or ``False`` (PyG tells both from ``None``) also return the edges
                and the attention ``[E, H]`` before dropout.
        """
        reason = self._fallback_reason() or unmapped_features(self.lin_edge, edge_index, edge_attr)
        if reason is not None:
            return self._fall_back(reason, x, edge_index, edge_attr, return_attention_weights)

        src, dst = (x, x) if isinstance(x, Tensor) else x
        query = self._split_heads(self.lin_query(dst))
        key = self._split_heads(self.lin_key(src))
        value = self._split_heads(self.lin_value(src))
        edges = read_edges(self, edge_index, edge_attr, None, key, query, self_loops=False)
        edge = None
        if self.lin_edge is not None:
            assert edges.edge_attr is not None, "Expected 'edge_attr' in a layer with 'edge_dim'"
            edge = self._split_heads(self.lin_edge(edges.edge_attr))
        query, key, value, edge = same_dtype(query, key, value, edge)
        wanted = isinstance(return_attention_weights, bool)
        result = dot(
            query,
            key,
            value,
            edges.graph,
            edge,
            lipschitz=None if self.norm is None else dot_lipschitz(query, key, value, self.backend),
            return_attention="before_dropout" if wanted else False,
            **self._op_options(),
        )
        out, alpha = result if wanted else (result, None)
        out = self._add_root(self._join_heads(out), dst)
        if alpha is None:
            return out
        if not torch.is_autocast_enabled(out.device.type):
            alpha = alpha.to(query.dtype)
        if isinstance(edge_index, SparseTensor):
            return out, edge_index.set_value(alpha, layout="coo")
        return out, (edge_index, alpha)

    def _add_root(self, out: Tensor, x: Tensor) -> Tensor:
        """``out [N_dst, H * C | C]`` with the targets' own features, gated with ``beta``."""
        if not self.root_weight:
            return out
        root: Tensor = self.lin_skip(x)
        if self.lin_beta is None:
            return out + root
        beta = self.lin_beta(torch.cat([out, root, out - root], dim=-1)).sigmoid()
        mixed: Tensor = beta * root + (1 - beta) * out
        return mixed
