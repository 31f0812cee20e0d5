"""Builds one wheel and runs it on each torch version named, in an environment of its own.

Run by `make wheel-matrix`. Not collected by pytest: on Linux a released torch downloads gigabytes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import torch
import gattn
from torch_geometric.nn import GATConv

torch.manual_seed(0)
edge_index = torch.randint(0, 50, (2, 400))
for dtype in (torch.float32, torch.float64):
    layers = []
    for kind in (GATConv, gattn.FusedGATConv):
        torch.manual_seed(1)
        layers.append(kind(16, 8, heads=4).to(dtype))
    x = [torch.ones(50, 16, dtype=dtype).cumsum(0).sin().requires_grad_() for _ in layers]
    outs = [layer(x, edge_index) for layer, x in zip(layers, x)]
    for out in outs:
        out.square().sum().backward()
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(x[1].grad, x[0].grad)
    for (name, theirs), ours in zip(layers[0].named_parameters(), layers[1].parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda text: f"{name}: {text}")
graph = gattn.Graph.from_edge_index(edge_index, 50)
arguments = torch.randn(50, 4, 8, requires_grad=True), torch.randn(50, 4), torch.randn(50, 4), graph
gattn.ops.gat(*arguments, dropout_p=0.5).sum().backward()
print("torch", torch.__version__, "core", gattn._C.version, gattn._C.isa())
"""


def try_version(version: str, wheel: Path, folder: Path) -> bool:
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    start = time.perf_counter()
    commands = [
        [python, "-m", "pip", "install", "-q", f"torch=={version}", wheel],
        [python, "-c", PROGRAM],
    ]
    for command in commands:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode:
            print(f"torch {version}: FAILED\n{result.stdout}{result.stderr}", flush=True)
            return False
    print(f"torch {version}: passed in {time.perf_counter() - start:.0f} s: {result.stdout.strip()}", flush=True)
    return True


def main() -> int:
    versions = sys.argv[1:] or ["2.6.0", "2.13.0"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "build", "-q", "--no-isolation", "--wheel", "--outdir", folder, ROOT]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        print(f"one wheel: {wheel.name}, {wheel.stat().st_size / 2**20:.1f} MiB", flush=True)
        passed = [try_version(version, wheel, folder / version) for version in versions]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
