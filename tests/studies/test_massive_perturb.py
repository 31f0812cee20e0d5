"""The perturbation test of the massive study: what is added where, and what it is measured by."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gattn.analysis import MassiveActivations
from gattn.studies.graphs import batches, graph_set
from gattn.studies.massive_data import ENCODING, TASKS
from gattn.studies.massive_model import Network, judge
from gattn.studies.massive_perturb import SCALES, ascended, perturbed

from .test_massive import results, study

TASK = TASKS["BA-labels"]


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    return Network(graph_set("BA-labels:60", None, ENCODING, distances=False), "graph-transformer", 2, None).eval()


@pytest.fixture
def some() -> list:
    """With a graph whose labels are all missing and a lone node."""
    graphs = [graph.clone() for graph in graph_set("BA-labels:60", None, ENCODING, distances=False).graphs[:20]]
    assert any(graph.num_nodes == 1 for graph in graphs)
    graphs[3].y = torch.full_like(graphs[3].y, math.nan)
    return batches(graphs, 8)


def norms(noise: Tensor, batch: Tensor) -> list[float]:
    return [noise[batch == graph].norm().item() for graph in range(int(batch.max()) + 1)]


def test_noise_is_added_to_what_the_first_layer_gets(model: Network, some: list) -> None:
    row = torch.randn(64)
    noisy = model(some[0], row.expand(some[0].num_nodes, -1))
    with torch.no_grad():
        model.position.bias += row
    torch.testing.assert_close(noisy, model(some[0]))


def test_ascent_makes_it_worse_at_the_same_norm(model: Network, some: list) -> None:
    before = [parameter.clone() for parameter in model.parameters()]
    for batch in some:
        noise = 0.1 * torch.randn(batch.num_nodes, 64)
        worse = ascended(model, batch, TASK, noise)
        assert norms(worse, batch.batch) == pytest.approx(norms(noise, batch.batch), rel=1e-5)
        first, last = (TASK.each(model(batch, each), batch.y).sum().item() for each in (noise, worse))
        assert last > first + 0.1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_measured(model: Network, some: list) -> None:
    torch.manual_seed(5)
    found, random = perturbed(model, some, TASK, 3), torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(random, torch.get_rng_state()), "no other random stream"
    assert perturbed(model, some, TASK, 3) == found
    assert perturbed(model, some, TASK, 4)["perturb_loss"] != found["perturb_loss"]
    assert found["perturb_noise"] == ["none", *["gaussian", "ascent"] * 3]
    assert found["perturb_scale"] == [0, *(scale for scale in SCALES for _ in range(2))]
    judged = judge(model, some, TASK)
    assert (found["perturb_loss"][0], found["perturb_metric"][0]) == judged
    loss = found["perturb_loss"]
    assert all(loss[i] < loss[i + 1] for i in (1, 3, 5))
    assert loss[2] < loss[4] < loss[6]
    with MassiveActivations(model) as watching:
        for batch in some:
            model(batch)
    largest = [record.stats["activations"].largest_ratio.value for record in watching.findings.records.values()]
    assert found["perturb_ratio"][0] == largest
    assert found["perturb_ratio"][1] != largest
    assert [len(row) for row in found["perturb_massive"]] == [2] * 7


def test_it_is_recorded_and_reported(tmp_path: Path) -> None:
    options = ["--terms", "none", "edge_bias", "--perturb"]
    assert study(tmp_path / "s", *options, dataset="BA-labels:60", models=("san",)) == 0
    first, second = results(tmp_path / "s")
    assert first["perturb_loss"] != second["perturb_loss"]
    page = (tmp_path / "s" / "report.html").read_text()
    assert "<h2>BA-labels:60: SAN, 2 layers, perturbed</h2>" in page
    for term in ("no bias term", "edge bias"):
        for noise in ("none", "gaussian 0.01", "ascent 0.0316", "ascent 0.1"):
            assert f"<td>{term}, {noise}</td>" in page
    assert f"<td>{first['perturb_loss'][6]:.3f}</td>" in page
