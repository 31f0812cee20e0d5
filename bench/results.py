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
    """A run's results as plain JSON types, kept on disk when there is a path.

    With ``resume`` it goes on from what an interrupted run left at ``path``, without the graph it was at.

    Raises:
        ValueError: ``resume`` and the file is of another schema, or of other settings, software or machine: one table
            must not mix them.
    """

    def __init__(
        self, path: Path | None, settings: dict[str, Any], machine: dict[str, Any], *, resume: bool = False
    ) -> None:
        self.path = path
        self.data: dict[str, Any] = {
            "schema": SCHEMA,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "finished": False,
            "settings": json.loads(json.dumps(settings)),
            "machine": machine,
            "limits": {},
            "graphs": [],
        }
        if resume and path is not None and path.exists():
            self.data = _continue(path, self.data)
        self.save()

    def has(self, case: dict[str, Any]) -> bool:
        """Whether the graph has been measured, all of it."""
        return any(graph["case"] == case for graph in self.data["graphs"])

    def save(self) -> None:
        if self.path is not None:
            write_json(self.path, self.data)

    def finish(self) -> None:
        self.data["finished"] = True
        self.save()


def _continue(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """What is stored at ``path``, if it was measured as ``fresh`` would be, less what is incomplete."""
    (data,) = _read([path])
    for part, keys in (("settings", fresh["settings"]), ("machine", ("cpu", "core", "environment", "packages", "git"))):
        for key in keys:
            if data[part].get(key) != fresh[part].get(key):
                raise ValueError(
                    f"{path}: its {part} have {key} {data[part].get(key)!r}, this run {fresh[part].get(key)!r}; leave "
                    f"--resume out to start anew, or write to another file"
                )
    return {**data, "finished": False, "graphs": [graph for graph in data["graphs"] if graph["complete"]]}


def _read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    runs = []
    for path in sorted(paths):
        data = json.loads(path.read_text())
        if data.get("schema") != SCHEMA:
            raise ValueError(f"{path}: got schema {data.get('schema')!r}, expected {SCHEMA}; run the benchmark again")
        runs.append(data)
    return runs


def load(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Finished runs from JSON files; raises :class:`ValueError` for a file of another schema."""
    return [data for data in _read(paths) if data["finished"]]


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
