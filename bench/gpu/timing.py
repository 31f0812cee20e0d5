"""Times of steps on the device, taken in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from gattn.bench.timing import summary

#: A sample lasts at least this long: many steps in a row, as in training, so that launching is part of it.
SAMPLE_SECONDS = 0.02
ROUNDS = (5, 20)


def wait(device: torch.device) -> None:
    """Until all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sample(step: Callable[[], object], calls: int, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        step()
    wait(device)
    return (time.perf_counter() - start) / calls


def alternate(steps: Mapping[str, Callable[[], object]], device: torch.device, seconds: float = 2.0) -> dict[str, Any]:
    """Median and quartiles of a call's seconds of every step, in rotating order after a warm-up.

    ``seconds`` in all, but at least :data:`ROUNDS`'s first number of rounds and at most its second.
    """
    calls = {}
    for name, step in steps.items():
        _sample(step, 2, device)
        calls[name] = max(1, round(SAMPLE_SECONDS / max(_sample(step, 3, device), 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in steps}
    names, start, fewest, most = list(steps), time.perf_counter(), *ROUNDS
    for number in range(most):
        if number >= fewest and time.perf_counter() - start > seconds:
            break
        turn = number % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            samples[name].append(_sample(steps[name], calls[name], device))
    return {name: summary(found) for name, found in samples.items()}
