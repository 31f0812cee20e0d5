"""The Gradformer study: its data, the padded form beside it, shuffled batches across an interrupt, its report."""

from __future__ import annotations

import json
import re
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from gattn.cli import main
from gattn.nn import Gradformer
from gattn.studies import gradformer
from gattn.studies.generated import cluster, two_motifs
from gattn.studies.graphs import batches, graph_set, parse_name
from gattn.studies.padded import PaddedGradformer
from gattn.terminal import UsageError

RANDOM_WALK = ("random-walk", 4)


def study(out: Path, *more: str) -> int:
    tiny = ["--datasets", "BA-2motifs:24", "--depths", "1", "--seeds", "1", "--epochs", "3"]
    return main(["study", "gradformer", "--out", str(out), *tiny, *more])


def results(out: Path) -> list[dict[str, Any]]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("ms_per_epoch", "session")} for line in lines]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gattn.studies.page.figure", lambda *_: b"<svg></svg>")


@pytest.mark.usefixtures("undrawn")
def test_shuffled_batches_go_on_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps an epoch in an order that is drawn, attention dropout, a signal in the middle of an epoch."""
    loss, count = torch.nn.functional.cross_entropy, 0

    def interrupting(*args: Any) -> Tensor:
        nonlocal count
        count += 1
        if count == 5:
            signal.raise_signal(signal.SIGINT)
        return loss(*args)

    assert study(tmp_path / "whole", "--batch-size", "8") == 0
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", interrupting)
    assert study(tmp_path / "parts", "--batch-size", "8") == 130
    assert count == 6, "the epoch is finished first"
    graph_set.cache_clear()  # as in another process
    torch.manual_seed(99)
    assert study(tmp_path / "parts", "--batch-size", "8", "--resume") == 0
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


@pytest.mark.usefixtures("undrawn")
def test_padded_attention_trains_the_same_networks(tmp_path: Path) -> None:
    """Without attention dropout the two backends differ by rounding alone."""
    for backend in ("gattn", "pyg"):
        assert study(tmp_path / backend, "--backend", backend, "--attention-dropout", "0") == 0
    for ours, theirs in zip(results(tmp_path / "gattn"), results(tmp_path / "pyg"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["gradient_first"] == pytest.approx(theirs["gradient_first"], rel=1e-3)
        assert torch.tensor(ours["hops"]).allclose(torch.tensor(theirs["hops"]), atol=1e-4)


@pytest.mark.parametrize("options", [{"slope": 0.1}, {"share_hops": False}, {"attention": "plain"}])
def test_padded_attention_is_the_same_function(options: dict[str, Any]) -> None:
    batch = Batch.from_data_list([cluster(torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    batch.x = batch.x.double()
    batch.distance = torch.randint(0, 5, (int(batch.ptr.diff().square().sum()),), dtype=torch.int16)
    found = []
    for kind in (Gradformer, PaddedGradformer):
        torch.manual_seed(0)
        network = kind(7, 3, channels=8, layers=2, heads=2, hop=1.5, attention_dropout=0.0, **options).double()
        out = network(batch)
        found.append([out, *torch.autograd.grad(out.square().mean(), list(network.parameters()))])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


def test_low_resource_and_layerwise_hops_are_reported(tmp_path: Path) -> None:
    assert study(tmp_path, "--fractions", "50", "100", "--depths", "2", "--hops", "layer") == 0
    page = (tmp_path / "report.html").read_text()
    found = results(tmp_path)
    assert {(r["fraction"], r["training_graphs"]) for r in found} == {(50, 10), (100, 19)}
    assert "BA-2motifs:24, 50 % of the training graphs" in page
    assert "BA-2motifs:24 with fewer training graphs" in page
    assert page.count("hops, 2 blocks, block 2") == 2
    assert {len(r["hops"]) for r in found if r["model"] == "gradformer"} == {2}
    assert all(r["hops"] == [] for r in found if r["model"] == "gps")


def test_others_numbers_stand_in_the_tables_of_the_whole_data_set_alone() -> None:
    result = {"dataset": "NCI1", "model": "gradformer", "depth": 4, "seed": 0, "test": 0.5, "ms_per_epoch": 1.0}
    result |= {"hops": [[5.0]], "loss": 0.1, "training_graphs": 3288, "note": "", "gradient_first": [1.0] * 4}
    protocol = dict.fromkeys(("epochs", "lr", "gamma", "batch")) | {"attention_dropout": 0.5}
    for fraction, expected in (
        (100, ["Gradformer", "Gradformer, published", "Gradformer, third party"]),
        (5, ["Gradformer"]),
    ):
        (section,) = gradformer.sections(protocol, [{**result, "fraction": fraction}])
        table = section.tables[0]
        assert [row[0] for row in table.rows] == expected
        assert table.quoted == set(expected[1:])
    (section,) = gradformer.sections(protocol, [{**result, "fraction": 100}])
    assert section.tables[0].rows[1:] == [["Gradformer, published", "86.0 ± 1.5"], ["Gradformer, third party", "80.8"]]


def test_data_do_not_depend_on_the_callers_random_numbers() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = graph_set("CLUSTER:12", None, ("laplacian", 3))
    assert torch.equal(torch.get_rng_state(), before)
    graph_set.cache_clear()
    torch.manual_seed(6)
    second = graph_set("CLUSTER:12", None, ("laplacian", 3))
    for one, other in zip(first.graphs, second.graphs, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("x", "edge_index", "y", "distance", "encoding"))


def test_splits() -> None:
    data = graph_set("BA-2motifs:40", None, RANDOM_WALK)
    parts = data.split(0)
    assert [len(part) for part in parts] == [32, 4, 4]
    assert len({id(graph) for part in parts for graph in part}) == 40
    assert list(map(id, data.split(0)[0])) == list(map(id, parts[0]))
    assert list(map(id, data.split(1)[0])) != list(map(id, parts[0]))
    few, val, test = data.split(0, 25)
    assert list(map(id, few)) == list(map(id, parts[0][:8]))
    assert (val, test) == parts[1:]
    assert len(data.split(0, 1)[0]) == 1


def test_a_data_set_with_its_own_split_keeps_it() -> None:
    data = graph_set("CLUSTER:24", None, ("laplacian", 3))
    train, val, test = data.split(3, 50)
    assert [len(part) for part in (train, val, test)] == [10, 2, 2]
    assert list(map(id, val + test)) == list(map(id, data.graphs[20:]))
    assert set(map(id, train)) < set(map(id, data.graphs[:20]))
    assert [batch.num_graphs for batch in batches(train, 4)] == [4, 4, 2]


def test_cluster_is_drawn_as_published() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes, within, between = [], [], []
    for _ in range(40):
        data = cluster(generator)
        joined = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.bool)
        joined[data.edge_index[0], data.edge_index[1]] = True
        assert torch.equal(joined, joined.T)
        assert not joined.diagonal().any()
        same = data.y[:, None] == data.y
        within.append(joined[same & ~torch.eye(len(data.y), dtype=torch.bool)].double().mean())
        between.append(joined[~same].double().mean())
        sizes += data.y.bincount().tolist()
        shown = data.x.argmax(1)
        assert shown.bincount(minlength=7)[1:].tolist() == [1] * 6
        assert torch.equal(data.y[shown > 0], shown[shown > 0] - 1)
    assert len(sizes) == 240
    assert (min(sizes), max(sizes)) == (5, 34)
    assert float(torch.stack(within).mean()) == pytest.approx(0.55, abs=0.02)
    assert float(torch.stack(between).mean()) == pytest.approx(0.25, abs=0.01)


def test_motifs_are_houses_and_rings() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        data = two_motifs(generator)
        within = ((data.edge_index >= 20).all(0)).sum().item()
        across = ((data.edge_index >= 20).any(0)).sum().item() - within
        tree = data.num_edges - within - across
        assert (tree, across, within) == (2 * 19, 2, {0: 12, 1: 10}[int(data.y)])
        seen.add(int(data.y))
    assert seen == {0, 1}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CORA", "unknown data set 'CORA'; expected some of NCI1"),
        ("NCI1:100", "only CLUSTER, BA-2motifs, BA-labels take a size"),
        ("CLUSTER:5", "at least 12 graphs"),
        ("CLUSTER:", "at least 12 graphs"),
    ],
)
def test_names_that_are_none(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_name(name)
    assert parse_name("cluster:300") == ("CLUSTER", 300)
    assert parse_name("mutag") == ("MUTAG", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "gat"], "unknown model 'gat'"),
        (["--datasets", "BA-labels:24"], "data set 'BA-labels' has no settings here"),
        (["--datasets", "Cora"], "unknown data set 'Cora'"),
        (["--fractions", "0"], "at least 1 and at most 100, got 0"),
        (["--attention-dropout", "2"], "at least 0 and at most 1, got 2"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "gradformer", "--out", str(tmp_path / "s"), *arguments]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.data
def test_molecules_are_said_to_be_a_substitute(data_copy: Any) -> None:
    data = graph_set("ZINC", str(data_copy("zinc").parent), RANDOM_WALK)
    assert data.fixed == (10_000, 1_000)
    assert "substitute" in data.note
    batch = Batch.from_data_list(data.split(0)[2][:4])
    network = Gradformer(
        data.in_channels, 1, mpnn="gine", node_encoder="embedding", edge_channels=data.edge_channels,
        edge_encoder="embedding", encoding="encoding", encoding_channels=4,
    )  # fmt: skip
    assert network(batch).shape == (4, 1)
    assert batch.y.shape == (4,)


@pytest.mark.data
def test_mutag_has_its_published_size(data_copy: Any) -> None:
    data = graph_set("MUTAG", str(data_copy("tu").parent), RANDOM_WALK)
    assert (len(data.graphs), data.in_channels, data.out_channels) == (188, 7, 2)
    assert [len(part) for part in data.split(0)] == [150, 18, 20]
    for graph in data.graphs[:5]:
        assert graph.distance.shape == (graph.num_nodes**2,)
        assert graph.distance.view(graph.num_nodes, -1)[graph.edge_index[1], graph.edge_index[0]].eq(1).all()


def test_learning_rates_of_a_warm_up() -> None:
    setting = gradformer.SETTINGS["CLUSTER"]
    optimizer = setting.optimizer(nn.Linear(1, 1), None)
    rates = []
    for epoch in range(100):
        setting.set_rate(optimizer, None, epoch, 100)
        rates.append(optimizer.param_groups[0]["lr"] / setting.lr)
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == 1.0
    assert all(a > b for a, b in pairwise(rates[5:]))
    assert 0 < rates[-1] < 1e-3


def test_no_name_of_a_figure_repeats(tmp_path: Path) -> None:
    assert study(tmp_path) == 0
    titles = re.findall(r"<h2>(.*?)</h2>", (tmp_path / "report.html").read_text())
    assert titles == ["BA-2motifs:24", "Settings"]
