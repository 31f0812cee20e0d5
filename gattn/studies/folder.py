"""A study's output folder: settings, a line a finished run, the report.

settings.json   protocol, and of every session its grid, time and machine
results.jsonl   one line for every finished run; null stands for what is no finite number
checkpoint.pt   the run in progress; gone when it has finished
report.html     the report of the results there are, written at the end and after an interrupt
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from gattn.files import write_atomic, write_json
from gattn.studies.plan import Result
from gattn.terminal import UsageError


class StudyFolder:
    """Reads and writes the files of one study below ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings, self.results, self.report = path / "settings.json", path / "results.jsonl", path / "report.html"
        self.checkpoint = path / "checkpoint.pt"

    def open(
        self, settings: dict[str, Any], session: dict[str, Any], *, resume: bool, overwrite: bool
    ) -> dict[str, Any]:
        """Starts a study, or goes on with the one that is here: maybe a larger grid, but the same ``settings``.

        Returns:
            ``settings`` with the list of all sessions, this one last.
        """
        sessions = []
        if self.settings.exists() and not overwrite:
            if not resume:
                raise UsageError(f"{self.path} holds a study: give --resume, --overwrite, or another --out")
            saved = json.loads(self.settings.read_text())
            for part, asked in settings.items():
                if saved[part] != asked:
                    raise UsageError(
                        f"{self.path} holds a study with {part} {saved[part]}, not {asked}; results of both must not "
                        f"stand in one table: give another --out"
                    )
            sessions = saved["sessions"]
            self._mend()
        elif resume:
            raise UsageError(f"{self.path} holds no study to resume")
        else:
            for file in (self.results, self.report, self.checkpoint):
                file.unlink(missing_ok=True)
        written = {**settings, "sessions": [*sessions, session]}
        write_json(self.settings, written)
        return written

    def append(self, result: Result) -> None:
        """Adds a finished run; it can be read at once, and its checkpoint goes."""
        with self.results.open("a") as file:
            file.write(json.dumps({name: _finite(value) for name, value in result.items()}, allow_nan=False) + "\n")
        self.checkpoint.unlink(missing_ok=True)

    def read(self) -> list[Result]:
        """All finished runs."""
        return [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint of the run in progress."""
        write_atomic(self.checkpoint, lambda file: torch.save(state, file))

    def load(self) -> dict[str, Any] | None:
        """The checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return None
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        return state

    def _mend(self) -> None:
        """Cuts off a line that a crash has left without its end."""
        if self.results.exists():
            with self.results.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)


def _finite(value: Any) -> Any:
    """``value`` with ``None`` for NaN and infinities, which JSON does not have."""
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
