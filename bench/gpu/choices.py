"""The table by which gattn chooses between its backends and sorts on a GPU (:mod:`gattn.gpu_choice`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gattn.bench.gpu.ops import total
from gattn.bench.gpu.problems import OPS
from gattn.bench.gpu.task import DTYPES, Result

from gattn.gpu_choice import RIVALS, SORTS


def table(results: dict[str, Result]) -> dict[str, list[dict[str, Any]]]:
    """Everything that all who could be chosen were timed on, as :func:`gattn.gpu_choice.load` reads it."""
    return {"cases": _cases(results), "graphs": list(_graphs(results))}


def _graphs(results: dict[str, Result]) -> Iterator[dict[str, Any]]:
    """The time of building each."""
    for key, found in results.items():
        if key.startswith("graphs/") and found["status"] == "green" and found["times"].keys() >= set(SORTS):
            medians = {sort: found["times"][sort]["median"] for sort in SORTS}
            yield {"nodes": found["nodes"], "edges": found["edges"], **medians}


def _cases(results: dict[str, Result]) -> list[dict[str, Any]]:
    """The time of each op, forward and backward."""
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
