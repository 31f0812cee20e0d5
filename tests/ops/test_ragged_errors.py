"""Wrong arguments of ``ragged_attention`` are refused, before anything is written, with what was got and expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gattn
from gattn import ops

N, H, C = 5, 2, 3
PTR = torch.tensor([0, 2, 2, 5])
PAIRS = 4 + 9
X, HOP = torch.randn(N, H, C), torch.randn(H)
FAR = torch.arange(PAIRS, dtype=torch.int16)
I64 = torch.int64


def arguments(**changed: Any) -> dict[str, Any]:
    """Good ones but for what is changed."""
    return {"q": X, "k": X, "v": X, "ptr": PTR, "distance": FAR, "hop": HOP, "gamma": 0.5, **changed}


WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("q", torch.randn(N, C), ValueError, f"[nodes, heads, channels] (got [{N}, {C}])"),
    ("q", torch.randn(N, 0, C), ValueError, f"got [{N}, 0, {C}]"),
    ("q", torch.randn(N, H, 0), ValueError, f"got [{N}, {H}, 0]"),
    ("q", torch.ones(N, H, C, dtype=I64), TypeError, "'q' to be of dtype torch.float32 or torch.float64"),
    ("q", X.double(), TypeError, "'k' to be of dtype torch.float64 (got torch.float32)"),
    ("q", X[1:], ValueError, f"'k' to have shape [{N - 1}, {H}, {C}], as 'q' has (got [{N}, {H}, {C}])"),
    ("k", torch.randn(N, H, C + 1), ValueError, f"'k' to have shape [{N}, {H}, {C}]"),
    ("k", X.half(), TypeError, "'k' to be of dtype torch.float32 (got torch.float16)"),
    ("v", torch.randn(N, H + 1, C), ValueError, f"'v' to have shape [{N}, {H}, {C}]"),
    ("v", X.to("meta"), ValueError, "'v' on the device of 'q', 'cpu' (got 'meta')"),
    ("ptr", PTR.float(), TypeError, "'ptr' to be of dtype torch.int32 or torch.int64 (got torch.float32)"),
    ("ptr", PTR.short(), TypeError, "got torch.int16"),
    ("ptr", PTR.unsqueeze(0), ValueError, "'ptr' to have shape [graphs + 1] (got [1, 4])"),
    ("ptr", PTR[:0], ValueError, "'ptr' to have shape [graphs + 1] (got [0])"),
    ("ptr", torch.tensor([1, 2, 5]), ValueError, "'ptr' to begin with 0 (got 1)"),
    ("ptr", torch.tensor([0, 3, 2, 5]), ValueError, "not to go down (got 3 and then 2 at 2). Sort the nodes"),
    ("ptr", torch.tensor([0, 2, 4]), ValueError, f"'ptr' to end with the number of nodes, {N} (got 4)"),
    ("ptr", torch.tensor([0, 2, 9, 5]), ValueError, "got 9 and then 5"),
    ("ptr", torch.tensor([0, 5]), ValueError, "'distance' to have shape [25], n * n numbers"),
    ("ptr", torch.tensor([0, 1, 5]), ValueError, "'distance' to have shape [17], n * n numbers"),
    ("ptr", PTR.to("meta"), ValueError, "'ptr' on the device of 'q'"),
    ("distance", FAR[1:], ValueError, f"'distance' to have shape [{PAIRS}]"),
    ("distance", FAR.unsqueeze(1), ValueError, "'distance' to be one-dimensional"),
    ("distance", FAR.long(), TypeError, "'distance' to be of dtype torch.int8 or torch.int16 or torch.int32"),
    ("distance", FAR.float(), TypeError, "got torch.float32"),
    ("distance", FAR - 3, ValueError, "'distance' >= 0 (got -3). Give unreachable pairs a large one"),
    ("distance", FAR.to("meta"), ValueError, "'distance' on the device of 'q'"),
    ("distance", None, ValueError, "'distance' and 'hop' together (got 'hop' without 'distance')"),
    ("hop", None, ValueError, "'distance' and 'hop' together (got 'distance' without 'hop')"),
    ("hop", torch.randn(H + 1), ValueError, f"'hop' to have shape [{H}], a number a head (got [{H + 1}])"),
    ("hop", torch.randn(()), ValueError, f"'hop' to have shape [{H}]"),
    ("hop", HOP.double(), TypeError, "'hop' to be of dtype torch.float32 (got torch.float64)"),
    ("hop", HOP.to("meta"), ValueError, "'hop' on the device of 'q'"),
    ("gamma", 0.0, ValueError, "'gamma' in (0, 1] (got 0.0)"),
    ("gamma", 1.5, ValueError, "'gamma' in (0, 1] (got 1.5)"),
    ("gamma", float("nan"), ValueError, "got nan"),
    ("slope", -0.1, ValueError, "'slope' to be finite and not negative (got -0.1)"),
    ("slope", float("inf"), ValueError, "got inf"),
    ("scale", float("nan"), ValueError, "'scale' to be finite (got nan)"),
    ("dropout_p", 1.5, ValueError, "'dropout_p' to be a probability in [0, 1] (got 1.5)"),
    ("backend", "tpu", ValueError, "got 'tpu'"),
    ("backend", "cuda", ValueError, "the backends that compute this op"),
]


@pytest.mark.parametrize("backend", ["reference", "cpu", None])
@pytest.mark.parametrize(("name", "value", "kind", "words"), WRONG, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)])
def test_wrong_argument(name: str, value: Any, kind: type[Exception], words: str, backend: str | None) -> None:
    given = {"backend": backend, **arguments(**{name: value})}
    with pytest.raises(kind, match=re.escape(words)):
        ops.ragged_attention(**given)


def test_good_arguments_are_good() -> None:
    assert ops.ragged_attention(**arguments()).shape == (N, H, C)


def test_backend_chosen_for_a_block_is_held_to_the_same() -> None:
    with gattn.use_backend("reference"):
        assert ops.ragged_attention(**arguments(q=X.clone().requires_grad_())).grad_fn is not None
    with gattn.use_backend("cuda"), pytest.raises(ValueError, match="the backends that compute this op"):
        ops.ragged_attention(**arguments())


@pytest.mark.parametrize("name", ["ptr", "distance"])
def test_a_change_in_place_is_looked_at_again(name: str) -> None:
    """What has been checked is remembered, by the tensor and its version."""
    given = arguments(ptr=PTR.clone(), distance=FAR.clone())
    ops.ragged_attention(**given)
    ops.ragged_attention(**given)
    given[name][1] = -4
    with pytest.raises(ValueError, match=r"got -4|and then -4"):
        ops.ragged_attention(**given)


def test_the_same_ptr_for_another_number_of_nodes() -> None:
    ptr = PTR.clone()
    ops.ragged_attention(**arguments(ptr=ptr))
    with pytest.raises(ValueError, match="to end with the number of nodes, 4"):
        ops.ragged_attention(X[1:], X[1:], X[1:], ptr)


NUMBERS = (1.0, 0.5, 0.0, 0.0, "cpu")
STRIDED = X.mT.contiguous().mT
#: Arguments of the registered op, which callers may use without the checks of ``ops``, by place.
FOR_THE_CORE: list[tuple[int, Any, type[Exception], str]] = [
    (0, X.mT.contiguous().mT, ValueError, "'q' to be contiguous"),
    (0, X[..., 0].contiguous(), ValueError, "'q'"),
    (1, X[1:], ValueError, "'k' to have shape"),
    (2, X.double(), TypeError, "'v' to be of dtype float32"),
    (3, None, ValueError, "'distance' and 'hop' together"),
    (3, HOP[:1], ValueError, "'hop' to have shape"),
    (3, HOP.double(), TypeError, "'hop' to be of dtype float32"),
    (3, HOP[0], ValueError, "'hop' to have"),
    (4, PTR.short(), TypeError, "'ptr' to be of dtype int32 or int64 (got int16)"),
    (4, PTR[:0], ValueError, "'ptr'"),
    (4, torch.tensor([0, 0, 2, 0, 5])[::2], ValueError, "'ptr' to be contiguous"),
    (4, torch.tensor([0, 6]), ValueError, "'ptr' to end with the number of nodes, 5 (got 6)"),
    (4, torch.tensor([0, 7, 5]), ValueError, "'ptr' not to go down (got 7 and then 5 at 2)"),
    (4, torch.tensor([-1, 5]), ValueError, "'ptr' to begin with 0 (got -1)"),
    (4, torch.tensor([0, 5]), ValueError, "'distance' to have shape [25]"),
    (5, None, ValueError, "'distance' and 'hop' together"),
    (5, FAR[1:], ValueError, "'distance' to have shape [13]"),
    (5, FAR.long(), TypeError, "'distance' to be of dtype int8, int16 or int32 (got int64)"),
    (8, 0.0, ValueError, "'gamma' in (0, 1]"),
    (10, 2.0, ValueError, "'dropout_p' to be a probability"),
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Fills what ops allocate, and tells whether anything has been written there since."""
    allocated: list[Tensor] = []

    def remember(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            allocated.append(allocate(*args, **kwargs).fill_(7.0))
            return allocated[-1]

        return call

    monkeypatch.setattr(torch, "empty_like", remember(torch.empty_like))
    monkeypatch.setattr(Tensor, "new_empty", remember(Tensor.new_empty))
    return lambda: not allocated or any((tensor != 7.0).any() for tensor in allocated)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("place", "value", "kind", "words"), FOR_THE_CORE)
def test_what_the_core_refuses(
    place: int, value: Any, kind: type[Exception], words: str, backward: bool, written: Callable[[], bool]
) -> None:
    given: list[Any] = [X, X, X, HOP, PTR, FAR, None, *NUMBERS]
    given[place] = value
    op = torch.ops.gattn.ragged_attention
    if backward:
        op = torch.ops.gattn.ragged_attention_backward
        given[7:7] = [torch.ones(N, 2, H), torch.ones(N, H, C)]
        given.append([True, True, True, given[3] is not None])
    with pytest.raises(kind, match=re.escape(words)):
        op(*given)
    assert not written()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (7, torch.ones(N, H), "'row_stats' to have"),
        (7, torch.ones(N - 1, 2, H), "'row_stats' to have shape"),
        (8, torch.ones(N, H, C + 1), "'grad_out' to have shape"),
        (8, STRIDED, "'grad_out' to be contiguous"),
    ],
)
def test_what_the_core_refuses_of_a_backward(
    place: int, value: Tensor, words: str, written: Callable[[], bool]
) -> None:
    given: list[Any] = [X, X, X, HOP, PTR, FAR, None, torch.ones(N, 2, H), torch.ones(N, H, C), *NUMBERS, [True] * 4]
    given[place] = value
    with pytest.raises(ValueError, match=re.escape(words)):
        torch.ops.gattn.ragged_attention_backward(*given)
    assert not written()


def test_negative_distances_read_nothing_beyond_the_tables() -> None:
    """The core does not look for them; under a sanitizer nothing it reads may lie outside of its tables."""
    far = torch.full((PAIRS,), -5, dtype=torch.int16)
    for gamma in (0.5, 0.99, 1.0):
        out, _ = torch.ops.gattn.ragged_attention(X, X, X, HOP, PTR, far, None, 1.0, gamma, 0.0, 0.0, "cpu")
        assert out.isfinite().all()
