"""The CUDA kernels, compiled as C++ by ``make emulation`` and run on the CPU with a random order of threads."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph, cuda_core, groups

from ..ops.conftest import call_op, check_against_reference, graph_of, inputs_of, run, run_op  # noqa: F401 - fixtures
from ..ops.gpu_matrix import check_case  # noqa: F401

ROOT = Path(__file__).parents[2]
#: Where the module lies, in its folder ``sanitized`` the one with sanitizers. The variable names another folder.
BUILD = Path(os.environ.get("GATTN_EMULATION", ROOT / "build" / "emulation"))


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    """The module of the emulated kernels."""
    found = sorted(BUILD.glob("gattn_emulated*.so"))
    if not found:
        pytest.skip(f"no emulated kernels in {BUILD}: run 'make emulation'")
    spec = importlib.util.spec_from_file_location("gattn_emulated", found[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


@pytest.fixture
def check(emulated: ModuleType) -> Callable[..., None]:
    """Comparison with the reference. Sanitizers look at memory, for which one run is enough."""

    def check(op: str, tensors: dict[str, Tensor], graph: Graph, **options: Any) -> None:
        compare = run if emulated.sanitized else check_against_reference
        compare(op, tensors, graph, backend="cuda", **options)

    return check
