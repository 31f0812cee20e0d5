"""``ragged_attention(method="sparse")``: near pairs one by one and a uniform tail are the dense result."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gattn import ops

from .conftest import compare, hold_to_twice
from .ragged_cases import Batch, Tensors, make_batch, make_tensors, noise, run_ragged

GAMMA = 0.2


def path_batch(*sizes: int) -> Batch:
    """Paths: the distance of two nodes is that of their numbers."""
    blocks = [(torch.arange(n).unsqueeze(1) - torch.arange(n)).abs().flatten() for n in sizes]
    return Batch(make_batch(sizes).ptr, torch.cat([*blocks, torch.empty(0, dtype=torch.int64)]).short())


PATHS = path_batch(40, 1, 0, 3, 150)


def run(tensors: Tensors, method: str, **options: Any) -> Tensors:
    return run_ragged(tensors, PATHS, gamma=GAMMA, method=method, **options)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_it_is_the_dense_result(slope: float, backend: str) -> None:
    tensors = make_tensors(PATHS, 3, 5)
    dense, sparse = (run(tensors, method, slope=slope, backend=backend) for method in ("dense", "sparse"))
    for name, value in sparse.items():
        torch.testing.assert_close(value, dense[name], rtol=1e-10, atol=1e-12, msg=name)
    near = ops.near_pairs(PATHS.distance, PATHS.ptr, ops.near_cutoff(tensors["hop"], GAMMA))
    assert near.graph.num_edges < len(PATHS.distance) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype(dtype: torch.dtype) -> None:
    def errors(tensors: Tensors) -> Any:
        got, expected = run(tensors, "sparse"), run(tensors, "dense", backend="reference")
        doubles = {name: tensor.double() for name, tensor in tensors.items()}
        grad = noise(got["out"]).double()
        return compare(got, expected, run(doubles, "dense", backend="reference", grad=grad))

    hold_to_twice(errors, make_tensors(PATHS, 3, 8, dtype=dtype))


@pytest.mark.parametrize("cutoff", [-1, 0, 2, 10, 1000])
def test_near_pairs(cutoff: int) -> None:
    """In the order of the packed distances, an edge from the key to the query; larger cutoffs only add pairs."""
    near = ops.near_pairs(PATHS.distance, PATHS.ptr, cutoff)
    expected = [
        (j, i, abs(i - j))
        for begin, end in PATHS.bounds
        for i in range(begin, end)
        for j in range(begin, end)
        if abs(i - j) <= cutoff
    ]
    source, target = near.graph.edge_index.tolist()
    assert list(zip(source, target, near.distance.tolist(), strict=True)) == expected
    assert near.cutoff == cutoff
    assert near.graph.num_dst == near.graph.num_src == int(PATHS.ptr[-1])


def test_all_pairs_far_or_near() -> None:
    tensors = make_tensors(PATHS, 2, 3)
    for hop in (-1000.0, 1000.0):
        tensors["hop"] = torch.full((2,), hop, dtype=torch.float64)
        dense, sparse = (run(tensors, method, slope=0.0) for method in ("dense", "sparse"))
        for name, value in sparse.items():
            torch.testing.assert_close(value, dense[name], msg=name)


def test_a_tolerance_bounds_what_is_left_out() -> None:
    tensors = make_tensors(PATHS, 2, 3)
    exact = run(tensors, "dense")["out"]
    errors = [float((run(tensors, "sparse", tolerance=t)["out"] - exact).abs().max()) for t in (0.3, 1e-3, 1e-6)]
    assert errors[0] > 1e-3 > errors[1] > 1e-6 > errors[2] > 0


def test_pairs_found_before_are_used() -> None:
    tensors = make_tensors(PATHS, 2, 3)
    near = ops.near_pairs(PATHS.distance, PATHS.ptr, 60)
    got, expected = run(tensors, "sparse", near=near), run(tensors, "sparse")
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_gradients() -> None:
    batch = path_batch(4, 2)
    tensors = make_tensors(batch, 2, 2)
    tensors["hop"] = torch.tensor([0.5, 1.5], dtype=torch.float64)

    def apply(*values: Tensor) -> Tensor:
        given = dict(zip(tensors, values, strict=True))
        return ops.ragged_attention(
            **given, ptr=batch.ptr, distance=batch.distance, gamma=1e-9, method="sparse", tolerance=1e-6
        )

    leaves = tuple(tensor.requires_grad_() for tensor in tensors.values())
    assert gradcheck(apply, leaves)
    assert gradgradcheck(apply, leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32], ids=str)
def test_cutoffs_beyond_the_distances_dtype(dtype: torch.dtype) -> None:
    batch = Batch(PATHS.ptr[:2], PATHS.distance[:1600].to(dtype))
    assert ops.near_pairs(batch.distance, batch.ptr, 2**40).graph.num_edges == 1600


FAR = ops.near_pairs(PATHS.distance, PATHS.ptr, 3)
OTHER = ops.near_pairs(PATHS.distance[:1600], PATHS.ptr[:2], 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "banded"}, "'method' to be 'dense' or 'sparse' (got 'banded')"),
        ({"dropout_p": 0.5}, "no dropout with method 'sparse' (got 0.5)"),
        ({"gamma": 1.0}, "'gamma' below 1 with method 'sparse' (got 1.0)"),
        ({"distance": None, "hop": None}, "'distance' with method 'sparse' (got None)"),
        ({"tolerance": 0.0}, "'tolerance' in (0, 1) (got 0.0)"),
        ({"tolerance": 2.0}, "'tolerance' in (0, 1) (got 2.0)"),
        ({"hop": torch.full((2,), float("inf"), dtype=torch.float64)}, "'hop' to be finite"),
        ({"method": "dense", "tolerance": 1e-3}, "'tolerance' with method 'sparse' alone"),
        ({"method": "dense", "near": FAR}, "'near' with method 'sparse' alone"),
        ({"near": FAR}, "(got pairs up to 3)"),
        ({"near": OTHER}, "Expected near pairs of 194 nodes (got 40 nodes)"),
    ],
)
def test_errors(options: dict[str, Any], words: str) -> None:
    tensors = make_tensors(PATHS, 2, 3)
    given = {**tensors, "ptr": PATHS.ptr, "distance": PATHS.distance, "gamma": GAMMA, "method": "sparse", **options}
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its words are looked at below
        ops.ragged_attention(**given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("distance", "ptr", "error", "words"),
    [
        (PATHS.distance[1:], PATHS.ptr, ValueError, "'distance' to have shape [24110]"),
        (PATHS.distance.float(), PATHS.ptr, TypeError, "'distance' to be of dtype torch.int8"),
        (PATHS.distance, PATHS.ptr.float(), TypeError, "'ptr' to be of dtype torch.int32"),
        (PATHS.distance, PATHS.ptr.flip(0), ValueError, "'ptr' to begin with 0"),
        (PATHS.distance, PATHS.ptr[:0], ValueError, "'ptr' to have shape [graphs + 1]"),
        (PATHS.distance.to("meta"), PATHS.ptr, ValueError, "'distance' on the device of 'ptr'"),
    ],
)
def test_errors_of_near_pairs(distance: torch.Tensor, ptr: torch.Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        ops.near_pairs(distance, ptr, 3)
    assert words in str(caught.value)
