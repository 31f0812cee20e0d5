"""What every subcommand says to a person: progress, tables, JSON, and mistakes in one line.

Standard output carries the result only; progress and messages go to standard error, so that
``gattn ... --json | jq`` works whatever else is shown.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class UsageError(Exception):
    """A mistake of the caller: printed as one line, exit status 2."""


def require(module: str, purpose: str, extra: str = "") -> ModuleType:
    """Import an optional dependency, or raise :class:`UsageError` saying what needs it, and which of gattn's extras
    has it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn"}.get(module.split(".")[0], module.split(".")[0])
        with_it = f", or gattn[{extra}]" if extra else ""
        raise UsageError(f"{purpose} needs {package} ({error}): pip install {package}{with_it}") from error


def say(text: str = "") -> None:
    """A message for the person at the terminal (standard error)."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """The result of a ``--json`` run, the only thing on standard output."""
    print(json.dumps(value, indent=2, allow_nan=False))


def table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> str:
    """Aligned columns; the first is text, the others are numbers and flush right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """``75`` -> ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A bar with an estimate of the time left on a terminal, otherwise a plain line now and then.

    ``done`` units of work, of ``total``, may already be finished when a run is resumed; they do not
    count in the estimate.
    """

    def __init__(self, total: int, unit: str, done: int = 0, interval: float = 10.0) -> None:
        self.total, self.unit, self.done, self.interval = total, unit, done, interval
        self.start, self.first, self.last_line = time.monotonic(), done, float("-inf")
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit=unit, file=sys.stderr, dynamic_ncols=True)

    def advance(self, text: str, steps: int = 1) -> None:
        """Count ``steps`` units as done and show ``text`` beside them."""
        self.done += steps
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(steps)
            return
        now = time.monotonic()
        if now - self.last_line < self.interval and self.done < self.total:
            return
        self.last_line = now
        spent = now - self.start
        left = spent / (self.done - self.first) * (self.total - self.done)
        say(f"{self.unit} {self.done}/{self.total}  {text}  {duration(spent)} spent, {duration(left)} left")

    def message(self, text: str) -> None:
        """A line that must not tear the bar."""
        if self.bar is None:
            say(text)
        else:
            self.bar.write(text, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
