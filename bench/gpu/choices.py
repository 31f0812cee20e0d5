"""The table by which gattn chooses between its backends on a GPU, from the ops' times (:mod:`gattn.gpu_choice`)."""

from __future__ import annotations

from typing import Any

from gattn.bench.gpu.ops import total
from gattn.bench.gpu.problems import OPS
from gattn.bench.gpu.task import DTYPES, Result

from gattn.gpu_choice import RIVALS


def cases(results: dict[str, Result]) -> list[dict[str, Any]]:
    """Every case that all rivals were timed on, as :func:`gattn.gpu_choice.load` reads it."""
    timed: dict[tuple[str, ...], dict[str, Result]] = {}
    for key, result in results.items():
        step, *rest = key.split("/")
        if step == "ops" and result["status"] == "green":
            backend, *chosen = rest
            timed.setdefault(tuple(chosen), {})[backend] = result
    found = []
    for (layer, _, dtype), by_backend in timed.items():
        if by_backend.keys() >= set(RIVALS):
            facts = by_backend[RIVALS[0]]
            found.append(
                {
                    "score": OPS[layer],
                    "dtype": str(DTYPES[dtype]).removeprefix("torch."),
                    **{name: facts[name] for name in ("heads", "channels", "nodes", "edges")},
                    **{name: total(by_backend[name]) for name in RIVALS},
                }
            )
    return found
