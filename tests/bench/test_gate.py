"""The gate lets every installed peer through and stops a wrong one; the sample agrees with the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gattn.bench import gate
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS
from gattn.bench.peers import Contender, Peer, all_peers
from gattn.bench.problem import Problem
from gattn.bench.results import Record
from gattn.bench.session import Session, Settings


def _result(problem: Problem, peer: str) -> dict[str, torch.Tensor]:
    like = {"x": problem.x, **problem.parameters}
    return all_peers()[peer].contender(problem).result(like)


# torch.compile is left to `gattn bench`: a minute of compilation for code that eager runs too.
@pytest.mark.parametrize("peer", [name for name in all_peers() if name != "pyg-compile"])
def test_installed_peers_are_green(any_problem: Problem, peer: str) -> None:
    problem = any_problem
    usable, reason = all_peers()[peer].can_run(problem.case, problem.layer.name)
    if not usable:
        pytest.skip(reason)
    verdict = gate.judge(_result(problem, peer), gate.expected(problem))
    assert verdict.reason == ""
    assert set(verdict.errors) == {"out", "grad x", *(f"grad {name}" for name in problem.parameters)}


def _with_nan(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.index_fill(0, torch.tensor(0), torch.nan)


@pytest.mark.parametrize("spoil", [lambda tensor: tensor * 1.001, _with_nan])
@pytest.mark.parametrize("name", ["out", "grad x", "grad att_src"])
def test_any_wrong_tensor_is_red(problem: Problem, name: str, spoil) -> None:
    found = _result(problem, "pyg")
    found[name] = spoil(found[name])
    verdict = gate.judge(found, gate.expected(problem))
    assert name in verdict.reason


@pytest.mark.parametrize("name", ["gat", "gatv2", "gatv2-edge"])
def test_no_score_is_left_where_rounding_decides_the_gradient(
    case: GraphCase, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def near(problem: Problem) -> torch.Tensor:
        return problem.layer.near_kink(problem.x, problem.parameters, problem.looped, problem.looped_attr)

    before = Problem.build(case, name)
    monkeypatch.setitem(LAYERS, name, replace(LAYERS[name], margin=1e-3))
    before.layer = LAYERS[name]
    assert near(before).any()
    fresh = Problem.build(case, name)
    assert not near(fresh).any()
    changed = (fresh.x != before.x).any(1).sum()
    assert 0 < changed < case.num_nodes / 2
    monkeypatch.setitem(LAYERS, name, replace(LAYERS[name], margin=1.0))
    with pytest.raises(RuntimeError, match="another seed"):
        Problem.build(case, name)


def test_the_reference_is_the_same_in_parts(any_problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gate.expected(any_problem)
    monkeypatch.setattr(gate, "CHUNK_ENTRIES", 700)
    parts = gate.expected(any_problem)
    for name, value in whole.values.items():
        torch.testing.assert_close(parts.values[name], value, rtol=1e-10, atol=1e-10)


def test_a_gradient_that_is_zero_but_for_rounding_has_its_weights_scale(case: GraphCase) -> None:
    """Softmax does not see a bias of the keys."""
    problem = Problem.build(case, "transformer")
    want = gate.expected(problem)
    name = "grad lin_key.bias"
    assert want.values[name].abs().max() < 1e-10
    found = {key: value.float() for key, value in want.values.items()}
    assert gate.judge(found, want).reason == ""
    found[name] = want.values["grad lin_query.bias"].float()
    assert name in gate.judge(found, want).reason


def test_one_wrong_row_is_red(problem: Problem) -> None:
    found = _result(problem, "pyg")
    found["grad x"][7, 3] += 0.01
    assert "grad x" in gate.judge(found, gate.expected(problem)).reason


def test_sample_has_the_values_of_the_whole(monkeypatch: pytest.MonkeyPatch, any_problem: Problem) -> None:
    problem = any_problem
    monkeypatch.setattr(gate, "SAMPLE_EDGES", 2000)
    whole = gate.expected(problem)
    sampled = gate.expected(replace(problem, case=replace(problem.case, sampled_gate=True)))
    assert 0 < len(sampled.rows["grad x"]) < problem.case.num_nodes
    assert len(sampled.rows["out"]) > len(sampled.rows["grad x"])
    for name, rows in sampled.rows.items():
        torch.testing.assert_close(sampled.values[name], whole.values[name][rows])
    found = _result(problem, "pyg")
    assert gate.judge(found, sampled).reason == ""
    found["out"][sampled.rows["out"][-1], 0] += 0.01
    assert "out" in gate.judge(found, sampled).reason


def _halved(problem: Problem) -> Contender:
    contender = all_peers()["pyg"].contender(problem)
    forward = contender.forward
    contender.forward = lambda: forward() / 2
    return contender


def _broken(problem: Problem) -> Contender:
    raise RuntimeError("no such operator")


def test_session_times_no_red_or_failed_contender(case: GraphCase) -> None:
    honest = all_peers()["pyg"]
    peers = {"pyg": honest, "halved": replace(honest, build={"gat": _halved})}
    peers["broken"] = Peer("broken", "broken", (), {"gat": _broken}, lambda case: (0, ""))
    peers["absent"] = Peer("absent", "absent", ("no_such_package",), {"gat": _broken}, lambda case: (0, ""))
    told: list[str] = []
    record = Record(None, {}, {})
    session = Session(Settings("gat", torch.get_num_threads(), 1, ("layer",)), peers, record, told.append)
    found = session.measure(case)["contenders"]
    assert {name: entry["status"] for name, entry in found.items()} == {
        "pyg": "green",
        "halved": "red",
        "broken": "failed",
        "absent": "skipped",
    }
    assert [name for name, entry in found.items() if "time" in entry] == ["pyg"]
    assert "fp64 reference" in found["halved"]["reason"]
    assert found["broken"]["reason"] == "RuntimeError: no such operator"
    assert found["absent"]["reason"] == "not installed: no_such_package"
    assert any("halved" in line or "PyG eager red" in line for line in told)


def test_peers_that_cannot_hold_the_graph_say_how_much_they_need() -> None:
    huge = GraphCase("huge", "huge", "rmat", 10**9, 10**11)
    for name, peer in all_peers().items():
        usable, reason = peer.can_run(replace(huge, name=name), "gat")
        assert not usable
        assert "not installed" in reason or "needs" in reason


def test_leftover_parameters_are_an_error(problem: Problem) -> None:
    from gattn.bench.peers import copy_parameters

    with pytest.raises(RuntimeError, match="parameters differ"):
        copy_parameters(torch.nn.Linear(6, 8), problem.parameters, {"weight": "lin.weight"})
