"""``FusedGATConv``: PyG's ``GATConv`` on the fused kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GATConv
from torch_geometric.typing import Adj, OptPairTensor, OptTensor, Size

from gattn.nn._edges import Edges, read_edges, with_loop_attr
from gattn.nn._fused import FusedConv
from gattn.nn._gat import finish, odd_flow
from gattn.nn._norm import check_norm, gat_lipschitz
from gattn.nn._scores import edge_scores, is_plain
from gattn.ops import gat, gat_layer
from gattn.ops.node_terms import node_terms

# Reductions that commute with the linear map from edge features to logits.
_LINEAR_FILLS = ("mean", "add", "sum")


class FusedGATConv(FusedConv, GATConv):  # type: ignore[misc]  # PyG has no types
    r"""PyG's :class:`~torch_geometric.nn.GATConv`, several times faster and in less memory.

    Constructor, parameters, initialisation, state dict, inputs, outputs and errors are PyG's
    (`Graph Attention Networks <https://arxiv.org/abs/1710.10903>`_); nothing of size
    :math:`E \times H \times C` is stored. What the fused kernel does not cover (message passing hooks,
    explanation masks, other aggregations, ...) runs on PyG's own path, and the reason is logged once per
    module on the logger ``"gattn"``. Attention dropout draws from torch's generator, though another mask than
    PyG from the same seed.

    Args:
        in_channels, out_channels, heads, concat, negative_slope, dropout, add_self_loops, edge_dim,
            fill_value, bias, residual, kwargs: as in PyG.
        norm: ``"lipschitz"`` divides the scores by :math:`c_i` (`LipschitzNorm <https://arxiv.org/abs/2103.04886>`_,
            for deep networks), which keeps them within :math:`\pm 1/4`; :math:`x` are the projected features:

            .. math::
                c_i = 4 \, \| [a^{src} \| a^{dst}] \| \sqrt{\|x_i\|^2 + \max_{j \in N(i)} \|x_j\|^2}

            Edge features take part in the scores and not in :math:`c_i`, nor in the bound. PyG's path has no norm: a
            call that needs it raises NotImplementedError.
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
        residual: bool = False,
        *,
        norm: str | None = None,
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
            residual,
            **kwargs,
        )
        self.norm = check_norm(norm)
        self.backend = backend

    def forward(
        self,
        x: Tensor | OptPairTensor,
        edge_index: Adj,
        edge_attr: OptTensor = None,
        size: Size = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Run the layer; arguments, results and errors as in :meth:`torch_geometric.nn.GATConv.forward`.

        Args:
            x: ``[N, F]``, or a pair ``([N_src, F_src], [N_dst, F_dst] | None)``; fp32, fp64, bf16 or fp16.
            edge_index: ``[2, E]`` integer tensor or EdgeIndex, or a transposed sparse adjacency (torch COO,
                CSR, CSC or SparseTensor; rows are targets).
            edge_attr: ``[E, D]`` or ``[E]`` edge features, used when ``edge_dim`` is set.
            size: ``(N_src, N_dst)``.
            return_attention_weights: when true, also return the (rewritten) edges and the attention
                ``[E, H]`` after dropout.
        """
        reason = self._fallback_reason() or odd_flow(self.flow, x)
        if reason is not None:
            return self._fall_back(reason, x, edge_index, edge_attr, size, return_attention_weights)

        x_src, x_dst, res = self._project(x)
        edges = read_edges(self, edge_index, edge_attr, size, x_src, x_dst, self_loops=self.add_self_loops)
        a_edge = self._edge_scores(edges)
        options = self._op_options()
        options["negative_slope"] = self.negative_slope
        wanted = options["return_attention"] = bool(return_attention_weights)
        bias: OptTensor = self.bias
        result: Any
        if x_dst is x_src:
            options["lipschitz"] = self.norm is not None
            inner, bias = (bias, None) if self.concat else (None, bias)
            att_src, att_dst = (att.view(x_src.shape[1:]) for att in (self.att_src, self.att_dst))
            result = gat_layer(x_src, att_src, att_dst, edges.graph, a_edge, bias=inner, **options)
        else:
            a_src, a_dst, norms = self._node_terms(x_src, x_dst)
            assert a_src is not None
            if norms[0] is not None:
                atts = (self.att_src, self.att_dst)
                options["lipschitz"] = gat_lipschitz(norms[0], norms[1], atts, edges.graph.num_dst)
            result = gat(x_src, a_src, a_dst, edges.graph, a_edge, **options)
        out, alpha = result if wanted else (result, None)
        return finish(self, out, alpha, res, bias, edges, self.att_src.dtype)

    def _project(self, x: Tensor | OptPairTensor) -> tuple[Tensor, OptTensor, OptTensor]:
        """``(x_src [N_src, H, C], x_dst [N_dst, H, C] | None, residual | None)``, called in PyG's order."""
        pair = (x, x) if isinstance(x, Tensor) else x
        src, dst = pair
        assert src.dim() == 2, "Static graphs not supported in 'GATConv'"
        res, lin = self.res, self.lin
        res = res(dst) if res is not None and dst is not None else None
        x_src = self._split_heads((self.lin_src if lin is None else lin)(src))
        if dst is None or (dst is src and lin is not None):
            return x_src, None if dst is None else x_src, res
        return x_src, self._split_heads((self.lin_dst if lin is None else lin)(dst)), res

    def _node_terms(self, x_src: Tensor, x_dst: OptTensor) -> tuple[OptTensor, OptTensor, tuple[OptTensor, OptTensor]]:
        """Scores of sources and of targets ``[N, H]``, and with a norm those of the features."""
        att_src, att_dst = (att.view(self.heads, self.out_channels) for att in (self.att_src, self.att_dst))
        options: dict[str, Any] = {"norm": self.norm is not None, "backend": self.backend}
        a_src, _, source_norm = node_terms(x_src, att_src, None, **options)
        a_dst = target_norm = None
        if x_dst is not None:
            _, a_dst, target_norm = node_terms(x_dst, None, att_dst, **options)
        return a_src, a_dst, (source_norm, target_norm)

    def _edge_scores(self, edges: Edges) -> OptTensor:
        """Logits ``[E, H]`` of the edge features, for the rewritten edges."""
        edge_attr, lin_edge, fill_value = edges.edge_attr, self.lin_edge, self.fill_value
        if edge_attr is None or lin_edge is None or edges.graph.num_edges == 0:
            return None
        if isinstance(fill_value, str) and fill_value in _LINEAR_FILLS and is_plain(lin_edge):
            # Rewriting the [E, H] logits spares two copies of the [E, D] features.
            return with_loop_attr(edge_scores(edge_attr, lin_edge, self.att_edge), edges, fill_value, self.flow)
        return edge_scores(with_loop_attr(edge_attr, edges, fill_value, self.flow), lin_edge, self.att_edge)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Before PyG 2.5 the one linear map of a non-bipartite layer was saved as `lin_src` and `lin_dst`.
        old, twin, new = (f"{prefix}{name}.weight" for name in ("lin_src", "lin_dst", "lin"))
        legacy = self.lin is not None and old in state_dict and new not in state_dict
        if legacy and torch.equal(state_dict[old], state_dict.get(twin, state_dict[old])):
            state_dict[new] = state_dict.pop(old)
            state_dict.pop(twin, None)
        super()._load_from_state_dict(state_dict, prefix, *args)
