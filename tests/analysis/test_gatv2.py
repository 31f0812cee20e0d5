"""GATv2's written-out gradients: autograd's, the kernel's, PyG's, and the two facts that follow from them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GATv2Conv

import gattn
from gattn import Graph, ops
from gattn.analysis import GATv2Gradients, gatv2_gradients

NODES, FEATURES, HEADS, CHANNELS = 12, 4, 3, 5
Tensors = dict[str, Tensor]


@pytest.fixture
def graph() -> Graph:
    """Nodes 0 to 7 with random in-edges, duplicates and loops, 8 and 9 with one each, 10 and 11 with none."""
    generator = torch.Generator().manual_seed(2)
    edges = torch.randint(8, (2, 40), generator=generator)
    return Graph.from_edge_index(torch.cat([edges, torch.tensor([[3, 9], [8, 9]])], dim=1), NODES)


@pytest.fixture
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(3)
    width = HEADS * CHANNELS
    shapes = {"h": (NODES, FEATURES), "W_l": (width, FEATURES), "W_r": (width, FEATURES), "a": (HEADS, CHANNELS)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.fixture
def grad_out() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(NODES, HEADS * CHANNELS, generator=generator, dtype=torch.float64)


def by_autograd(tensors: Tensors, graph: Graph, grad_out: Tensor, backend: str, slope: float) -> Tensors:
    """The same gradients through :func:`gattn.ops.gatv2`."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    bias = torch.zeros(HEADS * CHANNELS, dtype=grad_out.dtype, requires_grad=True)
    left, right = ((leaves["h"] @ leaves[name].T).view(-1, HEADS, CHANNELS) for name in ("W_l", "W_r"))
    out = ops.gatv2(left, right, leaves["a"], graph, negative_slope=slope, backend=backend).flatten(1) + bias
    found = torch.autograd.grad(out, [*leaves.values(), bias], grad_out)
    return dict(zip([*leaves, "b"], found, strict=True))


@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_formulas_are_the_gradients(
    backend: str, slope: float, tensors: Tensors, graph: Graph, grad_out: Tensor
) -> None:
    got = gatv2_gradients(**tensors, graph=graph, grad_out=grad_out, negative_slope=slope)
    for name, expected in by_autograd(tensors, graph, grad_out, backend, slope).items():
        torch.testing.assert_close(getattr(got, name), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("share_weights", [False, True])
def test_pyg_layer(share_weights: bool, tensors: Tensors, graph: Graph, grad_out: Tensor) -> None:
    """With shared weights the two gradients of W add."""
    layer = GATv2Conv(FEATURES, CHANNELS, HEADS, add_self_loops=False, share_weights=share_weights).double()
    torch.nn.init.zeros_(layer.lin_l.bias)
    torch.nn.init.zeros_(layer.lin_r.bias)
    x = tensors["h"].clone().requires_grad_()
    layer(x, graph.edge_index).backward(grad_out)
    weights = {"W_l": layer.lin_l.weight.detach(), "W_r": layer.lin_r.weight.detach(), "a": layer.att[0].detach()}
    got = gatv2_gradients(tensors["h"], **weights, graph=graph, grad_out=grad_out)
    expected = {"h": x.grad, "a": layer.att.grad[0], "b": layer.bias.grad}
    for name, value in expected.items():
        torch.testing.assert_close(getattr(got, name), value)
    if share_weights:
        torch.testing.assert_close(got.W_l + got.W_r, layer.lin_l.weight.grad)
    else:
        torch.testing.assert_close(got.W_l, layer.lin_l.weight.grad)
        torch.testing.assert_close(got.W_r, layer.lin_r.weight.grad)


def test_score_gradients_of_a_target_sum_to_zero(tensors: Tensors, graph: Graph, grad_out: Tensor) -> None:
    d = gatv2_gradients(**tensors, graph=graph, grad_out=grad_out).d
    total = torch.zeros(NODES, HEADS, dtype=d.dtype).index_add(0, graph.edge_index[1], d)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0.0, atol=1e-13)
    assert d.abs().max() > 0.1


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_targets_with_one_edge_teach_a_and_W_r_nothing(backend: str, tensors: Tensors, grad_out: Tensor) -> None:
    """Exactly nothing: their attention is 1, whatever the score."""
    ring = torch.stack([torch.arange(NODES), torch.arange(NODES).roll(1)])
    graph = Graph.from_edge_index(ring, NODES)
    written = gatv2_gradients(**tensors, graph=graph, grad_out=grad_out)
    recorded = GATv2Gradients(**by_autograd(tensors, graph, grad_out, backend, 0.2), d=written.d)
    assert not written.W_r.any()
    assert not written.a.any()
    assert written.W_l.any()
    # Autograd takes the difference of two equal dot products, added up in another order.
    torch.testing.assert_close(recorded.W_r, torch.zeros_like(recorded.W_r), rtol=0.0, atol=1e-13)
    torch.testing.assert_close(recorded.a, torch.zeros_like(recorded.a), rtol=0.0, atol=1e-13)


def test_no_edges(tensors: Tensors, grad_out: Tensor) -> None:
    graph = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), NODES)
    got = gatv2_gradients(**tensors, graph=graph, grad_out=grad_out)
    assert not any(gradient.any() for gradient in (got.a, got.W_l, got.W_r, got.h))
    torch.testing.assert_close(got.b, grad_out.sum(0))


def test_wrong_arguments(tensors: Tensors, graph: Graph, grad_out: Tensor) -> None:
    good = {**tensors, "graph": graph, "grad_out": grad_out}
    for name, value, kind, words in [
        ("h", tensors["h"][1:], ValueError, r"'h' to have shape \[12, 4\]"),
        ("a", tensors["a"].unsqueeze(0), ValueError, r"'a' of shape \[H, C\]"),
        ("W_r", tensors["W_r"].T, ValueError, "'W_r' to have shape"),
        ("W_l", tensors["W_l"].float(), TypeError, "'W_l'"),
        ("h", tensors["h"].bfloat16(), TypeError, "float32 or torch.float64"),
        ("grad_out", grad_out.view(NODES, HEADS, CHANNELS), ValueError, "'grad_out' to have shape"),
        ("graph", graph.edge_index, TypeError, "gattn.Graph"),
        ("graph", Graph.from_edge_index(graph.edge_index, (NODES, NODES + 1)), ValueError, "one set of nodes"),
    ]:
        with pytest.raises(kind, match=words):
            gatv2_gradients(**{**good, name: value})


def test_is_found_in_the_package() -> None:
    assert gattn.analysis.gatv2_gradients is gatv2_gradients
