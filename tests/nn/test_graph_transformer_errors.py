"""What graph transformer layers say about arguments and inputs that do not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gattn.nn import GraphiTLayer, GraphTransformerLayer, GTAttention, SANLayer

from .graph_transformer_cases import (
    CHANNELS,
    HEADS,
    NODES,
    VARIANTS,
    make,
)


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (GraphTransformerLayer, {"channels": 10}, "multiple of heads"),
        (GraphTransformerLayer, {"explicit_bias": "slot"}, r"explicit_bias out of \(None, 'edge_bias', 'kv_slot'\)"),
        (GraphTransformerLayer, {"norm": "graph"}, r"norm out of \(None, 'batch', 'layer'\)"),
        (GraphTransformerLayer, {"clip": 0.0}, "clip > 0.*math.inf"),
        (GraphTransformerLayer, {"dropout": 1.5}, r"dropout in \[0, 1\]"),
        (GraphTransformerLayer, {"attention_dropout": -0.5}, r"attention weights in \[0, 1\]"),
        (GTAttention, {"kinds": 0}, "kinds >= 1"),
        (GraphTransformerLayer, {"edge_dim": "nodes"}, "'channels' or None"),
        (SANLayer, {"gamma": -0.1}, "gamma >= 0"),
        (SANLayer, {"gamma": math.inf}, "gamma >= 0"),
        (GraphiTLayer, {"added_maps": True}, "full_graph=True with added_maps=True"),
    ],
)
def test_arguments_out_of_range_are_named(cls: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cls(**{"channels": CHANNELS, "heads": HEADS, **options})


REAL = torch.ones(30, dtype=torch.bool)


@pytest.mark.parametrize(
    ("variant", "changed", "error", "words"),
    [
        (0, {"edge_attr": None}, ValueError, r"'edge_attr' of shape \[30, 12\] \(got None\)"),
        (0, {"edge_attr": torch.rand(29, 12).double()}, ValueError, r"a row an edge.*got \[29, 12\]"),
        (2, {"edge_attr": torch.rand(30, 12).double()}, ValueError, "Expected no 'edge_attr'.*edge_dim=None"),
        (0, {"x": torch.rand(9, 8).double()}, ValueError, r"'x' of shape \[nodes, 12\]"),
        (0, {"edge_index": torch.zeros(3, 30).long()}, ValueError, "edge_index"),
        (0, {"edge_index": torch.full((2, 30), NODES)}, IndexError, r"\(got 9 in the \w+ row\)|larger than 8"),
        (3, {"real": REAL}, ValueError, "Expected no 'real' with full_graph=False"),
        (4, {"real": None}, ValueError, r"gattn.transforms.FullGraph\(\).*data.edge_real"),
        (4, {"real": REAL[1:]}, ValueError, r"'real' of shape \[30\].*got \[29\]"),
        (4, {"real": REAL.long()}, ValueError, "torch.int64"),
        (4, {"edge_index": torch.full((2, 30), NODES)}, IndexError, r"\(got 9 in the \w+ row\)|larger than 8"),
        (4, {"edge_index": torch.full((2, 30), -1)}, IndexError, "negative"),
        (4, {"edge_index": torch.zeros(3, 30).long()}, ValueError, "edge_index"),
        (6, {"kernel": torch.rand(30)}, ValueError, "Expected no 'kernel' with full_graph=False"),
        (7, {"kernel": None}, ValueError, r"gattn.transforms.RandomWalkKernel\(\).*data.edge_kernel"),
        (7, {"kernel": -torch.rand(30)}, ValueError, "'edge_weight' >= 0"),
        (7, {"kernel": torch.rand(29)}, ValueError, r"\[30\] \(got \[29\]\)"),
        (7, {"real": REAL}, ValueError, "Expected no 'real' with added_maps=False"),
        (8, {"real": None}, ValueError, r"gattn.transforms.FullGraph\(\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(variant: int, changed: dict[str, Any], error: Any, words: str) -> None:
    layer, given = make(*VARIANTS[variant])
    with pytest.raises(error, match=words):
        layer(**{**given, **changed})
