"""``gattn study``: every study end to end on a tiny grid, interrupts, the report, agreement with PyG's layers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gattn.cli import main
from gattn.studies import balance, lipschitz
from gattn.studies.cli import STUDIES
from gattn.studies.plan import grid_keys

TINY = {
    "lipschitz": ["--datasets", "karate", "--missings", "0", "100", "--depths", "2", "3", "--epochs", "4", "--models"],
    "balance": ["--datasets", "karate", "--depths", "2", "4", "--epochs", "6", "--inits"],
}
TINY["lipschitz"] += list(lipschitz.MODELS)
TINY["balance"] += list(balance.INITS)


def _study(name: str, out: Path, *more: str) -> int:
    return main(["study", name, "--out", str(out), *TINY[name], "--seeds", "2", *more])


def _results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def _without_times(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in result.items() if key != "ms_per_epoch"} for result in results]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_fills_its_grid_and_reports_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _study(name, tmp_path / "s", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    results = _results(tmp_path / "s")
    assert printed["results"] == results
    assert len(results) == {"lipschitz": 2 * 4 * 2 * 2, "balance": 3 * 2 * 2}[name]
    assert all(0 <= result["test_accuracy"] <= 1 for result in results)
    assert all(len(result["gradient_first"]) == result["depth"] for result in results)
    assert printed["machine"]["packages"]["torch"]

    page = (tmp_path / "s" / "report.html").read_text()
    assert page.count("<svg") == {"lipschitz": 2, "balance": 1}[name]
    assert not re.search(r'(src|href)="(?!#)', page), "the page must not need any other file"
    for label in (lipschitz if name == "lipschitz" else balance).NAMES.values():
        assert f"<td>{label}</td>" in page
    assert '"lr":' in page


def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _study("balance", tmp_path / "whole") == 0
    train, left = balance.train, 5

    def signal_in_the_sixth_run(run: Any, protocol: Any, tick: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            import signal

            signal.raise_signal(signal.SIGINT)
        return train(run, protocol, tick)

    monkeypatch.setattr(balance, "train", signal_in_the_sixth_run)
    assert _study("balance", tmp_path / "parts") == 130
    assert len(_results(tmp_path / "parts")) == 5
    assert "<svg" in (tmp_path / "parts" / "report.html").read_text()
    monkeypatch.setattr(balance, "train", train)
    with (tmp_path / "parts" / "results.jsonl").open("a") as file:
        file.write('{"dataset": "cut sho')  # what a crash may leave
    assert _study("balance", tmp_path / "parts", "--resume") == 0
    assert _without_times(_results(tmp_path / "parts")) == _without_times(_results(tmp_path / "whole"))


def test_a_grid_may_grow_and_a_protocol_may_not_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    assert _study("balance", out) == 0
    before = _results(out)
    assert main(["study", "balance", "--out", str(out), *TINY["balance"], "--seeds", "3", "--resume"]) == 0
    assert _results(out)[: len(before)] == before
    assert len(_results(out)) == len(before) * 3 // 2
    assert _study("balance", out) == 2
    assert "--resume, --overwrite" in capsys.readouterr().err
    assert _study("balance", out, "--resume", "--beta", "0.5") == 2
    assert "another --out" in capsys.readouterr().err
    assert _study("balance", out, "--overwrite", "--beta", "0.5") == 0
    assert len(_results(out)) == len(before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lipschitz", "--models", "gcn"], "unknown model 'gcn'"),
        (["lipschitz", "--backend", "pyg"], "have no LipschitzNorm"),
        (["balance", "--inits", "he"], "unknown initialisation 'he'"),
        (["balance", "--resume"], "no study to resume"),
        (["balance", "--datasets", "nowhere", "--depths", "2", "--epochs", "1"], "unknown data set 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *arguments, "--out", str(tmp_path / "s")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert words in line


def test_pygs_layers_train_the_same_networks(tmp_path: Path) -> None:
    """Without dropout the two differ by rounding alone."""
    assert _study("balance", tmp_path / "gattn") == 0
    assert _study("balance", tmp_path / "pyg", "--backend", "pyg") == 0
    for ours, theirs in zip(_results(tmp_path / "gattn"), _results(tmp_path / "pyg"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["gradient_first"] == pytest.approx(theirs["gradient_first"], rel=1e-3)


def test_balanced_networks_start_without_imbalance(tmp_path: Path) -> None:
    assert _study("balance", tmp_path / "s") == 0
    for result in _results(tmp_path / "s"):
        assert (result["imbalance"] < 1e-5) == (result["init"] != "xavier")


def test_seeds_vary_slowest() -> None:
    keys = list(grid_keys({"depths": [2, 4], "models": ["a"], "seeds": [2]}))
    assert [(key["seed"], key["depth"]) for key in keys] == [(0, 2), (0, 4), (1, 2), (1, 4)]
    assert set(keys[0]) == {"depth", "model", "seed"}
