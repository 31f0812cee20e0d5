"""The options of a training run: one dataclass that is the command line, the saved file and the default.

Defaults are those of the GAT paper (Velickovic et al. 2018) as in PyTorch Geometric's ``examples/gat.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from gattn.terminal import UsageError


def _option(default: Any, help: str, **argument: Any) -> Any:
    return field(default=default, metadata={"help": help, **argument})


def _at_least(minimum: int) -> Any:
    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {value}")
        return value

    return integer


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1), got {value}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be finite and not negative, got {value}")
    return value


@dataclass(frozen=True)
class Config:
    """What is trained and how. Two runs with equal configurations do the same arithmetic."""

    dataset: str = _option("digits", "digits, karate, a PyG data set (Cora), or Class:name (Amazon:Photo)")
    root: str | None = _option(None, "writable folder of PyG's raw files (default: a copy of $GATTN_DATA)")
    split: int = _option(0, "which split, of a data set that has several", type=_at_least(0))
    compare: bool = _option(False, "train PyG's GATConv beside it from the same seeds", action="store_true")
    layer: str = _option("gattn", "the layer to train", choices=("gattn", "pyg"))
    layers: int = _option(2, "attention layers", type=_at_least(1))
    hidden: int = _option(8, "hidden channels of each head", type=_at_least(1))
    heads: int = _option(8, "heads of the hidden layers", type=_at_least(1))
    out_heads: int = _option(1, "heads of the last layer, averaged", type=_at_least(1))
    dropout: float = _option(0.6, "dropout of each layer's input", type=_probability)
    attention_dropout: float = _option(0.6, "dropout of the attention weights", type=_probability)
    negative_slope: float = _option(0.2, "slope of the scores' leaky ReLU", type=float)
    residual: bool = _option(False, "learned skip connection around every layer", action="store_true")
    raw_features: bool = _option(False, "do not scale PyG's features to rows of sum 1", action="store_true")
    lr: float = _option(0.005, "Adam's learning rate", type=_not_negative)
    weight_decay: float = _option(5e-4, "Adam's weight decay", type=_not_negative)
    epochs: int = _option(200, "epochs", type=_at_least(1))
    patience: int = _option(0, "stop after so many epochs without improvement (0: never)", type=_at_least(0))
    seed: int = _option(0, "the first run's seed", type=_at_least(0))
    runs: int = _option(1, "train this many times, with seed, seed + 1, ...", type=_at_least(1))
    threads: int = _option(0, "threads (0: torch's default)", type=_at_least(0))

    @property
    def variants(self) -> tuple[str, ...]:
        """The layers trained side by side."""
        return ("gattn", "pyg") if self.compare else (self.layer,)

    @property
    def folder_name(self) -> str:
        """The run's default folder under ``runs/``."""
        what = "compare" if self.compare else self.layer
        return f"{self.dataset.replace(':', '-')}-{what}-{self.layers}x{self.heads}x{self.hidden}"


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """One command line option for every field of :class:`Config`."""
    for option in dataclasses.fields(Config):
        flag = "--" + option.name.replace("_", "-")
        parser.add_argument(flag, default=option.default, **option.metadata)


def from_arguments(args: argparse.Namespace) -> Config:
    """The configuration that the command line asks for."""
    return Config(**{option.name: getattr(args, option.name) for option in dataclasses.fields(Config)})


def merge_saved(asked: Config, saved: dict[str, Any]) -> Config:
    """The saved configuration of a run to resume; options given on the command line must agree with it."""
    try:
        config = Config(**saved)
    except TypeError as error:
        raise UsageError(f"config.json is not one of this version's: {error}") from error
    for option in dataclasses.fields(Config):
        now, then = getattr(asked, option.name), getattr(config, option.name)
        if now not in (then, option.default):
            flag = "--" + option.name.replace("_", "-")
            raise UsageError(f"{flag} {now} differs from {then} of the run to resume: leave it out")
    return config
