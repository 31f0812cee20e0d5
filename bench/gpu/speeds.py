"""All speeds, of ops and of layers in turn, so that a run that ends early has both of what matters most."""

from __future__ import annotations

from collections.abc import Iterator

from gattn.bench.gpu import layers, ops
from gattn.bench.gpu.problems import plan
from gattn.bench.gpu.task import Context, Step, Task


def _tasks(context: Context) -> Iterator[Task]:
    for chosen in plan(context):
        for backend in context.backends:
            yield Task(ops.key(backend, chosen), lambda c=chosen, b=backend: ops.measure(c, b, context))
        yield Task(f"layers/{chosen.key}", lambda c=chosen: layers.measure(c, context))


STEP = Step("speeds", "ops against the limit, layers beside PyTorch Geometric's", _tasks)
