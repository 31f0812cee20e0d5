"""The command itself: help, exit statuses, one-line mistakes, and ``gattn info``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from gattn.kernels import choices

import gattn
from gattn import terminal
from gattn.cli import COMMANDS


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help(gattn_command, arguments):
    status, out, _ = gattn_command(*arguments)
    assert status == 0
    assert out.startswith("usage: gattn")


def test_help_imports_nothing_heavy():
    heavy = {"torch_geometric", "matplotlib", "sklearn"}
    code = f"import sys, gattn.cli; gattn.cli.main(['--help']); print({heavy} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "none"


def test_version(gattn_command):
    status, out, _ = gattn_command("--version")
    assert status == 0
    assert out.startswith("gattn ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["train", "--epochs", "0"],
        ["train", "--dropout", "1"],
        ["train", "--lr", "nan"],
        ["train", "--layer", "gcn"],
        ["check", "--cases", "-1"],
        ["check", "--op", "fly"],
        ["check", "--dtype", "fp8"],
        ["check", "--backend", "fly"],
        ["check", "--against", "/no/such/file"],
        ["info", "--kernels", "4"],
        ["info", "--kernels", "0x4"],
    ],
)
def test_bad_usage_is_status_2_and_no_traceback(gattn_command, arguments):
    status, out, err = gattn_command(*arguments)
    assert status == 2
    assert out == ""
    assert "error: " in err.splitlines()[-1]
    assert "Traceback" not in err


def test_bad_usage_of_the_installed_command():
    done = subprocess.run(
        [sys.executable, "-m", "gattn.cli", "train", "--dataset", "fly"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gattn: error: unknown data set 'fly'")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_package_is_a_mistake_in_one_line():
    with pytest.raises(terminal.UsageError, match=r"drawing needs no_such_package .*pip install no_such_package"):
        terminal.require("no_such_package", "drawing")
    with pytest.raises(terminal.UsageError, match=r"pip install no_such_package, or gattn\[pictures\]$"):
        terminal.require("no_such_package", "drawing", "pictures")


def test_info_as_json(gattn_command):
    status, out, _ = gattn_command("info", "--json")
    info = json.loads(out)
    assert status == 0
    assert info["backends"]["reference"]["usable"]
    assert set(info["backends"]["cpu"]) == {"usable", "reason"}
    assert info["core"]["isa"] in info["core"]["isas"]
    assert info["threads"] >= 1


def test_info_for_a_person(gattn_command):
    status, out, _ = gattn_command("info")
    assert status == 0
    for word in ("instruction set", "threads", "torch_geometric", "reference", "usable"):
        assert word in out


def test_info_says_why_the_core_does_not_load(gattn_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "gattn._C", None)
    monkeypatch.delattr("gattn._C", raising=False)
    status, out, _ = gattn_command("info")
    assert status == 0
    assert "compiled core    not usable: " in out


def test_progress_without_a_terminal_is_plain_lines(capsys):
    with terminal.Progress(3, "step", interval=0.0) as progress:
        for text in "abc":
            progress.advance(text)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [[f"step {i + 1}/3", text] for i, text in enumerate("abc")]
    assert "\r" not in "".join(lines)


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with terminal.Progress(3, "step", done=1) as progress:
        progress.advance("working")
        progress.message("a line")
    err = capsys.readouterr().err
    assert "2/3" in err
    assert "a line" in err.splitlines()


def test_table_aligns_numbers_to_the_right():
    assert terminal.table([("a", 1), ("bc", 20)], ("name", "n")).splitlines() == [
        "name   n",
        "--------",
        "a      1",
        "bc    20",
    ]


def test_info_names_every_backend(gattn_command):
    """Triton's with the reason where it cannot be used."""
    _, out, _ = gattn_command("info")
    for name, (usable, reason) in gattn.backends().items():
        assert f"  {name:<14} {'usable' if usable else 'not usable'}: {reason}" in out


def test_the_kernels_block_sizes(gattn_command):
    status, out, _ = gattn_command("info", "--kernels", "3x5", "1x300", "--json")
    assert status == 0
    blocks = json.loads(out)
    assert {block["shape"] for block in blocks} == {"3x5", "1x300"}
    assert {block["kernel"] for block in blocks} == set(choices.ELEMENTS)
    for block in blocks:
        heads, channels = map(int, block["shape"].split("x"))
        assert 1 <= block["heads"] < 2 * heads
        assert 1 <= block["channels"] < 2 * channels
        if block["kernel"] in ("forward", "target", "source"):
            assert block["channels"] >= channels
    status, out, _ = gattn_command("info", "--kernels")
    assert status == 0
    assert {line.split()[2] for line in out.splitlines()[2:]} == {"1x64", "4x32", "8x8"}
