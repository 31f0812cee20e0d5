"""torch.func over the ops: reverse mode and vmap give what loops give, forward mode says what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

from gattn import Graph, Lipschitz, ops
from gattn.nn import FusedGATConv

Function = Callable[..., Any]


class Case:
    def __init__(self) -> None:
        self.edge_index = torch.tensor([[0, 0, 1, 2, 2, 0, 1], [1, 1, 1, 0, 2, 0, 0]])
        self.graph = Graph.from_edge_index(self.edge_index, 4)
        self.stack = torch.randn(3, 4, 2, 3, dtype=torch.float64)
        self.x = self.stack[0]
        self.norms, self.weight = torch.rand(2, 4, 2, dtype=torch.float64), torch.rand(2, dtype=torch.float64)

    def gat(self, x: Tensor, **options: Any) -> Tensor:
        out: Tensor = ops.gat(x, x.sum(-1), x.mean(-1), self.graph, **options)
        return out

    def dot(self, x: Tensor, **options: Any) -> Tensor:
        norm = Lipschitz.dot(self.weight, x.norm(dim=-1), self.norms[1])
        out: Tensor = ops.dot(x, x.sin(), x.cos(), self.graph, lipschitz=norm, **options)
        return out


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture(params=["gat", "dot"])
def op(request: pytest.FixtureRequest, case: Case) -> Function:
    function: Function = getattr(case, request.param)
    return function


def total(op: Function, **options: Any) -> Function:
    return lambda x: op(x, **options).sin().sum()


def test_grad(op: Function, case: Case) -> None:
    torch.testing.assert_close(grad(total(op))(case.x), grad(total(op, backend="reference"))(case.x))


def test_grad_of_grad(op: Function, case: Case) -> None:
    def twice(**options: Any) -> Tensor:
        result: Tensor = grad(lambda x: grad(total(op, **options))(x).sin().sum())(case.x)
        return result

    torch.testing.assert_close(twice(), twice(backend="reference"))


def test_vjp_and_jacrev(op: Function, case: Case) -> None:
    jacobian = torch.autograd.functional.jacobian(op, case.x)
    torch.testing.assert_close(jacrev(op)(case.x), jacobian)
    _, pull = vjp(op, case.x)
    along = case.stack[1]
    torch.testing.assert_close(pull(along)[0], torch.tensordot(along, jacobian, 3))


@pytest.mark.parametrize("dim", [0, 1])
def test_vmap_over_features(op: Function, case: Case, dim: int) -> None:
    expected = torch.stack([op(x) for x in case.stack])
    torch.testing.assert_close(vmap(op, in_dims=dim)(case.stack.movedim(0, dim)), expected)


def test_vmap_with_attention(case: Case) -> None:
    got = vmap(lambda x: case.gat(x, return_attention=True))(case.stack)
    expected = [
        torch.stack(found) for found in zip(*[case.gat(x, return_attention=True) for x in case.stack], strict=True)
    ]
    torch.testing.assert_close(list(got), expected)


def test_vmap_and_gradients(op: Function, case: Case) -> None:
    expected = torch.stack([grad(total(op))(x) for x in case.stack])
    torch.testing.assert_close(vmap(grad(total(op)))(case.stack), expected)
    torch.testing.assert_close(grad(lambda stack: vmap(total(op))(stack).sum())(case.stack), expected)
    leaf = case.stack.clone().requires_grad_()
    vmap(total(op))(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, expected)


def test_vmap_and_dropout(case: Case) -> None:
    same, different = (
        vmap(lambda x: case.gat(x, dropout_p=0.5), randomness=how)(case.x.expand(3, -1, -1, -1))
        for how in ("same", "different")
    )
    assert torch.equal(same[0], same[1])
    assert not all(torch.equal(different[0], other) for other in different[1:])


def test_vmap_over_nothing(case: Case) -> None:
    with pytest.raises(ValueError, match="at least one slice"):
        vmap(case.gat)(case.stack[:0])


def test_forward_mode_says_what_to_do(op: Function, case: Case) -> None:
    advice = "not implemented. Use backend='reference'.*torch.func.jacrev"
    for attempt in (lambda: jvp(op, (case.x,), (case.x,)), lambda: hessian(total(op))(case.x)):
        with pytest.raises(NotImplementedError, match=advice):
            attempt()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(case.x, case.x)
        with pytest.raises(NotImplementedError, match=advice):
            op(dual)
        with torch.no_grad(), pytest.raises(NotImplementedError, match=advice):
            op(dual)
        assert op(case.x).shape == case.x.shape  # nothing to differentiate


def test_forward_mode_of_the_reference(op: Function, case: Case) -> None:
    along = case.stack[1]
    _, tangent = jvp(lambda x: op(x, backend="reference"), (case.x,), (along,))
    jacobian = torch.autograd.functional.jacobian(op, case.x)
    torch.testing.assert_close(tangent, torch.tensordot(jacobian, along, 3))


def test_a_layer_through_functional_call() -> None:
    """The graph, and what it keeps, is made inside the transform and used after it."""
    layer, x = FusedGATConv(5, 4, 2, edge_dim=3), torch.randn(4, 5)
    edge_index, edge_attr = Case().edge_index, torch.randn(7, 3)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(layer, parameters, (x, edge_index, edge_attr)).sin().sum()  # type: ignore[no-any-return]

    got = grad(loss)({name: parameter.detach() for name, parameter in layer.named_parameters()})
    layer(x, edge_index, edge_attr).sin().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad)


def test_a_mapped_edge_index_is_refused(case: Case) -> None:
    with pytest.raises(NotImplementedError, match="Build one graph outside"):
        vmap(lambda edges: case.x.sum() + Graph.from_edge_index(edges, 4).num_edges)(case.edge_index.expand(2, -1, -1))


@pytest.mark.parametrize("transform", [grad, vmap, lambda f: vmap(grad(f))])
def test_compiled(transform: Function, case: Case) -> None:
    function = transform(total(case.gat))
    x = case.x if transform is grad else case.stack
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))
