"""The conservation law of graph attention networks, its invariants, and rescaling that changes no output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, TransformerConv

import gattn
from gattn.analysis import ConservationMonitor, conservation, conserved, rebalance_

NODES, FEATURES = 12, 5
EDGES = torch.randint(0, NODES, (2, 40), generator=torch.Generator().manual_seed(0))

#: Hidden layers and what is peculiar to them: layer type, heads, options.
CASES: dict[str, tuple[Callable[..., nn.Module], int, dict[str, Any]]] = {
    "gatv2-shared": (GATv2Conv, 1, {"share_weights": True, "bias": False}),
    "gatv2": (GATv2Conv, 2, {}),
    "gatv2-mean": (GATv2Conv, 3, {"concat": False}),
    "gatv2-residual": (GATv2Conv, 2, {"residual": True}),
    "gatv2-edges": (GATv2Conv, 1, {"edge_dim": 3}),
    "gat": (GATConv, 2, {}),
    "gat-edges-mean": (GATConv, 2, {"edge_dim": 3, "concat": False, "residual": True}),
    "fused-gat": (gattn.FusedGATConv, 2, {"bias": False}),
    "fused-gatv2": (gattn.FusedGATv2Conv, 2, {"share_weights": True}),
}


class Net(nn.Module):
    """Three attention layers with ReLUs between them, parameters drawn anew: also the biases are not zero."""

    def __init__(self, kind: Callable[..., nn.Module], heads: int, options: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(1)
        width = 4 * heads if options.get("concat", True) else 4
        self.convs = nn.ModuleList(
            [kind(FEATURES, 4, heads, **options), kind(width, 4, heads, **options), kind(width, 3, heads, **options)]
        )
        self.double()
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.edge_attr = torch.randn(EDGES.shape[1], 3).double() if "edge_dim" in options else None

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs[:-1]:
            x = conv(x, EDGES, self.edge_attr).relu()
        out: Tensor = self.convs[-1](x, EDGES, self.edge_attr)
        return out


@pytest.fixture(params=CASES)
def net(request: pytest.FixtureRequest) -> Net:
    return Net(*CASES[request.param])


@pytest.fixture
def x() -> Tensor:
    return torch.randn(NODES, FEATURES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _backward(net: Net, x: Tensor) -> None:
    net.zero_grad()
    net(x).square().mean().backward()


def test_the_law_holds_at_every_hidden_neuron(net: Net, x: Tensor) -> None:
    _backward(net, x)
    found = conservation(net)
    assert len(found) == 2
    for law in found:
        assert law.produced.abs().max() > 1e-4
        assert law.residual.max() < 1e-9
    assert all(
        torch.equal(law.residual, again.residual) for law, again in zip(found, conservation(net.convs), strict=True)
    )


def test_the_law_fails_with_an_activation_that_is_not_homogeneous(x: Tensor) -> None:
    net = Net(*CASES["gatv2"])
    hidden = nn.functional.softplus(net.convs[0](x, EDGES))
    net.convs[1](hidden, EDGES).square().mean().backward()
    assert conservation(net.convs[:2])[0].residual.max() > 1e-3


def test_invariants_drift_with_the_square_of_the_learning_rate(x: Tensor) -> None:
    """One SGD step changes c_i by rate**2 times a difference of squared gradients; the first order cancels."""
    drifts = []
    for rate in (1e-4, 5e-5):
        net = Net(*CASES["gatv2-shared"])
        before = conserved(net)
        _backward(net, x)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
        drifts.append(max((a - b).abs().max() for a, b in zip(before, conserved(net), strict=True)))
    assert drifts[0] / drifts[1] == pytest.approx(4, rel=0.01)


def test_a_monitor_records_the_drift_and_draws_it(x: Tensor, tmp_path: Path) -> None:
    net = Net(*CASES["gatv2-shared"])
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    monitor = ConservationMonitor(net, every=3)
    start = conserved(net)
    for _ in range(7):
        _backward(net, x)
        optimizer.step()
        monitor.step()
        if len(monitor.steps) == 3:
            last = conserved(net)
            break
    assert monitor.steps == [0, 3, 6]
    expected = torch.stack([(a - b).abs().max() for a, b in zip(start, last, strict=True)])
    torch.testing.assert_close(monitor.drift()[2], expected)
    assert (monitor.drift()[0] == 0).all()
    monitor.plot(tmp_path / "drift.png")
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="at least two"):
        ConservationMonitor(net.convs[:1])
    with pytest.raises(ValueError, match="'every'"):
        ConservationMonitor(net, every=0)


def test_rebalancing_keeps_the_output_and_balances(net: Net, x: Tensor) -> None:
    before, imbalance = net(x), max(c.abs().max() for c in conserved(net))
    factors = rebalance_(net, sweeps=60)
    torch.testing.assert_close(net(x), before, rtol=1e-9, atol=1e-9)
    assert [f.numel() for f in factors] == [c.numel() for c in conserved(net)]
    assert max(c.abs().max() for c in conserved(net)) < 1e-6 * imbalance


def test_one_step_of_rebalancing_zeroes_the_layers_invariant(x: Tensor) -> None:
    net = Net(*CASES["gatv2"])
    (factor,) = rebalance_(net.convs[:2])
    assert (factor < 2).all(), "the case must not meet the bound"
    assert conserved(net.convs[:2])[0].abs().max() < 1e-9


def test_factors_are_bounded_and_dead_neurons_left_alone() -> None:
    net = Net(*CASES["gatv2-shared"])
    first, second = net.convs[0].lin_l.weight, net.convs[1].lin_l.weight
    with torch.no_grad():
        first[0] = 1e-3
        first[1] = second[:, 1] = net.convs[0].att[0, 0, 1] = 0
    (factor,) = rebalance_(net.convs[:2])
    assert factor[0] == 2.0
    assert factor[1] == 1.0
    assert torch.isfinite(first).all()


def test_errors_say_what_is_wrong(x: Tensor) -> None:
    net = Net(*CASES["gatv2"])
    with pytest.raises(ValueError, match="Call this after a backward"):
        conservation(net)
    with pytest.raises(TypeError, match="got 'TransformerConv'"):
        conserved([TransformerConv(3, 3), GATConv(3, 3)])
    with pytest.raises(ValueError, match=r"read the 8 neurons of layer 0 \(got an input of 9.*no chain"):
        conserved([GATConv(3, 4, 2), GATConv(9, 3)])
    with pytest.raises(ValueError, match="at least one"):
        conserved(nn.ModuleDict({"conv": GCNConv(3, 3)}))
    with pytest.raises(ValueError, match="lazy"):
        conserved([GATConv(-1, 4), GATConv(4, 3)])
    with pytest.raises(ValueError, match="one set of nodes"):
        conserved([GATConv((3, 5), 4), GATConv(4, 3)])
    with pytest.raises(ValueError, match="sweeps"):
        rebalance_(net, sweeps=0)
    with pytest.raises(ValueError, match=r"LipschitzNorm .*layers \[0\]"):
        rebalance_([gattn.FusedGATConv(3, 4, norm="lipschitz"), GATConv(4, 3)])
