"""The shapes that others have published times for: one head of 128 channels, fp16, the dot score's forward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from gattn.bench.gpu import ops
from gattn.bench.gpu.cases import CASES, reduced
from gattn.bench.gpu.task import Context, Result, Step, Task, green, skipped
from gattn.bench.gpu.timing import alternate
from gattn.bench.layers import LAYERS

#: Seconds of Fused3S on a GH200, by the real graphs' names (Li and Chandramowlishwaran, Fused3S, ICS 2025); here
#: power-law graphs of their sizes, with a self-loop a node, stand in.
FUSED3S = {"cora": 19e-6, "pubmed": 31e-6, "reddit": 9.16e-3, "products": 25.3e-3}
HEADS, CHANNELS = 1, 128


def _measure(size: str, backend: str, context: Context) -> Result:
    if refusal := context.distrust(backend, "dot", "fp16"):
        return refusal
    case = replace(CASES[f"{size}-rmat"], heads=HEADS, channels=CHANNELS)
    if context.dry:
        case = reduced(case)
    steps = ops.steps_of(LAYERS["transformer"], case, torch.float16, context.device, context.timed(backend))
    if context.dry:
        steps["forward"]()
        return skipped("dry run: ran on the CPU backend, nothing timed")
    times = alternate({"forward": steps["forward"]}, context.device)
    return green(nodes=case.num_nodes, edges=case.num_edges, published=FUSED3S[size], **times)


def tasks(context: Context) -> Iterator[Task]:
    """A task a backend and graph."""
    for size in FUSED3S:
        for backend in context.backends:
            yield Task(f"published/{backend}/{size}", lambda s=size, b=backend: _measure(s, b, context))


STEP = Step("published", "published shapes", tasks)
