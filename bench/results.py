"""The JSON file of a run: written again after every measurement, so an interrupt loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gattn.files import write_json

SCHEMA = 1
#: Results that README and docs/benchmarks.md are made from.
DIRECTORY = Path(__file__).resolve().parent / "results"


class Record:
    """A run's results as plain JSON types, kept on disk when there is a path."""

    def __init__(self, path: Path | None, settings: dict[str, Any], machine: dict[str, Any]) -> None:
        self.path = path
        self.data: dict[str, Any] = {
            "schema": SCHEMA,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "finished": False,
            "settings": settings,
            "machine": machine,
            "limits": {},
            "graphs": [],
        }
        self.save()

    def save(self) -> None:
        if self.path is not None:
            write_json(self.path, self.data)

    def finish(self) -> None:
        self.data["finished"] = True
        self.save()


def load(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Finished runs from JSON files; raises :class:`ValueError` for a file of another schema."""
    runs = []
    for path in sorted(paths):
        data = json.loads(path.read_text())
        if data.get("schema") != SCHEMA:
            raise ValueError(f"{path}: got schema {data.get('schema')!r}, expected {SCHEMA}; run the benchmark again")
        if data["finished"]:
            runs.append(data)
    return runs


def ratio(graph: dict[str, Any], peer: str, what: str = "median") -> float | None:
    """How many times gattn's ``median`` time or ``step_peak`` memory the peer takes; ``None`` if unknown."""
    contenders, group = graph["contenders"], "time" if what == "median" else "memory"
    values = [contenders.get(name, {}).get(group, {}).get(what) for name in (peer, "gattn")]
    return values[0] / values[1] if all(values) else None


def over_limit(graph: dict[str, Any], direction: str) -> float | None:
    """The kernel's ``forward`` or ``backward`` time over the gather limit of the rows it must read."""
    kernel = graph.get("kernel", {})
    limit = "gather" if direction == "forward" else "gather_transposed"
    return kernel[direction]["median"] / kernel[limit]["median"] if limit in kernel else None
