"""What goes into a wheel and an sdist, and that what comes out of them works."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from gattn import _C

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(kind: str, tree: Path, output: Path) -> Path:
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "distributions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of a parallel run would share setuptools' folders
        run("-m", "build", "--no-isolation", f"--{kind}", "--outdir", output, tree, cwd=tree)
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own wheel; compiles only what changed, as it shares the CMake tree."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def compiled_core(names: Iterable[str]) -> str:
    (core,) = (name for name in names if name.startswith("gattn/_C.") and not name.endswith(".pyi"))
    return core


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = {name for name in names if ".dist-info/" not in name}
    modules = {
        f"{package}/{path.relative_to(ROOT / folder)}"
        for package, folder in [("gattn", "gattn"), ("gattn/kernels", "kernels"), ("gattn/bench", "bench")]
        for path in (ROOT / folder).rglob("*.py")
    }
    data = {f"gattn/{path.name}" for path in (ROOT / "gattn").glob("*.json")}
    assert package == modules | data | {compiled_core(package), "gattn/py.typed", "gattn/_C.pyi"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_has_one_version(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == _C.version


def test_wheel_asks_for_no_particular_torch(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    required = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist:")]
    core = {line.removeprefix("Requires-Dist:").strip() for line in required if "extra ==" not in line}
    assert core == {"numpy", "torch>=2.6", "torch_geometric>=2.6"}


def test_wheel_runs_on_its_own(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import torch, gattn, gattn.bench, gattn.kernels\n"
        "from gattn.graph import Graph\n"
        "g = Graph.from_edge_index(torch.tensor([[0, 1, 2], [1, 1, 0]]), 3)\n"
        "x = torch.randn(3, 2, 4, requires_grad=True)\n"
        "gattn.ops.gat(x, torch.randn(3, 2), torch.randn(3, 2), g).sum().backward()\n"
        "print(gattn._C.__file__, gattn.bench.__file__, gattn.kernels.__file__, x.grad.isfinite().all())"
    )
    core, bench, kernels, finite = run("-c", program, cwd=tmp_path).split()
    assert all(Path(path).is_relative_to(site) for path in (core, bench, kernels))
    assert finite == "tensor(True)"


def test_wheel_links_neither_torch_nor_openmp(wheel: Path, tmp_path: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    core = archive.extract(compiled_core(archive.namelist()), tmp_path)
    linked = subprocess.run(["ldd", core], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in linked
    assert not any(name in linked for name in ("torch", "libc10", "gomp", "iomp"))


def test_sdist_holds_the_sources(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    patterns = [
        "csrc/**/*.h",
        "csrc/**/*.cpp",
        "csrc/**/*.cu",
        "csrc/**/*.cuh",
        "gattn/**/*.py",
        "kernels/**/*.py",
        "bench/**/*.py",
        "tests/**/*.py",
    ]
    sources = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    others = {
        "CMakeLists.txt",
        "LICENSE",
        "Makefile",
        "gattn/_C.pyi",
        "gattn/py.typed",
        "pyproject.toml",
        "setup.py",
    }
    assert sources | others <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_sdist_builds_a_wheel(small_tree: Path, tmp_path: Path) -> None:
    sdist = build("sdist", small_tree, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        # The first releases of 3.10 and 3.11 have no filters.
        archive.extractall(tmp_path / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = (tmp_path / "unpacked").iterdir()
    names = zipfile.ZipFile(build("wheel", tree, tmp_path / "wheel")).namelist()
    assert {"gattn/__init__.py", "gattn/bench/__init__.py", "gattn/kernels/__init__.py"} <= set(names)
