"""Which of two backends for GPUs is taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gattn import cuda_core, gpu_choice
from gattn.backends import select_backend
from gattn.gpu_choice import Case

backends = sys.modules["gattn.backends"]  # the package's attribute of that name is the function

SMALL = {"score": "gat", "dtype": "float32", "heads": 8, "channels": 8, "nodes": 2_708, "edges": 13_264}
LARGE = {**SMALL, "heads": 4, "channels": 32, "nodes": 169_343, "edges": 1_335_586}
HALF = {**LARGE, "dtype": "bfloat16"}
TIMES = [
    {**SMALL, "cuda": 2e-5, "triton": 3e-5},
    {**LARGE, "cuda": 5e-4, "triton": 4e-4},
    {**HALF, "cuda": 3e-4, "triton": 4e-4},
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The table in use here."""
    path = tmp_path / "choices.json"
    path.write_text(json.dumps({"cases": TIMES}))
    monkeypatch.setenv(gpu_choice.VARIABLE, str(path))
    for cached in (gpu_choice.table, gpu_choice.faster):
        cached.cache_clear()
    yield path
    for cached in (gpu_choice.table, gpu_choice.faster):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case("gat", "float32", 8, 8, 3_000, 15_000), "cuda"),
        (Case("gat", "float32", 4, 32, 200_000, 2_000_000), "triton"),
        (Case("gat", "bfloat16", 8, 8, 2_708, 13_264), "cuda"),  # the dtype counts more than the size
        (Case("dot", "float32", 4, 32, 200_000, 2_000_000), "triton"),
        (Case("gat", "float32", 4, 32), "triton"),  # sizes unknown
        (Case("gat", "float32", 4, 32, 5, 0), "triton"),
    ],
)
@pytest.mark.usefixtures("file")
def test_the_nearest_case_decides(case: Case, expected: str) -> None:
    assert gpu_choice.faster(case) == expected


def test_without_a_table_it_is_cuda(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_choice.VARIABLE, "")
    assert gpu_choice.faster(Case("gat", "float32", 4, 32, 200_000, 2_000_000)) == "cuda"


@pytest.mark.parametrize("text", ["", "[]", '{"cases": [{"score": "gat"}]}'])
def test_another_file_is_an_error_that_names_it(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ValueError, match=r"written by 'make gpu-report' in .*choices\.json"):
        gpu_choice.table()


@pytest.mark.parametrize(
    ("compiled", "triton", "expected"),
    [(True, True, "triton"), (True, False, "cuda"), (False, True, "triton"), (False, False, "reference")],
)
@pytest.mark.usefixtures("file")
def test_what_is_usable_comes_first(
    compiled: bool, triton: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core: Any = SimpleNamespace(cuda_device="cuda") if compiled else None
    monkeypatch.setattr(cuda_core, "core", core)
    monkeypatch.setattr(backends, "interprets_triton", lambda: False)
    monkeypatch.setattr(backends, "_missing_triton", lambda: "" if triton else "not there")
    case = Case("gat", "float32", 4, 32, 200_000, 2_000_000)
    assert select_backend(None, torch.device("cuda"), case) == expected
    assert select_backend(None, torch.device("cpu"), case) == "cpu"
