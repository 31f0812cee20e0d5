"""The report of massive activations: fits, the base band, tables, figures and files; and the parts it is made of."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch_geometric.nn import GATConv

from gattn.analysis import MassiveActivations
from gattn.analysis.massive import gamma_fit
from gattn.analysis.massive.base import untrained
from gattn.analysis.massive.carriers import DegreeNames, degree_classes
from gattn.analysis.massive.report import log_ratios
from gattn.analysis.massive.sample import Sample

from .massive_cases import KINDS, Net, batches, run


def gamma(seed, shape, loc, scale, count):
    return stats.gamma.rvs(shape, loc, scale, count, random_state=np.random.default_rng(seed))


@pytest.mark.parametrize(("shape", "loc", "scale"), [(8.0, -2.2, 0.3), (1.5, 0.0, 1.0), (30.0, 5.0, 0.01)])
def test_gamma_fit_is_the_most_likely(shape, loc, scale):
    x = gamma(0, shape, loc, scale, 4000)
    got, by_scipy = gamma_fit(x), stats.gamma.fit(x)
    assert (got.shape, got.loc, got.scale) == pytest.approx(by_scipy, rel=2e-3, abs=1e-4)
    likelihood = stats.gamma.logpdf(x, got.shape, got.loc, got.scale).mean()
    assert got.likelihood == pytest.approx(likelihood, abs=1e-9)
    assert likelihood >= stats.gamma.logpdf(x, *by_scipy).mean() - 1e-9
    theirs = stats.kstest(x, "gamma", args=(got.shape, got.loc, got.scale)).statistic
    ordered = stats.gamma.cdf(np.sort(x), got.shape, got.loc, got.scale)
    steps = np.arange(len(x) + 1) / len(x)
    assert got.statistic == theirs == pytest.approx(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))
    grid = np.linspace(x.min(), x.max(), 20)
    np.testing.assert_allclose(got.density(grid), stats.gamma.pdf(grid, got.shape, got.loc, got.scale))
    assert got.count == 4000


@pytest.mark.parametrize("x", [np.empty(0), np.arange(7.0), np.full(50, -2.5)], ids=["none", "few", "equal"])
def test_nothing_to_fit(x):
    assert gamma_fit(x) is None


def test_fit_without_scipy(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError("no scipy here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"gamma fit needs scipy.*pip install scipy"):
        gamma_fit(np.arange(20.0))


def test_figure_without_matplotlib(monkeypatch):
    found, _ = watched(["gt"])
    report, real = found.report(), builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError("no matplotlib here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert "layers.0" in str(report)
    with pytest.raises(ImportError, match=r"Figures need matplotlib.*pip install matplotlib"):
        report.figure("layers.0")


def watched(kinds, seed=0, **options):
    torch.manual_seed(seed)
    model, data = Net(kinds).eval(), batches()
    with MassiveActivations(model, **options) as found:
        evaluate(model, found)
    return found, data


def evaluate(model, found):
    model.eval()
    for batch in batches():
        run(model, batch)


def test_fits_are_of_the_layers_ratios():
    found, _ = watched(["gatv2", "gt"])
    for record, layer in zip(found.findings.records.values(), found.report().layers.values(), strict=True):
        ratio = record.ratios.values.double().numpy().ravel()
        expected = gamma_fit(-np.log10(ratio[np.isfinite(ratio) & (ratio > 0)]))
        assert layer.fits["activations"] == expected
        assert layer.fits["edges"].count == np.isfinite(record.maxima.values.numpy()).sum()
        assert layer.base_fits == {}
        assert layer.band is None


def test_base_is_the_same_data_in_fresh_copies():
    found, _ = watched(["gatv2-fused", "gat", "transformer"])
    model, state = found.model, torch.get_rng_state()
    before = {name: p.clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter *= 1 + 40 * torch.rand_like(parameter)
    trained = MassiveActivations(model, threshold=20.0)
    with trained:
        evaluate(model, trained)
    after = torch.get_rng_state()
    base = trained.base(evaluate, seeds=[3, 4])
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(state, after)
    for seed, copy in zip((3, 4), base, strict=True):
        fresh = untrained(model, seed)
        with MassiveActivations(fresh, threshold=20.0) as again:
            evaluate(fresh, again)
        for name, record in copy.records.items():
            assert torch.equal(record.by_graph(), again.findings.records[name].by_graph())
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    report = trained.report(base)
    for name, layer in report.layers.items():
        sides = [np.sort(copy.records[name].by_graph().numpy())[::-1] for copy in base]
        np.testing.assert_array_equal(layer.band[0], np.minimum(*sides))
        np.testing.assert_array_equal(layer.band[1], np.maximum(*sides))
        assert layer.graphs_above == (layer.maxima > np.maximum(*sides)).sum()
        assert layer.base_largest == max(side[0] for side in sides)
        assert set(layer.base_fits) == {"activations", "edges"}
    header = report.tables()[0].header
    assert header[-3:] == ["base: largest", "base: above 20", "graphs above the base"]
    with trained, pytest.raises(RuntimeError, match="outside the context"):
        trained.base(evaluate)


def test_untrained_copies_need_to_know_how():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((2,), 7.0))
            self.conv = GATConv(2, 2, 2)

    model = Own()
    with pytest.raises(ValueError, match=r"reset_parameters.*scale.*reset="):
        untrained(model, 0)
    fresh = untrained(model, 0, reset=lambda m: nn.init.ones_(m.scale))
    assert fresh.scale.tolist() == [1.0, 1.0]
    assert model.scale.tolist() == [7.0, 7.0]
    one, two, other = (untrained(model.conv, seed) for seed in (1, 1, 2))
    assert torch.equal(one.lin.weight, two.lin.weight)
    assert not torch.equal(one.lin.weight, other.lin.weight)
    assert not torch.equal(one.lin.weight, model.conv.lin.weight)


def test_report_of_nothing():
    model = nn.Linear(2, 2)
    with MassiveActivations(model) as found:
        model(torch.ones(1, 2))
    with pytest.raises(ValueError, match="attention layers that ran"):
        found.report()


def test_tables_and_json():
    found, data = watched(KINDS, threshold=15.0, taps=("activations", "logits", "attention", "outputs"))
    report = found.report()
    overview = report.tables()[0]
    assert [row[0] for row in overview.rows] == [f"layers.{n}" for n in range(len(KINDS))]
    for row, (name, layer) in zip(overview.rows, report.layers.items(), strict=True):
        numbers = dict(zip(overview.header, row, strict=True))
        assert numbers["edges"] == f"{layer.stats.count:,}"
        assert numbers["above 15"] == f"{layer.stats.above[15.0]:,}"
        carrying = sum((layer.record.maxima.values[:, 0] > 15) & layer.record.maxima.values[:, 0].isfinite())
        assert numbers["edges with one"] == f"{int(carrying)}"
        assert name in str(report)
    assert all(len(row) == len(table.header) for table in report.tables() for row in table.rows)
    found_json = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert found_json["settings"]["graphs"] == sum(b.num_graphs for b in data)
    layer = found_json["layers"][0]
    assert layer["layer"] == "layers.0"
    assert len(layer["graph_ratio"]) == 12
    assert sum(kind["edges"] for kind in layer["tables"]["type"].values()) == layer["taps"]["activations"]["count"]
    assert sum(layer["features"]) == layer["taps"]["activations"]["above"]["15"]
    assert set(layer["taps"]) == {"activations", "logits", "attention", "outputs"}


def test_files(tmp_path):
    found, _ = watched(["gt", "gatv2"])
    page = found.report(found.base(evaluate, seeds=[0])).save(tmp_path / "made")
    text = page.read_text()
    assert page == tmp_path / "made" / "massive.html"
    assert text.count("<svg") == 2
    assert "untrained copies" in text
    assert "http-equiv" not in text
    assert len(json.loads(page.with_suffix(".json").read_text())["layers"]) == 2
    report = found.report()
    assert report.figure("layers.0").startswith(b"\x89PNG")
    assert report.figure("layers.1", "svg").startswith(b"<svg")
    with pytest.raises(KeyError):
        report.figure("layers.2")
    with pytest.raises(ValueError, match="'png' or 'svg'"):
        report.figure("layers.0", "pdf")


def test_only_some_taps():
    found, _ = watched(["gt"], taps=["attention"])
    report = found.report()
    assert len(report.tables()) == 1
    assert report.layers["layers.0"].stats is None
    assert json.dumps(report.as_dict(), allow_nan=False)


def test_degree_classes():
    degree = torch.tensor([1, 2, 3, 4, 5, 8, 9, 16, 17, 2**20, 2**20 + 1])
    names = DegreeNames()
    assert [names[int(c)] for c in degree_classes(degree)][:9] == [
        "1",
        "2",
        "3 to 4",
        "3 to 4",
        "5 to 8",
        "5 to 8",
        "9 to 16",
        "9 to 16",
        "17 to 32",
    ]
    assert degree_classes(degree)[-2:].tolist() == [20, 21]


@pytest.mark.parametrize("capacity", [1, 50, 1000])
def test_sample_does_not_depend_on_batches(capacity):
    x = torch.arange(600.0).view(-1, 1)
    found = []
    for sizes in ([600], [1] * 600, [7] * 85 + [5], [0, 400, 200]):
        sample, start = Sample.empty(capacity, 1), 0
        for size in sizes:
            chosen = sample.chosen(size)
            sample = sample.extend(chosen, x[start : start + size][chosen], size)
            start += size
        found.append(sample)
    assert all(torch.equal(found[0].values, other.values) for other in found[1:])
    assert [s.seen for s in found] == [600] * 4
    values = found[0].values.flatten()
    assert len(values) == len(values.unique()) == min(capacity, 600)


def test_sample_is_uniform():
    rows = 20_000
    sample = Sample.empty(2000, 1)
    chosen = sample.chosen(rows)
    sample = sample.extend(chosen, torch.arange(rows, dtype=torch.float64)[chosen].unsqueeze(1), rows)
    x = sample.values.flatten().numpy()
    assert stats.kstest(x / rows, "uniform").pvalue > 0.01
    assert abs((x % 2).mean() - 0.5) < 0.05
    both = sample.merge(sample)
    assert (both.seen, len(both.values)) == (2 * rows, 2000)


def test_distribution_of_a_sample_is_that_of_all():
    torch.manual_seed(5)
    model = Net(["gatv2"]).eval()
    found = []
    for sample in (10**6, 240):
        with MassiveActivations(model, sample=sample) as watching:
            evaluate(model, watching)
        found.append(log_ratios(watching.findings.records["layers.0"]))
    assert len(found[1]["edges"]) < len(found[0]["edges"])
    assert len(found[1]["activations"]) <= 240 < len(found[0]["activations"])
    assert set(found[1]["edges"]) <= set(found[0]["edges"])
    assert stats.ks_2samp(found[0]["activations"], found[1]["activations"]).statistic < 0.2
