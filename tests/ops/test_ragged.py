"""``ragged_attention``: the reference against the formula, the compiled kernels against the reference.

This file is also what every instruction set is tested with (``test_instruction_sets.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gattn import ops

from .conftest import compare, hold_to_twice
from .ragged_cases import SIZES, Batch, Tensors, errors_of, formula, make_batch, make_tensors, noise, run_ragged

Function = Callable[..., Any]
F32, F64, HALVES = torch.float32, torch.float64, (torch.bfloat16, torch.float16)
WIDTHS = [(1, 1), (3, 5), (8, 16), (1, 33), (2, 64), (4, 8), (5, 17), (2, 257)]
DROPOUT = {"dropout_p": 0.3, "seed": 2**62 + 1}


def check(tensors: Tensors, batch: Batch, **options: Any) -> None:
    hold_to_twice(errors_of(compare, batch, "cpu", **options), tensors)


@pytest.mark.parametrize(("decay", "slope"), [(True, 0.0), (True, 0.1), (False, 0.0)])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_reference_is_the_formula(decay: bool, slope: float, p: float) -> None:
    batch = make_batch((3, 0, 1, 9), decay=decay)
    tensors = make_tensors(batch, 3, 4)
    expected = formula(tensors, batch, gamma=0.7, slope=slope, p=p, seed=11)
    numbers = {"gamma": 0.7, "slope": slope, "dropout_p": p, "seed": 11}
    for backend in ("reference", "cpu"):
        out = ops.ragged_attention(**tensors, ptr=batch.ptr, distance=batch.distance, backend=backend, **numbers)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(("heads", "channels"), WIDTHS)
@pytest.mark.parametrize(("decay", "options"), [(True, DROPOUT), (False, {})], ids=["everything", "plain"])
def test_every_width(decay: bool, options: dict[str, Any], heads: int, channels: int, dtype: torch.dtype) -> None:
    batch = make_batch(SIZES if channels < 257 else SIZES[:-4], decay=decay)
    check(make_tensors(batch, heads, channels, dtype=dtype), batch, **options)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("heads", "channels"), [(3, 5), (4, 16), (1, 33)])
@pytest.mark.parametrize(("decay", "options"), [(True, DROPOUT), (True, {}), (False, DROPOUT)])
def test_half_precision(decay: bool, options: dict[str, Any], heads: int, channels: int, dtype: torch.dtype) -> None:
    batch = make_batch(decay=decay)
    check(make_tensors(batch, heads, channels, dtype=dtype), batch, **options)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(("decay", "options"), [(True, DROPOUT), (True, {}), (False, DROPOUT)])
def test_graphs_that_are_taken_apart(decay: bool, options: dict[str, Any], dtype: torch.dtype) -> None:
    """On both sides of the size from which a graph's queries are shared out, small ones in between."""
    batch = make_batch((256, 3, 257, 5, 0, 600), decay=decay)
    check(make_tensors(batch, 5, 3, dtype=dtype), batch, **options)


@pytest.mark.parametrize("dtype", [F32, torch.bfloat16], ids=str)
def test_wider_hop_than_features(dtype: torch.dtype) -> None:
    """In half precision the hop may stay in float32, as autocast leaves parameters."""
    batch = make_batch((4, 9))
    tensors = make_tensors(batch, 2, 3, dtype=dtype)
    tensors["hop"] = tensors["hop"].float() + 0.001
    assert run_ragged(tensors, batch, backend="cpu")["grad hop"].dtype == F32
    check(tensors, batch)


@pytest.mark.parametrize("ptr_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("distance_dtype", [torch.int8, torch.int16, torch.int32], ids=str)
def test_integer_dtypes(distance_dtype: torch.dtype, ptr_dtype: torch.dtype) -> None:
    batch = make_batch(distance_dtype=distance_dtype, ptr_dtype=ptr_dtype)
    tensors = make_tensors(batch, 3, 5, dtype=F32)
    check(tensors, batch)
    assert batch.distance is not None
    same = Batch(batch.ptr.long(), batch.distance.int())
    got, expected = run_ragged(tensors, batch, backend="cpu"), run_ragged(tensors, same, backend="cpu")
    assert all(torch.equal(value, expected[name]) for name, value in got.items())


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("gamma", [1e-3, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("hop", [-1.0, 0.0, 3.0, 30.0])
def test_distances_of_any_size(gamma: float, hop: float, dtype: torch.dtype) -> None:
    """In and beyond the tables of powers, and where their ends are not 0. A hop among the distances meets the kink."""
    sizes = (5, 40)
    pairs = sum(n * n for n in sizes)
    some = torch.tensor([0, 1, 2, 3, 4, 31, 32, 300, 510, 511, 512, 5000, 70_000, 2**31 - 1])
    distance = some[torch.randint(len(some), (pairs,), generator=torch.Generator().manual_seed(1))].int()
    batch = Batch(make_batch(sizes).ptr, distance)
    tensors = make_tensors(batch, 2, 16, dtype=dtype)
    tensors["hop"] = torch.tensor([hop, hop + 0.5], dtype=dtype)
    check(tensors, batch, gamma=gamma, slope=0.01)


@pytest.mark.parametrize("scale", [-0.7, 0.0, 3.0])
def test_scale(scale: float) -> None:
    batch = make_batch((6, 20))
    check(make_tensors(batch, 2, 5, dtype=F32), batch, scale=scale)


def test_memory_layouts() -> None:
    batch = make_batch((6, 20))
    tensors = make_tensors(batch, 2, 16, dtype=F32)
    expected = run_ragged(tensors, batch, backend="cpu")
    odd = {name: x.transpose(0, -1).contiguous().transpose(0, -1) for name, x in tensors.items()}
    assert batch.distance is not None
    spread = Batch(batch.ptr.repeat_interleave(2)[::2], batch.distance.repeat_interleave(2)[::2])
    got = run_ragged(
        odd, spread, backend="cpu", grad=noise(odd["q"].contiguous()).transpose(0, 1).contiguous().transpose(0, 1)
    )
    for name, value in got.items():
        assert torch.equal(value, expected[name]), name
    # Rows that start in the middle of what vectors are aligned to.
    joined = torch.cat([torch.zeros(1), tensors["q"].flatten()])[1:].view_as(tensors["q"])
    assert torch.equal(run_ragged({**tensors, "q": joined}, batch, backend="cpu")["out"], expected["out"])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("sizes", [(), (0,), (0, 0, 0)])
def test_no_nodes(sizes: tuple[int, ...], backend: str) -> None:
    batch = make_batch(sizes)
    got = run_ragged(make_tensors(batch, 2, 3), batch, backend=backend, **DROPOUT)
    assert [tuple(value.shape) for value in got.values()] == [*4 * [(0, 2, 3)], (2,)]
    assert not got["grad hop"].any()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_far_pairs_keep_the_weight_of_a_score_of_zero(backend: str) -> None:
    """The decay takes a score to 0 and removes no pair: all that is far shares weight evenly."""
    n, near = 50, 3
    ptr, far = torch.tensor([0, n]), torch.full((n, n), 510, dtype=torch.int16)
    far[:, :near] = 0
    batch = Batch(ptr, far.flatten())
    tensors = make_tensors(batch, 2, 4)
    tensors["hop"] = torch.full((2,), 5.0, dtype=F64)
    got = run_ragged(tensors, batch, backend=backend, slope=0.0)
    q, k, v = (tensors[name].transpose(0, 1) for name in "qkv")
    grown = (q @ k[:, :near].mT / 2.0).exp()
    expected = (grown @ v[:, :near] + v[:, near:].sum(1, keepdim=True)) / (grown.sum(-1, keepdim=True) + n - near)
    torch.testing.assert_close(got["out"].transpose(0, 1), expected)
    assert got["grad k"][:near].any()
    assert got["grad k"][near:].abs().max() < 1e-100
    assert got["grad hop"].abs().max() < 1e-100


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_numbers_stay_in_their_graph_and_head(value: float) -> None:
    batch = make_batch((20, 17, 3))
    tensors = make_tensors(batch, 3, 5, dtype=F32)
    expected = run_ragged(tensors, batch, backend="cpu")["out"]
    tensors["k"][22, 1, 2] = value
    got, own = (run_ragged(tensors, batch, backend=name)["out"] for name in ("cpu", "reference"))
    torch.testing.assert_close(got, own, equal_nan=True)
    assert got[20:37, 1].isnan().any()
    got[20:37, 1] = expected[20:37, 1]
    assert torch.equal(got, expected)


def test_other_graphs_and_heads_change_nothing() -> None:
    """A graph's result does not depend on what lies beside it: not one bit of it."""
    batch = make_batch((33, 300, 12))
    tensors = make_tensors(batch, 5, 16, dtype=F32)
    whole = run_ragged(tensors, batch, backend="cpu")
    assert batch.distance is not None
    pair = 0
    for begin, end in batch.bounds:
        n = end - begin
        alone = Batch(torch.tensor([0, n]), batch.distance[pair : pair + n * n])
        pair += n * n
        one = {name: x[3:] if name == "hop" else x[begin:end, 3:] for name, x in tensors.items()}
        grad = noise(whole["out"])[begin:end, 3:].contiguous()
        got = run_ragged(one, alone, backend="cpu", grad=grad)
        for name in ("out", "grad q", "grad k", "grad v"):
            assert torch.equal(got[name], whole[name][begin:end, 3:]), name
