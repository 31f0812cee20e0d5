"""How a model is watched: nothing of it changes, everything is undone, and findings merge."""

from __future__ import annotations

import copy
import logging

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

from .massive_cases import KINDS, TAPS, Net, as_dict, batches, run


def hooks_of(model):
    """Everything that a recorder could have left behind."""
    own = [
        (name, kind, len(hooks))
        for name, module in model.named_modules()
        for kind, hooks in vars(module).items()
        if kind.endswith("_hooks")
    ]
    return own, len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks), observers.present


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
            with MassiveActivations(model, taps=TAPS):
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
    with MassiveActivations(model, taps=TAPS) as found, context():
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
