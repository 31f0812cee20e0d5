"""The study of massive activations: its networks and data, an interrupt, its report."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gattn.analysis import MassiveActivations
from gattn.cli import main
from gattn.studies import massive_model
from gattn.studies.graphs import GraphSet, _columns, batches, graph_set
from gattn.studies.massive import summary
from gattn.studies.massive_model import ENCODING, KINDS, TASKS, Network, Plateau


def study(out: Path, *more: str) -> int:
    tiny = ["--datasets", "BA-2motifs:24", "--depths", "2", "--seeds", "1", "--epochs", "3", "--copies", "2"]
    return main(["study", "massive", "--out", str(out), *tiny, "--models", "graph-transformer", "san", *more])


def results(out: Path) -> list[dict[str, Any]]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("ms_per_epoch", "session")} for line in lines]


def test_an_interrupted_study_goes_on_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal in the middle of an epoch; and the page has a figure and tables for every network."""
    assert study(tmp_path / "whole", "--batch-size", "8", "--terms", "none", "kv_slot") == 0
    task, count = TASKS["BA-2motifs"], 0

    def interrupting(scores: Tensor, y: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == 7:
            signal.raise_signal(signal.SIGINT)
        return task.each(scores, y)

    broken = massive_model.Task(task.nodes, task.epochs, task.label, interrupting)
    monkeypatch.setitem(TASKS, "BA-2motifs", broken)
    assert study(tmp_path / "parts", "--batch-size", "8", "--terms", "none", "kv_slot") == 130
    graph_set.cache_clear()  # as in another process
    torch.manual_seed(99)
    assert study(tmp_path / "parts", "--batch-size", "8", "--terms", "none", "kv_slot", "--resume") == 0
    found = results(tmp_path / "parts")
    assert found == results(tmp_path / "whole")
    assert [(r["model"], r["term"]) for r in found] == [
        ("graph-transformer", "none"),
        ("graph-transformer", "kv_slot"),
        ("san", "none"),
        ("san", "kv_slot"),
    ]
    for result in found:
        assert {len(result[name]) for name in ("largest_ratio", "base_ratio", "massive", "maxima", "band_high")} == {2}
        assert [max(maxima) for maxima in result["maxima"]] == pytest.approx(result["largest_ratio"], abs=1e-3)
    page = (tmp_path / "parts" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "SAN, 2 layers, key-value slot" in page


def test_results_are_the_reports() -> None:
    torch.manual_seed(0)
    data = graph_set("BA-2motifs:24", None, ENCODING, distances=False)
    model = Network(data, "graph-transformer", 2, "edge_bias").eval()
    some = batches(data.graphs[:10], 4)

    def evaluate(model: Network, _: MassiveActivations) -> None:
        for batch in some:
            model(batch)

    watching = MassiveActivations(model, threshold=3.0)
    base = watching.base(evaluate, seeds=[5])
    with watching:
        evaluate(model, watching)
    found = summary(watching.report(base), base)
    for number, (name, record) in enumerate(watching.findings.records.items()):
        stats = record.stats["activations"]
        assert found["massive"][number] == stats.above[3.0] > 0
        assert found["base_massive"][number] == base[0].records[name].stats["activations"].above[3.0]
        assert found["largest_ratio"][number] == stats.largest_ratio.value
    assert found["graphs"] == 10
    assert (found["types"], found["type_edges"]) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term", [None, "edge_bias", "kv_slot"])
def test_networks(kind: str, term: str | None) -> None:
    """Several columns of categories, for nodes and for edges; and numbers for nodes, no features of edges."""
    molecules = [
        Data(
            x=torch.randint(9, (5, 3)),
            edge_index=torch.randint(5, (2, 8)),
            edge_attr=torch.randint(4, (8, 2)),
            encoding=torch.randn(5, ENCODING[1]),
            y=torch.tensor([[0.0, float("nan"), 1.0]]),
        )
        for _ in range(3)
    ]
    labelled = Network(GraphSet(molecules, 9, 3, 4), kind, 2, term)
    batch = Batch.from_data_list(molecules)
    assert labelled(batch).shape == (3, 3)
    loss = TASKS["TOX21"].each(labelled(batch), batch.y)
    assert loss.shape == (6,)
    loss.mean().backward()
    assert all(p.grad is not None for name, p in labelled.named_parameters() if name.startswith(("node", "edge")))
    data = graph_set("BA-2motifs:24", None, ENCODING, distances=False)
    assert "distance" not in data.graphs[0]
    assert Network(data, kind, 1, term)(Batch.from_data_list(data.graphs[:4])).shape == (4, 2)


def test_columns_of_categories_are_numbered_on() -> None:
    assert _columns([torch.tensor([[2, 0], [1, 3]]), torch.tensor([[0, 4]])]).tolist() == [0, 3, 8]


def test_learning_rate_is_halved_on_a_plateau() -> None:
    plateau = Plateau(1.0, 2)
    record, rates = plateau.start(), []
    for val in (3.0, 2.0, 2.5, 2.0, 2.1, 1.0, 1.0, 1.0, 1.0):
        plateau.step(record, val)
        rates.append(record["rate"])
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "gat"], "unknown model 'gat'"),
        (["--terms", "some"], "unknown term 'some'"),
        (["--datasets", "CLUSTER"], "'CLUSTER' has no task here"),
        (["--backend", "pyg"], "PyTorch Geometric has none"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "massive", "--out", str(tmp_path / "s"), *arguments]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.data
def test_zinc_has_types_of_bonds(data_copy: Any) -> None:
    data = graph_set("ZINC", str(data_copy("zinc").parent), ENCODING, 20, distances=False)
    model = Network(data, "san", 1, None).eval()
    with MassiveActivations(model) as found:
        model(Batch.from_data_list(list(data.graphs)))
    table = found.findings.records["layers.0.attention"].tables["type"]
    assert set(table) <= {"1", "2", "3", "4"}
    assert sum(c.edges for c in table.values()) == sum(graph.num_edges for graph in data.graphs)
    assert found.findings.graphs == 20
