"""Statistics of activations in one pass: what shows massive ones (Bini, Sorbi and Marchand-Maillet, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gattn.activations import ActivationStats, Rows, bin_edges
from gattn.backends import _C, select_backend
from gattn.exchange import call_core
from gattn.ops.library import define
from gattn.reference import activation_stats as reference
from gattn.reference.dropout import accumulate_dtype

#: Ratios above which activations are counted; above 1000 they are called massive.
THRESHOLDS = (10.0, 100.0, 1000.0)
#: Backends that compute the op.
BACKENDS = ("reference", "cpu", "triton")


def activation_stats(
    x: Tensor,
    segment: Tensor | None = None,
    *,
    num_segments: int | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    backend: str | None = None,
) -> ActivationStats:
    r"""The largest magnitude of every row, the row's median magnitude, and the ratio of both, with summaries.

    .. math:: ratio_e = \max_c |x_{ec}| \, / \, \mathrm{median}_c |x_{ec}|

    Bini, Sorbi and Marchand-Maillet, *Characterizing massive activations of attention mechanism in graph neural
    networks*, arXiv 2409.03463: an activation is massive where its magnitude is over 1000 times its row's median. The
    median is exact, the lower one of an even number. One pass over ``x``; nothing of its size is stored, and no
    gradient is kept.

    A row with a NaN or an infinity has NaN for its three numbers; a row whose median is 0 has the ratio infinity. Both
    are counted apart, and count in no threshold, bin, segment or extreme of ratios; rows that are not finite in no sum.

    Args:
        x: ``[E, D]``, float32, float64, bfloat16 or float16, a row an edge; ``D`` at least 1.
        segment: ``[E]``, integer, not negative: the graph that a row belongs to, for the largest ratio of every graph.
        num_segments: Number of graphs; by default one more than the largest in ``segment``.
        thresholds: Rising ratios; activations above each are counted.
        backend: ``"reference"``, ``"cpu"``, ``"triton"`` or ``None`` for the fastest usable.

    Returns:
        :class:`gattn.analysis.ActivationStats`, which merges with those of other batches and processes.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or a number does not fit.
        IndexError: A segment is negative or not below ``num_segments``.
    """
    _check(x, segment)
    check_thresholds(thresholds)
    segments = _number_of_segments(segment, num_segments)
    limits, edges = limits_of(thresholds, x.device)
    x = x.detach()
    chosen = select_backend(backend, x.device, among=BACKENDS)
    if chosen == "reference":
        found = reference.activation_stats(x, limits, edges)
    else:
        found = taken_apart(*_activation_stats(x.contiguous(), limits, edges, chosen))
    by_segment = None if segment is None else largest_by_segment(found[0][2], segment, segments)
    return as_stats(found, x.size(1), thresholds, by_segment)


def limits_of(thresholds: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """What ratios are compared with: the thresholds, and where the histogram's bins begin."""
    return torch.tensor(list(thresholds), dtype=torch.float64, device=device), bin_edges(device)


def as_stats(
    found: Sequence[Tensor], width: int, thresholds: Sequence[float], by_segment: Tensor | None = None
) -> ActivationStats:
    """From ``rows`` ``[3, E]``, ``sums``, ``counts`` and ``extremes``."""
    rows, sums, counts, extremes = found
    return ActivationStats._of(
        Rows(*rows.unbind()), by_segment, width, tuple(map(float, thresholds)), sums, counts, extremes
    )


def _check(x: Tensor, segment: Tensor | None) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise TypeError(
            f"Expected 'x' to be a tensor of float32, float64, bfloat16 or float16 (got "
            f"{x.dtype if isinstance(x, Tensor) else type(x).__name__}). Convert it with .float()."
        )
    if x.dim() != 2 or x.size(1) < 1:
        raise ValueError(
            f"Expected 'x' to have shape [rows, features] with at least one feature (got {list(x.shape)}). Flatten "
            f"heads and channels with .flatten(1)."
        )
    if segment is None:
        return
    if segment.dtype.is_floating_point or segment.dtype.is_complex or segment.dtype == torch.bool:
        raise TypeError(f"Expected 'segment' to be of an integer dtype (got {segment.dtype}). Convert it with .long().")
    if segment.shape != x.shape[:1]:
        raise ValueError(f"Expected 'segment' to have shape [{x.size(0)}], a number a row (got {list(segment.shape)}).")
    if segment.device != x.device:
        raise ValueError(f"Expected 'segment' on device '{x.device}', like 'x' (got '{segment.device}'). Move it.")


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raises ValueError unless they are positive, finite and rise."""
    rising = all(a < b for a, b in pairwise(thresholds))
    if not rising or not all(0 < t < float("inf") for t in thresholds):
        raise ValueError(f"Expected 'thresholds' to be positive, finite and to rise (got {list(thresholds)}).")


def _number_of_segments(segment: Tensor | None, given: int | None) -> int:
    if segment is None:
        if given is not None:
            raise ValueError(f"Expected 'segment' with 'num_segments' (got {given} segments and no 'segment').")
        return 0
    if segment.numel() == 0:
        return given or 0
    least, most = (int(end) for end in segment.aminmax())
    number = most + 1 if given is None else given
    if least < 0 or most >= number:
        raise IndexError(
            f"Expected 'segment' to lie in [0, {number - 1}] (got {least if least < 0 else most}). Give "
            f"'num_segments', or number graphs from 0."
        )
    return number


def largest_by_segment(ratio: Tensor, segment: Tensor, segments: int) -> Tensor:
    """The largest finite ratio of each, NaN for segments without one."""
    known = torch.where(ratio.isfinite(), ratio, -1.0)
    found = known.new_full((segments,), -1.0).scatter_reduce(0, segment.long(), known, "amax")
    return found.masked_fill(found < 0, torch.nan)


def _kernel(x: Tensor, thresholds: Tensor, edges: Tensor, backend: str) -> tuple[Tensor, ...]:
    results = _fake(x, thresholds, edges, backend)
    rows, *others = taken_apart(*results)
    if backend == "triton":
        from gattn.kernels import activation as triton  # not before it is asked for: it imports Triton

        triton.activation_stats(x, thresholds, edges, triton.Outputs(*rows.unbind(), *others))
    else:
        call_core(_C.activation_stats, x, (thresholds, edges), (rows, *others), torch.get_num_threads())
    return results


def _fake(x: Tensor, thresholds: Tensor, edges: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    return room(x, (3, x.shape[0]), thresholds.shape[0] + edges.shape[0] + 1)


def room(x: Tensor, rows: tuple[int, int], counted: int) -> tuple[Tensor, Tensor, Tensor]:
    """For statistics in ``x``'s dtype, on its device: the rows' ``largest, median, ratio`` in the accumulate dtype, of
    shape ``rows``, ``sums`` and ``extremes`` ``[8]``, and ``counts``, with room for ``counted`` thresholds and bins."""
    counts = x.new_empty(reference.COUNTS + counted, dtype=torch.int64)
    return x.new_empty(rows, dtype=accumulate_dtype(x.dtype)), x.new_empty(8, dtype=torch.float64), counts


def taken_apart(rows: Tensor, numbers: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``rows`` as they are, ``sums`` ``[2]``, ``counts`` and ``extremes`` ``[2, 3]``."""
    return rows, numbers[:2], counts, numbers[2:].view(2, 3)


_activation_stats = define(
    "activation_stats(Tensor x, Tensor thresholds, Tensor edges, str backend) -> (Tensor, Tensor, Tensor)",
    cpu=_kernel,
    cuda=True,
    fake=_fake,
)
