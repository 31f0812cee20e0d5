"""Gradients of ``ragged_attention`` against finite differences, and the op as torch.library and torch.func see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacrev, jvp, vjp, vmap

from gattn import Decay, Graph, ops

from .ragged_cases import DECAY, Batch, make_batch, make_tensors, noise, run_ragged

Function = Callable[..., Any]
BATCH, PLAIN = make_batch((3, 0, 1, 4)), make_batch((3, 0, 1, 4), decay=False)
DROPOUT = {"dropout_p": 0.3, "seed": 4}


def function(batch: Batch, **options: Any) -> tuple[Function, tuple[Tensor, ...]]:
    """``(function of tensors, tensors)`` for gradcheck."""
    tensors = make_tensors(batch, 2, 3)
    numbers = DECAY if batch.distance is not None else {}

    def apply(*values: Tensor) -> Tensor:
        given = dict(zip(tensors, values, strict=True))
        return ops.ragged_attention(**given, ptr=batch.ptr, distance=batch.distance, **numbers, **options)

    return apply, tuple(tensor.requires_grad_() for tensor in tensors.values())


@pytest.mark.parametrize("batch", [BATCH, PLAIN], ids=["decay", "plain"])
@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["no dropout", "dropout"])
def test_gradients(batch: Batch, options: dict[str, Any]) -> None:
    assert gradcheck(*function(batch, backend="cpu", **options), nondet_tol=0.0)


@pytest.mark.parametrize("batch", [BATCH, PLAIN], ids=["decay", "plain"])
@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["no dropout", "dropout"])
def test_second_gradients(batch: Batch, options: dict[str, Any]) -> None:
    assert gradgradcheck(*function(batch, backend="cpu", **options), nondet_tol=0.0, fast_mode=True)


def test_the_kink_has_the_slope_below_as_its_derivative() -> None:
    """As ``Decay`` has it: where a distance is the hop itself, rho' is the slope."""
    batch = make_batch((4,))
    distance = torch.tensor([0, 1, 2, 3] * 4, dtype=torch.int16)
    tensors = {**make_tensors(batch, 1, 3), "hop": torch.tensor([2.0], dtype=torch.float64)}
    batch = Batch(batch.ptr, distance)
    got, expected = (run_ragged(tensors, batch, backend=name)["grad hop"] for name in ("cpu", "reference"))
    torch.testing.assert_close(got, expected)
    shifted = {**tensors, "hop": tensors["hop"] + 1e-9}
    torch.testing.assert_close(got, run_ragged(shifted, batch, backend="cpu")["grad hop"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["no dropout", "dropout"])
def test_it_is_dot_over_the_complete_graph(options: dict[str, Any]) -> None:
    """Pair ``(i, j)`` is the edge ``j -> i``, and edges in the order of pairs have the same dropout."""
    tensors = make_tensors(BATCH, 5, 3)
    pairs = [(j, i) for begin, end in BATCH.bounds for i in range(begin, end) for j in range(begin, end)]
    graph = Graph.from_edge_index(torch.tensor(pairs).T.contiguous(), len(tensors["q"]))
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    q, k, v, hop = leaves.values()
    assert BATCH.distance is not None
    expected = ops.dot(q, k, v, graph, decay=Decay(BATCH.distance, hop, **DECAY), **options)
    got = ops.ragged_attention(q, k, v, BATCH.ptr, distance=BATCH.distance, hop=hop, **DECAY, **options)
    torch.testing.assert_close(got, expected)
    grads = (torch.autograd.grad(out, list(leaves.values()), noise(out)) for out in (got, expected))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_gradients_nothing_is_recorded() -> None:
    tensors = make_tensors(PLAIN, 2, 3)
    assert ops.ragged_attention(**tensors, ptr=PLAIN.ptr).grad_fn is None
    tensors["q"].requires_grad_()
    with torch.no_grad():
        assert ops.ragged_attention(**tensors, ptr=PLAIN.ptr).grad_fn is None
    with torch.inference_mode():
        assert ops.ragged_attention(**tensors, ptr=PLAIN.ptr.clone()).is_inference()


def test_changes_in_place_are_noticed() -> None:
    tensors = make_tensors(PLAIN, 2, 3)
    out = ops.ragged_attention(**{**tensors, "q": tensors["q"].requires_grad_()}, ptr=PLAIN.ptr)
    tensors["k"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_little_is_kept_for_the_backward() -> None:
    """Inputs and two numbers a query and head: nothing of the size of the pairs times the heads."""
    batch = make_batch((64, 64))
    tensors = {name: x.float().requires_grad_() for name, x in make_tensors(batch, 8, 4).items()}
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        ops.ragged_attention(**tensors, ptr=batch.ptr, distance=batch.distance, **DECAY, **DROPOUT)
    given = {x.data_ptr() for x in (*tensors.values(), batch.ptr, batch.distance) if x is not None}
    more = [x for x in kept if x.data_ptr() not in given]
    assert sum(x.numel() for x in more) <= 128 * 2 * 8 + 1


def arguments(batch: Batch, *, half: bool) -> dict[str, Any]:
    """Of the registered ops."""
    dtype = torch.bfloat16 if half else torch.float32
    tensors = make_tensors(batch, 2, 3, dtype=dtype)
    q, k, v = (tensors[name].requires_grad_() for name in "qkv")
    hop = tensors["hop"].float().requires_grad_() if batch.distance is not None else None
    seed, numbers = torch.tensor(5), (0.5, 0.6, 0.1, 0.4, "cpu")
    forward = (q, k, v, hop, batch.ptr, batch.distance, seed, *numbers)
    with torch.no_grad():
        out, stats = torch.ops.gattn.ragged_attention(*forward)
    grads = (stats, noise(out).requires_grad_())
    needs = [True, True, True, hop is not None]
    backward = (q, k, v, hop, batch.ptr, batch.distance, seed, *grads, *numbers, needs)
    return {"ragged_attention": forward, "ragged_attention_backward": backward}


@pytest.mark.parametrize("name", ["ragged_attention", "ragged_attention_backward"])
@pytest.mark.parametrize(("batch", "half"), [(BATCH, False), (PLAIN, True)])
def test_opcheck(name: str, batch: Batch, half: bool) -> None:
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if name == "ragged_attention" and not half:
        checks.append("test_aot_dispatch_dynamic")  # takes seconds, and for the backward a minute
    torch.library.opcheck(getattr(torch.ops.gattn, name).default, arguments(batch, half=half)[name], test_utils=checks)


def test_eager_and_dispatched_calls_agree() -> None:
    forward = arguments(BATCH, half=False)["ragged_attention"]
    q, k, v, hop, ptr, distance, _, scale, gamma, slope, p, _ = forward
    eager = ops.ragged_attention(
        q, k, v, ptr, distance=distance, hop=hop, gamma=gamma, slope=slope, scale=scale, dropout_p=p, seed=5
    )
    out, _ = torch.ops.gattn.ragged_attention(*forward)
    assert torch.equal(eager, out)
    for a, b in zip(*(torch.autograd.grad(x.sin().sum(), (q, k, v, hop)) for x in (eager, out)), strict=True):
        assert torch.equal(a, b)


def of_x(x: Tensor, **options: Any) -> Tensor:
    """A function of one tensor, for transforms."""
    hop = x[0, :, 0].sigmoid() * 3
    return ops.ragged_attention(x, x.sin(), x.cos(), BATCH.ptr, distance=BATCH.distance, hop=hop, **DECAY, **options)


def total(**options: Any) -> Function:
    return lambda x: of_x(x, **options).sin().sum()


@pytest.fixture
def stack() -> Tensor:
    return torch.randn(3, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_reverse_mode_transforms(stack: Tensor) -> None:
    x, along = stack[0], stack[1]
    torch.testing.assert_close(grad(total())(x), grad(total(backend="reference"))(x))
    jacobian = torch.autograd.functional.jacobian(of_x, x)
    torch.testing.assert_close(jacrev(of_x)(x), jacobian)
    torch.testing.assert_close(vjp(of_x, x)[1](along)[0], torch.tensordot(along, jacobian, 3))

    def twice(**options: Any) -> Tensor:
        return grad(lambda y: grad(total(**options))(y).sin().sum())(x)

    torch.testing.assert_close(twice(), twice(backend="reference"))


def test_vmap(stack: Tensor) -> None:
    torch.testing.assert_close(vmap(of_x)(stack), torch.stack([of_x(x) for x in stack]))
    torch.testing.assert_close(vmap(grad(total()))(stack), torch.stack([grad(total())(x) for x in stack]))


def test_forward_mode(stack: Tensor) -> None:
    advice = "not implemented. Use backend='reference'.*torch.func.jacrev"
    for attempt in (lambda: jvp(of_x, (stack[0],), (stack[0],)), lambda: hessian(total())(stack[0])):
        with pytest.raises(NotImplementedError, match=advice):
            attempt()
    _, tangent = jvp(lambda x: of_x(x, backend="reference"), (stack[0],), (stack[1],))
    jacobian = torch.autograd.functional.jacobian(of_x, stack[0])
    torch.testing.assert_close(tangent, torch.tensordot(jacobian, stack[1], 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    """Projections come in low precision, the hop stays wide; results are those of the low features."""
    batch = make_batch((5, 9))
    maps = [torch.nn.Linear(4, 6) for _ in range(3)]
    hop = torch.nn.Parameter(torch.full((2,), 2.0))
    x = torch.randn(14, 4)
    with torch.autocast("cpu", dtype=dtype):
        q, k, v = (linear(x).view(14, 2, 3) for linear in maps)
        out = ops.ragged_attention(q, k, v, batch.ptr, distance=batch.distance, hop=hop, **DECAY)
        loss = out.float().square().sum()
    assert out.dtype == dtype
    loss.backward()
    assert hop.grad is not None
    assert hop.grad.dtype == torch.float32
    torch.testing.assert_close(
        out, ops.ragged_attention(q, k, v, batch.ptr, distance=batch.distance, hop=hop, **DECAY, backend="reference")
    )
