"""``gattn train``: outputs, comparison, resuming, and mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gattn.train import experiment
from gattn.train.config import Config
from gattn.train.folder import RunFolder
from gattn.train.memory import PeakMeter

pytest.importorskip("torch_geometric")
KARATE = ("train", "--dataset", "karate", "--epochs", "20", "--threads", "1", "--no-plot")


def metrics(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run without what a clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.endswith("_ms")} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Folder of a compared run without an interrupt."""
    from gattn.cli import main

    out = tmp_path_factory.mktemp("straight") / "run"
    assert main([*KARATE, "--compare", "--no-memory", "--runs", "2", "--out", str(out)]) == 0
    return out


def test_leaves_metrics_models_and_summary(straight):
    records = metrics(straight)
    assert len(records) == 2 * 2 * 20
    assert {record["variant"] for record in records} == {"gattn", "pyg"}
    assert all(0 <= record["test_accuracy"] <= 1 for record in records)
    names = sorted(path.name for path in (straight / "models").iterdir())
    assert names == ["gattn-seed0.pt", "gattn-seed1.pt", "pyg-seed0.pt", "pyg-seed1.pt"]
    ours, theirs = (torch.load(straight / "models" / name) for name in ("gattn-seed0.pt", "pyg-seed0.pt"))
    assert ours.keys() == theirs.keys()
    summary = json.loads((straight / "summary.json").read_text())
    assert summary["comparison"]["speedup_epoch"] > 0
    assert summary["variants"]["gattn"]["seeds"] == [0, 1]
    assert not (straight / "checkpoint.pt").exists()


def test_both_layers_start_from_the_same_weights_and_learn_alike(gattn_command, tmp_path):
    options = (
        "--compare",
        "--no-memory",
        "--dropout",
        0,
        "--attention-dropout",
        0,
        "--out",
        tmp_path / "run",
    )
    status, _, _ = gattn_command(*KARATE, *options)
    assert status == 0
    losses = {
        name: torch.tensor([r["train_loss"] for r in metrics(tmp_path / "run") if r["variant"] == name])
        for name in ("gattn", "pyg")
    }
    torch.testing.assert_close(losses["gattn"], losses["pyg"], rtol=0, atol=1e-4)


def test_json_is_the_summary_and_alone_on_stdout(gattn_command, tmp_path):
    status, out, err = gattn_command(*KARATE, "--json", "--out", tmp_path / "run")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "epoch 20/20" in err
    assert "\r" not in err


def test_interrupted_and_resumed_run_is_the_same_run(gattn_command, straight, tmp_path, monkeypatch):
    out, calls = tmp_path / "run", []
    append = RunFolder.append

    def append_then_interrupt(self, records):
        append(self, records)
        calls.append(records)
        if len(calls) in (7, 30):  # once in each seed
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunFolder, "append", append_then_interrupt)
    run = (*KARATE, "--compare", "--no-memory", "--runs", 2, "--out", out)
    status, _, err = gattn_command(*run)
    assert status == 130
    assert f"continue with: gattn train --resume --out {out}" in err
    assert len(metrics(out)) == 2 * 7
    assert gattn_command("train", "--resume", "--no-plot", "--no-memory", "--out", out).status == 130
    assert gattn_command("train", "--resume", "--no-plot", "--no-memory", "--out", out).status == 0
    assert metrics(out) == metrics(straight)


def test_metrics_later_than_the_checkpoint_are_trained_again(gattn_command, straight, tmp_path, monkeypatch):
    """A run killed without warning: its last checkpoint is older than its last line."""
    out, append = tmp_path / "run", RunFolder.append

    def die(self, records):
        append(self, records)
        if records[0]["epoch"] == 12:
            raise RuntimeError("power cut")

    monkeypatch.setattr(experiment, "CHECKPOINT_SECONDS", 0.05)
    monkeypatch.setattr(RunFolder, "append", die)
    run = (*KARATE, "--compare", "--no-memory", "--runs", 2, "--out", out)
    with pytest.raises(RuntimeError, match="power cut"):
        gattn_command(*run)
    monkeypatch.setattr(RunFolder, "append", append)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"half a li')
    assert gattn_command("train", "--resume", "--no-plot", "--no-memory", "--out", out).status == 0
    assert metrics(out) == metrics(straight)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_to_the_process(tmp_path, gattn_command, number, status):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gattn.cli", *KARATE, "--epochs", "100000", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if (out / "metrics.jsonl").exists():
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status
    assert "Traceback" not in err
    assert "interrupted; continue with" in err
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert state["trainers"][0]["epoch"] == len(metrics(out))


def test_finished_results_are_not_overwritten(gattn_command, tmp_path):
    run = (*KARATE, "--epochs", 2, "--out", tmp_path / "run")
    assert gattn_command(*run).status == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    status, _, err = gattn_command(*run)
    assert status == 2
    assert "finished run" in err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    assert "nothing to resume" in gattn_command(*run, "--resume").err
    assert gattn_command(*run, "--overwrite").status == 0


def test_resume_with_other_options_is_refused(gattn_command, tmp_path):
    RunFolder(tmp_path / "run").create(Config(dataset="karate"), overwrite=False)
    status, _, err = gattn_command("train", "--resume", "--lr", 0.1, "--out", tmp_path / "run")
    assert status == 2
    assert "--lr 0.1 differs from 0.005" in err
    assert "no run to resume" in gattn_command("train", "--resume", "--out", tmp_path / "none").err


def test_a_folder_with_other_things_is_left_alone(gattn_command, tmp_path):
    (tmp_path / "thesis.tex").touch()
    status, _, err = gattn_command(*KARATE, "--out", tmp_path, "--overwrite")
    assert status == 2
    assert "holds no run of ours" in err


def test_patience_stops_early(gattn_command, tmp_path):
    gattn_command(*KARATE, "--epochs", 200, "--patience", 3, "--out", tmp_path / "run")
    records = metrics(tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(records) == summary["variants"]["gattn"]["selected_epoch"][0] + 3 < 200


def test_memory_and_curves_of_a_comparison(gattn_command, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "run"
    status, text, _ = gattn_command(*KARATE[:-1], "--epochs", 3, "--compare", "--out", out)
    assert status == 0
    variants = json.loads((out / "summary.json").read_text())["variants"]
    assert all(result["peak_memory_bytes"] >= 0 for result in variants.values())
    assert "peak memory" in text
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_peak_meter_sees_what_is_allocated_and_freed():
    meter = PeakMeter()
    meter.start()
    block = torch.ones(32 * 2**20 // 4)
    del block
    assert 24 * 2**20 < meter.peak() < 64 * 2**20


def test_dropout_of_sparse_features_is_dropout():
    from gattn.train.data import load

    data = load(Config(dataset="karate"))
    assert data.x.count_nonzero() == 34  # one in 34: the sparse way
    dropped = torch.stack([data.dropped_features(0.25) for _ in range(400)])
    assert not dropped[:, data.x == 0].any()
    kept = dropped[:, data.x != 0]
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert kept.mean().item() == pytest.approx(1, abs=0.02)


def test_digits_is_embedded(tmp_path):
    pytest.importorskip("sklearn")
    from gattn.train.data import load

    data = load(Config())
    assert data.x.shape == (1797, 64)
    assert data.num_classes == 10
    assert int(data.train.sum()) == 90
    assert not (data.train & data.val).any()
    assert (data.train | data.val | data.test).all()
    row, col = data.edge_index
    assert (row != col).all()
    assert {*zip(row.tolist(), col.tolist(), strict=True)} == {*zip(col.tolist(), row.tolist(), strict=True)}


@pytest.mark.data
@pytest.mark.parametrize(
    ("family", "name", "nodes", "classes"), [("planetoid", "Cora", 2708, 7), ("webkb", "WebKB:texas", 183, 5)]
)
def test_pyg_data(data_copy, family, name, nodes, classes, tmp_path, monkeypatch):
    from gattn.train.data import load

    root = data_copy(family)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load(Config(dataset=name))  # from $GATTN_DATA, by way of a copy in the cache
    assert data.x.size(0) == nodes
    assert data.num_classes == classes
    assert list((tmp_path / "gattn" / "data" / family).rglob("processed"))
    for place in (root, tmp_path / "gattn" / "data"):  # the family's folder, and the one above
        assert torch.equal(load(Config(dataset=name, root=str(place))).edge_index, data.edge_index)


def test_two_processes_copy_at_once(tmp_path, monkeypatch):
    from gattn.train import roots

    raw = tmp_path / "shared" / "webkb" / "Texas" / "raw"
    raw.mkdir(parents=True)
    (raw / "edges.txt").write_text("0 1")
    monkeypatch.setenv("GATTN_DATA", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "cache" / "gattn" / "data" / "webkb" / "Texas"

    def say(_: str) -> None:  # by now the copy was found to be missing
        shutil.copytree(raw.parent, made)

    monkeypatch.setattr(roots, "say", say)
    assert roots.pyg_root(None, "webkb", "texas") == made.parent
    assert [place.name for place in made.parent.iterdir()] == ["Texas"]
    assert (made / "raw" / "edges.txt").read_text() == "0 1"


@pytest.mark.data
def test_a_split_that_is_not_there(gattn_command, data_copy, tmp_path):
    options = ("--dataset", "Texas", "--root", data_copy("webkb"), "--split", 10, "--out", tmp_path / "run")
    status, _, err = gattn_command("train", *options)
    assert status == 2
    assert err.endswith("has splits 0 to 9\n")
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_had(gattn_command, tmp_path, monkeypatch):
    from torch_geometric.datasets import Actor

    def download(self):
        raise OSError("no route to host")

    monkeypatch.setattr(Actor, "download", download)
    status, _, err = gattn_command("train", "--dataset", "actor", "--root", tmp_path)
    assert status == 2
    assert f"cannot load actor under {tmp_path}: OSError: no route to host" in err
    assert len(err.splitlines()) == 1


@pytest.mark.data
def test_data_for_another_task(gattn_command, data_copy, tmp_path):
    options = ("--dataset", "TUDataset:MUTAG", "--root", data_copy("tu"), "--out", tmp_path / "run")
    status, _, err = gattn_command("train", *options)
    assert status == 2
    assert "holds 188 graphs, not one to classify nodes on" in err
