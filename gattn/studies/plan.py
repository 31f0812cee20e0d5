"""What a study is: a protocol, a grid of runs, and what it makes of their results."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

from gattn.studies.page import Section

if TYPE_CHECKING:
    from gattn.studies.loop import Loop

#: One run's key and what came of it: numbers, texts and lists of numbers. Read back, ``None`` is no finite number.
Result = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training: its place in the grid, the most epochs that it takes, and what one of a layer costs."""

    key: dict[str, Any]
    epochs: int
    size: int = 1

    @property
    def name(self) -> str:
        return " ".join(map(str, self.key.values()))

    @property
    def depth(self) -> int:
        return int(self.key["depth"])

    @property
    def epoch_cost(self) -> int:
        """In the study's ``UNIT``."""
        return self.depth * self.size

    @property
    def cost(self) -> int:
        """At most."""
        return self.epochs * self.epoch_cost


class Study(Protocol):
    """A module of this package; :data:`gattn.studies.cli.STUDIES` lists them."""

    TITLE: str
    #: What progress is counted in.
    UNIT: str
    #: Options of the grid, by their name: default, ``--quick``'s default, type, help.
    GRID: dict[str, tuple[Sequence[Any], Sequence[Any], Callable[[str], Any], str]]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Options of the protocol."""

    def protocol(self, args: argparse.Namespace) -> dict[str, Any]:
        """What two runs must have in common to stand in one table."""

    def variant(self, protocol: dict[str, Any]) -> list[str]:
        """Words for what is not the default of the protocol and has a page of its own when it is published."""

    def runs(self, protocol: dict[str, Any], grid: dict[str, list[Any]]) -> list[Run]:
        """All runs, in the order of :func:`grid_keys`."""

    def train(self, run: Run, protocol: dict[str, Any], loop: Loop) -> Result:
        """Does one run, in the epochs that ``loop`` gives; torch is seeded."""

    def sections(self, protocol: dict[str, Any], results: list[Result]) -> list[Section]:
        """What the report shows of the results there are."""


def grid_keys(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the grid's values, once. All of seed 0 come before seed 1, so that a part of a study is a
    whole study of fewer seeds, and shallow networks, which are the cheap ones, before deep ones."""
    names = [name for name in grid if name not in ("seeds", "depths")]
    for seed, depth in product(range(grid["seeds"][0]), sorted(set(grid["depths"]))):
        for values in product(*(dict.fromkeys(grid[name]) for name in names)):
            key = {name.rstrip("s"): value for name, value in zip(names, values, strict=True)}
            yield {**key, "depth": depth, "seed": seed}


def bounded(kind: type[int | float], least: float, most: float = math.inf) -> Callable[[str], Any]:
    """An option's type: a finite number of ``kind`` between the two; a float must be larger than ``least``."""

    def convert(text: str) -> int | float:
        value = kind(text)
        if not (math.isfinite(value) and least <= value <= most) or (kind is float and value == least):
            lower = "greater than" if kind is float else "at least"
            upper = f" and at most {most:g}" if math.isfinite(most) else ""
            raise argparse.ArgumentTypeError(f"must be {lower} {least:g}{upper}, got {text}")
        return value

    convert.__name__ = kind.__name__  # argparse says "invalid int value"
    return convert
