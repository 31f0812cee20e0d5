"""``import gattn`` is lean, and works from any folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["torch_geometric", "triton", "matplotlib", "sklearn", "scipy", "dgl", "torch_scatter"]


def modules_after(statement: str, cwd: Path) -> set[str]:
    program = f"import torch; {statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize("statement", ["import gattn", "import gattn.ops, gattn.graph, gattn.reference"])
def test_import_is_lean(statement: str, tmp_path: Path) -> None:
    heavy = modules_after(statement, tmp_path) & set(HEAVY)
    # What torch itself imports is not this package's doing.
    assert heavy <= modules_after("pass", tmp_path)


def test_modules_are_lazy_but_there(tmp_path: Path) -> None:
    assert "torch_geometric" in modules_after("import gattn; gattn.FusedGATConv", tmp_path)


def test_names_are_complete(tmp_path: Path) -> None:
    modules_after("import gattn; [getattr(gattn, name) for name in gattn.__all__]", tmp_path)
    modules_after("import gattn; assert set(gattn.__all__) <= set(dir(gattn))", tmp_path)


def test_unknown_name_is_an_attribute_error() -> None:
    import gattn

    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(gattn, name)


def test_command_is_installed() -> None:
    command = Path(sys.executable).parent / "gattn"
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert all(job in result.stdout for job in ("info", "train", "bench", "check"))


def test_stub_names_what_the_core_has() -> None:
    from gattn import _C

    stub = ast.parse(Path(_C.__file__).with_name("_C.pyi").read_text())
    typed = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    typed |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    typed = {name for name in typed if not name.startswith("_")}
    if _C.no_cuda:
        typed -= {name for name in typed if name.startswith("cuda_")} - {"cuda_compiler"}
    assert typed == {name for name in vars(_C) if not name.startswith("__")}
