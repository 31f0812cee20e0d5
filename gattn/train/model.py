"""A graph attention network whose layer is gattn's or PyTorch Geometric's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gattn.terminal import require
from gattn.train.config import Config


def conv_class(variant: str) -> type[nn.Module]:
    """The attention layer of a variant: ``gattn`` or ``pyg``."""
    pyg = require("torch_geometric.nn", "training")
    if variant == "pyg":
        layer: type[nn.Module] = pyg.GATConv
    else:
        from gattn.nn import FusedGATConv as layer
    return layer


class GAT(nn.Module):
    """``layers`` attention layers with ELU between; hidden ones concatenate their heads, the last averages.

    Both variants draw the same parameters from the same seed.
    """

    def __init__(self, variant: str, config: Config, in_channels: int, num_classes: int) -> None:
        super().__init__()
        conv = conv_class(variant)
        self.dropout = config.dropout
        self.convs = nn.ModuleList()
        width = in_channels
        for index in range(config.layers):
            last = index == config.layers - 1
            self.convs.append(
                conv(
                    width,
                    num_classes if last else config.hidden,
                    heads=config.out_heads if last else config.heads,
                    concat=not last,
                    dropout=config.attention_dropout,
                    negative_slope=config.negative_slope,
                    residual=config.residual,
                )
            )
            width = config.heads * config.hidden

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """``x`` [N, F], ``edge_index`` [2, E] -> class scores [N, num_classes]; ``x`` has had its dropout."""
        for index, conv in enumerate(self.convs):
            if index:
                x = F.dropout(F.elu(x), self.dropout, self.training)
            x = conv(x, edge_index)
        return x
