"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Examples are small, but a busy machine may take any time for one.
settings.register_profile("gattn", deadline=None, max_examples=50)
settings.load_profile("gattn")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: one that a worker begins last, the others wait for."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def data_copy(tmp_path: Path) -> Callable[[str], Path]:
    """A function from a folder under ``$GATTN_DATA`` (say ``"planetoid"``) to a writable copy of it.

    PyG writes ``processed/`` beside ``raw/``, so the original is never handed out, and every test has a copy of
    its own: what one transforms before it saves, another would load. Skips where the variable is not set; a
    variable that points nowhere is a mistake and fails.
    """

    def copy(name: str) -> Path:
        root = os.environ.get("GATTN_DATA")
        if not root:
            pytest.skip("set GATTN_DATA to the folder of data sets to run this")
        place = tmp_path / "data" / name
        if not place.exists():
            raw = shutil.ignore_patterns("processed")
            shutil.copytree(Path(root) / name, place, copy_function=shutil.copyfile, ignore=raw)
            for folder in [place, *place.rglob("*/")]:
                folder.chmod(0o755)
        return place

    return copy
