"""The study of massive activations: its networks and data, an interrupt, its page."""

from __future__ import annotations

import json
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gattn.analysis import MassiveActivations
from gattn.cli import main
from gattn.studies.graphs import GraphSet, _columns, batches, graph_set
from gattn.studies.massive import _epoch
from gattn.studies.massive_data import ADDED, ENCODING, TASKS, full_graphs, mean_roc_auc
from gattn.studies.massive_examine import summary
from gattn.studies.massive_model import ALONG_EDGES, KINDS, Network, Plateau


def study(out: Path, *more: str, dataset: str = "BA-2motifs:24", models: tuple[str, ...] = ALONG_EDGES[:2]) -> int:
    tiny = ["--datasets", dataset, "--depths", "2", "--seeds", "1", "--epochs", "3", "--copies", "2"]
    return main(["study", "massive", "--out", str(out), *tiny, "--models", *models, *more])


def results(out: Path) -> list[dict[str, Any]]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("ms_per_epoch", "session")} for line in lines]


def test_an_interrupted_study_goes_on_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal in the middle of an epoch; and the page has a figure and tables for every network."""
    options = ["--batch-size", "8", "--terms", "none", "kv_slot", "--perturb"]
    assert study(tmp_path / "whole", *options) == 0
    task, count = TASKS["BA-2motifs"], 0

    def interrupting(scores: Tensor, y: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == 7:
            signal.raise_signal(signal.SIGINT)
        return task.each(scores, y)

    monkeypatch.setitem(TASKS, "BA-2motifs", replace(task, each=interrupting))
    assert study(tmp_path / "parts", *options) == 130
    graph_set.cache_clear()  # as in another process
    torch.manual_seed(99)
    assert study(tmp_path / "parts", *options, "--resume") == 0
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
    batch = Batch.from_data_list(full_graphs(molecules, labelled.added) if KINDS[kind].pairs else molecules)
    assert labelled(batch).shape == (3, 3)
    loss = TASKS["TOX21"].each(labelled(batch), batch.y)
    assert loss.shape == (6,)
    loss.mean().backward()
    assert all(p.grad is not None for name, p in labelled.named_parameters() if name.startswith(("node", "edge")))
    data = graph_set("BA-2motifs:24", None, ENCODING, distances=False)
    assert "distance" not in data.graphs[0]
    model = Network(data, kind, 1, term)
    graphs = full_graphs(data.graphs[:4], model.added) if KINDS[kind].pairs else data.graphs[:4]
    assert model(Batch.from_data_list(graphs)).shape == (4, 2)


def test_graphs_are_made_full() -> None:
    """Added pairs are of a category of their own, in all columns; edges without features of category 0."""
    path = Data(x=torch.zeros(3, 1), edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    columns = Data(x=path.x, edge_index=path.edge_index, edge_attr=torch.tensor([[0, 3], [0, 3], [2, 4], [2, 4]]))
    plain, numbered = full_graphs([path], 1)[0], full_graphs([columns], 5)[0]
    assert plain.edge_attr.tolist() == [0, 0, 0, 0, 1, 1]
    assert numbered.edge_attr.tolist() == [[0, 3], [0, 3], [2, 4], [2, 4], [5, 5], [5, 5]]
    assert plain.edge_index[:, ~plain.edge_real].T.tolist() == [[0, 2], [2, 0]]
    assert (plain.edge_kernel > 0).all()
    assert (path.num_edges, path.edge_attr, columns.num_edges) == (4, None, 4)


def test_types_of_edges_have_names() -> None:
    assert [TASKS["ZINC"].edge(kind, 5) for kind in ("4", "5", "self-loop")] == ["aromatic", ADDED, "self-loop"]
    assert [TASKS["TOX21"].edge(kind, 19) for kind in ("1", "12", "19", "7")] == ["single", "aromatic", ADDED, "type 7"]
    assert [TASKS["PROTEINS"].edge(kind, 1) for kind in ("0", "1")] == ["edge", ADDED]


@pytest.mark.parametrize("kind", KINDS)
def test_only_networks_on_all_pairs_see_nodes_that_no_edge_joins(kind: str) -> None:
    """A part of the graph by itself, which positions cannot tell: does it change what the layer gives of another?"""
    torch.manual_seed(0)
    graph = Data(
        x=torch.randint(4, (4,)),
        edge_index=torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]),
        encoding=torch.zeros(4, ENCODING[1]),
    )
    model = Network(GraphSet([graph], 4, 1), kind, 1, None).eval()
    (graph,) = full_graphs([graph], model.added) if KINDS[kind].pairs else [graph]
    nodes: list[Tensor] = []
    model.layers[0].register_forward_hook(lambda *call: nodes.append(call[2][0] if kind == ALONG_EDGES[0] else call[2]))
    batch, noise = Batch.from_data_list([graph]), torch.zeros(4, KINDS[kind].channels)
    model(batch)
    noise[3] = 1.0
    model(batch, noise)
    # GraphiT's kernel is 0 where no path leads.
    assert bool((nodes[0][:2] != nodes[1][:2]).any()) == (kind == "san-full")


def test_columns_of_categories_are_numbered_on() -> None:
    assert _columns([torch.tensor([[2, 0], [1, 3]]), torch.tensor([[0, 4]])]).tolist() == [0, 3, 8]


def test_labelled_graphs_are_like_molecules() -> None:
    data = graph_set("BA-labels:60", None, ENCODING, distances=False)
    again = graph_set.__wrapped__("BA-labels:60", None, ENCODING, distances=False)
    assert all(torch.equal(a.edge_index, b.edge_index) for a, b in zip(data.graphs, again.graphs, strict=True))
    x, edge = (torch.cat([getattr(graph, name) for graph in data.graphs]) for name in ("x", "edge_attr"))
    assert (x.amin(0).tolist(), x.amax(0).tolist(), data.in_channels) == ([0, 3], [2, 7], 8)
    assert (edge.amin(0).tolist(), edge.amax(0).tolist(), data.edge_channels) == ([0, 3], [2, 4], 5)
    assert any(graph.num_edges == 0 for graph in data.graphs)
    y = torch.cat([graph.y for graph in data.graphs])
    assert y.shape == (60, 3)
    assert 0 < y.isnan().sum() < 60
    assert {0.0, 1.0} == set(y[~y.isnan()].tolist())
    of_motifs = torch.tensor([int((graph.edge_attr[:, 1] == 4).sum()) for graph in data.graphs])
    known = ~y.isnan().any(1)
    assert torch.equal(of_motifs[known], (y @ torch.tensor([12.0, 10.0, 8.0]))[known].long())


def test_several_labels_all_pairs_and_fewer_training_graphs(tmp_path: Path) -> None:
    models = ("graph-transformer", "san-full", "graphit-full")
    out, options = tmp_path / "s", ["--train-graphs", "10", "--batch-size", "4", "--terms", "none"]
    assert study(out, *options, dataset="BA-labels:60", models=models) == 0
    found = results(out)
    assert [r["model"] for r in found] == list(models)
    for result in found:
        assert (result["training_graphs"], result["of_training_graphs"]) == (10, 48)
        assert 0 < result["test"] < 5
        assert 0 <= result["metric"] <= 1
        assert (ADDED in result["types"]) == (result["model"] != "graph-transformer")
        assert {len(edges) for edges in result["type_edges"]} == {2}
    page = (out / "report.html").read_text()
    assert "10 of 48 training graphs" in page
    assert "ROC-AUC" in page
    assert "SAN on all pairs, 2 layers" in page
    assert "perturbed" not in page


def test_a_run_that_diverges_is_examined_and_said_to(tmp_path: Path) -> None:
    """A learning rate that overflows; it is not perturbed."""
    assert study(tmp_path / "s", "--lr", "1e30", "--terms", "none", "--perturb", models=("san",)) == 0
    (result,) = results(tmp_path / "s")
    assert (result["test"], result["largest_ratio"]) == (None, [None, None])
    assert "perturb_loss" not in result
    page = (tmp_path / "s" / "report.html").read_text()
    assert "<td>diverged</td>" in page
    assert "No bias term: no layer has an edge whose ratio is finite." in page
    assert "perturbed" not in page


def test_mean_roc_auc() -> None:
    """Of the pairs with labels 1 and 0: the share in which the 1 has the larger score. A label of one class is left
    out, as is what is not known."""
    nan = math.nan
    y = torch.tensor([[1.0, 1.0, nan], [0.0, 1.0, 0.0], [0.0, nan, 1.0], [1.0, 1.0, 0.0]])
    scores = torch.tensor([[0.9, 0.1, 9.0], [0.5, 0.2, 0.3], [0.1, 0.3, 0.2], [0.3, 0.4, 0.1]])
    assert mean_roc_auc(scores, y) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert math.isnan(mean_roc_auc(scores[:, 1:2], y[:, 1:2]))


def test_batches_that_cannot_be_trained_on_are_left_out() -> None:
    """A lone node, on which BatchNorm cannot train, and graphs without a known label."""
    data = graph_set("BA-labels:60", None, ENCODING, distances=False)
    lone = next(graph for graph in data.graphs if graph.num_nodes == 1)
    known = next(graph for graph in data.graphs if graph.num_edges and not graph.y.isnan().any())
    unknown = known.clone()
    unknown.y = torch.full_like(known.y, math.nan)
    torch.manual_seed(0)
    model = Network(data, "graph-transformer", 1, None)
    optimizer = torch.optim.Adam(model.parameters(), 0.0)
    some = [Batch.from_data_list([graph]) for graph in (lone, known, unknown)]
    expected = TASKS["BA-labels"].each(model(some[1]), known.y).mean().item()
    assert _epoch(model, some, optimizer, TASKS["BA-labels"]) == pytest.approx(expected)
    assert math.isnan(_epoch(model, some[:1], optimizer, TASKS["BA-labels"]))


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


def test_missing_rdkit_is_named_before_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    assert main(["study", "massive", "--out", str(tmp_path / "s"), "--datasets", "ZINC", "TOX21"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("pip install rdkit, or gattn[molecules]")


@pytest.mark.slow
@pytest.mark.data
def test_tox21_has_labels_and_molecules_without_bonds(data_copy: Any) -> None:
    pytest.importorskip("rdkit", reason="needs rdkit: pip install rdkit")
    data = graph_set("TOX21", str(data_copy("molnet").parent), ENCODING, distances=False)
    assert data.note == "8,006 molecules, 25 of them without bonds, split at random."
    assert (len(data.graphs), data.out_channels) == (8006, 12)
    assert [len(part) for part in data.split(0)] == [6404, 800, 802]
    y = torch.cat([graph.y for graph in data.graphs])
    assert 0 < y.isnan().float().mean() < 0.3
    bare = next(graph for graph in data.graphs if not graph.num_edges)
    chosen, task = [bare, *data.graphs[:300]], TASKS["TOX21"]
    model, batch = Network(data, "san", 1, None).eval(), Batch.from_data_list(chosen)
    with MassiveActivations(model) as found:
        scores = model(batch)
    assert len(task.each(scores, batch.y)) == int((~batch.y.isnan()).sum())
    assert 0 <= task.metric.of(scores.detach(), batch.y) <= 1
    table = found.findings.records["layers.0.attention"].tables["type"]
    names = {task.edge(kind, model.added) for kind in table}
    assert {"single", "double", "aromatic"} <= names <= {"single", "double", "triple", "aromatic", "ionic", "dative"}


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
