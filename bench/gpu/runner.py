"""Runs tasks one after the other, whatever happens to any of them, and keeps every result at once."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from gattn.bench.gpu.task import Context, Result, Step, Task, skipped

from gattn.files import write_json

SCHEMA = "gpu-1"
#: Facts that results must share to stand in one file.
SAME = ("device", "packages", "sources")


class Record:
    """The file of a run: as it goes, and as an earlier run on the same machine and software left it."""

    def __init__(self, path: Path | None, machine: dict[str, Any], *, fresh: bool = False) -> None:
        self.path, self._saved = path, 0.0
        self.data: dict[str, Any] = {
            "schema": SCHEMA,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "finished": False,
            "machine": json.loads(json.dumps(machine)),
            "results": {},
        }
        if path is not None and path.is_file() and not fresh:
            earlier = json.loads(path.read_text())
            if earlier.get("schema") == SCHEMA and not self._differences(earlier["machine"]):
                # What failed may have failed for want of something that is there now.
                kept = {k: r for k, r in earlier["results"].items() if r["status"] not in ("failed", "skipped")}
                self.data.update(created=earlier["created"], results=kept)
        self.save()

    def _differences(self, machine: dict[str, Any]) -> list[str]:
        return [name for name in SAME if machine.get(name) != self.data["machine"].get(name)]

    @property
    def results(self) -> dict[str, Result]:
        """Results by the task's key."""
        found: dict[str, Result] = self.data["results"]
        return found

    def save(self, *, seldom: bool = False) -> None:
        """Writes the file, whole; ``seldom``, not within a second of the last time."""
        if self.path is not None and not (seldom and time.monotonic() - self._saved < 1.0):
            write_json(self.path, self.data)
            self._saved = time.monotonic()

    def finish(self) -> None:
        """Marks the run as complete."""
        self.data["finished"] = True
        self.save()


def run(steps: Iterable[Step], context: Context, record: Record) -> list[str]:
    """Runs what the record does not hold yet. Returns the keys for which there was no time."""
    context.results = record.results
    try:
        return _run(steps, context, record)
    finally:
        record.save()


def _run(steps: Iterable[Step], context: Context, record: Record) -> list[str]:
    late: list[str] = []
    for step in steps:
        context.tell(f"{step.title} ({max(0, round(context.left()))} s left)")
        for task in step.tasks(context):
            if task.key in record.results:
                continue
            if context.left() <= 0:
                late.append(task.key)
                continue
            result = _attempt(task, context)
            record.results[task.key] = result
            record.save(seldom=True)
            reason = f": {result['reason']}" if result.get("reason") else ""
            context.tell(f"  {task.key} {result['status']}{reason}")
            if result["status"] in ("failed", "out of memory"):
                free(context.device)
            if not alive(context.device):
                context.tell("the GPU answers no more; run again, the rest will go on from here")
                return late
    if not late:
        record.finish()
    return late


def attempt(call: Callable[[], Result]) -> Result:
    """The call's result, or what became of it."""
    try:
        return call()
    except torch.OutOfMemoryError as error:
        return {"status": "out of memory", "reason": str(error).splitlines()[0]}
    except Exception as error:  # kernels, drivers and other people's code: any of it may fail, and that is a result
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:400]
        return {"status": "failed", "reason": f"{type(error).__name__}: {text} ({place.name}, line {place.lineno})"}


def _attempt(task: Task, context: Context) -> Result:
    if context.dry and task.needs_gpu:
        return skipped("needs a GPU")
    return attempt(task.run)


def free(device: torch.device) -> None:
    """Gives back what is no longer used, after an error too."""
    gc.collect()
    if device.type == "cuda" and alive(device):
        torch.cuda.empty_cache()


def alive(device: torch.device) -> bool:
    """Whether the device still computes: after an illegal access it does not, until the process ends."""
    if device.type == "cpu":
        return True
    try:
        torch.zeros(1, device=device).item()
    except RuntimeError:
        return False
    return True
