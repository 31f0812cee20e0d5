"""The benchmark of the statistics of activations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gattn.bench import activation, activation_report, tables, timing


def test_every_width_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    threads = str(torch.get_num_threads())
    arguments = ["--numbers", "4096", "--rounds", "1", "--widths", "8", "33", "--threads", threads]
    arguments += ["--taps", "8", "24", "--nodes", "50"]
    assert activation.main([*arguments, "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert [(entry["width"], entry["rows"]) for entry in found["widths"]] == [(8, 512), (33, 124)]
    for entry in found["widths"]:
        times = {name: entry["times"][name]["median"] for name in ("copy", "op", "pytorch")}
        assert entry["of_copy_bandwidth"] == pytest.approx(times["copy"] / times["op"] / 2)
        assert entry["faster_than_pytorch"] == pytest.approx(times["pytorch"] / times["op"])
    for entry, width, heads in zip(found["taps"], (8, 24), (1, 3), strict=True):
        assert (entry["width"], entry["heads"], entry["edges"]) == (width, heads, 350)
        names = ("attention", "tap", "stream", "both", "stored")
        times = {name: entry["times"][name]["median"] for name in names}
        assert entry["tap_of_attention"] == pytest.approx(times["tap"] / times["attention"])
        assert entry["stream_of_attention"] == pytest.approx(times["stream"] / times["attention"])
        assert entry["both_of_stream"] == pytest.approx(times["both"] / times["stream"])
        assert entry["stored_of_attention"] == pytest.approx(times["stored"] / times["attention"])
    shown = activation_report.block(tmp_path)
    assert shown == "No measurements are stored."
    (tmp_path / "a.json").rename(tmp_path / "activation.json")
    shown = activation_report.block(tmp_path)
    assert "0 million fp32 numbers" in shown
    assert "| 8 | " in shown
    assert "(50 nodes, 350 edges in no order)" in shown
    assert f"| {tables.times(found['taps'][1]['tap_of_attention'])} | " in shown


def test_wrong_numbers_are_not_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(activation, "one_liner", lambda x: x.sum(1))
    assert activation.main(["--numbers", "64", "--widths", "8", "--threads", str(torch.get_num_threads())]) == 1
    assert "nothing is timed" in capsys.readouterr().err


def test_a_wrong_tap_is_not_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stats = activation.ops.activation_stats
    monkeypatch.setattr(activation.ops, "activation_stats", lambda x: stats(2 * x + 1))
    threads = str(torch.get_num_threads())
    assert activation.main(["--widths", "--taps", "8", "--nodes", "20", "--threads", threads]) == 1
    assert "the tap's numbers are not those" in capsys.readouterr().err
