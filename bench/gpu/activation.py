"""Statistics of activations: numbers against the reference on the CPU, then times beside a copy and PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from gattn.bench.activation import one_liner
from gattn.bench.gpu.task import DTYPES, Context, Result, Step, Task, green, red, skipped
from gattn.bench.gpu.timing import alternate
from torch import Tensor

from gattn.activations import ActivationStats
from gattn.ops import activation_stats
from gattn.ops.activation_stats import BACKENDS

#: Numbers of a tensor that is checked and of one that is timed, and of both in a dry run.
CHECKED, TIMED, DRY = 1 << 20, 1 << 27, 1 << 12
WIDTHS = (8, 64, 256, 1024)
#: What no layer has, and rows that take several tiles; they are checked in other dtypes, too.
ODD_WIDTHS = (1, 100, 257, 1500)
ODD_DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "fp16": torch.float16}
#: Of what is added up, relative to the sum of its terms' magnitudes.
SUM_ERROR = 1e-12


def _draw(width: int, dtype: torch.dtype, numbers: int, device: torch.device) -> Tensor:
    """Normal rows with massive numbers, ties, subnormals, medians of 0, and numbers that are not finite."""
    rows = max(16, numbers // width)
    generator = torch.Generator(device).manual_seed(width)
    x = torch.randn(rows, width, generator=generator, device=device).to(dtype)
    info = torch.finfo(dtype)
    x[::5, width // 2] *= 3000
    x[1::7] = x[1::7].round()
    x[2::11] = x[2::11].round() * (4 * info.tiny * info.eps)
    x[3::13, : (width + 2) // 2] = 0
    x[4::17, 0] = math.nan
    x[5::19, -1] = -math.inf
    return x


def _differences(got: ActivationStats, want: ActivationStats, x: Tensor) -> list[str]:
    """Names of what is not the same: rows bit for bit, sums but for the order of their terms."""
    assert got.rows is not None
    assert want.rows is not None
    # One NaN is as good as another.
    pairs = {name: (a.cpu(), getattr(want.rows, name)) for name, a in got.rows._asdict().items()}
    found = [
        name for name, (a, b) in pairs.items() if not torch.equal(a.nan_to_num(-1.0, -2.0), b.nan_to_num(-1.0, -2.0))
    ]
    terms = x[x.isfinite().all(1)].double()
    sizes = {"sum": float(terms.abs().sum()), "squares": float(terms.square().sum())}
    found += [n for n, size in sizes.items() if not abs(getattr(got, n) - getattr(want, n)) <= SUM_ERROR * size]
    first, second = got.as_dict(), want.as_dict()
    return found + [name for name in first if name not in (*sizes, "mean", "std") and first[name] != second[name]]


def _check(width: int, dtype: str, backend: str, context: Context) -> Result:
    x = _draw(width, (DTYPES | ODD_DTYPES)[dtype], DRY if context.dry else CHECKED, context.device)
    got, again = (activation_stats(x, backend=backend) for _ in range(2))
    on_cpu = x.cpu()
    wrong = _differences(got, activation_stats(on_cpu, backend="reference"), on_cpu)
    if wrong:
        return red(f"not the reference's: {', '.join(wrong)}")
    return green(rows=len(x)) if got.as_dict() == again.as_dict() else red("differs from run to run")


def _measure(width: int, dtype: str, backend: str, context: Context) -> Result:
    """Times of the op; its numbers have been found right before."""
    key = f"activation/numerics/{backend}/{width}/{dtype}"
    checked = context.results.get(key)
    if checked is None or checked["status"] != "green":
        status = "has not been checked" if checked is None else f"is {checked['status']}"
        return skipped(f"no speed: {key} {status}")
    numbers = DRY if context.dry else TIMED
    x = torch.randn(numbers // width, width, device=context.device).to(DTYPES[dtype])
    target = torch.empty_like(x)
    steps = {
        "op": lambda: activation_stats(x, backend=context.timed(backend)),
        "copy": lambda: target.copy_(x),
        "pytorch": lambda: one_liner(x),
    }
    if context.dry:
        for step in steps.values():
            step()
        return skipped("dry run: ran on the CPU backend, nothing timed")
    times: dict[str, Any] = alternate(steps, context.device)
    return green(rows=len(x), bytes=x.nbytes, times=times)


def tasks(context: Context) -> Iterator[Task]:
    """A check for every backend, width and dtype; a measurement of those that layers have."""
    for backend in context.backends:
        if backend not in BACKENDS:
            continue
        for width, dtype in (*product(WIDTHS, DTYPES), *product(ODD_WIDTHS, ODD_DTYPES)):
            of, chosen = f"{backend}/{width}/{dtype}", (width, dtype, backend, context)
            yield Task(f"activation/numerics/{of}", lambda c=chosen: _check(*c))
            if width in WIDTHS:
                yield Task(f"activation/speed/{of}", lambda c=chosen: _measure(*c))


STEP = Step("activation", "statistics of activations", tasks)
