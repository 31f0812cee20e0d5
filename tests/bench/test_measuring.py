"""Timing and memory: what is counted, and in which order."""

from __future__ import annotations

import gc

import pytest
import torch
from gattn.bench import kernels, limits, memory, norm, overhead, timing, variants
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS
from gattn.bench.peers import all_peers
from gattn.bench.problem import Problem


def test_contenders_take_turns_in_rotating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    order: list[str] = []
    steps = {name: lambda: None for name in "abc"}
    samples = timing.alternate(steps, 3, lambda name, seconds: order.append(name))
    assert order == list("abcbcacab")
    assert {name: len(found) for name, found in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert gc.isenabled()


def test_garbage_collection_comes_back_after_a_failure() -> None:
    calls = iter(range(3))
    with pytest.raises(StopIteration):
        timing.alternate({"a": lambda: next(calls)}, 5)
    assert gc.isenabled()


def test_summary_is_median_and_quartiles() -> None:
    assert timing.summary([5.0, 1.0, 2.0, 4.0, 3.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0, "samples": 5}
    assert timing.summary([2.0]) == {"median": 2.0, "q1": 2.0, "q3": 2.0, "samples": 1}


@pytest.mark.skipif(not memory.supported(), reason="needs Linux's /proc/self/clear_refs")
def test_peak_memory_is_that_of_the_edges() -> None:
    """Eager PyG keeps at least two tensors of edges x heads x channels, 2 x 64 MB here."""
    case = GraphCase("m", "m", "uniform", 1000, 126_000, in_channels=4, heads=4, channels=32)
    found = memory.in_subprocess(case, "gat", "pyg", torch.get_num_threads())
    messages = 2 * 4 * case.num_edges * case.heads * case.channels
    assert messages < found["step_peak"] < 6 * messages


@pytest.mark.skipif(not memory.supported(), reason="needs Linux's /proc/self/clear_refs")
def test_memory_of_a_failing_peer_is_a_reason(case: GraphCase) -> None:
    assert "KeyError" in memory.in_subprocess(case, "gat", "nobody", 1)["reason"]


def test_the_norm_is_measured_beside_the_plain_layer(case: GraphCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    assert not norm.can_run(case, "gatv2")
    for layer in norm.LAYERS:
        found = norm.measure(Problem.build(case, layer), 1)
        assert norm.ratio(found) == found["lipschitz"]["median"] / found["plain"]["median"] > 0


def test_kernels_are_measured_against_the_gathers(any_problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = any_problem
    usable, reason = all_peers()["gattn"].can_run(problem.case, problem.layer.name)
    if not usable:
        pytest.skip(reason)
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    found = kernels.measure(problem.case, problem.layer, problem.edge_index, 1)
    assert set(found) == {"forward", "backward", "gather", "gather_transposed"}
    assert all(summary["median"] > 0 for summary in found.values())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_calls_fixed_cost_is_measured_beside_pytorchs_own(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    found = overhead.measure(LAYERS[layer], 3)
    assert set(found) == {"op", "function", "native"}
    assert found["op"]["median"] > found["native"]["median"] > 0


def test_modifiers_and_half_precision_are_measured_against_the_plain_op(
    any_problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = any_problem
    usable, reason = all_peers()["gattn"].can_run(problem.case, problem.layer.name)
    if not usable:
        pytest.skip(reason)
    monkeypatch.setattr(timing, "GENEROUS_SECONDS", 0.0)
    found = variants.measure(problem.case, problem.layer, problem.edge_index, 1)
    assert set(found) == {"plain", "dropout", "lipschitz", "decay", "sink", "bf16"}
    assert set(variants.ratios(found)) == set(found) - {"plain"}
    options = variants.modifiers(problem.layer, problem.case, torch.Generator())
    gradients = {name: len(variants.leaves_of(given)) for name, given in options.items()}
    assert gradients == {"dropout": 0, "lipschitz": 3, "decay": 1, "sink": 2}


def test_gather_reads_each_edges_row_once(problem: Problem) -> None:
    from gattn.graph import Graph

    nodes = problem.case.num_nodes
    graph = Graph.from_edge_index(problem.edge_index, nodes)
    x = torch.randn(nodes, 2, 4)
    source, target = problem.edge_index
    back = limits.transposed(graph)
    out = torch.empty_like(x)
    torch.testing.assert_close(limits.gather(x, graph, out), torch.zeros_like(x).index_add(0, target, x[source]))
    torch.testing.assert_close(limits.gather(x, back, out), torch.zeros_like(x).index_add(0, source, x[target]))


def test_copy_bandwidth_is_plausible() -> None:
    assert 1e8 < limits.copy_bandwidth(megabytes=8, repeats=2) < 1e13
