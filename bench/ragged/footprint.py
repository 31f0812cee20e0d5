"""Peak memory of one contender's forward and backward, in this process: ``python -m gattn.bench.ragged.footprint``."""

from __future__ import annotations

from typing import Any

import torch
from gattn.bench import memory
from gattn.bench.ragged.batches import load
from gattn.bench.ragged.contenders import CONTENDERS, Problem, step


def measured(request: dict[str, Any]) -> memory.Footprint:
    """Of the batch, widths, dropout, contender and threads that the request names."""
    torch.set_num_threads(request["threads"])
    batch = load(request["batch"], request["graphs"])
    problem = Problem.build(batch, request["heads"], request["channels"], request["dropout_p"], torch.float32)
    _, make = CONTENDERS[request["contender"]]
    return memory.footprint(step(problem, make(problem), backward=request["backward"]))


if __name__ == "__main__":
    memory.answer(measured)
