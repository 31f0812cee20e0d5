"""``gattn study``: every study end to end on a tiny grid, interrupts, the report, agreement with PyG's layers."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gattn.cli import main
from gattn.studies import balance, gradformer, lipschitz
from gattn.studies.cli import STUDIES
from gattn.studies.depth import depth_table, seeds_text
from gattn.studies.nodes import node_data, sparse_where_that_pays
from gattn.studies.plan import grid_keys

#: Studies of accuracy; what ``massive`` finds is in test_massive.py.
TINY = {
    "lipschitz": ["--datasets", "karate", "--missings", "0", "100", "--depths", "2", "3", "--epochs", "4", "--models"],
    "balance": ["--datasets", "karate", "--depths", "2", "4", "--epochs", "6", "--inits"],
    "gradformer": ["--datasets", "BA-2motifs:24", "--batch-size", "128", "--epochs", "4", "--depths", "1", "2"],
}
TINY["lipschitz"] += list(lipschitz.MODELS)
TINY["balance"] += list(balance.INITS)
TINY["gradformer"] += ["--fractions", "50", "100", "--models", *gradformer.MODELS]
MODULES = {"lipschitz": lipschitz, "balance": balance, "gradformer": gradformer}
RUNS = {"lipschitz": 2 * 4 * 2 * 2, "balance": 3 * 2 * 2, "gradformer": 2 * 2 * 2 * 2}
EPOCHS = {"lipschitz": 4, "balance": 6, "gradformer": 4}
FIGURES = {"lipschitz": 2, "balance": 1, "gradformer": 2}
#: What a study's table is about, and what has no number when a run diverges.
METRIC = {"lipschitz": "test_accuracy", "balance": "test_accuracy", "gradformer": "test"}
DIVERGED = {"lipschitz": "test_accuracy", "balance": "epochs", "gradformer": "test"}


def _study(name: str, out: Path, *more: str) -> int:
    return main(["study", name, "--out", str(out), *TINY[name], "--seeds", "2", *more])


def _results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def _without_times(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results less what says when and where they were made."""
    return [{k: v for k, v in result.items() if k not in ("ms_per_epoch", "session")} for result in results]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with empty figures: drawing takes longer than these studies."""
    monkeypatch.setattr("gattn.studies.page.figure", lambda *_: b"<svg></svg>")


@pytest.mark.parametrize("name", TINY)
def test_a_study_fills_its_grid_and_reports_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _study(name, tmp_path / "s", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    results = _results(tmp_path / "s")
    assert printed["results"] == results
    assert len(results) == RUNS[name]
    assert all(0 <= result[METRIC[name]] <= 1 for result in results)
    assert all(len(result["gradient_first"]) == result["depth"] for result in results)
    (session,) = printed["sessions"]
    assert session["machine"]["packages"]["torch"]
    assert not (tmp_path / "s" / "checkpoint.pt").exists()

    page = (tmp_path / "s" / "report.html").read_text()
    assert page.count("<svg") == FIGURES[name]
    assert not re.search(r'(src|href)="(?!#)', page), "the page must not need any other file"
    for label in MODULES[name].NAMES.values():
        assert f"<td>{label}</td>" in page
    assert '"lr":' in page


@pytest.mark.parametrize("name", TINY)
def test_results_are_published(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gattn.studies.page.figure", lambda *_: b"<svg></svg>")
    assert _study(name, tmp_path / "s", "--publish", str(tmp_path / "docs")) == 0
    page = (tmp_path / "docs" / f"{name}.md").read_text()
    figures = re.findall(r"!\[.+\]\((.+)\)", page)
    assert figures
    assert all((tmp_path / "docs" / file).read_bytes().startswith(b"\x89PNG") for file in figures)
    data = json.loads((tmp_path / "docs" / f"{name}.json").read_text())
    assert data["results"] == _results(tmp_path / "s")
    assert data["sessions"]
    assert "lr" in data["protocol"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--normalize"], "lipschitz-normalized"),
        (["--channels", "2", "--schedule", "constant"], "lipschitz-2-channels-constant"),
    ],
)
def test_another_protocol_has_a_page_of_its_own(
    options: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gattn.studies.page.figure", lambda *_: b"<svg></svg>")
    assert _study("lipschitz", tmp_path / "s", *options, "--publish", str(tmp_path / "docs")) == 0
    pages = {file.name for file in (tmp_path / "docs").glob("*.md")}
    assert pages == {f"{name}.md"}


def test_the_learning_rate_follows_the_validation_loss(tmp_path: Path) -> None:
    """Without an improvement of more than a ten-thousandth, every eleven epochs take nine tenths of the rate; below
    1e-7 nothing more is learned."""
    options = ["--missings", "0", "--models", "gat", "--depths", "2", "--seeds", "1", "--epochs", "400", "--lr"]
    assert _study("lipschitz", tmp_path / "a", *options, "1e-6") == 0
    assert _study("lipschitz", tmp_path / "b", *options, "1e-6", "--schedule", "constant") == 0
    (plateau,), (constant,) = _results(tmp_path / "a"), _results(tmp_path / "b")
    assert plateau["epochs"] < 400
    assert constant["epochs"] == 400
    assert plateau["test_at_best"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_quick_profile_shows_what_the_study_is_about(name: str, tmp_path: Path) -> None:
    assert main(["study", name, "--quick", "--out", str(tmp_path / "s")]) == 0
    results = _results(tmp_path / "s")
    if name == "lipschitz":
        assert all(result["test_accuracy"] > 0.85 for result in results)
    elif name == "gradformer":
        assert {result["model"]: result["val"] for result in results} == {"gradformer": 1.0, "gps": 1.0}
    elif name == "massive":
        assert len(results) == 12
        assert all(result["loss"] < math.log(2) for result in results), "training graphs: no better than chance"
        assert all(1 < ratio < math.inf for result in results for ratio in result["largest_ratio"])
    else:
        loss = {(result["init"], result["depth"]): result["loss"] for result in results}
        assert all(loss[init, 8] < 0.7 * loss["xavier", 8] for init in balance.INITS if init != "xavier")


class Steps:
    """Counts the training steps of a study; one may raise a signal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.signal_at = 0, 0
        self.loss = torch.nn.functional.cross_entropy
        monkeypatch.setattr(torch.nn.functional, "cross_entropy", self)

    def __call__(self, *args: Any) -> Any:
        if not torch.is_grad_enabled():  # an evaluation
            return self.loss(*args)
        self.count += 1
        if self.count == self.signal_at:
            signal.raise_signal(signal.SIGINT)
        return self.loss(*args)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("epoch", ["middle", "last"])
def test_an_interrupted_study_goes_on_where_it_was(
    name: str, epoch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a run, without a step more, with the same results."""
    steps = Steps(monkeypatch)
    assert _study(name, tmp_path / "whole") == 0
    needed, epochs = steps.count, EPOCHS[name]
    parts = tmp_path / "parts"
    steps.count, steps.signal_at = 0, 5 * epochs + (2 if epoch == "middle" else epochs)
    assert _study(name, parts) == 130
    assert steps.count == steps.signal_at
    assert len(_results(parts)) == 5
    assert "<svg" in (parts / "report.html").read_text()
    with (parts / "results.jsonl").open("a") as file:
        file.write('{"dataset": "cut sho')  # what a crash may leave
    assert _study(name, parts, "--resume") == 0
    assert steps.count == needed
    assert _without_times(_results(parts)) == _without_times(_results(tmp_path / "whole"))
    assert [result["session"] for result in _results(parts)] == [0] * 5 + [1] * (len(_results(parts)) - 5)
    assert len(json.loads((parts / "settings.json").read_text())["sessions"]) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_was_begun_comes_first_whatever_the_grid_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    steps.signal_at = 5 * 6 + 2
    assert _study("balance", tmp_path / "s") == 130
    assert _study("balance", tmp_path / "s", "--resume", "--depths", "1", "2", "4") == 0
    depths = [result["depth"] for result in _results(tmp_path / "s")]
    assert depths[5:9] == [4, 1, 1, 1]
    assert steps.count == 3 * 3 * 2 * 6


@pytest.mark.parametrize("name", TINY)
def test_a_run_that_diverges_shows_in_the_report(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _study(name, tmp_path / "s", "--lr", "1e30", "--json") == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    results = _results(tmp_path / "s")
    assert printed["results"] == results
    diverged = [result for result in results if result["loss"] is None]
    assert diverged
    assert all(len(result["gradient_first"]) == result["depth"] for result in results)
    assert all(result[DIVERGED[name]] is None for result in diverged)
    page = (tmp_path / "s" / "report.html").read_text()
    assert "<td>diverged</td>" in page
    assert not re.search(r"<td>[^<]*nan", page)
    assert page.count("<svg") == FIGURES[name]


def test_diverged_runs_are_counted_beside_the_mean_of_the_others() -> None:
    results = [{"depth": 2, "seed": seed, "epochs": epochs} for seed, epochs in enumerate([10.0, None, 20.0])]
    table = depth_table({"a": results, "b": results[1:2]}, "epochs", lambda mean, _: f"{mean:g}", {})
    assert table.rows == [["a", "15 (1 diverged)"], ["b", "diverged"]]


def test_cells_may_have_different_numbers_of_seeds() -> None:
    runs = [{"depth": depth, "seed": seed} for depth, seeds in ((2, 3), (4, 5)) for seed in range(seeds)]
    assert seeds_text({"a": runs[:3]}) == "3 seeds"
    assert seeds_text({"a": runs[:3], "b": runs}) == "3 to 5 seeds"
    assert seeds_text({"a": runs[:1]}) == "1 seed"


@pytest.mark.usefixtures("undrawn")
def test_a_study_keeps_the_machines_of_all_its_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in ("first", "second"):
        monkeypatch.setattr("gattn.bench.machine.describe", lambda cpu=cpu: {"cpu": cpu})
        assert _study("balance", tmp_path / "s", *(["--resume"] if cpu == "second" else [])) == 0
    settings = json.loads((tmp_path / "s" / "settings.json").read_text())
    assert [session["machine"]["cpu"] for session in settings["sessions"]] == ["first", "second"]
    page = (tmp_path / "s" / "report.html").read_text()
    assert '"cpu": "first"' in page
    assert '"cpu": "second"' in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("name", "texas", "cora"), [("balance", False, True), ("lipschitz", False, False)])
def test_features_are_scaled_as_in_the_authors_programs(
    name: str, texas: bool, cora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless asked for otherwise."""
    study, scaled = {"balance": balance, "lipschitz": lipschitz}[name], []

    def karate_instead(dataset: str, *args: Any, normalize: bool) -> Any:
        scaled.append(normalize)
        return node_data("karate", None, normalize=normalize)

    monkeypatch.setattr(study, "node_data", karate_instead)
    for number, (options, expected) in enumerate(
        [([], [texas, cora]), (["--normalize"], [True, True]), (["--no-normalize"], [False, False])]
    ):
        scaled.clear()
        out = tmp_path / str(number)
        one = {"balance": ["--inits", "xavier"], "lipschitz": ["--models", "gat", "--missings", "0"]}[name]
        more = ["--datasets", "Texas", "Planetoid:cora", "--depths", "2", "--epochs", "1", "--seeds", "1"]
        assert main(["study", name, "--out", str(out), *one, *more, *options]) == 0
        assert scaled == expected


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("lr", "still"), [("1e-30", True), ("0.1", False)])
def test_a_run_ends_where_its_steps_change_nothing(lr: str, still: bool, tmp_path: Path) -> None:
    """And counts as one of all epochs, since the rest would be the same."""
    options = [
        "--datasets",
        "karate",
        "--inits",
        "xavier",
        "--depths",
        "3",
        "--seeds",
        "1",
        "--epochs",
        "9",
        "--lr",
        lr,
    ]
    assert main(["study", "balance", "--out", str(tmp_path / "s"), *options]) == 0
    (result,) = _results(tmp_path / "s")
    assert (result["still"], result["epochs"], result["drift"] == 0) == (still, 9, still)
    assert math.isfinite(result["loss"])


@pytest.mark.parametrize("backend", ["gattn", "pyg"])
def test_a_bag_of_words_is_sparse_and_gives_the_same_numbers(backend: str) -> None:
    torch.manual_seed(0)
    dense, edges = torch.rand(40, 30), torch.randint(0, 40, (2, 90))
    words = torch.where(torch.rand(40, 30) < 0.05, dense, 0.0)
    assert sparse_where_that_pays(dense) is dense
    model = balance.DeepGATv2(30, 4, 3, {"backend": backend, "hidden": 8, "heads": 1})
    found = []
    for x in (words, sparse_where_that_pays(words)):
        model.zero_grad()
        model(x, edges).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    assert sparse_where_that_pays(words).layout == torch.sparse_csr
    torch.testing.assert_close(*found)


@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["balance", "--beta", "nan"], "greater than 0 and at most 1, got nan"),
        (["balance", "--epochs", "0"], "at least 1, got 0"),
        (["balance", "--lr", "inf"], "greater than 0, got inf"),
        (["lipschitz", "--missings", "150"], "at least 0 and at most 100, got 150"),
        (["lipschitz", "--depths", "two"], "invalid int value: 'two'"),
    ],
)
def test_options_have_their_ranges(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *arguments]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("undrawn")
def test_pygs_layers_train_the_same_networks(tmp_path: Path) -> None:
    """Without dropout the two differ by rounding alone."""
    assert _study("balance", tmp_path / "gattn") == 0
    assert _study("balance", tmp_path / "pyg", "--backend", "pyg") == 0
    for ours, theirs in zip(_results(tmp_path / "gattn"), _results(tmp_path / "pyg"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["gradient_first"] == pytest.approx(theirs["gradient_first"], rel=1e-3)


@pytest.mark.usefixtures("undrawn")
def test_balanced_networks_start_without_imbalance(tmp_path: Path) -> None:
    assert _study("balance", tmp_path / "s") == 0
    for result in _results(tmp_path / "s"):
        assert (result["imbalance"] < 1e-5) == (result["init"] != "xavier")


def test_seeds_vary_slowest_then_depths() -> None:
    keys = list(grid_keys({"depths": [4, 2, 4], "models": ["a", "b", "a"], "seeds": [2]}))
    assert [(key["seed"], key["depth"], key["model"]) for key in keys] == [
        (seed, depth, model) for seed in (0, 1) for depth in (2, 4) for model in ("a", "b")
    ]
    assert set(keys[0]) == {"depth", "model", "seed"}
