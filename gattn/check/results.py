"""The results file of a sweep, and the comparison of two."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gattn.files import write_json
from gattn.terminal import UsageError

FORMAT = 1
#: A group of scores has got worse when its worst or its median grew by more than this factor. The worst of a
#: few hundred random errors moves by some ten per cent from one instruction set to another, a median less.
WORST_GROWTH, MEDIAN_GROWTH = 1.5, 1.25
#: Scores below this are better than anyone needs; growth up to it is no regression.
UNIMPORTANT = 0.5

Entry = dict[str, Any]


@dataclass(frozen=True)
class Regression:
    """One thing that is worse than in the baseline."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Results:
    """Scores of every case by key ``op/dtype/backend/number``, as stored in a JSON file."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.header = {"format": FORMAT, **header}
        self.cases: dict[str, Entry] = {}

    def write(self, path: Path, complete: bool) -> None:
        """Replace the file by what is known so far."""
        write_json(path, {**self.header, "complete": complete, "cases": self.cases})

    @classmethod
    def read(cls, path: Path) -> Results:
        """A file of :meth:`write`; :class:`UsageError` if it is none."""
        try:
            content = json.loads(path.read_text())
            if content["format"] != FORMAT:
                raise UsageError(f"{path} has format {content['format']}; this version reads {FORMAT}")
            cases = content.pop("cases")
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is no results file of `gattn check`: {error}") from error
        results = cls(content)
        results.cases = cases
        return results

    @property
    def failed(self) -> list[str]:
        """Keys of the cases that did not pass."""
        return [key for key, entry in self.cases.items() if not entry["passed"]]

    def regressions(self, baseline: Results) -> list[Regression]:
        """What is worse here than in ``baseline``, over the cases that both have."""
        if self.header["seed"] != baseline.header["seed"]:
            raise UsageError(f"the baseline has --seed {baseline.header['seed']}, this sweep {self.header['seed']}")
        shared = [key for key in self.cases if key in baseline.cases]
        if not shared:
            raise UsageError("the baseline has none of this sweep's cases")
        found = [
            Regression(key, f"passed in the baseline, fails now ({self.cases[key]['reason']})")
            for key in shared
            if baseline.cases[key]["passed"] and not self.cases[key]["passed"]
        ]
        before, now = baseline._groups(shared), self._groups(shared)
        for group in sorted(before.keys() & now.keys()):
            for name, statistic, growth in (
                ("worst", max, WORST_GROWTH),
                ("median", statistics.median, MEDIAN_GROWTH),
            ):
                then, today = statistic(before[group]), statistic(now[group])
                if today > max(growth * then, UNIMPORTANT):
                    found.append(Regression(group, f"{name} error {today:.2f}, was {then:.2f}"))
        return found

    def _groups(self, keys: Iterable[str]) -> dict[str, list[float]]:
        """Scores by ``op/dtype/backend/tensor``."""
        groups: dict[str, list[float]] = {}
        for key in keys:
            for tensor, value in self.cases[key]["scores"].items():
                groups.setdefault(f"{key.rsplit('/', 1)[0]}/{tensor}", []).append(from_json(value))
        return groups

    def summary(self) -> list[tuple[str, int, float, float, str]]:
        """Rows of (op/dtype/backend/tensor, cases, median, worst, number of the worst case)."""
        worst: dict[str, tuple[float, str]] = {}
        for key, entry in self.cases.items():
            prefix, number = key.rsplit("/", 1)
            for tensor, value in entry["scores"].items():
                group = f"{prefix}/{tensor}"
                worst[group] = max(worst.get(group, (-1.0, "")), (from_json(value), number))
        groups = self._groups(self.cases)
        return [
            (group, len(values), statistics.median(values), *worst[group]) for group, values in sorted(groups.items())
        ]


def to_json(score: float) -> float | str:
    """JSON has no infinity; it is written as a string."""
    return score if math.isfinite(score) else "inf"


def from_json(score: float | str) -> float:
    """The inverse of :func:`to_json`."""
    return float(score)
