"""Statistics of activations: bits against the reference, rows of every kind, and what a launch does not do."""

from __future__ import annotations

import importlib
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn.activations import ActivationStats

from ..ops.test_activation_stats import DTYPES, activations
from .test_ragged import NoReading

pytest.importorskip("triton", reason="the package triton is not installed")
activation = pytest.importorskip("gattn.kernels.activation")
launch = pytest.importorskip("gattn.kernels.launch")

module = importlib.import_module("gattn.ops.activation_stats")  # the package has the function under its name
WIDTHS = [1, 3, 8, 64, 100, 257, 1024, 1500]
#: Those that are added up, in double precision but in another order.
SUMS = ("sum", "squares", "mean", "std")


def stats(x: Tensor, *arguments: Any, **options: Any) -> ActivationStats:
    found: ActivationStats = module.activation_stats(x, *arguments, backend="triton", **options)
    return found


def same(got: ActivationStats, want: ActivationStats, x: Tensor) -> None:
    """All numbers, sums but for their order."""
    terms = x[x.isfinite().all(1)].double()
    for found, expected, size in ((got.sum, want.sum, terms.abs()), (got.squares, want.squares, terms.square())):
        assert found == expected or abs(found - expected) <= 1e-12 * float(size.sum())
    first, second = ({k: v for k, v in side.as_dict().items() if k not in SUMS} for side in (got, want))
    assert first == second


def check(x: Tensor, *arguments: Any, **options: Any) -> ActivationStats:
    """Rows bit for bit the reference's, and everything else."""
    got = stats(x, *arguments, **options)
    want = module.activation_stats(x, *arguments, backend="reference", **options)
    for name, found in got.rows._asdict().items():
        expected = getattr(want.rows, name)
        assert found.dtype == expected.dtype
        known = ~expected.isnan()
        assert torch.equal(known, ~found.isnan()), name
        integers = torch.int64 if found.dtype == torch.float64 else torch.int32
        assert torch.equal(found[known].view(integers), expected[known].view(integers)), name
    same(got, want, x)
    return got


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs with several tiles, and tiles of a few rows, as on a GPU."""
    sizes = {"COLUMNS": 64, "ROWS": 8, "PROGRAMS": 3, "SUMMARY_PROGRAMS": 5, "SUMMARY_BLOCK": 8, "LANES": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(activation, f"_{name}", value)
    monkeypatch.setattr(activation, "_setup", activation._setup.__wrapped__)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_equals_the_reference(width: int, dtype: torch.dtype) -> None:
    for rows in (0, 1, 5, 70):
        check(activations(rows, width, dtype=dtype, seed=rows))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_thousands_of_rows(dtype: torch.dtype) -> None:
    check(activations(5003, 12, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 7, 150])
@pytest.mark.usefixtures("small_tiles")
def test_several_tiles_a_program(width: int, dtype: torch.dtype) -> None:
    x = activations(50, width, dtype=dtype)
    assert activation._setup(width, dtype).chunks == -(-width // 64)
    check(x)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("width", [5, 70])
def test_of_equal_extremes_the_first_counts(width: int) -> None:
    """Its row, whichever program has it, and its column."""
    for rows in ((11, 30, 42), (18, 41), (9, 31)):
        x = torch.ones(50, width)
        x[rows, 3], x[rows, 4] = -100.0, 100.0
        got = check(x)
        assert got.largest is not None
        assert got.largest_ratio == got.largest
        assert (got.largest.value, got.largest.row, got.largest.column) == (100.0, rows[0], 3)


@pytest.mark.parametrize("width", [1, 9, 1500])
@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -7.0])
def test_equal_numbers(value: float, width: int) -> None:
    got = check(torch.full((40, width), value))
    assert got.zero_median_rows == (40 if value == 0 else 0)
    assert got.largest is not None
    assert (got.largest.row, got.largest.column) == (0, 0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("width", [9, 1500])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_at_the_ends_of_the_range(dtype: torch.dtype, width: int) -> None:
    """Subnormals, as medians and as largest; the largest ones, whose squares and ratios may be infinite."""
    info = torch.finfo(dtype)
    least = info.tiny * info.eps
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(30, width, generator=generator, dtype=torch.float64).to(dtype)
    x[:10] = (torch.randint(-9, 10, (10, width), generator=generator).double() * least).to(dtype)
    x[5, 2], x[6, 2], x[7, 2] = 1.0, info.max, -info.max
    x[10:15, 0] = info.max
    x[15, ::2] = least
    assert (x[:5].abs().amax(1) > 0).all()
    assert (x[:5].abs() < info.tiny).all()
    assert check(x).bad_rows == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nonfinite_rows_count_nowhere_else(dtype: torch.dtype) -> None:
    """One in the last row alone, some in every row, and whole rows."""
    x = activations(20, 10, dtype=dtype)
    x[19, 9] = math.nan
    x[3], x[4] = math.inf, math.nan
    x[5, ::3], x[5, 1] = -math.inf, math.nan
    got = check(x)
    assert (got.nan, got.infinite, got.bad_rows) == (12, 14, 4)
    x[:, 2] = math.nan
    got = check(x)
    assert (got.bad_rows, got.largest, got.largest_ratio, got.sum) == (20, None, None, 0.0)
    assert not got.histogram.any()


def test_rows_of_median_zero() -> None:
    x = torch.randn(30, 7, generator=torch.Generator().manual_seed(1))
    x[::2, :4] = 0
    x[::4] = 0
    x[2, 6] = 1e6
    got = check(x)
    assert got.zero_median_rows == 15
    assert got.largest is not None
    assert got.largest.row == 2
    assert got.rows is not None
    assert torch.equal(got.rows.ratio.isinf(), torch.arange(30) % 2 == 0)


@pytest.mark.parametrize(
    "thresholds", [(), (1.0,), (0.5, 2.0, 2.0 + 2**-40, 3e38), tuple(float(i) for i in range(1, 30))]
)
def test_thresholds(thresholds: tuple[float, ...]) -> None:
    """Also one that float32 does not tell from its neighbour, which ratios meet exactly."""
    x = activations(200, 16)
    x[11] = torch.tensor([1.0, 2.0, 4.0, 1.0]).repeat(4)
    x[12] = torch.tensor([1.0, 1.0, 2.0, 1.0]).repeat(4)
    check(x, thresholds=thresholds)


@pytest.mark.parametrize("integers", [torch.int64, torch.int32], ids=str)
def test_segments(integers: torch.dtype) -> None:
    x = activations(200, 16)
    segment = torch.randint(9, (200,), generator=torch.Generator().manual_seed(2)).to(integers)
    segment[segment == 4] = 5
    got = check(x, segment, num_segments=10)
    assert got.segment_ratio is not None
    assert got.segment_ratio.isnan().nonzero().flatten().tolist() == [4, 9]


def test_merging_batches_is_one_batch() -> None:
    x, segment = activations(301, 24), torch.arange(301) // 50
    parts = [stats(x[a:b], segment[a:b] - 2 * a // 100) for a, b in pairwise([0, 100, 100, 200, 301])]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    same(merged, stats(x, segment), x)


@pytest.mark.parametrize("change", [lambda x: x.t(), lambda x: x[::2, 1::3], lambda x: x[:, :1].expand(-1, 7)])
def test_rows_that_do_not_lie_in_order(change: Any) -> None:
    x = change(activations(60, 60))
    assert not x.is_contiguous()
    check(x)


def test_same_bits_every_time() -> None:
    x = activations(1500, 33)
    first, again = stats(x), stats(x)
    assert first.as_dict() == again.as_dict()
    assert all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(first.rows, again.rows, strict=True))


def test_no_gradient_is_kept() -> None:
    x = torch.randn(5, 4, requires_grad=True)
    assert not any(t.requires_grad for t in stats(x * 2).rows)


def test_blocks_fit_every_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of GPUs: the interpreter has others."""
    monkeypatch.setattr(activation, "interprets_triton", lambda: False)
    for dtype in DTYPES:
        for width in (*range(1, 70), 127, 128, 129, 511, 1023, 1024, 1025, 2048, 5000):
            setup = activation._setup.__wrapped__(width, dtype)
            assert width <= setup.columns * setup.chunks < width + max(setup.columns, 2)
            assert setup.rows * setup.columns * max(4, dtype.itemsize) <= activation._BYTES
            for size in (setup.rows, setup.columns):
                assert size & (size - 1) == 0
            assert setup.rank == (width - 1) // 2 + setup.columns * setup.chunks - width


def test_launching_waits_for_nothing_and_takes_little_memory() -> None:
    """Kernels are not run; what is around them reads no tensor, and allocates nothing of the rows' size."""
    x = torch.ones(1 << 16, 4)
    thresholds, edges = torch.ones(3).double(), torch.ones(1001).double()
    rows, *others = module.taken_apart(*module._fake(x, thresholds, edges, "triton"))
    outputs = activation.Outputs(*rows.unbind(), *others)
    with launch.keep_launches() as kept, NoReading() as mode:
        activation.activation_stats(x, thresholds, edges, outputs)
    assert len(kept) == 3
    assert 0 < mode.largest <= 2 * max(activation._PROGRAMS, len(outputs.counts))


def test_op_passes_opcheck() -> None:
    arguments = torch.randn(6, 5), torch.tensor([10.0]).double(), torch.tensor([1.0, 2.0]).double(), "triton"
    torch.library.opcheck(torch.ops.gattn.activation_stats.default, arguments)
