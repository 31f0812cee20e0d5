"""The measurement of hop counts: numerics first, then every contender on the same graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gattn.bench import shortest_path as bench
from gattn.bench import timing


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> bench.Graphs:
    """Three, the second without edges; loaded in the place of any data set, and timed briefly."""
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    edges = torch.tensor([[0, 1, 1, 2, 7, 7, 8], [1, 0, 2, 1, 7, 8, 9]])
    found = bench.Graphs(edges, torch.tensor([0, 4, 7, 10]))
    monkeypatch.setattr(bench, "load", lambda name: found)
    return found


def test_all_contenders_are_measured(graphs: bench.Graphs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    threads = torch.get_num_threads()
    assert bench.main(["--data", "A", "--repeats", "2", "--json", str(path)]) == 0
    assert torch.get_num_threads() == threads
    run = json.loads(path.read_text())
    (entry,) = run["graphs"]
    assert run["finished"]
    assert entry["case"] == {"name": "A", "graphs": 3, "nodes": 10, "edges": 7, "largest": 4, "pairs": 34}
    assert set(entry["contenders"]) == set(bench.TITLES)
    shown = capsys.readouterr().out
    assert all(title in shown for title in bench.TITLES.values())


def test_no_speed_of_wrong_distances(
    graphs: bench.Graphs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = bench.shortest_path
    monkeypatch.setattr(bench, "shortest_path", lambda *a, **k: right(*a, **k).clamp(max=2))
    assert bench.main([]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "distances are not SciPy's" in err


def test_missing_data_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATTN_DATA", str(tmp_path))
    assert bench.main(["--data", "NCI1"]) == 2
    assert f"(GATTN_DATA is {tmp_path})" in capsys.readouterr().err
