"""Run a PyG layer and its fused twin from one seed and compare everything that comes out of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

from gattn.nn import FusedGATConv, FusedGATv2Conv, FusedTransformerConv
from gattn.nn._fused import FusedConv

LAYERS = {
    "gat": (GATConv, FusedGATConv),
    "gatv2": (GATv2Conv, FusedGATv2Conv),
    "transformer": (TransformerConv, FusedTransformerConv),
}

TOLERANCE = {torch.float64: {"rtol": 1e-9, "atol": 1e-10}, torch.float32: {"rtol": 2e-4, "atol": 2e-5}}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def fused_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a layer leaves the fused path."""

    def refuse(self: FusedConv, reason: str) -> None:
        raise AssertionError(f"left the fused path: {reason}")

    monkeypatch.setattr(FusedConv, "_report_fallback", refuse)


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> Any:
    """The layer under test; a test that is about some of them parametrizes ``kind`` itself."""
    return request.param


@pytest.fixture
def classes(kind: str) -> tuple[type[nn.Module], type[nn.Module]]:
    """PyG's class and the fused one."""
    return LAYERS[kind]


@pytest.fixture
def make_twins(classes: tuple[type[nn.Module], type[nn.Module]]) -> Callable[..., Any]:
    """``make_twins(*args, dtype=..., **kwargs)``: PyG's layer and the fused one, each built from the same seed."""

    def build(*args: Any, dtype: torch.dtype = torch.float64, **kwargs: Any) -> Any:
        layers = []
        for cls in classes:
            torch.manual_seed(1)
            layers.append(cls(*args, **kwargs).to(dtype))
        return layers

    return build


class Net(nn.Module):
    """Two attention layers."""

    def __init__(self, layer: type[nn.Module], *, in_channels: int = 5, out_channels: int = 3, **kwargs: Any) -> None:
        super().__init__()
        self.conv1 = layer(in_channels, 8, heads=2, **kwargs)
        self.conv2 = layer(16, out_channels, **kwargs)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x, edge_index, edge_attr).relu(), edge_index, edge_attr)
        return out


@pytest.fixture
def make_net() -> Callable[..., Net]:
    """``make_net(cls, **kwargs)``: a network of two such layers in float64, from the same seed every time."""

    def build(layer: type[nn.Module], *, dtype: torch.dtype = torch.float64, **kwargs: Any) -> Net:
        torch.manual_seed(1)
        return Net(layer, **kwargs).to(dtype)

    return build


def _leaves(value: Any) -> list[Tensor]:
    """Every floating-point tensor in nested results, sparse ones by their values."""
    if isinstance(value, Tensor):
        if value.layout is torch.sparse_coo:
            value = value.coalesce()
        value = value.values() if value.layout is not torch.strided else value
        return [value] if value.is_floating_point() else []
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, (tuple, list)) else []


def _fresh(value: Any) -> Any:
    """A copy of call arguments in which every dense floating-point tensor is a leaf that requires grad."""
    if isinstance(value, Tensor) and value.layout is torch.strided and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    if type(value) in (tuple, list):
        return type(value)(map(_fresh, value))
    return value


def _run(layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, list[Tensor | None]]:
    args, kwargs = _fresh(args), {name: _fresh(value) for name, value in kwargs.items()}
    result = layer(*args, **kwargs)
    loss = torch.zeros((), dtype=torch.float64)
    for i, leaf in enumerate(_leaves(result)):
        weight = torch.arange(leaf.numel(), dtype=torch.float64).add(i + 1).sin().view(leaf.shape)
        loss = loss + (leaf.double() * weight).sum()
    inputs = [leaf for leaf in _leaves([*args, *kwargs.values()]) if leaf.is_leaf and leaf.requires_grad]
    wanted = [*inputs, *layer.parameters()]
    grads: list[Tensor | None] = [None] * len(wanted)
    if loss.requires_grad:
        grads = list(torch.autograd.grad(loss, wanted, allow_unused=True))
    return result, grads


def _assert_close(got: Tensor | None, expected: Tensor | None, dtype: torch.dtype, what: str) -> None:
    # A parameter that took no part has no gradient in one layer and zeros in the other: the same to a user.
    if got is None or expected is None:
        assert all(grad is None or not grad.any() for grad in (got, expected)), what
        return
    torch.testing.assert_close(got, expected, **TOLERANCE[dtype], msg=lambda text: f"{what}: {text}")


@pytest.fixture
def assert_same(fused_only: None) -> Callable[..., Any]:
    """``assert_same(plain, fused, *args, **kwargs)``: equal results and gradients of everything."""

    def check(plain: nn.Module, fused: nn.Module, *args: Any, **kwargs: Any) -> Any:
        expected, expected_grads = _run(plain, args, kwargs)
        got, grads = _run(fused, args, kwargs)
        dtype = next(fused.parameters()).dtype
        got_leaves, expected_leaves = _leaves(got), _leaves(expected)
        assert len(got_leaves) == len(expected_leaves)
        for i, (a, b) in enumerate(zip(got_leaves, expected_leaves, strict=True)):
            _assert_close(a, b, dtype, f"result {i}")
        for i, (a, b) in enumerate(zip(grads, expected_grads, strict=True)):
            _assert_close(a, b, dtype, f"gradient {i}")
        return got

    return check


class Case:
    """A small graph with duplicate edges, self-loops and isolated nodes, and features for it."""

    def __init__(self, num_src: int = 9, num_dst: int | None = None, *, dtype: torch.dtype = torch.float64):
        generator = torch.Generator().manual_seed(7)
        self.num_src, self.num_dst = num_src, num_src if num_dst is None else num_dst
        # The last two nodes of either side stay without edges (but for self-loops that a layer appends).
        high = torch.tensor([[self.num_src - 2], [self.num_dst - 2]])
        self.edge_index = (torch.rand(2, 30, generator=generator) * high).long()
        self.edge_index[:, :2] = torch.tensor([[1, 2], [1, 2]])
        self.edge_index[:, 2] = self.edge_index[:, 3]
        self.x = torch.randn(self.num_src, 5, generator=generator, dtype=dtype)
        self.x_dst = torch.randn(self.num_dst, 6, generator=generator, dtype=dtype)
        self.edge_attr = torch.randn(30, 3, generator=generator, dtype=dtype)


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture
def bipartite() -> Case:
    return Case(9, 7)


@pytest.fixture
def make_case() -> type[Case]:
    return Case
