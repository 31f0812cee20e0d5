"""The benchmark of all-pairs attention: its graphs, its contenders, its gate and what it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gattn.bench import memory
from gattn.bench.ragged import batches, cli, contenders, report
from gattn.bench.ragged.batches import Batch
from gattn.bench.ragged.contenders import Forward, Problem, step


def test_block_models_are_the_same_every_time() -> None:
    first, second = (batches.load("cluster", 3) for _ in range(2))
    assert torch.equal(first.distance, second.distance)
    assert len(first.sizes) == 3
    assert sum(n * n for n in first.sizes) == len(first.distance)
    assert all(6 * batches.LEAST <= n <= 6 * batches.MOST for n in first.sizes)


def test_data_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATTN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="GATTN_DATA"):
        batches.load("nci1")


@pytest.mark.data
@pytest.mark.parametrize(("name", "folder"), [("proteins", "tu"), ("zinc", "zinc")])
def test_real_graphs(name: str, folder: str, data_copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATTN_DATA", str(data_copy(folder).parent))
    batch = batches.load(name, 4)
    assert len(batch.sizes) == 4
    near = batch.distance[batch.distance != 510]
    assert 2 <= near.max() < max(batch.sizes)


@pytest.fixture
def problem() -> Problem:
    blocks = [torch.randint(6, (n, n), dtype=torch.int16) for n in (1, 5, 12)]
    distance = torch.cat([block.flatten() for block in blocks])
    batch = Batch("toy", "toy", 0.5, torch.tensor([0, 1, 6, 18]), distance)
    return Problem.build(batch, 3, 4, 0.0, torch.float64)


@pytest.mark.parametrize("other", [contenders.padded, contenders.sparse])
def test_other_forms_are_the_same_function(problem: Problem, other: Callable[[Problem], Forward]) -> None:
    found = (step(problem, make(problem), backward=True)() for make in (contenders.gattn, other))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_most_pairs_of_ladders_are_far() -> None:
    batch = batches.load("ladders", 1)
    assert batch.sizes == [2 * batches.RUNGS]
    assert 10 * int((batch.distance < 40).sum()) < len(batch.distance)


def test_dropout_is_applied_by_both(problem: Problem) -> None:
    dropping = Problem(problem.batch, problem.leaves, problem.grad_out, 1.0)
    for make in (contenders.gattn, contenders.padded):
        assert not step(dropping, make(dropping), backward=False)()[0].any()


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> int:
    options = ["--batches", "cluster", "--graphs", "2", "--channels", "4", "--repeats", "1", "--no-memory"]
    monkeypatch.setattr(sys, "argv", ["ragged", *options, "--json", str(out), *more])
    monkeypatch.setattr("gattn.bench.timing.GENEROUS_SECONDS", 0.0)
    monkeypatch.setattr("gattn.bench.limits.copy_bandwidth", lambda: 1e9)
    return cli.main()


def test_a_run_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ragged.json"
    assert run(monkeypatch, out, "--contenders", "gattn", "padded") == 0
    data = json.loads(out.read_text())
    assert data["finished"]
    (entry,) = data["graphs"]
    assert entry["complete"]
    assert entry["pairs"] < entry["padded_pairs"]
    for contender in entry["contenders"].values():
        assert all(contender[what]["median"] > 0 for what in cli.TIMED)
        assert max(contender["errors"].values()) < 1e-4
    assert entry["limits"]["forward_flops"] > 0
    assert "padded, eager" in capsys.readouterr().out
    shown = report.block(tmp_path)
    assert "block models like CLUSTER's: padded, eager |" in shown
    assert "4 heads of 4 channels" in shown


def test_no_speed_without_right_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(problem: Problem) -> Forward:
        right = contenders.padded(problem)
        return lambda *leaves: right(*leaves) * 1.01

    monkeypatch.setitem(contenders.CONTENDERS, "padded", ("padded, eager", wrong))
    out = tmp_path / "ragged.json"
    assert run(monkeypatch, out, "--contenders", "gattn", "padded") == 1
    contender = json.loads(out.read_text())["graphs"][0]["contenders"]["padded"]
    assert "differs from the fp64 reference" in contender["reason"]
    assert "step" not in contender


@pytest.mark.skipif(not memory.supported(), reason="needs Linux's /proc")
def test_memory_is_measured_in_a_process_of_its_own() -> None:
    request = {"batch": "cluster", "graphs": 2, "heads": 1, "channels": 4, "dropout_p": 0.0, "threads": 1}
    found = memory.ask("gattn.bench.ragged.footprint", {**request, "contender": "gattn", "backward": True})
    assert found["step_peak"] >= 0
    assert "KeyError" in memory.ask("gattn.bench.ragged.footprint", {**request, "contender": "nobody"})["reason"]
