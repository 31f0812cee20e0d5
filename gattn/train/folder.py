"""A run's output folder: configuration, metrics as they come, checkpoint, models, figure, summary.

config.json      the options
metrics.jsonl    one line per variant, seed and epoch
checkpoint.pt    the state to resume from; gone when the run has finished
models/          the selected parameters of every variant and seed
summary.json     written last: its presence means the run has finished
curves.png       learning curves
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from gattn.files import write_atomic, write_json
from gattn.terminal import UsageError
from gattn.train.config import Config, merge_saved
from gattn.train.trainer import Record


class RunFolder:
    """Reads and writes the files of one run below ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.metrics = path / "config.json", path / "metrics.jsonl"
        self.checkpoint, self.summary = path / "checkpoint.pt", path / "summary.json"
        self.curves = path / "curves.png"

    def create(self, config: Config, overwrite: bool) -> None:
        """Start a new run; an earlier one is only replaced when told to."""
        if self.config.exists():
            if not overwrite:
                what = "a finished run: give" if self.summary.exists() else "an unfinished run: give --resume,"
                raise UsageError(f"{self.path} holds {what} --overwrite, or another --out")
            self._clear()
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and holds no run of ours: give another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, dataclasses.asdict(config))

    def _clear(self) -> None:
        for file in (self.summary, self.checkpoint, self.metrics, self.curves, self.config):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.path / "models", ignore_errors=True)

    def resume(self, asked: Config) -> Config:
        """The configuration of the unfinished run that is here."""
        if not self.config.exists():
            raise UsageError(f"{self.path} holds no run to resume")
        if self.summary.exists():
            raise UsageError(f"the run in {self.path} has finished; nothing to resume")
        return merge_saved(asked, json.loads(self.config.read_text()))

    def append(self, records: list[Record]) -> None:
        """Add lines to metrics.jsonl; they can be read at once."""
        with self.metrics.open("a") as file:
            file.writelines(json.dumps(record, allow_nan=True) + "\n" for record in records)

    def records(self) -> list[Record]:
        """All metrics so far."""
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]

    def save(self, seed: int, trainers: list[dict[str, Any]]) -> None:
        """Write the checkpoint: where the run stands, and how long metrics.jsonl is at that point."""
        size = self.metrics.stat().st_size if self.metrics.exists() else 0
        state = {"seed": seed, "trainers": trainers, "metrics_bytes": size}
        write_atomic(self.checkpoint, lambda file: torch.save(state, file))

    def load(self) -> dict[str, Any] | None:
        """The checkpoint, later lines of metrics.jsonl cut off; ``None``: start from the beginning."""
        if not self.checkpoint.exists():
            self.metrics.unlink(missing_ok=True)
            return None
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        if self.metrics.exists():
            with self.metrics.open("r+b") as file:
                file.truncate(state["metrics_bytes"])
        return state

    def save_model(self, name: str, parameters: dict[str, Any]) -> None:
        """Keep the parameters selected for one variant and seed."""
        write_atomic(self.path / "models" / f"{name}.pt", lambda file: torch.save(parameters, file))

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is complete."""
        write_json(self.summary, summary)
        self.checkpoint.unlink(missing_ok=True)
