"""A tree with the project's own build files and a trivial core, so that a build takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BUILD_FILES = ["CMakeLists.txt", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py"]
SOURCES = {
    "README.md": "",
    "gattn/__init__.py": "",
    "gattn/py.typed": "",
    "kernels/__init__.py": "",
    "bench/__init__.py": "",
    "csrc/bindings.cpp": """
        #include <pybind11/pybind11.h>
        int core();
        PYBIND11_MODULE(_C, m) { m.attr("version") = GATTN_VERSION; m.def("core", &core); }
    """,
    "csrc/cpu/core.cpp": """
        namespace baseline { int one(); }
        int core();
        int core() { return baseline::one(); }
    """,
    "csrc/cpu/isa/kernel.cpp": "namespace GATTN_ISA { int one(); int one() { return 1; } }",
}


@pytest.fixture
def small_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATTN_CUDA", "off")
    tree = tmp_path / "tree"
    for name, text in SOURCES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, tree / name)
    return tree
