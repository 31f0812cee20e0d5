"""What a person reads when the build cannot start: one sentence that says what to do, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def build(tree: Path, *, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``setup.py build_ext --inplace`` after the statements of ``before``."""
    program = f"{before}\n__file__ = 'setup.py'\nexec(open(__file__).read())"
    return subprocess.run(
        [sys.executable, "-c", program, "-q", "build_ext", "--inplace"],
        cwd=tree,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert all(word in errors[0] for word in words), errors[0]


def program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_missing_compiler(small_tree: Path, tmp_path: Path) -> None:
    result = build(small_tree, PATH=str(tmp_path), CXX="")
    assert_one_error(result, "C++17 compiler", "found none of: c++, g++, clang++", "apt install g++", "CXX")


def test_named_compiler_is_missing(small_tree: Path) -> None:
    assert_one_error(build(small_tree, CXX="no-such-compiler -m64"), "none of: no-such-compiler.")


def test_old_cmake(small_tree: Path, tmp_path: Path) -> None:
    fakes = tmp_path / "bin"
    program(fakes, "cmake", "echo cmake version 3.10.2")
    program(fakes, "g++", "exit 0")
    # Scripts beside the interpreter count as well, so this run looks for them in an empty place.
    elsewhere = "import sysconfig; sysconfig.get_path = lambda name: '/nonexistent'"
    result = build(small_tree, before=elsewhere, PATH=str(fakes))
    assert_one_error(result, "CMake 3.18 or newer", "(3.10)", "pip install cmake")


def test_unsupported_platform(small_tree: Path) -> None:
    # Changed as late as can be: setuptools itself reads the platform when it is imported and set up.
    pretend = (
        "import sys\nfrom setuptools.command.build_ext import build_ext\noriginal = build_ext.run\n"
        "def changed(self): sys.platform = 'win32'; original(self)\nbuild_ext.run = changed"
    )
    assert_one_error(build(small_tree, before=pretend), "Linux and macOS", "this is win32")


def test_unsupported_compiler(small_tree: Path, tmp_path: Path) -> None:
    fakes = tmp_path / "bin"
    program(fakes, "odd-c++", "exit 1")
    result = build(small_tree, CXX=str(fakes / "odd-c++"))
    assert_one_error(result, "building gattn._C failed")


def test_compile_error_is_shown(small_tree: Path) -> None:
    (small_tree / "csrc/cpu/core.cpp").write_text("int core() { return undeclared; }")
    result = build(small_tree)
    assert_one_error(result, "building gattn._C failed")
    assert "undeclared" in result.stdout


def test_second_build_compiles_nothing(small_tree: Path) -> None:
    assert build(small_tree).returncode == 0
    again = build(small_tree)
    assert again.returncode == 0
    assert "Building CXX" not in again.stdout
