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


@pytest.fixture(scope="session")
def data_copy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a folder under ``$GATTN_DATA`` (say ``"planetoid"``) to a writable copy of it.

    PyG writes ``processed/`` beside ``raw/``, so the original is never handed out. Skips where the variable
    is not set; a variable that points nowhere is a mistake and fails.
    """
    copies: dict[str, Path] = {}

    def copy(name: str) -> Path:
        root = os.environ.get("GATTN_DATA")
        if not root:
            pytest.skip("set GATTN_DATA to the folder of data sets to run this")
        if name not in copies:
            copies[name] = tmp_path_factory.mktemp("data") / name
            shutil.copytree(Path(root) / name, copies[name], copy_function=shutil.copyfile)
            for folder in [copies[name], *copies[name].rglob("*/")]:
                folder.chmod(0o755)
        return copies[name]

    return copy
