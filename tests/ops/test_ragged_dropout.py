"""Dropout of ``ragged_attention``: a function of the seed, the pair's place and the head, the same on every backend."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from gattn import ops
from gattn.reference.dropout import keep_mask

from .ragged_cases import Batch, make_batch, make_tensors, run_ragged


def weights(sizes: tuple[int, ...], heads: int, backend: str, p: float, seed: int) -> Tensor:
    """``[pairs, heads]``: what is left of uniform weights, times the graph's size."""
    widest = max(sizes)
    value = torch.cat([torch.eye(n, widest, dtype=torch.float64) * n for n in sizes])
    ptr, zeros = torch.tensor([0, *accumulate(sizes)]), torch.zeros(sum(sizes), heads, widest, dtype=torch.float64)
    v = value.unsqueeze(1).expand(-1, heads, -1)
    out = ops.ragged_attention(zeros, zeros, v, ptr, dropout_p=p, seed=seed, backend=backend)
    blocks = out.split(sizes)
    return torch.cat([x[..., :n].transpose(1, 2).reshape(n * n, heads) for x, n in zip(blocks, sizes, strict=True)])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("heads", [1, 3, 4, 9])
@pytest.mark.parametrize("seed", [0, -3, 2**62 + 1])
def test_the_mask(seed: int, heads: int, backend: str) -> None:
    """Also where a graph's queries are shared out (257) and where its rows are no multiple of vectors."""
    sizes = (3, 17, 1, 257, 33)
    kept = keep_mask(torch.arange(sum(n * n for n in sizes)), heads, 0.3, seed)
    torch.testing.assert_close(weights(sizes, heads, backend, 0.3, seed), kept.double() / 0.7, rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_rate_and_the_expectation(backend: str) -> None:
    found = weights((150, 40), 4, backend, 0.25, 1)
    kept = (found != 0).double()
    deviation = (0.25 * 0.75 / len(found)) ** 0.5
    assert ((kept.mean(0) - 0.75).abs() < 5 * deviation).all()
    assert ((found.mean(0) - 1).abs() < 5 * deviation / 0.75).all()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_all_is_dropped_at_one(backend: str) -> None:
    batch = make_batch((3, 20))
    got = run_ragged(make_tensors(batch, 2, 3), batch, dropout_p=1.0, seed=1, backend=backend)
    assert not any(value.any() for value in got.values())


def test_manual_seed_reproduces_it() -> None:
    batch = make_batch((3, 20))
    tensors = make_tensors(batch, 2, 3)

    def draw(seed: int, backend: str) -> Tensor:
        torch.manual_seed(seed)
        return run_ragged(tensors, batch, dropout_p=0.5, backend=backend)["out"]

    assert torch.equal(draw(1, "cpu"), draw(1, "cpu"))
    assert not torch.equal(draw(1, "cpu"), draw(2, "cpu"))
    torch.testing.assert_close(draw(1, "cpu"), draw(1, "reference"))


def test_more_heads_and_later_graphs_leave_a_mask_as_it_is() -> None:
    few, many = weights((20, 5), 2, "cpu", 0.5, 3), weights((20, 5, 8), 7, "cpu", 0.5, 3)
    assert torch.equal(few, many[: len(few), :2])


def test_gradients_use_the_forwards_mask() -> None:
    """A value that no query has kept gets no gradient, one that is kept gets one."""
    n, seed = 24, 8
    batch = Batch(torch.tensor([0, n]), None)
    kept = keep_mask(torch.arange(n * n), 1, 0.97, seed).view(n, n)
    got = run_ragged(make_tensors(batch, 1, 3), batch, dropout_p=0.97, seed=seed, backend="cpu")
    assert torch.equal(got["grad v"].flatten(1).any(1), kept.any(0))
    assert not kept.any(0).all()
    assert kept.any()
