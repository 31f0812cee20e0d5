"""The kernels give the reference's results and gradients: every score with every option, dtype, width and group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..ops.gpu_matrix import (  # noqa: F401 - tests that are collected here
    DTYPES,
    EVERYTHING,
    PATHS,
    test_degenerate_graphs,
    test_every_combination,
    test_every_option,
)

Function = Callable[..., Any]
#: One head and several, in blocks of their own too; channels one by one and by 16 bytes, within a tile and beyond.
WIDTHS = [(1, 1), (3, 5), (6, 33), (33, 1), (1, 260), (2, 8), (3, 64), (1, 1032)]


@pytest.mark.parametrize("channels", [5, 8])
@pytest.mark.parametrize(("op", "options"), PATHS)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_every_dtype(op: str, options: str, dtype: torch.dtype, channels: int, check_case: Function) -> None:
    check_case(op, options, "grouped", 4, channels, dtype)


@pytest.mark.parametrize(("heads", "channels"), WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize(("op", "options"), EVERYTHING)
def test_every_width(
    op: str, options: str, dtype: torch.dtype, heads: int, channels: int, check_case: Function
) -> None:
    check_case(op, options, "small", heads, channels, dtype)
