"""The CUDA kernels, compiled as C++ and run on the CPU with a random order of threads: ``make emulation`` builds them.

``GATTN_TEST_ALL=1`` runs the whole matrix.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph, cuda_core, groups

ROOT = Path(__file__).parents[2]
#: Where the module lies; a build with sanitizers is named by the variable.
BUILD = Path(os.environ.get("GATTN_EMULATION", ROOT / "build" / "emulation"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "whole: part of the whole matrix, which GATTN_TEST_ALL=1 runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("whole") and not os.environ.get("GATTN_TEST_ALL"):
            item.add_marker(pytest.mark.skip(reason="set GATTN_TEST_ALL=1 to run the whole matrix"))


def load(name: str, path: Path) -> ModuleType:
    """A module by its path."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def load_shared(name: str) -> ModuleType:
    """A module of the ops' tests: their graphs, inputs, options and the comparison with the reference."""
    return load(f"cuda_tests_{name}", ROOT / "tests" / "ops" / f"{name}.py")


shared = load_shared("conftest")
graph_of, inputs_of, run_op, call_op = shared.graph_of, shared.inputs_of, shared.run_op, shared.call_op


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    """The module of the emulated kernels."""
    found = sorted(BUILD.glob("gattn_emulated*.so"))
    if not found:
        pytest.skip(f"no emulated kernels in {BUILD}: run 'make emulation'")
    return load("gattn_emulated", found[0])


@pytest.fixture(autouse=True)
def _on_emulated_kernels(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Degree groups of few edges, and fresh memory full of NaN, so that what no kernel writes is seen."""
    monkeypatch.setattr(cuda_core, "core", emulated)
    monkeypatch.setattr(groups, "SMALL_DEGREE", 8)
    monkeypatch.setattr(groups, "MIN_CHUNK", 16)
    emulated.set_seed(0)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def check() -> Callable[..., None]:
    def check(op: str, tensors: dict[str, Tensor], graph: Graph, **options: Any) -> None:
        shared.check_against_reference(op, tensors, graph, backend="cuda", **options)

    return check
