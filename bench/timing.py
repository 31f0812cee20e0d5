"""Timing side by side: every contender in turn, round after round, in one process.

Whatever the machine does meanwhile (clock, other load, page cache) then falls on all of them alike, and
ratios of medians can be trusted further than the times themselves.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

#: A sample lasts at least this long; faster steps are repeated within it.
SAMPLE_SECONDS = 0.02
#: Rounds go on beyond the number asked for until this much time is spent, at most ten times that number.
GENEROUS_SECONDS = 4.0


def _sample(step: Callable[[], object], calls: int) -> float:
    """Seconds of one call, from ``calls`` in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def _calls(step: Callable[[], object]) -> int:
    """How many calls make a sample of :data:`SAMPLE_SECONDS`; finding out is the warm-up."""
    seconds = _sample(step, 1)
    if seconds < 1.0:  # quick enough to look again: a first call may be slow for reasons of its own
        seconds = _sample(step, max(1, round(SAMPLE_SECONDS / seconds)))
    return max(1, round(SAMPLE_SECONDS / seconds))


def alternate(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    on_sample: Callable[[str, float], None] = lambda name, seconds: None,
) -> dict[str, list[float]]:
    """Seconds a call of every step, at least ``rounds`` samples each, taken in turn after a warm-up.

    The order rotates from round to round, so that nobody always follows the same neighbour. Garbage is
    collected before each sample and not during it.
    """
    calls = {name: _calls(step) for name, step in steps.items()}
    samples: dict[str, list[float]] = {name: [] for name in steps}
    names, start, number = list(steps), time.perf_counter(), 0
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        while number < rounds or (number < 10 * rounds and time.perf_counter() - start < GENEROUS_SECONDS):
            turn = number % max(1, len(names))
            for name in names[turn:] + names[:turn]:
                gc.collect()
                samples[name].append(_sample(steps[name], calls[name]))
                on_sample(name, samples[name][-1])
            number += 1
    finally:
        if was_enabled:
            gc.enable()
    return samples


def summary(samples: list[float]) -> dict[str, Any]:
    """Median and quartiles in seconds, and the number of samples."""
    count = len(samples)
    if count == 1:
        samples = samples * 2
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3, "samples": count}
