"""Statistics of activations against plain numpy, the reference, and each other when merged."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from gattn import _C, ops
from gattn.analysis import ActivationStats

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
WIDTHS = [1, 2, 3, 8, 15, 16, 17, 63, 64, 65, 128, 255, 256, 257, 300, 1024]


def activations(rows, width, *, dtype=torch.float32, seed=0):
    """Normal numbers, some of them massive; zeros, ties, and numbers that are not finite."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    x[::5, width // 2] *= 3000
    x[1::7] = x[1::7].round()
    if rows > 20:
        x[3], x[4, 0], x[5, -1], x[6] = 0, math.nan, math.inf, 1.5
        x[7, : (width + 2) // 2] = 0
        x[8, 0] = -math.inf
    return x.to(dtype)


def by_numpy(x, thresholds):
    """Everything, row by row."""
    x = x.double().numpy() if x.dtype == torch.float64 else x.float().numpy()
    size = np.abs(x)
    largest, median = size.max(1), np.sort(size, axis=1)[:, (x.shape[1] - 1) // 2]
    bad = ~np.isfinite(x).all(1)
    zero = ~bad & (median == 0)
    known = ~bad & ~zero
    with np.errstate(all="ignore"):
        ratio = np.where(bad, np.nan, np.where(zero, np.inf, largest / median))
        relative = (size / median[:, None])[known]
    return {
        "largest": np.where(bad, np.nan, largest),
        "median": np.where(bad, np.nan, median),
        "ratio": ratio,
        "known": known,
        "counts": [int(np.isnan(x).sum()), int(np.isinf(x).sum()), int(bad.sum()), int(zero.sum())],
        "above": [int((relative > t).sum()) for t in thresholds],
        "sum": x[~bad].astype(np.float64).sum(),
        "squares": (x[~bad].astype(np.float64) ** 2).sum(),
        "largest at": (int(np.where(bad, -1, largest).argmax()) if len(x) else None, size),
        "ratio at": (int(np.where(known, ratio, -1).argmax()) if len(x) else None, size),
    }


def check(got: ActivationStats, x, thresholds=(10.0, 100.0, 1000.0)):
    want = by_numpy(x, thresholds)
    for name in ("largest", "median", "ratio"):
        np.testing.assert_array_equal(getattr(got.rows, name).numpy(), want[name], err_msg=name)
    assert [got.nan, got.infinite, got.bad_rows, got.zero_median_rows] == want["counts"]
    assert list(got.above.items()) == list(zip(thresholds, want["above"], strict=True))
    assert got.sum == pytest.approx(want["sum"], rel=1e-5, abs=1e-5 * math.sqrt(want["squares"] * x.numel()))
    assert got.squares == pytest.approx(want["squares"], rel=1e-5)
    known = want["ratio"][want["known"]].astype(np.float64)
    edges = 10.0 ** (np.arange(1001) / 100)
    bins = np.bincount(np.digitize(known, edges), minlength=1002)
    expected = bins[1:1001][::-1].copy()
    expected[0] += bins[1001]
    np.testing.assert_array_equal(got.histogram.numpy(), expected)
    for extreme, name in ((got.largest, "largest"), (got.largest_ratio, "ratio")):
        row, size = want[f"{name} at"]
        if row is None:
            assert extreme is None
        else:
            assert extreme is not None
            assert (extreme.value, extreme.row, extreme.column) == (want[name][row], row, size[row].argmax())


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("width", WIDTHS)
def test_equals_numpy(width, backend):
    x = activations(45, width)
    check(ops.activation_stats(x, backend=backend), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 4096, 4097, 9000])
def test_equals_numpy_in_every_dtype(rows, dtype):
    x = activations(rows, 12, dtype=dtype)
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        got = ops.activation_stats(x)
        torch.set_num_threads(before)
        check(got, x)
        assert got.rows.largest.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_threads_give_the_same_bits():
    x, found = activations(30_000, 24, seed=3), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(ops.activation_stats(x).as_dict())
    torch.set_num_threads(1)
    assert found[0] == found[1] == found[2]


#: Rows whose medians are hard to find by counting: what half the numbers are, or are next to.
HARD_ROWS = {
    "normal": lambda x: x,
    "half zeros": lambda x: x.relu(),
    "few values": lambda x: x.mul(2).round(),
    "one value": torch.ones_like,
    "bfloat16": lambda x: x.bfloat16().float(),
    "next to each other": lambda x: (x.mul(1000).int() + 0x3F800000).view(torch.float32),
    "all magnitudes": lambda x: x.mul(15).exp(),
    "two groups": lambda x: torch.where(x > 0, 1e-30 * x, 1e10 * x),
    "subnormal": lambda x: x.mul(1e-42),
}


def hard_rows(kind, width):
    return HARD_ROWS[kind](torch.randn(80, width, generator=torch.Generator().manual_seed(width)))


@pytest.mark.parametrize("kind", HARD_ROWS)
@pytest.mark.parametrize("width", [16, 33, 64, 65, 66, 99, 128, 129, 250, 256, 1023, 1024, 65_534, 65_535])
def test_medians_of_hard_rows(kind, width):
    x = hard_rows(kind, width)
    assert torch.equal(ops.activation_stats(x).rows.median, x.abs().median(1).values)
    assert torch.equal(ops.activation_stats(x.double()).rows.median, x.double().abs().median(1).values)


def rows_of_ratios(dtype):
    """Rows of width 3, with ratios on the histogram's edges and a bit beside them."""
    edges = 10.0 ** (torch.arange(1001, dtype=torch.float64) / 100)
    ratios = edges.to(dtype)
    around = torch.cat([ratios.nextafter(ratios * 0), ratios, ratios.nextafter(ratios * 2)])
    return torch.stack([torch.ones_like(around), -torch.ones_like(around), around.clamp(min=1)], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ratios_next_to_the_edges_of_bins(dtype):
    x = rows_of_ratios(dtype)
    got, want = (ops.activation_stats(x, backend=backend) for backend in ("cpu", "reference"))
    assert torch.equal(got.histogram, want.histogram)
    assert int(got.histogram.count_nonzero()) == 1000


@pytest.mark.parametrize("isa", _C.isas())
def test_every_instruction_set(isa, tmp_path):
    rows = [activations(100, width, seed=1)[10:] for width in (5, 8, 12, 16, 37, 64, 100, 128, 300)]
    rows += [hard_rows(kind, 130) for kind in HARD_ROWS] + [rows_of_ratios(torch.float32)]
    rows[0][5] *= 1e25
    rows[0][7, 3] = 1e30
    torch.save(rows, tmp_path / "rows")
    program = (
        "import sys, torch; from gattn import ops\n"
        "close = ('sum', 'squares', 'mean', 'std')\n"
        "for x in torch.load(sys.argv[1]):\n"
        "    s, r = (ops.activation_stats(x, backend=b) for b in ('cpu', 'reference'))\n"
        "    assert all(torch.equal(a, b) for a, b in zip(s.rows, r.rows))\n"
        "    a, b = s.as_dict(), r.as_dict()\n"
        "    assert all(abs(a[k] - b[k]) <= 1e-6 * max(abs(b['sum']), b['squares'], 1e-30) for k in close)\n"
        "    assert {k: v for k, v in a.items() if k not in close} == {k: v for k, v in b.items() if k not in close}"
    )
    environment = {**os.environ, "GATTN_CPU_ISA": isa}
    subprocess.run([sys.executable, "-c", program, tmp_path / "rows"], check=True, env=environment, timeout=120)


def test_segments():
    x = activations(200, 16)
    segment = torch.randint(9, (200,), generator=torch.Generator().manual_seed(2))
    segment[segment == 4] = 5
    got = ops.activation_stats(x, segment, num_segments=10)
    ratio = got.rows.ratio
    assert got.segment_ratio.shape == (10,)
    for number, found in enumerate(got.segment_ratio):
        own = ratio[(segment == number) & ratio.isfinite()]
        assert found == own.max() if len(own) else found.isnan()
    assert got.segment_ratio[4].isnan()
    assert got.segment_ratio[9].isnan()
    assert len(ops.activation_stats(x, segment.int()).segment_ratio) == 9


def test_merging_batches_is_one_batch():
    x, segment = activations(501, 24), torch.arange(501) // 50
    whole = ops.activation_stats(x, segment)
    cuts = [0, 150, 150, 400, 501]
    parts = [ops.activation_stats(x[a:b], segment[a:b] - (segment[a] if b > a else 0)) for a, b in pairwise(cuts)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    want, got = whole.as_dict(), merged.as_dict()
    for name in ("sum", "squares", "mean", "std"):
        assert got.pop(name) == pytest.approx(want.pop(name), rel=1e-9, abs=1e-9)
    assert got == want
    assert merged.rows is None


def test_mean_and_deviation():
    x = torch.randn(400, 8, dtype=torch.float64)
    got = ops.activation_stats(x)
    assert got.mean == pytest.approx(float(x.mean()), rel=1e-9)
    assert got.std == pytest.approx(float(x.std(correction=0)), rel=1e-9)
    empty = ops.activation_stats(x[:0])
    assert math.isnan(empty.mean)
    assert empty.largest is None
    assert empty.as_dict()["mean"] is None


def test_different_statistics_do_not_merge():
    one = ops.activation_stats(torch.ones(2, 3))
    for other in (ops.activation_stats(torch.ones(2, 4)), ops.activation_stats(torch.ones(2, 3), thresholds=(5.0,))):
        with pytest.raises(ValueError, match="same thresholds"):
            one.merge(other)


def test_no_gradient_is_kept():
    x = torch.randn(5, 4, requires_grad=True)
    assert not any(t.requires_grad for t in ops.activation_stats(x * 2).rows)


def test_poisoned_results(monkeypatch):
    x = activations(50, 10)
    expected = ops.activation_stats(x).as_dict()
    empty = torch.Tensor.new_empty

    def poisoned(self, *args, **kwargs):
        made = empty(self, *args, **kwargs)
        return made.fill_(math.nan if made.is_floating_point() else -7)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    assert ops.activation_stats(x).as_dict() == expected


def test_opcheck():
    arguments = torch.randn(6, 5), torch.tensor([10.0], dtype=torch.float64), torch.tensor([1.0, 2.0]).double(), "cpu"
    torch.library.opcheck(torch.ops.gattn.activation_stats.default, arguments)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((torch.ones(3, 2).int(),), {}, TypeError, "'x'"),
        ((torch.ones(3, 2, 2),), {}, ValueError, r"\.flatten\(1\)"),
        ((torch.ones(3, 0),), {}, ValueError, "at least one feature"),
        ((torch.ones(3, 2),), {"thresholds": (10.0, 1.0)}, ValueError, "to rise"),
        ((torch.ones(3, 2),), {"thresholds": (0.0,)}, ValueError, "positive"),
        ((torch.ones(3, 2), torch.zeros(3)), {}, TypeError, "'segment'"),
        ((torch.ones(3, 2), torch.zeros(2).long()), {}, ValueError, "'segment'"),
        ((torch.ones(3, 2), torch.tensor([0, -1, 1])), {}, IndexError, "got -1"),
        ((torch.ones(3, 2), torch.tensor([0, 2, 1])), {"num_segments": 2}, IndexError, "got 2"),
        ((torch.ones(3, 2),), {"num_segments": 2}, ValueError, "'num_segments'"),
        ((torch.ones(3, 2),), {"backend": "cuda"}, ValueError, "backends"),
    ],
)
def test_bad_input(arguments, options, error, match):
    with pytest.raises(error, match=match):
        ops.activation_stats(*arguments, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [5, 16, 33, 70])
def test_counts_above_thresholds_are_exact_everywhere(width, dtype):
    """Magnitudes of every exponent, subnormal ones too, and many that lie on a threshold or beside it."""
    thresholds = (0.75, 1.0, 3.0, 10.0, 1000.0)
    generator = torch.Generator().manual_seed(width)
    least, most = math.log2(torch.finfo(dtype).smallest_normal) - 20, math.log2(torch.finfo(dtype).max) - 11
    rows = 4096
    middle = torch.exp2(torch.rand(rows, 1, generator=generator, dtype=torch.float64) * (most - least) + least)
    factors = torch.tensor([*thresholds, 0.1, 2.0], dtype=torch.float64)
    x = middle * factors[torch.randint(0, len(factors), (rows, width), generator=generator)]
    x = x.to(dtype)
    for moved in (x, x.nextafter(torch.zeros((), dtype=dtype)), x.nextafter(torch.full((), math.inf, dtype=dtype))):
        got, want = (ops.activation_stats(moved, thresholds=thresholds, backend=b) for b in ("cpu", "reference"))
        assert got.above == want.above
        assert torch.equal(got.histogram, want.histogram)
