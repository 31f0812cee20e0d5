"""Results on disk, the tables made from them, the chart, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gattn.bench import graphs, plot, report, tables
from gattn.bench.graphs import GraphCase
from gattn.bench.machine import describe
from gattn.bench.results import DIRECTORY, Record, load, over_limit, ratio

from gattn.cli import main


def _contender(title: str, median: float | None, peak: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"title": title, "status": "green", "reason": "", "errors": {"out": 1e-6}}
    entry["memory"] = {"step_peak": peak, "kept": 5_000_000}
    if median is not None:
        entry["time"] = {"median": median, "q1": median * 0.9, "q3": median * 1.1, "samples": 5}
    return entry


def _run(tmp_path: Path, case: GraphCase) -> dict[str, Any]:
    record = Record(tmp_path / "run.json", {"layer": "gat", "threads": 2}, describe())
    record.data["limits"]["copy_bytes_per_second"] = 2e10
    record.data["call"] = {name: {"median": m * 1e-6} for name, m in (("op", 300), ("function", 150), ("native", 80))}
    kernel = {name: {"median": m} for name, m in (("forward", 0.03), ("gather", 0.02), ("backward", 0.05))}
    record.data["graphs"].append(
        {
            "case": case.as_dict(),
            "title": "tiny",
            "complete": True,
            "contenders": {
                "gattn": _contender("gattn", 0.1, 10_000_000),
                "pyg": _contender("PyG eager", 0.8, 200_000_000),
                "dgl": {"title": "DGL", "status": "skipped", "reason": "not installed: dgl"},
            },
            "kernel": {**kernel, "gather_transposed": {"median": 0.025}},
        }
    )
    record.finish()
    return record.data


def test_ratios(tmp_path: Path, case: GraphCase) -> None:
    graph = _run(tmp_path, case)["graphs"][0]
    assert ratio(graph, "pyg") == pytest.approx(8)
    assert ratio(graph, "pyg", "step_peak") == pytest.approx(20)
    assert ratio(graph, "dgl") is None
    assert over_limit(graph, "forward") == pytest.approx(1.5)
    assert over_limit(graph, "backward") == pytest.approx(2)
    assert over_limit({**graph, "kernel": {}}, "forward") is None


def test_graphs_of_one_layer_stand_in_one_table(tmp_path: Path, case: GraphCase) -> None:
    """If machine, software and commit are the same, in the order of the graphs' list."""
    run = _run(tmp_path, case)
    cora, dense = ({**run, "graphs": [{**run["graphs"][0], "case": {"name": name}}]} for name in ("cora", "dense"))
    transformer = {**run, "settings": {**run["settings"], "layer": "transformer"}}
    other = {**cora, "created": "2020-01-01"}
    found = report.merged([transformer, dense, cora, other])
    assert [run["settings"]["layer"] for run in found] == ["gat", "gat", "transformer"]
    assert [[graph["case"]["name"] for graph in run["graphs"]] for run in found[:2]] == [["cora", "dense"], ["cora"]]


def test_an_interrupted_run_keeps_what_it_has_but_is_not_reported(tmp_path: Path) -> None:
    Record(tmp_path / "part.json", {}, {})
    assert json.loads((tmp_path / "part.json").read_text())["finished"] is False
    assert load(tmp_path.glob("*.json")) == []
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="got schema 0, expected 1"):
        load(tmp_path.glob("*.json"))


def test_an_interrupted_run_goes_on_after_its_last_whole_graph(tmp_path: Path, case: GraphCase) -> None:
    stored = _run(tmp_path, case)
    half = {**stored["graphs"][0], "case": {**case.as_dict(), "name": "half"}, "complete": False}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**stored, "finished": False, "graphs": [*stored["graphs"], half]}))
    record = Record(path, stored["settings"], describe(), resume=True)
    assert record.data["graphs"] == stored["graphs"]
    assert record.data["created"] == stored["created"]
    assert record.has(case.as_dict())
    assert not record.has(half["case"])
    with pytest.raises(ValueError, match="settings have threads 2, this run 3"):
        Record(path, {"layer": "gat", "threads": 3}, describe(), resume=True)
    with pytest.raises(ValueError, match=r"machine have cpu .*, this run 'abacus'"):
        Record(path, stored["settings"], {**describe(), "cpu": "abacus"}, resume=True)
    assert json.loads(path.read_text())["graphs"] == stored["graphs"]
    assert Record(path, stored["settings"], describe()).data["graphs"] == []


def _tree(tmp_path: Path, case: GraphCase) -> list[str]:
    results = tmp_path / "results"
    results.mkdir()
    _run(results, case)
    (tmp_path / "docs").mkdir()
    for name in report.BLOCKS:
        (tmp_path / name).write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    return ["--root", str(tmp_path), "--results", str(results)]


def test_blocks_are_rewritten_and_checked(tmp_path: Path, case: GraphCase) -> None:
    where = _tree(tmp_path, case)
    assert report.main(["--check", *where]) == 1
    assert "old" in (tmp_path / "README.md").read_text()
    assert report.main(where) == 0
    assert report.main(["--check", *where]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    row = next(line for line in text.splitlines() if line.startswith("| tiny"))
    assert row == "| tiny (200 nodes, 1,000 edges) | 100 ms | 8.0× | – | 1.5× | 2.0× |"
    assert "not installed: dgl" in (tmp_path / "docs" / "benchmarks.md").read_text()


def test_missing_marks_are_an_error(tmp_path: Path, case: GraphCase, capsys: pytest.CaptureFixture[str]) -> None:
    where = _tree(tmp_path, case)
    (tmp_path / "README.md").write_text("no marks")
    assert report.main(where) == 2
    assert report.BEGIN in capsys.readouterr().err


def test_stored_tables_are_in_step_with_the_results() -> None:
    if not (DIRECTORY.parents[1] / "README.md").is_file():
        pytest.skip("an installed copy, without README.md")
    assert report.main(["--check"]) == 0, "run: python -m gattn.bench.report"


def test_chart_is_drawn(tmp_path: Path, case: GraphCase) -> None:
    pytest.importorskip("matplotlib")
    assert plot.draw(_run(tmp_path, case), tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert not plot.draw({"graphs": []}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_machine_is_described_in_json() -> None:
    machine = json.loads(json.dumps(describe()))
    assert machine["cpu"]
    assert machine["memory_bytes"] > 0
    assert machine["packages"]["torch"]
    assert len(machine["load_average"]) == 3


def test_settings_of_the_allocator_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert describe()["environment"] == {}
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    run = Record(tmp_path / "run.json", {"layer": "gat", "threads": 2}, describe()).data
    assert ", THP_MEM_ALLOC_ENABLE=1, " in tables.describe(run)


def test_command_line_measures_and_writes(
    tmp_path: Path, case: GraphCase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(graphs.CASES, "tiny", case)
    out = tmp_path / "out.json"
    options = ["--graphs", "tiny", "--peers", "pyg", "--stages", "layer", "--repeats", "1", "--heads", "1"]
    assert main(["bench", *options, "--json", str(out)]) == 0
    (run,) = load([out])
    (graph,) = run["graphs"]
    assert graph["case"]["heads"] == 1
    assert graph["contenders"]["pyg"]["status"] == "green"
    assert graph["contenders"]["pyg"]["time"]["samples"] >= 1
    assert "PyG eager" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--graphs", "nowhere"], ["--peers", "nobody"], ["--layer", "none"]])
def test_unknown_names_are_a_usage_error(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *options]) == 2
    assert "expected some of" in capsys.readouterr().err


def test_list_shows_every_graph_and_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*graphs.CASES, "pyg-compile", "dgl"))
