"""``ragged_attention``: the same bits for any threads, memory that is written, one large graph among small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import ops, reference

from .ragged_cases import DECAY, Batch, make_batch, make_tensors, noise, run_ragged

Function = Callable[..., Any]
#: Graphs that are taken apart, some with rows for a second chunk, and enough others for several tasks.
MIXED = (5, 300, 0, 40, 40, 33, 17, 1, 520, 2, 90, 64)


@pytest.fixture
def _poisoned() -> Iterator[None]:
    """Fresh memory is full of NaN, so that what no kernel writes is seen."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_poisoned")
@pytest.mark.parametrize("dropout", [{}, {"dropout_p": 0.3, "seed": 9}], ids=["plain", "dropout"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("decay", [True, False])
def test_bits_do_not_depend_on_run_or_threads(decay: bool, dtype: torch.dtype, dropout: dict[str, Any]) -> None:
    batch = make_batch(MIXED, decay=decay)
    tensors = make_tensors(batch, 5, 17, dtype=dtype)
    expected = None
    for repeat in range(6):
        torch.set_num_threads(repeat % 3 + 1)
        got = run_ragged(tensors, batch, backend="cpu", **dropout)
        expected = expected or got
        for name, value in got.items():
            assert value.isfinite().all(), name
            assert torch.equal(value, expected[name]), f"{name}, run {repeat}"


@pytest.mark.usefixtures("_poisoned")
def test_gradients_are_written_whether_others_are_asked_for_or_not() -> None:
    batch = make_batch((300, 7, 20))
    tensors = make_tensors(batch, 2, 5, dtype=torch.float32)
    expected = run_ragged(tensors, batch, backend="cpu", **DECAY)
    for name, tensor in tensors.items():
        leaf = tensor.clone().requires_grad_()
        out = ops.ragged_attention(**{**tensors, name: leaf}, ptr=batch.ptr, distance=batch.distance, **DECAY)
        assert torch.equal(torch.autograd.grad(out, leaf, noise(out))[0], expected[f"grad {name}"]), name


def rows_of(tensors: dict[str, Tensor], batch: Batch, graph: int, rows: Tensor) -> Callable[..., Tensor]:
    """The formula for some queries of one graph, as a function of the graph's ``q`` rows, ``k``, ``v`` and ``hop``."""
    assert batch.distance is not None
    begin, end = batch.bounds[graph]
    first = sum((b - a) ** 2 for a, b in batch.bounds[:graph])
    n = end - begin
    far = batch.distance[first : first + n * n].view(n, n)[rows].double()

    def attend(q: Tensor, k: Tensor, v: Tensor, hop: Tensor) -> Tensor:
        excess = far.unsqueeze(-1) - hop
        decay = DECAY["gamma"] ** torch.where(excess > 0, excess, DECAY["slope"] * excess)
        score = torch.einsum("ihc,jhc->ijh", q, k) * k.size(-1) ** -0.5 * decay
        return torch.einsum("ijh,jhc->ihc", score.softmax(1), v)

    return attend


def test_one_graph_of_5000_nodes_among_small_ones() -> None:
    """Against the formula for some of its queries, the only ones with a gradient; the others against the reference."""
    sizes, large = (3, 30, 0, 5000, 17, 1, 40), 3
    batch = make_batch(sizes)
    tensors = make_tensors(batch, 2, 4, dtype=torch.float32)
    torch.set_num_threads(2)
    begin, end = batch.bounds[large]
    rows = torch.tensor([0, 1, 312, 313, 2500, 4999])
    grad = torch.zeros_like(tensors["q"])
    grad[begin + rows] = torch.randn(len(rows), 2, 4)
    got = run_ragged(tensors, batch, grad=grad, backend="cpu")

    doubles = {name: x.double() if name == "hop" else x[begin:end].double() for name, x in tensors.items()}
    leaves = [doubles["q"][rows], doubles["k"], doubles["v"], doubles["hop"]]
    for leaf in leaves:
        leaf.requires_grad_()
    out = rows_of(tensors, batch, large, rows)(*leaves)
    grads = torch.autograd.grad(out, leaves, grad[begin + rows].double())
    near = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(got["out"][begin + rows].double(), out, **near)
    torch.testing.assert_close(got["grad q"][begin + rows].double(), grads[0], **near)
    torch.testing.assert_close(got["grad k"][begin:end].double(), grads[1], **near)
    torch.testing.assert_close(got["grad v"][begin:end].double(), grads[2], **near)
    torch.testing.assert_close(got["grad hop"].double(), grads[3], **near)

    small = torch.cat([torch.arange(begin), torch.arange(end, len(tensors["q"]))])
    assert batch.distance is not None
    pairs = sum(n * n for n in sizes[:large])
    distance = torch.cat([batch.distance[:pairs], batch.distance[pairs + 5000**2 :]])
    others = {name: x if name == "hop" else x[small] for name, x in tensors.items()}
    ptr = make_batch([*sizes[:large], *sizes[large + 1 :]]).ptr
    expected = reference.ragged_attention(**others, ptr=ptr, distance=distance, **DECAY)
    torch.testing.assert_close(got["out"][small], expected)
    for name in ("grad q", "grad k", "grad v"):
        assert not got[name][small].any(), name
