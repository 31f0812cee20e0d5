"""The whole network: encoders, blocks, pooling, head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GINConv, GINEConv
from torch_geometric.nn.inits import reset
from torch_geometric.utils import segment

from gattn.nn.gated_gcn import GatedGCNConv
from gattn.nn.gradformer.attention import Kind, graph_offsets
from gattn.nn.gradformer.encoder import FeatureEncoder, NodeEncoder
from gattn.nn.gradformer.encoder import Kind as EncoderKind
from gattn.nn.gradformer.layer import GradformerLayer

MPNN = Literal["gin", "gine", "gatedgcn"]
MPNNS: tuple[MPNN, ...] = ("gin", "gine", "gatedgcn")
POOLS = {"add": "sum", "mean": "mean", "max": "max"}


class Gradformer(nn.Module):
    """Gradformer, or with ``attention="plain"`` a GraphGPS of the same blocks, for graphs and for nodes.

    Liu et al., *Gradformer: graph transformer with exponential decay*, IJCAI 2024, arXiv 2404.15729; defaults are those
    of its program on TU data sets. The program shares one set of hops among all layers, the paper has one a layer:
    ``share_hops`` chooses. ::

        transform = Compose([AddRandomWalkPE(20), gattn.transforms.ShortestPath()])
        dataset = TUDataset(root, "NCI1", pre_transform=transform)
        model = gattn.nn.Gradformer(dataset.num_features, dataset.num_classes, encoding_channels=20)
        for batch in DataLoader(dataset, 128, shuffle=True):
            scores = model(batch)

    Args:
        in_channels: Node features; with ``node_encoder="embedding"`` the number of categories.
        out_channels: Classes or targets.
        channels: Hidden width.
        layers: Number of blocks.
        heads: Attention heads.
        mpnn: The blocks' message passing: ``"gin"`` (no edge features), ``"gine"``, ``"gatedgcn"``
            (:class:`gattn.nn.GatedGCNConv`), or ``None``: attention alone.
        node_encoder: ``"linear"`` for features, ``"embedding"`` for one category a node.
        edge_channels: Edge features, or their number of categories; ``None``: ``data.edge_attr`` is not read.
        edge_encoder: Like ``node_encoder``.
        encoding: Attribute with the nodes' positional or structural encodings, as
            :class:`~torch_geometric.transforms.AddRandomWalkPE` or
            :class:`~torch_geometric.transforms.AddLaplacianEigenvectorPE` stores them.
        encoding_channels: Their width; 0: ``encoding`` is not read.
        encoding_width: How many of the hidden channels are made from the encodings alone. ``None``: a linear map of
            them is added to all.
        encoding_norm: Whether they go through a BatchNorm.
        pool: Over the nodes of a graph, ``"add"``, ``"mean"`` or ``"max"``; ``None``: scores of nodes.
        head: ``"linear"``, or ``"mlp"`` with hidden widths of a half and a quarter.
        dropout: Of the blocks.
        attention_dropout: Of attention weights.
        attention: ``"decay"`` or ``"plain"``.
        share_hops: One set of hops for all blocks.
        **decay: ``hop``, ``gamma``, ``slope``, ``backend``, ``bias`` of :class:`gattn.nn.GradformerAttention`.

    Raises:
        ValueError: Arguments that do not fit together; the message says what was expected.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 64,
        layers: int = 4,
        heads: int = 4,
        mpnn: MPNN | None = "gin",
        node_encoder: EncoderKind = "linear",
        edge_channels: int | None = None,
        edge_encoder: EncoderKind = "linear",
        encoding: str = "random_walk_pe",
        encoding_channels: int = 0,
        encoding_width: int | None = None,
        encoding_norm: bool = False,
        pool: Literal["add", "mean", "max"] | None = "add",
        head: Literal["linear", "mlp"] = "linear",
        dropout: float = 0.0,
        attention_dropout: float = 0.5,
        attention: Kind = "decay",
        share_hops: bool = True,
        **decay: Any,
    ) -> None:
        super().__init__()
        if pool is not None and pool not in POOLS:
            raise ValueError(f"Expected pool out of {(*POOLS, None)} (got {pool!r}).")
        if head not in ("linear", "mlp"):
            raise ValueError(f"Expected head 'linear' or 'mlp' (got {head!r}).")
        self.pool, self.heads, self.attention, self.share_hops = pool, heads, attention, share_hops
        self.nodes = NodeEncoder(
            node_encoder, in_channels, channels, encoding, encoding_channels, encoding_width, encoding_norm
        )
        self.edges = (
            None if edge_channels is None else FeatureEncoder(edge_encoder, edge_channels, channels, "edge_attr")
        )
        blocks = []
        for _ in range(layers):
            conv = _message_passing(mpnn, channels, edge_channels is not None)
            block = GradformerLayer(
                channels,
                conv,
                heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                attention=attention,
                **decay,
            )
            if share_hops and attention == "decay":
                decay["hop"] = block.attention.hop  # the next layers' too
            blocks.append(block)
        self.layers = nn.ModuleList(blocks)
        self.head = _head(head, channels, out_channels)

    @property
    def hops(self) -> Tensor:
        """The hops now: ``[1, heads]`` if all layers share them, else ``[layers, heads]``; ``[0, heads]`` without."""
        attentions: list[Any] = [layer.attention for layer in self.layers if self.attention == "decay"]
        found = [attention.hop.detach() for attention in attentions[: 1 if self.share_hops else None]]
        return torch.stack(found) if found else torch.empty(0, self.heads)

    def reset_parameters(self) -> None:
        """As for a new network."""
        for part in self.children():
            reset(part)

    def forward(self, data: Data) -> Tensor:
        """Scores of graphs ``[B, out_channels]`` or, without a pool, of nodes ``[N, out_channels]``.

        Args:
            data: One graph or a batch of PyG's loader: ``x``, ``edge_index``, ``distance`` as
                :class:`gattn.transforms.ShortestPath` stores it (but for ``attention="plain"``), the encodings, and
                ``edge_attr`` where it is read. A batch has ``ptr``, or at least ``batch``.

        Raises:
            ValueError: Something of that is missing or has another shape.
        """
        x = self.nodes(data)
        edge_attr = None if self.edges is None else self.edges(data.edge_attr)
        ptr = getattr(data, "ptr", None)
        ptr = graph_offsets(x, ptr, getattr(data, "batch", None) if ptr is None else None)
        distance = self.distances(data, ptr)
        for layer in self.layers:
            x = layer(x, data.edge_index, ptr, distance, edge_attr=edge_attr)
        if self.pool is not None:
            x = segment(x, ptr, POOLS[self.pool])
        scores: Tensor = self.head(x)
        return scores

    def distances(self, data: Data, ptr: Tensor) -> Any:
        """What every block's attention is given for ``distance``."""
        return getattr(data, "distance", None)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Refuses different hops for layers that share them: the last layer's would silently be everybody's."""
        super()._load_from_state_dict(state_dict, prefix, *others)
        names = [f"{prefix}layers.{i}.attention.hop" for i in range(len(self.layers))]
        hops = [state_dict[name] for name in names if name in state_dict]
        if self.share_hops and any(not torch.equal(hop, hops[0]) for hop in hops):
            others[-1].append(f"{prefix or 'the model'}: a hop for every layer, but share_hops=True.")


def _message_passing(mpnn: MPNN | None, channels: int, has_edges: bool) -> nn.Module | None:
    if mpnn is not None and mpnn not in MPNNS:
        raise ValueError(f"Expected mpnn out of {(*MPNNS, None)} (got {mpnn!r}).")
    if has_edges != (mpnn == "gine") and mpnn != "gatedgcn":
        raise ValueError(
            f"Expected {'no ' if has_edges else ''}edge_channels with mpnn={mpnn!r}: 'gine' needs edge features, "
            f"'gatedgcn' may have them, the others have none."
        )
    if mpnn is None:
        return None
    if mpnn == "gatedgcn":
        return GatedGCNConv(channels, channels if has_edges else None)
    mlp = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
    conv: nn.Module = GINEConv(mlp) if has_edges else GINConv(mlp)
    return conv


def _head(kind: str, channels: int, out_channels: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(channels, out_channels)
    half, quarter = max(1, channels // 2), max(1, channels // 4)
    return nn.Sequential(
        nn.Linear(channels, half), nn.ReLU(), nn.Linear(half, quarter), nn.ReLU(), nn.Linear(quarter, out_channels)
    )
