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
GRAPHS = [
    {"nodes": 2_708, "edges": 13_264, "torch": 1e-3, "cub": 2e-3},
    {"nodes": 200_000, "edges": 10_000_000, "torch": 4e-3, "cub": 3e-3},
    {"nodes": 2_000_000, "edges": 10_000_000, "torch": 4e-3, "cub": 5e-3},
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The table in use here."""
    path = tmp_path / "choices.json"
    path.write_text(json.dumps({"cases": TIMES, "graphs": GRAPHS}))
    monkeypatch.setenv(gpu_choice.VARIABLE, str(path))
    for cached in (gpu_choice.table, backends._fastest_on):
        cached.cache_clear()
    yield path
    for cached in (gpu_choice.table, backends._fastest_on):
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


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [(3_000, 15_000, "torch"), (0, 0, "torch"), (300_000, 9_000_000, "cub"), (3_000_000, 90_000_000, "torch")],
)
def test_the_nearest_graph_decides_what_sorts(
    nodes: int, edges: int, expected: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpu_choice.faster_sort(nodes, edges) == expected
    monkeypatch.setenv(gpu_choice.VARIABLE, "")
    gpu_choice.table.cache_clear()
    assert gpu_choice.faster_sort(nodes, edges) == "torch"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"cases": []}', '{"cases": [{"score": "gat"}]}', '{"cases": [], "graphs": [{"nodes": 1}]}']
)
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
    core: Any = SimpleNamespace(cuda_device="cuda", cuda_compiler="nvcc 13.0 for 80-real 90") if compiled else None
    monkeypatch.setattr(cuda_core, "core", core)
    monkeypatch.setattr(backends, "interprets_triton", lambda: False)
    monkeypatch.setattr(backends, "_missing_triton", lambda: "" if triton else "not there")
    case, gpu = Case("gat", "float32", 4, 32, 200_000, 2_000_000), torch.device("cuda", 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
        assert select_backend(None, gpu, case) == expected
        without = {"cuda": "reference"}.get(expected, expected)
        assert select_backend(None, gpu, among=("reference", "cpu", "triton")) == without
    assert select_backend(None, torch.device("cpu"), case) == "cpu"

    @torch.compile(fullgraph=True, backend="eager")
    def traced(x: torch.Tensor) -> torch.Tensor:
        return x + (1 if select_backend(None, gpu, case) == expected else 2)

    assert float(traced(torch.zeros(()))) == 1.0


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ("80-real 90", (8, 0), True),
        ("80-real 90", (8, 9), True),  # machine code runs on later GPUs of its generation
        ("80-real 90", (12, 0), True),  # PTX on every later one
        ("80-real 90", (7, 5), False),
        ("90-real", (10, 0), False),
        ("90-real", (8, 6), False),
        ("90a-real", (9, 0), True),
        ("80-virtual", (9, 0), True),
    ],
)
@pytest.mark.usefixtures("file")
def test_kernels_for_other_gpus(
    architectures: str, capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not chosen, and the reason is told."""
    core = SimpleNamespace(cuda_device="cuda", cuda_compiler=f"nvcc 13.0.88 for {architectures}")
    monkeypatch.setattr(cuda_core, "core", core)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(backends, "_missing_triton", lambda: "not there")
    assert cuda_core.runs_on(capability) == expected
    usable, reason = backends.backends()["cuda"]
    assert usable == expected
    assert usable or f"CMAKE_CUDA_ARCHITECTURES={capability[0]}{capability[1]}" in reason
    assert select_backend(None, torch.device("cuda", 0)) == ("cuda" if expected else "reference")
