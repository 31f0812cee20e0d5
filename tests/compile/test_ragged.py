"""``ragged_attention`` under torch.compile: one graph, no recompilation as sizes change, and the eager results."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import ops

Function = Callable[..., Any]
compiled = torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
SIZES = [(5, 0, 7), (9, 2, 4, 21, 6), (3, 8, 11, 13)]


def problem(sizes: tuple[int, ...]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Leaves ``q, k, v, hop``, ``ptr`` and distances."""
    nodes, pairs = sum(sizes), sum(n * n for n in sizes)
    leaves = [torch.randn(nodes, 2, 3, requires_grad=True) for _ in range(3)]
    leaves.append(torch.full((2,), 1.5, requires_grad=True))
    return leaves, torch.tensor([0, *accumulate(sizes)]), torch.randint(5, (pairs,), dtype=torch.int16)


def attend(leaves: list[Tensor], ptr: Tensor, distance: Tensor, **options: Any) -> Tensor:
    q, k, v, hop = leaves
    return ops.ragged_attention(q, k, v, ptr, distance=distance, hop=hop, gamma=0.6, **options)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_one_program_for_all_sizes(p: float, assert_same: Function) -> None:
    program = compiled(lambda leaves, ptr, distance, seed: attend(leaves, ptr, distance, dropout_p=p, seed=seed))
    for i, sizes in enumerate(SIZES):
        leaves, ptr, distance = problem(sizes)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(leaves, ptr, distance, 10 + i)
        assert_same([got], [attend(leaves, ptr, distance, dropout_p=p, seed=10 + i)], leaves)


def test_without_distances(assert_same: Function) -> None:
    leaves, ptr, _ = problem(SIZES[1])
    got = compiled(lambda q, k, v, ptr: ops.ragged_attention(q, k, v, ptr))(*leaves[:3], ptr)
    assert_same([got], [ops.ragged_attention(*leaves[:3], ptr)], leaves[:3])


def test_bad_numbers_raise_while_the_program_runs() -> None:
    leaves, ptr, distance = problem(SIZES[1])
    program = compiled(attend)
    program(leaves, ptr, distance)
    with pytest.raises(RuntimeError, match="'distance' >= 0"):
        program(leaves, ptr, distance - 9)
    for wrong in (ptr - 1, ptr.flip(0), ptr.clamp(max=20)):
        with pytest.raises(RuntimeError, match="'ptr' to go from 0 to the number of nodes"):
            program(leaves, wrong, distance)
    with pytest.raises(RuntimeError, match="'distance' to have n \\* n numbers"):
        program(leaves, ptr, distance[:-1])
