"""Findings of batches, threads and processes."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from gattn import observers
from gattn.analysis import MassiveActivations

from .massive_cases import TAPS, Net, as_dict, batches, run


def test_threads_do_not_mix():
    torch.manual_seed(4)
    models, data = [Net(["gt", "gatv2-fused"]).eval() for _ in range(2)], batches(6)
    alone = []
    for model in models:
        with MassiveActivations(model) as found:
            for batch in data:
                run(model, batch)
        alone.append(as_dict(found.findings))
    together = [MassiveActivations(model) for model in models]
    start = threading.Barrier(2)

    def work(model, found):
        with found:
            start.wait()
            for batch in data:
                run(model, batch)
            start.wait()

    threads = [threading.Thread(target=work, args=pair) for pair in zip(models, together, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [as_dict(found.findings) for found in together] == alone
    assert observers.present == ()


def test_contexts_that_overlap_leave_compilation_as_it_was():
    """The first one ends inside the second, as it may in two threads."""
    ran = CompileCounter()
    first, second = (MassiveActivations(torch.nn.Linear(2, 2)) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    torch.compile(torch.sin, backend=ran)(torch.ones(2))
    assert ran.frame_count == 0
    second.__exit__(None, None, None)
    torch.compile(torch.sin, backend=ran)(torch.ones(2))
    assert ran.frame_count == 1
    torch._dynamo.reset()


def test_one_model_in_two_threads():
    torch.manual_seed(5)
    model, data = Net(["transformer-fused"]).eval(), batches(4)
    with MassiveActivations(model) as alone:
        for batch in data:
            run(model, batch)
    with MassiveActivations(model) as found:
        halves = (data[:2], data[2:])
        threads = [threading.Thread(target=lambda half=half: [run(model, b) for b in half]) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    one, two = (f.findings.records["layers.0"] for f in (alone, found))
    assert (found.findings.batches, found.findings.graphs) == (4, 16)
    assert one.stats["activations"].above == two.stats["activations"].above
    assert torch.equal(one.by_graph().sort().values, two.by_graph().sort().values)


def test_batches_merge():
    torch.manual_seed(8)
    model, data = Net(["gat", "gt"]).eval(), batches(4)
    parts = []
    for some in (data, data[:1], data[1:3], [], data[3:]):
        with MassiveActivations(model, taps=TAPS, sample=300) as found:
            for batch in some:
                run(model, batch)
        parts.append(found.findings)
    whole, *rest = parts
    merged = sum(rest[1:], rest[0])
    assert_same(merged, whole)
    assert_same(pickle.loads(pickle.dumps(whole)), whole)


def assert_same(got, expected):
    """But for the sample: which rows are in it depends on how rows are numbered."""
    assert (got.batches, got.graphs, list(got.records)) == (expected.batches, expected.graphs, list(expected.records))
    for one, two in zip(as_dict(got), as_dict(expected), strict=True):
        for part in (one, two):
            del part["fits"]
        for tap, stats in one["taps"].items():
            other = two["taps"][tap]
            for name in ("sum", "squares", "mean", "std"):
                assert stats.pop(name) == pytest.approx(other.pop(name), rel=1e-9)
        assert one == two
    for one, two in zip(got.records.values(), expected.records.values(), strict=True):
        assert (one.maxima.seen, len(one.maxima.values)) == (two.maxima.seen, len(two.maxima.values))


def test_findings_that_do_not_merge():
    model, data = Net(["gt"]).eval(), batches(1)[0]
    found = []
    for options in ({}, {"threshold": 5.0}, {"taps": ["logits"]}):
        with MassiveActivations(model, **options) as watching:
            run(model, data)
        found.append(watching.findings)
    for other in found[1:]:
        with pytest.raises(ValueError, match="same taps and limits"):
            found[0].merge(other)
    with MassiveActivations(Net(["gatv2"])) as watching:
        run(watching.model, data)
    with pytest.raises(ValueError, match="same layer"):
        found[0].merge(watching.findings)


WORKER = """
import pickle, sys
import torch
import torch.distributed as dist
import importlib.util
spec = importlib.util.spec_from_file_location("massive_cases", {cases!r})
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
from gattn.analysis import MassiveActivations
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(9)
model, data = cases.Net(["gat", "gt"]).eval(), cases.batches(5)
with MassiveActivations(model, taps=("activations", "logits")) as found:
    for batch in (data[:2], data[2:])[rank]:
        cases.run(model, batch)
whole = found.all_reduce()
stats = found.findings.records["layers.0"].stats["activations"].all_reduce()
pickle.dump((whole, stats), open(sys.argv[2], "wb"))
dist.destroy_process_group()
"""


def test_processes_merge(tmp_path):
    """Two processes with gloo: both have what one process would have found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = WORKER.format(cases=str(Path(__file__).with_name("massive_cases.py")), port=port)
    workers = [
        subprocess.Popen([sys.executable, "-c", program, str(rank), str(tmp_path / str(rank))]) for rank in range(2)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    results = [pickle.loads((tmp_path / str(rank)).read_bytes()) for rank in range(2)]
    torch.manual_seed(9)
    model, data = Net(["gat", "gt"]).eval(), batches(5)
    with MassiveActivations(model, taps=("activations", "logits")) as found:
        for batch in data:
            run(model, batch)
    for whole, stats in results:
        assert_same(whole, found.findings)
        own = found.findings.records["layers.0"].stats["activations"]
        assert (stats.count, stats.above, stats.largest) == (own.count, own.above, own.largest)
