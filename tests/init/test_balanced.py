"""Balanced initialisation: constants of the conservation law zero, pairs that look linear, depth that survives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv
from torch_geometric.nn.models import GAT

import gattn
from gattn.analysis import conserved

BASES = ("xavier", "orthogonal")


def _convs(kind: type[nn.Module], heads: int, depth: int = 4, **options: Any) -> list[nn.Module]:
    torch.manual_seed(0)
    width = 6 * heads if options.get("concat", True) else 6
    widths = [5, *[width] * (depth - 1)]
    return [kind(n, 3 if i == depth - 1 else 6, heads, **options).double() for i, n in enumerate(widths)]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("beta", [1.0, 0.6])
@pytest.mark.parametrize("targets", ["balanced", "zero"])
@pytest.mark.parametrize("options", [{}, {"concat": False}, {"residual": True}, {"edge_dim": 2}], ids=str)
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("kind", [GATConv, gattn.FusedGATv2Conv])
def test_constants_are_zero(
    kind: type[nn.Module], heads: int, options: dict[str, Any], targets: str, beta: float, base: str
) -> None:
    convs = _convs(kind, heads, **options)
    gattn.init.balanced_(convs, base, beta, targets=targets)
    first = convs[0]
    total = sum(p.detach().square().sum() for p in first.parameters() if p.dim() == 2 and p.shape[1] in (5, 2))
    edges = getattr(first, "lin_edge", None)
    if isinstance(first, GATConv) and edges is not None:
        total = total - edges.weight.detach().square().sum()
    neurons = conserved(convs)[0].numel()
    assert float(total) == pytest.approx(2 * neurons)
    assert all(c.abs().max() < 1e-12 for c in conserved(convs))
    attention = [
        p for conv in convs[:-1] for name, p in conv.named_parameters() if name in ("att", "att_src", "att_dst")
    ]
    assert all((p > 0).all() if beta < 1 else (p == 0).all() for p in attention)
    assert all((p == 0).all() for name, p in convs[-1].named_parameters() if name in ("att", "att_src", "att_dst"))


def test_shared_weights_follow_the_published_procedure() -> None:
    """Norm 2 ** 0.5 of the first rows, columns as long as the rows before them."""
    convs = _convs(GATv2Conv, 1, share_weights=True, bias=False)
    gattn.init.balanced_(convs)
    weights = [conv.lin_l.weight for conv in convs]
    torch.testing.assert_close(weights[0].norm(dim=1), torch.full((6,), 2.0**0.5).double())
    for before, after in pairwise(weights):
        torch.testing.assert_close(after.norm(dim=0), before.norm(dim=1))


@pytest.mark.parametrize("heads", [1, 2])
def test_orthogonal_base_comes_in_pairs(heads: int) -> None:
    convs = _convs(GATv2Conv, heads, share_weights=True)
    gattn.init.balanced_(convs, "orthogonal")
    first, middle, last = (convs[i].lin_l.weight for i in (0, 1, -1))
    rows = first.view(heads, 2, 3, -1)
    torch.testing.assert_close(rows[:, 0], -rows[:, 1])
    square = middle.view(heads, 2, 3, heads, 2, 3)
    torch.testing.assert_close(square[:, 0], -square[:, 1])
    torch.testing.assert_close(square[..., 0, :], -square[..., 1, :])
    columns = last.view(-1, heads, 2, 3)
    torch.testing.assert_close(columns[:, :, 0], -columns[:, :, 1])


def test_orthogonal_base_is_linear_through_relus() -> None:
    """On a graph of self-loops alone a ReLU network of pairs is one linear map."""
    convs = _convs(GATv2Conv, 1, share_weights=True, bias=False)
    gattn.init.balanced_(convs, "orthogonal")
    loops = torch.arange(7).expand(2, -1)

    def run(x: Tensor) -> Tensor:
        for conv in convs[:-1]:
            x = conv(x, loops).relu()
        out: Tensor = convs[-1](x, loops)
        return out

    x, y = torch.randn(2, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(run(2 * x - 3 * y), 2 * run(x) - 3 * run(y))


def test_a_whole_model_and_its_bias() -> None:
    model = GAT(5, 8, num_layers=3, out_channels=4, heads=2, v2=True)
    gattn.fuse(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    gattn.init.balanced_(model, "orthogonal", 0.5)
    assert all(c.abs().max() < 1e-5 for c in conserved(model))
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_a_seed_fixes_the_weights() -> None:
    drawn = []
    for _ in range(2):
        convs = _convs(GATConv, 2)
        torch.manual_seed(3)
        gattn.init.balanced_(convs, "orthogonal")
        drawn.append(convs[1].lin.weight.clone())
    torch.testing.assert_close(*drawn, rtol=0, atol=0)


def test_errors_say_what_is_wrong() -> None:
    convs = _convs(GATv2Conv, 1)
    before = [p.clone() for conv in convs for p in conv.parameters()]
    for beta in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"'beta' in \(0, 1\]"):
            gattn.init.balanced_(convs, beta=beta)
    with pytest.raises(ValueError, match="got 'he'"):
        gattn.init.balanced_(convs, "he")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 'none'"):
        gattn.init.balanced_(convs, targets="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"even number of channels .*got 5 in layer 0"):
        gattn.init.balanced_([GATConv(3, 5), GATConv(5, 2)], "orthogonal")
    after = [p for conv in convs for p in conv.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
