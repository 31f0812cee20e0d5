"""The report on kernels compiled ahead of time, on kernels made for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

from gattn.kernels import report, resources

FOLDER = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def findable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By this process and by the compiling ones."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PYTHONPATH", FOLDER)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))


def run(*arguments: str) -> int:
    return report.main(["--modules", "toy_kernels", "--jobs", "1", *arguments])


def test_every_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--match", "frugal fp32", "--json", str(tmp_path / "k.json"), "--markdown", str(tmp_path / "k.md")) == 0
    rows = json.loads((tmp_path / "k.json").read_text())["kernels"]
    assert [row["target"] for row in rows] == list(report.TARGETS)
    assert all(0 < row["registers"] < 64 and row["spilled"] == 0 for row in rows)
    assert "| frugal | sm_90 | 1 |" in (tmp_path / "k.md").read_text()
    assert "frugal" in capsys.readouterr().out


def test_a_spilling_and_a_broken_kernel_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--targets", "sm_90") == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("greedy fp32 for sm_90 spills ") for line in lines)
    assert any(line.startswith("broken fp32 for sm_90 does not compile") for line in lines)
    assert not any(line.startswith("frugal") for line in lines)


def test_a_part_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--match", "frugal", "--every", "2", "--targets", "sm_80,gfx942") == 0
    counts = [line.split()[1:3] for line in capsys.readouterr().out.splitlines()[2:]]
    assert counts == [["sm_80", "1"], ["gfx942", "1"]]


def test_a_part_is_brought_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = tmp_path / "k.json", tmp_path / "k.md"
    arguments = ["--match", "frugal fp32", "--targets", "sm_90", "--update", "--json", str(path)]
    assert run(*arguments) == 2
    assert "the file to update" in capsys.readouterr().err
    old = {"registers": 7, "shared": 0, "spilled": 0, "occupancy": None}
    kept = [{"name": "frugal fp32", "target": "sm_80", **old}, {"name": "cuda:hand", "target": "sm_90", **old}]
    gone = {"name": "forgotten", "target": "sm_90", **old}
    again = {"name": "frugal fp32", "target": "sm_90", **old}
    path.write_text(json.dumps({"triton": report.require("triton", "").__version__, "kernels": [*kept, gone, again]}))
    assert run(*arguments, "--markdown", str(page)) == 0
    *found, new = json.loads(path.read_text())["kernels"]
    assert found == kept
    assert (new["name"], new["target"]) == ("frugal fp32", "sm_90")
    assert new["registers"] > 7
    assert "| cuda:hand | sm_90 | 1 | 7 |" in page.read_text()
    path.write_text(json.dumps({"triton": "1.0", "kernels": []}))
    assert run(*arguments) == 2
    assert "written with Triton 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--targets", "sm_12"], "sm_80"), (["--match", "no such"], "frugal fp32"), (["--every", "0"], "at least 1")],
)
def test_mistakes(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


def test_an_interpreter_compiles_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert run() == 2
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err


def test_names_differ() -> None:
    import toy_kernels

    with pytest.raises(ValueError, match="'frugal fp32' twice"):
        resources.collect([toy_kernels, toy_kernels])


def test_the_package_s_own_variants_are_found() -> None:
    assert "gattn.kernels.variants" in [module.__name__ for module in resources.modules()]


def test_some_of_the_package_s_variants(capsys: pytest.CaptureFixture[str]) -> None:
    """A few for each target; `make kernel-report` compiles them all."""
    assert report.main(["--every", "700"]) == 0, capsys.readouterr().err
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]} == set(report.TARGETS)
