"""Block sizes that ``gattn tune`` has found for a GPU, kept in a file: choices are timed once, not in every run.

Sums are taken in an order that the block sizes decide, so results are the same bits from run to run as long as the
file is the same; without one, a fixed rule decides (:mod:`gattn.kernels.choices`).
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gattn.backends import interprets_triton
from gattn.files import write_json

#: Names the file; empty for none.
VARIABLE = "GATTN_BLOCKS"
#: What is chosen, and the values it may have.
OPTIONS = {"elements": tuple(1 << n for n in range(4, 15)), "warps": (1, 2, 4, 8, 16)}


class Key(NamedTuple):
    """What block sizes are chosen for; the dtype is that of features, such as ``"float32"``."""

    kernel: str
    score: str
    heads: int
    channels: int
    dtype: str


_TYPES = (str, str, int, int, str)


def path() -> Path | None:
    """The file: the one ``GATTN_BLOCKS`` names or, where there is a GPU, one of its name in the user's cache."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if interprets_triton() or not torch.cuda.is_available():
        return None
    device = re.sub(r"\W+", "-", torch.cuda.get_device_name()).strip("-").lower()
    return Path.home() / ".cache" / "gattn" / f"blocks-{device}.json"


def load(file: Path) -> dict[Key, dict[str, int]]:
    """What a file holds; nothing if there is none.

    Raises:
        ValueError: It is not one of ``gattn tune``'s.
    """
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    try:
        entries = json.loads(text)["blocks"]
        found = {Key(*(entry[name] for name in Key._fields)): entry["options"] for entry in entries}
        for key, options in found.items():
            if any(type(value) is not kind for value, kind in zip(key, _TYPES, strict=True)):
                raise ValueError(f"{key}")
            if any(value not in OPTIONS.get(name, ()) for name, value in options.items()):
                raise ValueError(f"{options} of {key}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected block sizes written by 'gattn tune' in {file} (got {error!r}). Delete the file or name another "
            f"with {VARIABLE}."
        ) from error
    return found


def save(file: Path, blocks: dict[Key, dict[str, int]], **facts: Any) -> None:
    """Writes ``blocks``, and what else should be known of how they were found."""
    entries = [{**key._asdict(), "options": options} for key, options in blocks.items()]
    write_json(file, {**facts, "blocks": entries})


@cache
def table() -> dict[Key, dict[str, int]]:
    """What :func:`path` holds, read once a process."""
    file = path()
    return {} if file is None else load(file)
