"""A study's output folder: settings, a line a finished run, the report.

settings.json   protocol, grid and machine
results.jsonl   one line for every finished run
report.html     the report of the results there are, written at the end and after an interrupt
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gattn.files import write_json
from gattn.studies.plan import Result
from gattn.terminal import UsageError


class StudyFolder:
    """Reads and writes the files of one study below ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings, self.results, self.report = path / "settings.json", path / "results.jsonl", path / "report.html"

    def open(self, settings: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Starts a study, or goes on with the one that is here: a larger grid, the same protocol."""
        if self.settings.exists() and not overwrite:
            if not resume:
                raise UsageError(f"{self.path} holds a study: give --resume, --overwrite, or another --out")
            saved = json.loads(self.settings.read_text())
            for part in ("study", "protocol"):
                if saved[part] != settings[part]:
                    raise UsageError(
                        f"{self.path} holds a study with {part} {saved[part]}, not {settings[part]}; results of both "
                        f"must not stand in one table: give another --out"
                    )
            self._mend()
        elif resume:
            raise UsageError(f"{self.path} holds no study to resume")
        else:
            for file in (self.results, self.report):
                file.unlink(missing_ok=True)
        write_json(self.settings, settings)

    def append(self, result: Result) -> None:
        """Adds a finished run; it can be read at once."""
        with self.results.open("a") as file:
            file.write(json.dumps(result, allow_nan=True) + "\n")

    def read(self) -> list[Result]:
        """All finished runs."""
        return [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []

    def _mend(self) -> None:
        """Cuts off a line that a crash has left without its end."""
        if self.results.exists():
            with self.results.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
