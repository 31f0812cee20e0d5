"""What a study is: a protocol, a grid of runs, and what it makes of their results."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

from gattn.studies.page import Section

#: One run's key and what came of it, as plain JSON types.
Result = dict[str, Any]
#: Called after some epochs of a run: how many, and a word on how it stands. Raises to end the study.
Tick = Callable[[int, str], None]


@dataclass(frozen=True)
class Run:
    """One training: its place in the grid, and what it costs at most in epochs and layers."""

    key: dict[str, Any]
    epochs: int

    @property
    def cost(self) -> int:
        return self.epochs * int(self.key["depth"])


class Study(Protocol):
    """A module of this package; :data:`gattn.studies.cli.STUDIES` lists them."""

    TITLE: str
    #: Options of the grid, by their name: default, ``--quick``'s default, type, help.
    GRID: dict[str, tuple[Sequence[Any], Sequence[Any], Callable[[str], Any], str]]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Options of the protocol."""

    def protocol(self, args: argparse.Namespace) -> dict[str, Any]:
        """What two runs must have in common to stand in one table."""

    def runs(self, protocol: dict[str, Any], grid: dict[str, list[Any]]) -> list[Run]:
        """All runs of the grid, cheap ones first."""

    def train(self, run: Run, protocol: dict[str, Any], tick: Tick) -> Result:
        """Does one run."""

    def sections(self, protocol: dict[str, Any], results: list[Result]) -> list[Section]:
        """What the report shows of the results there are."""


def grid_keys(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the grid's values; the seeds ``range(seeds)`` vary slowest, so that a part of a study is
    a whole study of fewer seeds."""
    names = [name for name in grid if name != "seeds"]
    for seed in range(grid["seeds"][0]):
        for values in product(*(grid[name] for name in names)):
            yield {**{name.rstrip("s"): value for name, value in zip(names, values, strict=True)}, "seed": seed}
