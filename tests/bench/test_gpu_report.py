"""The GPU report without a GPU: its graphs, its runner, its judgements, its page, and a dry run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gattn.bench import gate
from gattn.bench.gpu import (
    activation,
    bandwidth,
    batches,
    building,
    cases,
    choices,
    cli,
    host,
    layers,
    limits,
    machine,
    ops,
    problems,
    published,
    ragged,
    runner,
    small,
    table,
    timing,
)
from gattn.bench.gpu.problems import Chosen
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red, skipped
from gattn.bench.layers import LAYERS

from gattn import gpu_choice

CPU = torch.device("cpu")
FACTS: dict[str, Any] = {"device": {"name": "abacus"}, "packages": {}, "sources": "1"}


@pytest.fixture
def context() -> Context:
    return Context(CPU, dry=True, deadline=time.monotonic() + 100)


@pytest.mark.parametrize("name", ["cora-uniform", "arxiv-rmat", "reddit-rmat"])
def test_graphs(name: str) -> None:
    case = cases.reduced(cases.CASES[name])
    edges = cases.edges_of(case, CPU)
    assert edges.shape == (2, case.given_edges)
    assert edges.dtype == torch.int64
    assert 0 <= int(edges.min()) <= int(edges.max()) < case.num_nodes
    assert not (edges[0] == edges[1]).any()
    cases.edges_of.cache_clear()
    assert torch.equal(cases.edges_of(case, CPU), edges)
    if case.kind == "rmat":
        assert len(edges.unique(dim=1).T) == case.given_edges
        degree = torch.bincount(edges[1], minlength=case.num_nodes)
        assert degree.max() > 5 * degree.float().mean()


def _run(tasks: list[Task], context: Context, record: runner.Record) -> list[str]:
    return runner.run([Step("step", "a step", lambda _: tasks)], context, record)


def _raise(error: BaseException) -> Result:
    raise error


def test_any_task_may_fail(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "gpu.json"
    tasks = [
        Task("a", green),
        Task("b", lambda: red("wrong")),
        Task("c", lambda: _raise(torch.OutOfMemoryError("too much\nof it"))),
        Task("d", lambda: _raise(KeyError("k"))),
        Task("e", green, needs_gpu=True),
        Task("f", lambda: green(x=1)),
    ]
    assert _run(tasks, context, runner.Record(path, FACTS)) == []
    stored = json.loads(path.read_text())
    assert stored["finished"]
    statuses = [result["status"] for result in stored["results"].values()]
    assert statuses == ["green", "red", "out of memory", "failed", "skipped", "green"]
    assert stored["results"]["c"]["reason"] == "too much"
    assert "KeyError" in stored["results"]["d"]["reason"]


def test_a_run_goes_on_where_it_stopped(tmp_path: Path, context: Context) -> None:
    path, calls = tmp_path / "gpu.json", []

    def task(key: str, result: Result) -> Task:
        return Task(key, lambda: calls.append(key) or result)

    first = [task("a", green()), task("b", red("wrong")), Task("c", lambda: _raise(KeyboardInterrupt()))]
    with pytest.raises(KeyboardInterrupt):
        _run(first, context, runner.Record(path, FACTS))
    assert set(json.loads(path.read_text())["results"]) == {"a", "b"}
    again = [task("a", green()), task("b", green()), task("c", skipped("not here")), task("d", green())]
    _run(again, context, runner.Record(path, FACTS))
    assert calls == ["a", "b", "c", "d"]
    _run(again, context, runner.Record(path, FACTS))  # what was skipped is tried again
    assert calls == ["a", "b", "c", "d", "c"]
    for changed in ({**FACTS, "sources": "2"}, {**FACTS, "device": {"name": "loom"}}):
        assert runner.Record(path, changed).results == {}
        _run(again[:1], context, runner.Record(path, FACTS))
    assert runner.Record(path, FACTS, fresh=True).results == {}


def test_without_time_tasks_are_left_to_the_next_run(tmp_path: Path, context: Context) -> None:
    late = replace(context, deadline=time.monotonic() - 1)
    record = runner.Record(tmp_path / "gpu.json", FACTS)
    assert _run([Task("a", green)], late, record) == ["a"]
    assert record.results == {}
    assert not json.loads((tmp_path / "gpu.json").read_text())["finished"]


NUMERICS = {"numerics/triton/gat/fp32": green(), "determinism/triton/gat": green()}


def _ops(chosen: Chosen, context: Context) -> Result:
    return ops.measure(chosen, "triton", context)


@pytest.mark.parametrize("measure", [_ops, layers.measure])
@pytest.mark.parametrize("key", list(NUMERICS))
@pytest.mark.parametrize("found", [red("off by one"), {"status": "failed", "reason": "x"}, skipped("no"), None])
def test_no_speed_without_right_numbers(measure: Any, key: str, found: Result | None, context: Context) -> None:
    context.results = {k: r for k, r in {**NUMERICS, key: found}.items() if r is not None}
    result = measure(Chosen("gat", "cora-uniform", "fp32"), context)
    assert result["status"] == ("skipped" if found is None else found["status"])
    assert "no speed" in result["reason"]
    assert "times" not in result


@pytest.mark.parametrize("layer", list(problems.OPS))
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_dry_run_keeps_no_speed(layer: str, dtype: str, context: Context) -> None:
    op = problems.OPS[layer]
    context.results = {f"numerics/triton/{op}/{dtype}": green(), f"determinism/triton/{op}": green()}
    for measure in (_ops, layers.measure):
        result = measure(Chosen(layer, "cora-uniform", dtype), context)
        assert result["status"] == "skipped", result
        assert set(result) == {"status", "reason"}


def test_a_wrong_layer_is_red(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    context.results = dict(NUMERICS)
    monkeypatch.setattr(gate, "TOLERANCE", 1e-12)
    result = layers.measure(Chosen("gat", "cora-uniform", "fp32"), context)
    assert result["status"] == "red"
    assert "beyond" in result["reason"]


def test_times_without_room_for_all() -> None:
    """gattn's are kept."""
    found: dict[str, Result] = {"gattn": green(), "pyg": green()}
    steps = {"gattn": lambda: None, "pyg": lambda: _raise(torch.OutOfMemoryError("too much"))}
    layers._time(steps, "step", found, CPU)
    assert found["gattn"]["step"]["median"] > 0
    assert found["pyg"] == {"status": "out of memory", "reason": "beside the other contenders"}


def test_half_precision_is_judged_by_tensor() -> None:
    want = gate.Expected({"out": torch.ones(100), "grad b": torch.full((100,), 1e-20)}, {})
    found = {"out": torch.ones(100), "grad b": torch.full((100,), 1e-3)}
    found["out"][0] = 1.2  # one entry may be far off
    assert not problems.judge(found, want, "bf16", {}).reason
    found["out"] += 0.05
    assert "out 5" in problems.judge(found, want, "bf16", {}).reason
    assert not problems.judge(found, want, "bf16", {"out": 0.04}).reason
    assert problems.judge({**found, "out": torch.full((100,), torch.nan)}, want, "bf16", {"out": 0.04}).reason


def test_the_plan_has_everything_once(context: Context) -> None:
    plan = list(problems.plan(replace(context, dry=False)))
    assert len(plan) == len(set(plan)) == len(cases.CASES) * len(problems.OPS) * 2
    assert set(problems.plan(context)) <= set(plan)


def test_least_bytes() -> None:
    """E rows of 4 x 32 numbers, N rows of results, an index of four bytes an edge and a node."""
    case = replace(cases.CASES["cora-uniform"], num_nodes=10, num_edges=30)
    found = limits.least_bytes(LAYERS["gat"], case, torch.float32)
    assert found["forward"] == (30 * 512, 4 * 40 + 10 * 512)
    assert found["backward"] == (30 * 512, 4 * 40 + 2 * 10 * 512)
    half = limits.least_bytes(LAYERS["gat"], case, torch.bfloat16)
    assert half["forward"].gathered == 30 * 256
    assert limits.seconds(limits.Bytes(300, 100), {"gather": 100.0, "copy": 50.0}) == pytest.approx(5)


def test_bandwidths() -> None:
    case = cases.reduced(cases.CASES["cora-uniform"])
    found = limits.measure(CPU, case, torch.float32, count=1 << 10, size=1 << 16)
    assert all(value > 0 for value in found.values())
    context = Context(CPU, dry=True, deadline=time.monotonic() + 100)
    task = next(task for task in bandwidth.STEP.tasks(context) if task.key == "bandwidth/cora/fp32")
    assert task.run() == skipped("dry run: measured, not kept")


def test_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.002)
    found = timing.alternate({"slow": lambda: time.sleep(0.002), "quick": lambda: None}, CPU, seconds=0.0)
    assert found["slow"]["samples"] == timing.ROUNDS[0]
    assert found["slow"]["median"] > 0.002 > found["quick"]["median"]


@pytest.mark.parametrize("name", small.names("triton"))
def test_small_calls(name: str) -> None:
    """They have hubs in both directions, and run on the CPU too."""
    _, graph = small.graph_of(CPU)
    rows, columns = graph.groups.sizes[:4], graph.groups.sizes[4:]
    assert all(rows)
    assert all(columns[i] for i in (0, 1, 3))
    call = small.call(name, CPU, "cpu")
    first, second = call.run(), call.run()
    assert len(first) == 1 + len(call.inputs)
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(first, second, strict=True))


def _summary(median: float) -> dict[str, float]:
    return {"median": median, "q1": median, "q3": median, "samples": 5}


def test_the_page(tmp_path: Path) -> None:
    times = {"forward": _summary(0.002), "backward": _summary(0.004)}
    own = {"status": "green", "errors": {"out": 1e-6}, "forward": _summary(0.001), "step": _summary(0.003)}
    peer = {**own, "forward": _summary(0.004), "step": _summary(0.03), "peak_bytes": 5_000_000}
    contenders = {"gattn": own, "pyg": peer, "pyg-compile": {"status": "out of memory", "reason": "too much"}}
    results = {
        "numerics/triton/gat/fp32": red("off by one"),
        "bandwidth/arxiv/fp32": green(copy=3e12, gather=1e12),
        "ops/cuda/gat/arxiv-rmat/fp32": green(
            times=times, limit={"forward": 0.001, "backward": 0.003}, of_limit={"forward": 0.5, "backward": 0.75}
        ),
        "ops/triton/transformer/arxiv-rmat/fp32": red("no speed: numerics/triton/dot/fp32 is red"),
        "host/cuda/gat": green(op=_summary(5e-5), function=_summary(4e-5), native=_summary(3e-5)),
        "graphs/arxiv-rmat": green(
            nodes=169_343, edges=1_166_243, times={"torch": _summary(0.004), "cub": _summary(0.003)}
        ),
        "graphs/cora-uniform": green(nodes=2_708, edges=10_556, times={"torch": _summary(0.001)}),
        "graphs/products-rmat": red("sorted with cub, the graph is another"),
        "published/triton/cora": green(forward=_summary(2e-5), published=1.9e-5),
        "layers/gat/arxiv-rmat/fp32": green(contenders=contenders, backend="cuda"),
        "ragged/speed/triton/molecules/bf16": green(contenders={"gattn": own, "flex": peer}),
        "activation/speed/triton/64/fp32": green(
            rows=1000,
            bytes=2_000_000_000,
            times={"op": _summary(1e-3), "copy": _summary(2e-3), "pytorch": _summary(0.02)},
        ),
    }
    text = table.page({"machine": FACTS, "results": results}, ["layers/gat/cora-uniform/fp32"])
    assert "# abacus" in text
    assert "`numerics/triton/gat/fp32` red: off by one" in text
    assert "3000 GB/s | 1000 GB/s" in text
    assert "| cuda | 2 ms | 1 ms | 50% | 4 ms | 3 ms | 75%" in text
    assert "| gat | cuda | 0.05 ms | 0.04 ms | 0.03 ms |" in text
    assert "| arxiv-rmat | 169,343 | 1,166,243 | 4 ms | 3 ms |" in text
    assert "| cora-uniform | 2,708 | 10,556 | 1 ms |  |" in text
    assert "| products-rmat |" not in text
    assert "| cora | triton | 0.02 ms | 0.019 ms |" in text
    assert "| gattn (cuda) | 1 ms |" in text
    assert "| PyG eager | 4 ms | 4.0× | 30 ms | 10.0× | 5 MB |" in text
    assert "| PyG torch.compile | out of memory |" in text
    assert "| molecules | bf16 | FlexAttention | 4 ms | 4.0× |" in text
    assert "| 1000 × 64 | fp32 | triton | 1 ms | 2000 GB/s | 2000 GB/s | 20.0× |" in text
    assert "transformer | arxiv-rmat" not in text
    assert "No time was left for 1 tasks" in text


def _op(seconds: float, **facts: Any) -> Result:
    times = {"forward": _summary(seconds), "backward": _summary(2 * seconds)}
    return green(nodes=100, edges=300, heads=4, channels=32, times=times, **facts)


def test_the_table_of_choices(tmp_path: Path, context: Context) -> None:
    """It has what both backends were timed on, in seconds forward and backward, and gattn reads it."""
    results = {
        "ops/cuda/transformer/arxiv-rmat/bf16": _op(0.001),
        "ops/triton/transformer/arxiv-rmat/bf16": _op(0.0005),
        "ops/cuda/gat/arxiv-rmat/fp32": _op(0.001),
        "ops/triton/gat/arxiv-rmat/fp32": red("no speed"),
        "graphs/a": green(nodes=5, edges=9, times={"torch": _summary(0.004), "cub": _summary(0.003)}),
        "graphs/b": green(nodes=5, edges=9, times={"torch": _summary(0.004)}),
        "graphs/c": red("another"),
    }
    file = tmp_path / "choices.json"
    file.write_text(json.dumps(choices.table(results)))
    (measured,), graphs = gpu_choice.load(file)
    assert graphs == [gpu_choice.BuildTime(5, 9, {"torch": 0.004, "cub": 0.003})]
    assert measured.case == gpu_choice.Case("dot", "bfloat16", 4, 32, 100, 300)
    assert measured.seconds == pytest.approx({"cuda": 0.003, "triton": 0.0015})


def test_layers_run_on_the_faster_backend(context: Context) -> None:
    chosen = Chosen("gat", "arxiv-rmat", "fp32")
    context = replace(context, backends=("cuda", "triton"))
    assert ops.fastest(chosen, context) is None
    context.results = {ops.key("cuda", chosen): _op(0.002)}
    assert ops.fastest(chosen, context) == "cuda"
    context.results[ops.key("triton", chosen)] = _op(0.001)
    assert ops.fastest(chosen, context) == "triton"


@pytest.mark.parametrize("name", building.GRAPHS)
def test_graphs_are_compared_before_they_are_timed(
    name: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = next(task for task in building.STEP.tasks(context) if task.key == f"graphs/{name}")
    assert task.run() == skipped("dry run: graphs are equal, nothing timed")
    case = cases.reduced(cases.CASES[name])
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.001)
    found = building._measure(case, replace(context, dry=False))
    assert found["status"] == "green"
    assert found["edges"] == case.given_edges
    assert found["times"]["torch"]["median"] > 0
    right = building.device_graph.build
    monkeypatch.setattr(building.device_graph, "build", lambda *a, sort, **o: right(*a, **{**o, "swap": True}))
    assert "self_loops=False, the graph is another" in task.run()["reason"]


@pytest.mark.parametrize("module", [host, published])
def test_other_speeds_in_a_dry_run(module: Any, context: Context) -> None:
    """They need right numbers, run on the CPU's kernels, and keep no time."""
    tasks = list(module.STEP.tasks(context))
    assert all("no speed" in task.run()["reason"] for task in tasks)
    for op in problems.OPS.values():
        context.results[f"determinism/triton/{op}"] = green()
        context.results.update({f"numerics/triton/{op}/{dtype}": green() for dtype in ("fp32", "fp16")})
    assert all(task.run() == skipped("dry run: ran on the CPU backend, nothing timed") for task in tasks)


@pytest.mark.parametrize("name", ["molecules", "clusters-dropout"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_batches_in_a_dry_run(name: str, dtype: str, context: Context) -> None:
    """Padded attention has the op's numbers; no time is kept, and none is taken before the numbers were found right."""
    of = f"triton/{name}/{dtype}"
    tasks = {task.key: task for task in ragged.STEP.tasks(context)}
    assert "has not been checked" in tasks[f"ragged/speed/{of}"].run()["reason"]
    assert ragged._check(name, dtype, "cpu", context)["status"] == "green"
    context.results = {f"ragged/numerics/{of}": green()}
    assert tasks[f"ragged/speed/{of}"].run() == skipped("dry run: ran on the CPU backend, nothing timed")


def test_wrong_numbers_of_a_batch_are_red(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    op, forward = batches.by_gattn, {}

    def wrong(problem: batches.Problem, backend: str | None) -> Any:
        forward[backend] = op(problem, backend)
        return lambda **leaves: forward[backend](**leaves) * (1.0 if backend == "reference" else 1.001)

    monkeypatch.setattr(batches, "by_gattn", wrong)
    result = ragged._check("mixed", "fp32", "cpu", context)
    assert result["status"] == "red"
    assert "out 1.0e-03" in result["reason"]


@pytest.mark.parametrize("width", [1, 64, 1500])
@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16", "fp16"])
def test_statistics_of_activations_are_checked(
    width: int, dtype: str, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    """Rows of every kind, which count in what they should."""
    x = activation._draw(width, (activation.DTYPES | activation.ODD_DTYPES)[dtype], activation.DRY, CPU)
    found = activation.activation_stats(x)
    assert found.nan
    assert found.infinite
    assert found.zero_median_rows
    assert (x[2].abs() < torch.finfo(x.dtype).tiny).all()
    monkeypatch.setattr(activation, "SUM_ERROR", 1e-5)  # the CPU's kernel adds up a row in float32
    assert activation._check(width, dtype, "cpu", context)["status"] == "green"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"sum": 1e9}, "sum"), ({"nan": -1}, "nan"), ({"rows": lambda rows: rows._replace(ratio=rows.median)}, "ratio")],
)
def test_wrong_statistics_are_red(
    wrong: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    right = activation.activation_stats

    def stats(x: torch.Tensor, backend: str) -> Any:
        found = right(x, backend=backend)
        changes = {k: v(found.rows) if callable(v) else v for k, v in wrong.items()}
        return found if backend == "reference" else replace(found, **changes)

    monkeypatch.setattr(activation, "activation_stats", stats)
    result = activation._check(8, "fp32", "cpu", context)
    assert result["status"] == "red"
    assert reason in result["reason"]


def test_statistics_in_a_dry_run(context: Context) -> None:
    tasks = {task.key: task for task in activation.STEP.tasks(context)}
    assert "has not been checked" in tasks["activation/speed/triton/64/bf16"].run()["reason"]
    context.results = {"activation/numerics/triton/64/bf16": green()}
    assert tasks["activation/speed/triton/64/bf16"].run() == skipped("dry run: ran on the CPU backend, nothing timed")


def test_padding_leaves_pairs_where_they_are(context: Context) -> None:
    """Distances of the first graph lie in a corner of the padded ones."""
    problem = batches.Problem.build(batches.reduced(batches.CASES["mixed"]), torch.float64, CPU)
    exact = problem.step(batches.by_gattn(problem, "reference"))
    for name, value in problem.step(batches.padded(problem)).items():
        torch.testing.assert_close(value, exact[name])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_given_the_same_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mask and its decay, without the compiler; it has no backward on the CPU."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    problem = batches.Problem.build(batches.reduced(batches.CASES["mixed"]), torch.float64, CPU)
    detached = {name: leaf.detach() for name, leaf in problem.leaves.items()}
    expected = batches.by_gattn(problem, "reference")(**detached)
    torch.testing.assert_close(batches.flex(problem)(**detached), expected)


def test_names_of_devices() -> None:
    assert machine.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    facts = machine.describe(CPU)
    assert json.dumps(facts)
    assert len(facts["sources"]) == 16


def test_every_size_has_its_bandwidth(context: Context) -> None:
    keys = {task.key for task in bandwidth.STEP.tasks(context)}
    assert {f"bandwidth/{chosen.graph.split('-')[0]}/{chosen.dtype}" for chosen in problems.plan(context)} <= keys


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_unknown_steps(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", os.environ.get("TRITON_INTERPRET", "0"))  # put back what a dry run sets
    assert cli.main(["--dry-run", "--steps", "indices,fly"]) == 2
    assert "unknown step fly; expected some of indices" in capsys.readouterr().err


def test_a_dry_run(tmp_path: Path) -> None:
    """As a program: it writes into a temporary folder only."""
    command = [sys.executable, "-m", "gattn.bench.gpu", "--dry-run", "--steps", "indices,streams"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    (stored,) = folder.glob("*.json")
    results = json.loads(stored.read_text())["results"]
    assert results["indices/negative"]["status"] == "green"
    assert results["streams/triton/gat plain"]["status"] == "skipped"
    assert "| indices | 4 |" in done.stdout
