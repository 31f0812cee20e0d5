"""Drives CMake to build gattn._C; everything that is only data is in pyproject.toml."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent
MIN_CMAKE = (3, 18)
#: Options of CMakeLists.txt that the environment sets: auto, on or off, and a list such as "80-real;90-real".
FROM_ENVIRONMENT = ("GATTN_CUDA", "CMAKE_CUDA_ARCHITECTURES")


def find_cmake() -> str:
    """The first CMake that is new enough, on PATH or installed beside this interpreter."""
    seen = []
    for found in (shutil.which("cmake"), shutil.which("cmake", path=sysconfig.get_path("scripts"))):
        if found is None:
            continue
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"version (\d+)\.(\d+)", answer)
        if version and tuple(map(int, version.groups())) >= MIN_CMAKE:
            return found
        seen.append(f"{found} ({'.'.join(version.groups()) if version else 'does not run'})")
    raise SetupError(
        f"gattn needs CMake {'.'.join(map(str, MIN_CMAKE))} or newer to build; "
        f"found {', '.join(seen) or 'none'}. "
        "Install it with `pip install cmake`, or let pip do so by leaving out --no-build-isolation."
    )


def find_compiler() -> str:
    """The C++ compiler CMake will use: $CXX, or the usual names on PATH."""
    wanted = shlex.split(os.environ.get("CXX", ""))[:1] or ["c++", "g++", "clang++"]
    for name in wanted:
        if found := shutil.which(name):
            return found
    raise SetupError(
        f"gattn needs a C++17 compiler to build; found none of: {', '.join(wanted)}. "
        "Install GCC or Clang (Debian and Ubuntu: `apt install g++`), or set CXX to the one to use."
    )


def check_platform() -> None:
    if not sys.platform.startswith(("linux", "darwin")):
        raise SetupError(f"gattn builds on Linux and macOS with GCC or Clang; this is {sys.platform}.")


def generator() -> list[str]:
    """Ninja where there is one; its path is passed on because pip's build environment moves every time."""
    ninja = shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))
    return ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else ["-G", "Unix Makefiles"]


def pybind11_folder() -> str:
    try:
        import pybind11
    except ImportError:
        raise SetupError("gattn needs pybind11 to build. Install it with `pip install pybind11`.") from None
    return pybind11.get_cmake_dir()


def run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise SetupError(f"building gattn._C failed, for the reason above. Command: {shlex.join(command)}")


class CMakeBuild(build_ext):
    """Builds the one extension in a CMake tree that is kept, so a second build only compiles what changed."""

    def build_extension(self, ext: Extension) -> None:
        check_platform()
        find_compiler()
        cmake = find_cmake()
        options = [
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11_folder()}",
            *(f"-D{name}={os.environ[name]}" for name in FROM_ENVIRONMENT if name in os.environ),
        ]

        import fcntl  # not on the platforms that check_platform has turned away

        tree = ROOT / "build" / f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        tree.mkdir(parents=True, exist_ok=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        with open(tree / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two installs from one checkout share the tree
            run(cmake, "-S", str(ROOT), "-B", str(tree), *generator(), *options)
            run(cmake, "--build", str(tree), "--target", "_C", "--parallel", str(os.cpu_count() or 1))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / target.name, target)


setup(
    packages=[
        *find_packages(include=["gattn", "gattn.*"]),
        *("gattn." + name for name in find_packages(include=["kernels", "kernels.*", "bench", "bench.*"])),
    ],
    package_dir={"gattn.kernels": "kernels", "gattn.bench": "bench"},
    package_data={"gattn": ["py.typed", "*.pyi", "*.json"]},
    include_package_data=False,
    ext_modules=[Extension("gattn._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
