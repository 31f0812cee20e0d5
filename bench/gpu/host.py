"""What a call costs the host: ops on a graph of one node, forward and backward, without waiting for the GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gattn.bench import overhead
from gattn.bench.gpu.problems import OPS
from gattn.bench.gpu.task import Context, Result, Step, Task, green, skipped
from gattn.bench.gpu.timing import wait
from gattn.bench.layers import LAYERS
from gattn.bench.timing import summary

#: So few calls in a row that their kernels fit in the queue of launches, which the host would have to wait for.
CALLS, ROUNDS = 20, 50


def _measure(layer: str, backend: str, context: Context) -> Result:
    if refusal := context.distrust(backend, OPS[layer], "fp32"):
        return refusal
    steps = overhead.steps(LAYERS[layer], context.device, context.timed(backend))
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(2 if context.dry else ROUNDS):
        for name, step in steps.items():
            wait(context.device)
            start = time.perf_counter()
            for _ in range(CALLS):
                step()
            seconds = (time.perf_counter() - start) / CALLS
            if number:  # the first compiles and warms up
                samples[name].append(seconds)
    if context.dry:
        return skipped("dry run: ran on the CPU backend, nothing timed")
    return green(**{name: summary(found) for name, found in samples.items()})


def tasks(context: Context) -> Iterator[Task]:
    """A task a backend and layer's op."""
    for backend in context.backends:
        for layer in OPS:
            yield Task(f"host/{backend}/{layer}", lambda b=backend, name=layer: _measure(name, b, context))


STEP = Step("host", "host time of a call", tasks)
