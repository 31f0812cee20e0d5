"""``gattn check``: the measure, the sweep, and that faults and regressions are found."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch

import gattn
from gattn.check.exact import ExactSums, split
from gattn.check.graphs import HUB_EDGES, KINDS, Random, draw_graph
from gattn.check.measure import DTYPES, Standard, draw_case, run_backend
from gattn.check.modifiers import MODIFIERS
from gattn.check.ops import OPS
from gattn.check.registry import Modifier, register
from gattn.check.results import Results
from gattn.terminal import UsageError

PASSED = {"passed": True, "reason": "", "scores": {"out": 0.5}, "case": {}, "seconds": 0.0, "repeat": "gattn check"}
QUICK = ("check", "--backend", "reference", "--cases", 16)


def test_the_reference_passes_its_own_check(gattn_command):
    status, out, err = gattn_command(*QUICK)
    assert status == 0
    assert "Worst cases:" in out
    assert err.splitlines()[-1] == "16 cases, 0 failed"


def test_the_compiled_core_passes(gattn_command):
    status, _, err = gattn_command("check", "--backend", "cpu", "--cases", 48)
    assert status == 0, err


def test_same_numbers_same_case():
    first, second = (draw_case(OPS["gat"], torch.bfloat16, 3, 5) for _ in range(2))
    assert first.describe() == second.describe()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    other = draw_case(OPS["gat"], torch.bfloat16, 3, 6)
    assert other.describe() != first.describe()


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if "sink" not in op.without])
def test_modifiers_can_be_asked_for(op):
    wanted = {"lipschitz", "decay", "sink"}
    case = draw_case(OPS[op], torch.float32, 0, 7, wanted)
    assert case.modifiers.keys() == wanted
    assert case.constants.keys() == {"distance"}
    assert not case.constants["distance"].is_floating_point()
    assert {"hop", "sink_logit"} <= case.tensors.keys()
    assert not draw_case(OPS[op], torch.float32, 0, 7, ()).modifiers


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("op", OPS)
def test_terms_bound_results_and_gradients(op, dtype):
    """Terms are the sums of the absolute values of what results are sums of, with all modifiers and without."""
    for number, modifiers in enumerate((MODIFIERS.keys(), (), ("lipschitz", "attention"), ("decay", "dropout"))):
        standard = Standard.of(draw_case(OPS[op], DTYPES[dtype], 4, number, modifiers))
        eps = torch.finfo(DTYPES[dtype]).eps
        for name, value in standard.truth.items():
            floor = standard.own_errors[-1][name]
            assert floor.shape == value.shape
            assert (floor >= 0).all()
            assert (value.abs() <= floor / eps * (1 + 1e-9) + torch.finfo(torch.float64).tiny).all(), name


def test_all_is_every_combination(gattn_command, monkeypatch):
    """Every set of modifiers of every op and dtype, and random cases after."""
    checked = []
    monkeypatch.setattr("gattn.check.cli._check", lambda planned, *_: checked.append(planned) or iter([PASSED]))
    status, _, err = gattn_command("check", "--all", "--backend", "cpu", "--cases", 5)
    assert status == 0
    sets = {op: 2 ** len([name for name in MODIFIERS if name not in OPS[op].without]) for op in OPS}
    assert len(checked) == len(DTYPES) * sum(sets.values()) + 5
    assert Counter((p.op, p.dtype) for p in checked[:-5]) == {(op, dtype): sets[op] for op in OPS for dtype in DTYPES}
    assert len({(p.op, p.dtype, p.modifiers) for p in checked[:-5]}) == len(checked) - 5
    assert [p.number for p in checked] == list(range(len(checked)))
    assert all(p.modifiers is None for p in checked[-5:])
    assert f"{len(checked)} cases, 0 failed" in err


@pytest.mark.parametrize("modifiers", ["none", "lipschitz", "decay,sink", "attention,decay,dropout,lipschitz,sink"])
def test_a_set_of_modifiers_passes(gattn_command, modifiers):
    status, _, err = gattn_command("check", "--backend", "cpu", "--modifiers", modifiers, "--cases", 20, "--seed", 1)
    assert status == 0, err


def test_unknown_modifier_is_a_usage_error(gattn_command):
    status, _, err = gattn_command("check", "--modifiers", "decay,spice", "--cases", 1)
    assert status == 2
    assert "--modifiers spice: expected dropout, attention, lipschitz, decay, sink or none" in err


def test_every_kind_of_graph_is_drawn():
    graphs = [draw_graph(Random(0, number)) for number in range(300)]
    assert Counter(graph.kind for graph in graphs).keys() == KINDS.keys()
    for graph in graphs:
        assert graph.edge_index.shape == (2, graph.num_edges)
        if graph.num_edges:
            assert (graph.edge_index.amin(1) >= 0).all()
            assert (graph.edge_index.amax(1) < torch.tensor([graph.num_src, graph.num_dst])).all()
    degrees = [torch.bincount(graph.edge_index[1]).max() for graph in graphs if graph.num_edges]
    assert max(degrees) > HUB_EDGES[0]
    assert any(graph.num_src != graph.num_dst for graph in graphs)
    assert any(graph.num_src == 0 for graph in graphs)


def test_sums_are_rounded_once():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(20000, generator=generator, dtype=torch.float64) * 1e3 + 0.1
    index = torch.zeros(20000, dtype=torch.int64)
    with ExactSums():
        total = torch.zeros(1, dtype=torch.float64).index_add(0, index, values)
        leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(leaf[index], leaf, values)
    assert total.item() == pytest.approx(math.fsum(values.tolist()), rel=3e-16)
    assert gradient.item() == total.item()
    high, low = split(values, len(values))
    assert torch.equal(high + low, values)
    assert high.sum().item() == math.fsum(high.tolist())


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores(dtype):
    """The truth, rounded, passes; too large an error in one row does not, nor does a NaN."""
    case = next(
        case
        for number in range(100)
        if (case := draw_case(OPS["gat"], DTYPES[dtype], 1, number)).edges.kind == "skewed"
    )
    standard = Standard.of(case)
    assert all(score <= 1 for name, score in standard.scores(standard.truth).items())
    rounded = {name: value.to(case.dtype) for name, value in standard.truth.items() if name != "alpha"}
    wrong = {**standard.truth, **rounded}
    assert all(score <= 2 for score in standard.scores(wrong).values())
    row = int(standard.truth["out"].flatten(1).norm(dim=1).argmax())
    wrong["out"] = standard.truth["out"].clone()
    wrong["out"][row] *= 1 + 20 * torch.finfo(case.dtype).eps * (100 if dtype in ("fp32", "fp64") else 1)
    assert standard.scores(wrong)["out"] > 2
    wrong["out"][row, 0, 0] = math.nan
    assert standard.scores(wrong)["out"] == math.inf


def plant(monkeypatch, fault):
    """Put a fault into ``gattn.ops.gat``, whatever backend runs it."""
    right = gattn.ops.gat

    def gat(*arguments, **options):
        result = right(*arguments, **options)
        out, *alpha = result if isinstance(result, tuple) else (result,)
        return (fault(out, arguments[3]), *alpha) if alpha else fault(out, arguments[3])

    monkeypatch.setattr(gattn.ops, "gat", gat)


def shrink_large_rows(out, graph):
    factor = torch.ones(graph.num_dst, dtype=out.dtype)
    factor[graph.rowptr.diff() > HUB_EDGES[0]] = 1 - 1 / HUB_EDGES[1]
    return out * factor[:, None, None]


def test_a_planted_fault_is_found_and_the_printed_command_shows_it_again(gattn_command, monkeypatch, tmp_path):
    plant(monkeypatch, shrink_large_rows)
    options = ("--op", "gat", "--backend", "reference", "--dtype", "fp32,fp64", "--cases", 40)
    status, _, err = gattn_command("check", *options, "--write", tmp_path / "results.json")
    assert status == 1
    commands = [line.split()[1:] for line in err.splitlines() if line.startswith("        gattn check")]
    results = json.loads((tmp_path / "results.json").read_text())
    failed = {key: entry for key, entry in results["cases"].items() if not entry["passed"]}
    assert len(commands) == len(failed) > 0
    assert all(entry["case"]["graph"] == "hub" for entry in failed.values())
    status, out, err = gattn_command(*commands[0])
    assert status == 1
    assert next(iter(failed.values()))["reason"].split(",")[0] in err
    assert "graph: hub" in out


def test_a_wrong_gradient_is_found(gattn_command, monkeypatch):
    plant(monkeypatch, lambda out, graph: out.detach() + 1.001 * (out - out.detach()))
    status, _, err = gattn_command("check", "--op", "gat", "--backend", "reference", "--cases", 4)
    assert status == 1
    assert "grad x" in err
    assert "out" not in {word for line in err.splitlines() if line.startswith("FAILED") for word in line.split()}


def test_a_backend_that_raises_fails(gattn_command, monkeypatch):
    def gat(*arguments, **options):
        raise RuntimeError("out of registers")

    monkeypatch.setattr(gattn.ops, "gat", gat)
    status, out, _ = gattn_command("check", "--op", "gat", "--backend", "reference", "--cases", 2, "--json")
    assert status == 1
    failed = json.loads(out)["failed"]
    assert [entry["reason"] for entry in failed.values()] == ["RuntimeError: out of registers"] * 2


def test_baseline(gattn_command, tmp_path, monkeypatch):
    file = tmp_path / "baseline.json"
    assert gattn_command(*QUICK, "--op", "gat", "--write", file).status == 0
    assert json.loads(file.read_text())["complete"]
    status, _, err = gattn_command(*QUICK, "--op", "gat", "--against", file)
    assert status == 0
    assert "0 regressions" in err
    plant(monkeypatch, lambda out, graph: out * (1 + 4 * torch.finfo(out.dtype).eps))
    status, out, err = gattn_command(*QUICK, "--op", "gat", "--against", file, "--limit", 1e9, "--json")
    assert status == 1
    assert json.loads(out)["failed"] == {}
    assert "REGRESSION  gat/fp32/reference/out: median error" in err


def results(seed=0, **scores):
    made = Results({"seed": seed})
    for number, (name, score) in enumerate(scores.items()):
        entry = {"passed": score <= 2, "reason": "", "scores": {name: score}}
        made.cases[f"gat/fp32/cpu/{number}"] = entry
    return made


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [(1.0, 1.1, 0), (1.0, 1.3, 1), (1.0, 1.6, 2), (1.9, 2.1, 1), (0.01, 0.4, 0), (3.0, 2.5, 0)],
)
def test_what_counts_as_a_regression(before, now, found):
    assert len(results(out=now).regressions(results(out=before))) == found


def test_baselines_that_do_not_fit(tmp_path, gattn_command):
    with pytest.raises(UsageError, match="--seed 1"):
        results().regressions(results(seed=1))
    with pytest.raises(UsageError, match="none of this sweep's cases"):
        results().regressions(results(out=1.0))
    (tmp_path / "text").write_text("text")
    status, _, err = gattn_command(*QUICK, "--against", tmp_path / "text")
    assert status == 2
    assert "is no results file" in err


def test_names_are_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        register(OPS["gat"])
    with pytest.raises(ValueError, match="registered already"):
        register(Modifier("dropout", 0.5, lambda draw: None))


def test_a_graph_built_wrongly_is_found(monkeypatch):
    """The reference reads the drawn edges, not the graph that the backend reads."""
    from gattn.graph import Graph

    case = next(
        case
        for number in range(100)
        if (case := draw_case(OPS["gat"], torch.float32, 1, number)).edges.kind == "uniform"
    )
    build = Graph.from_edge_index
    monkeypatch.setattr(Graph, "from_edge_index", lambda edges, sizes: build(edges.flip(1)[:, :-1], sizes))
    with pytest.raises((ValueError, AssertionError)):
        assert max(Standard.of(case).scores(run_backend(case, "reference")).values()) <= 2
