"""The kernels give the reference's results and gradients: every score with every option, dtype, width and group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..ops import gpu_matrix, test_against_reference
from ..ops.gpu_matrix import DTYPES, EVERYTHING, PATHS, test_degenerate_graphs, test_every_option  # noqa: F401

Function = Callable[..., Any]
#: Heads and channels that are no powers of two, or one, or more than a tile holds.
WIDTHS = [(1, 1), (3, 5), (6, 33), (1, 257)]

test_every_combination = pytest.mark.whole(gpu_matrix.test_every_combination)


@pytest.mark.parametrize(("op", "options"), PATHS)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_every_dtype(op: str, options: str, dtype: torch.dtype, check_case: Function) -> None:
    check_case(op, options, "grouped" if op == "gat_layer" else "small", 4, 5, dtype)


@pytest.mark.parametrize(("heads", "channels"), WIDTHS)
@pytest.mark.parametrize(("op", "options"), EVERYTHING)
def test_every_width(op: str, options: str, heads: int, channels: int, check_case: Function) -> None:
    check_case(op, options, "small", heads, channels)


@pytest.mark.whole
@pytest.mark.parametrize(("heads", "channels"), test_against_reference.WIDTHS)
@pytest.mark.parametrize(("op", "options"), PATHS)
def test_all_widths(op: str, options: str, heads: int, channels: int, check_case: Function) -> None:
    check_case(op, options, "grouped", heads, channels, torch.float32)
