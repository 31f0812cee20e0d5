"""What does not need the interpreter: errors without a GPU, and compilation for GPUs that are not there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gattn
from gattn import Graph, kernels, ops


def test_cpu_tensors_are_refused() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0], [1]]), 2)
    with pytest.raises(ValueError, match=r"Expected tensors on a GPU for backend 'triton' \(got device 'cpu'\)"):
        ops.edge_softmax(torch.zeros(1, 1), graph, backend="triton")


def test_reason_is_given() -> None:
    usable, reason = gattn.backends()["triton"]
    assert usable == torch.cuda.is_available()
    assert reason


def test_an_old_triton_is_refused() -> None:
    for version in ("3.4.0", "3.10.1+git1", "4.0"):
        kernels.require_triton(version)
    for version in ("2.9.9", "3.3.1"):
        with pytest.raises(RuntimeError, match=rf"Expected Triton 3\.4 or newer .*\(got {version}\)"):
            kernels.require_triton(version)


def test_neither_import_nor_cpu_ops_import_triton() -> None:
    code = (
        "import sys, torch, gattn, gattn.kernels; g = gattn.Graph.from_edge_index(torch.tensor([[0], [1]]), 2);"
        "gattn.ops.edge_softmax(torch.zeros(1, 1), g); gattn.backends();"
        "assert not {'gattn.kernels.attention', 'triton.language'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_of_nodes_and_edges_do_not_recompile() -> None:
    """Launches as on a GPU, up to the driver, which is a stand-in (``compile_only.py``)."""
    script = Path(__file__).with_name("compile_only.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]


def test_statistics_of_activations_are_exact_on_a_gpu() -> None:
    """What the interpreter cannot tell: quotients are rounded to the nearest, subnormals are kept, and what programs
    add to from several sides are integers."""
    from gattn.kernels import activation_variants, resources

    known = resources.collect([activation_variants])
    adds: list[str] = []
    for dtype, quotient in (("float32", "div.rn.f32"), ("bfloat16", "div.rn.f32"), ("float64", "div.rn.f64")):
        wide = "float64" if dtype == "float64" else "float32"
        names = (f"activation_rows 64 {dtype}", f"activation_total 64 {dtype}", f"activation_summary {wide}")
        codes = [resources.build(known[name], "sm_90").asm["ptx"] for name in names]
        assert quotient in codes[0]
        for code in codes:
            assert not re.search(r"\.ftz|\.approx|div\.full", code)
            adds += re.findall(r"\b(?:atom|red)\.\S+", code)
    assert any(name.endswith("add.u64") for name in adds)
    assert not [name for name in adds if re.search(r"\.[bf]?f\d", name)]
