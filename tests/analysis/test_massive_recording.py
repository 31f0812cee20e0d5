"""How a model is watched: nothing of it changes, everything is undone, and findings merge."""

from __future__ import annotations

import copy
import logging
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv
from torch_geometric.nn.aggr import MaxAggregation

import gattn
from gattn import observers
from gattn.analysis import MassiveActivations
from gattn.analysis.massive import WATCHED
from gattn.analysis.massive.watch import message_passing

from .massive_cases import KINDS, Net, batches, run

ALL = ("activations", "logits", "attention", "outputs")


def hooks_of(model):
    """Everything that a recorder could have left behind."""
    own = [
        (name, kind, len(hooks))
        for name, module in model.named_modules()
        for kind, hooks in vars(module).items()
        if kind.endswith("_hooks")
    ]
    return own, len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks), observers.present


def as_dict(findings):
    return [layer.as_dict() for layer in findings.report().layers.values()]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes(kind, training):
    """Outputs, gradients, the generator and the model itself, bit for bit."""
    torch.manual_seed(0)
    model, data = Net([kind, kind], dropout=0.3).train(training), batches(1)[0]
    state, hooks = copy.deepcopy(model.state_dict()), hooks_of(model)
    results = []
    for watched in (False, True):
        model.zero_grad()
        torch.manual_seed(1)
        if watched:
            with MassiveActivations(model, taps=ALL):
                out = run(model, data)
        else:
            out = run(model, data)
        out.square().sum().backward()
        results.append([out, torch.rand(3), *(p.grad.clone() for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert hooks_of(model) == hooks


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes(context):
    torch.manual_seed(1)
    model, data = Net(["gat-fused", "gt", "transformer"]), batches(1)[0]
    with MassiveActivations(model, taps=ALL) as found, context():
        out = run(model, data)
        assert torch.is_grad_enabled() == (context is torch.enable_grad)
    assert out.requires_grad == (context is torch.enable_grad)
    for record in found.findings.records.values():
        kept = [record.features, record.maxima.values, record.ratios.values, *record.graph_ratio.values()]
        assert not any(t.requires_grad for t in kept)


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = gattn.FusedGATv2Conv(3, 2, 2)
        self.fails = True

    def forward(self, x, edge_index):
        out = self.conv(x, edge_index)
        if self.fails:
            raise KeyError("inside")
        return out


def test_an_exception_leaves_nothing_behind():
    model, hooks = Failing(), None
    x, edge_index = torch.randn(4, 3), torch.tensor([[0, 1, 2], [1, 2, 3]])
    hooks = hooks_of(model)
    with pytest.raises(KeyError, match="inside"), MassiveActivations(model):
        model(x, edge_index)
    assert hooks_of(model) == hooks
    with MassiveActivations(model) as found:
        with pytest.raises(KeyError, match="inside"):
            model(x, edge_index)
        model.fails = False
        model(x, edge_index)
    assert found.findings.batches == 2
    assert list(found.findings.records) == ["conv"]
    assert hooks_of(model) == hooks


def test_an_error_while_entering_leaves_nothing_behind():
    model = nn.ModuleList([GATConv(3, 2), GATConv(3, 2)])
    before = hooks_of(model)

    def broken(layer, show):
        raise OSError("no")

    was = WATCHED[GATConv]
    WATCHED[GATConv] = lambda layer, show: was(layer, show) if layer is model[0] else broken(layer, show)
    try:
        with pytest.raises(OSError, match="no"), MassiveActivations(model):
            pass
    finally:
        WATCHED[GATConv] = was
    assert hooks_of(model) == before


def test_nested_contexts_see_the_same():
    torch.manual_seed(2)
    model, data = Net(["gat", "gatv2-fused"]).eval(), batches(2)
    with MassiveActivations(model) as outer:
        run(model, data[0])
        with MassiveActivations(model) as inner:
            run(model, data[1])
    with MassiveActivations(model) as second:
        run(model, data[1])
    assert as_dict(inner.findings) == as_dict(second.findings)
    assert (outer.findings.batches, inner.findings.batches) == (2, 1)


def test_a_part_of_a_model():
    """Other models, and other parts of this one, are none of its business."""
    torch.manual_seed(3)
    model, other, data = Net(["gt", "gatv2"]).eval(), Net(["gt"]).eval(), batches(1)[0]
    with MassiveActivations(model.layers[1]) as found:
        run(model, data)
        run(other, data)
    assert list(found.findings.records) == [""]
    assert found.findings.records[""].module == "GATv2Conv"
    assert found.findings.batches == 1


def test_entering_twice():
    model, data = Net(["gt"]).eval(), batches(2)
    found = MassiveActivations(model)
    with found:
        with pytest.raises(RuntimeError, match="not in use"), found:
            pass
        run(model, data[0])
    run(model, data[1])
    with found:
        run(model, data[1])
    assert found.findings.batches == 2


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


@pytest.mark.parametrize("reason", ["message", "aggr"])
@pytest.mark.parametrize("kind", ["gat", "gatv2", "transformer"])
def test_a_fused_layer_on_pygs_path(kind, reason):
    """What falls back is seen all the same."""
    torch.manual_seed(6)
    model, data = Net([kind]).eval(), batches(1)[0]
    if reason == "aggr":
        model.layers[0].aggr_module = MaxAggregation()
    with MassiveActivations(model) as plain:
        run(model, data)
    gattn.fuse(model)
    handle = None
    if reason == "message":
        handle = model.layers[0].register_message_forward_hook(lambda *_: None)
    before = hooks_of(model)
    with MassiveActivations(model) as found:
        run(model, data)
    assert hooks_of(model) == before
    if handle is not None:
        handle.remove()
    one, two = (next(iter(as_dict(f.findings))) for f in (plain, found))
    assert one.pop("module") != two.pop("module")
    assert one == two


def test_subclasses(caplog):
    """One that changes nothing is seen; one that does is named, and seen once it is registered."""

    class Same(GATv2Conv):
        pass

    class Other(TransformerConv):
        def message(self, query_i, key_j, value_j, edge_attr, index, ptr, size_i):
            return super().message(query_i, key_j, value_j, edge_attr, index, ptr, size_i)

    x, edge_index = torch.randn(4, 3), torch.tensor([[0, 1, 2], [1, 2, 3]])
    model = nn.ModuleList([Same(3, 2), Other(3, 2)])
    for expected in (["0"], ["0", "1"]):
        with caplog.at_level(logging.WARNING, "gattn"), MassiveActivations(model) as found:
            for layer in model:
                layer(x, edge_index)
        assert list(found.findings.records) == expected
        WATCHED[Other] = message_passing
    del WATCHED[Other]
    assert [r.getMessage() for r in caplog.records if "Other" in r.getMessage()] == [
        "massive activations of '1' are not examined: Other changes what its base class computes; register it in "
        "gattn.analysis.massive.WATCHED"
    ]


@pytest.mark.filterwarnings("ignore:Using `torch.compile:UserWarning")
def test_compiled_models_run_eagerly():
    torch.manual_seed(7)
    model, data = Net(["gatv2-fused"]).eval(), batches(1)[0]
    expected = run(model, data)
    compiled = torch.compile(model, backend="eager")
    run(compiled, data)
    for watched in (model, compiled):
        with MassiveActivations(watched) as found:
            out = run(compiled, data)
        assert torch.equal(out, expected)
        assert len(found.findings.records) == 1
    torch._dynamo.reset()


def test_batches_merge():
    torch.manual_seed(8)
    model, data = Net(["gat", "gt"]).eval(), batches(4)
    parts = []
    for some in (data, data[:1], data[1:3], [], data[3:]):
        with MassiveActivations(model, taps=ALL, sample=300) as found:
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


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"model": 3}, TypeError, r"torch\.nn\.Module"),
        ({"taps": ["weights"]}, ValueError, "some of activations"),
        ({"taps": []}, ValueError, "some of activations"),
        ({"threshold": 0}, ValueError, "'threshold'"),
        ({"sample": 0}, ValueError, "'sample'"),
        ({"chunk": -1}, ValueError, "'chunk'"),
    ],
)
def test_bad_arguments(options, error, match):
    with pytest.raises(error, match=match):
        MassiveActivations(**{"model": nn.Linear(2, 2), **options})


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"data": {"batch": 1}}, TypeError, "torch_geometric"),
        ({"batch": torch.zeros(3)}, TypeError, "'batch'"),
        ({"batch": torch.tensor([0, 3]), "num_graphs": 2}, ValueError, "got 3"),
        ({"batch": torch.tensor([0, -1])}, ValueError, "got -1"),
        ({"edge_type": torch.zeros(3, 2).long()}, TypeError, "'edge_type'"),
        ({"edge_type": torch.zeros(3).long(), "edge_index": torch.zeros(2, 4).long()}, ValueError, "4 types"),
    ],
)
def test_bad_batches(options, error, match):
    with pytest.raises(error, match=match):
        MassiveActivations(nn.Linear(2, 2)).batch(**options)
