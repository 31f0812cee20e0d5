"""When a layer leaves the fused path, that it says why, once, and that PyG's features then work."""

from __future__ import annotations

import logging
import types

import pytest
import torch
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer
from torch_geometric.nn import GATConv
from torch_geometric.nn.aggr import MeanAggregation, SumAggregation
from torch_geometric.utils import to_torch_csr_tensor

from gattn.nn import FusedGATConv, fuse

HOOKS = [
    f"register_{stage}_forward_{kind}"
    for stage in ("propagate", "message", "aggregate", "edge_update")
    for kind in ("hook", "pre_hook")
]


@pytest.fixture
def reasons(caplog):
    caplog.set_level(logging.DEBUG, logger="gattn")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "gattn"]


def test_no_reason_no_word(classes, case, reasons):
    classes[1](5, 4).double()(case.x, case.edge_index)
    assert reasons() == []


@pytest.mark.parametrize(
    ("kind", "register"),
    [(kind, hook) for kind in ("gat", "gatv2") for hook in HOOKS]
    + [("transformer", hook) for hook in HOOKS if "edge_update" not in hook],  # it has none
)
def test_message_passing_hooks(make_twins, case, kind, reasons, register):
    plain, fused = make_twins(5, 4, heads=2)
    calls = []
    handle = getattr(fused, register)(lambda *args: calls.append(args))
    for _ in range(3):
        torch.testing.assert_close(fused(case.x, case.edge_index), plain(case.x, case.edge_index))
    assert len(calls) == 3
    (said,) = reasons()
    assert "hooks are registered" in said
    assert str(fused) in said
    handle.remove()
    fused(case.x, case.edge_index)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("kind", "maps"),
    [("gat", ("lin",)), ("gatv2", ("lin_l", "lin_r")), ("transformer", ("lin_query", "lin_key", "lin_value"))],
)
def test_module_hooks_stay_fused(make_twins, assert_same, case, maps):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3)
    calls = []
    for module in (fused, fused.lin_edge, *(getattr(fused, name) for name in maps)):
        module.register_forward_hook(lambda *args: calls.append(args))
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr)
    assert len(calls) == 2 + len(maps)


def test_hook_on_edge_map_may_change_it(make_twins, assert_same, case):
    layers = make_twins(5, 4, heads=2, edge_dim=3)
    for layer in layers:
        layer.lin_edge.register_forward_hook(lambda module, args, out: out.tanh())
    assert_same(*layers, case.x, case.edge_index, case.edge_attr)


def test_replaced_edge_map(make_twins, assert_same, case):
    layers = make_twins(5, 4, heads=2, edge_dim=3)
    torch.manual_seed(2)
    mlp = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh()).double()
    for layer in layers:
        layer.lin_edge = mlp
    assert_same(*layers, case.x, case.edge_index, case.edge_attr)


@pytest.mark.parametrize("aggr", ["mean", "max", MeanAggregation(), ["add", "max"]], ids=str)
def test_other_aggregations(make_twins, case, kind, reasons, aggr):
    options = {"root_weight": False} if kind == "transformer" else {}  # several aggregations widen the output
    plain, fused = make_twins(5, 4, aggr=aggr, concat=False, bias=False, **options)
    torch.testing.assert_close(fused(case.x, case.edge_index), plain(case.x, case.edge_index))
    (said,) = reasons()
    assert "aggr=" in said


def test_sum_aggregation_instance_stays_fused(make_twins, assert_same, case):
    assert_same(*make_twins(5, 4, aggr=SumAggregation()), case.x, case.edge_index)


def test_hook_on_aggregation(make_twins, case, reasons):
    _, fused = make_twins(5, 4)
    calls = []
    fused.aggr_module.register_forward_hook(lambda *args: calls.append(args))
    fused(case.x, case.edge_index)
    assert len(calls) == len(reasons()) == 1


def test_decomposed_layers(make_twins, case, reasons):
    # PyG splits features for it, but not as these layers would need it: as there, it fails.
    for layer in make_twins(5, 4, decomposed_layers=2):
        with pytest.raises((AttributeError, RuntimeError), match=r"chunk|must match"):
            layer(case.x, case.edge_index)
    assert "decomposed_layers=2" in reasons()[0]


def test_overridden_message(case, reasons):
    class Doubled(FusedGATConv):
        def message(self, x_j, alpha):
            return 2 * super().message(x_j, alpha)

    class Grandchild(Doubled):
        pass

    for cls in (Doubled, Grandchild):
        torch.manual_seed(1)
        layer = cls(5, 4, bias=False).double()
        torch.manual_seed(1)
        plain = GATConv(5, 4, bias=False).double()
        torch.testing.assert_close(layer(case.x, case.edge_index), 2 * plain(case.x, case.edge_index))
        assert f"{cls.__name__} overrides message" in reasons()[-1]


def test_mixin_may_override(case, reasons):
    class Negated:
        def update(self, inputs):
            return -inputs

    class Layer(Negated, FusedGATConv):
        pass

    Layer(5, 4).double()(case.x, case.edge_index)
    assert "Layer overrides update" in reasons()[0]


def test_plain_subclass_stays_fused(case, reasons):
    class Named(FusedGATConv):
        def forward(self, x, edge_index):
            return super().forward(x.relu(), edge_index)

    Named(5, 4).double()(case.x, case.edge_index)
    assert reasons() == []


@pytest.mark.parametrize("kind", ["transformer"])
@pytest.mark.parametrize("sparse", [True, False])
def test_edge_features_without_edge_dim(make_twins, case, reasons, sparse):
    # PyG adds them to the values as they are.
    plain, fused = make_twins(5, 4, heads=2)
    features = torch.randn(30, 1, 4, dtype=torch.float64)
    args = (case.edge_index, features)
    if sparse:
        args = (to_torch_csr_tensor(case.edge_index.flip(0), features, size=(9, 9)),)
    torch.testing.assert_close(fused(case.x, *args), plain(case.x, *args))
    assert "edge features are given, though edge_dim is None" in reasons()[0]


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_method_replaced_on_instance(make_twins, case, reasons):
    plain, fused = make_twins(5, 4, bias=False)
    fused.message = types.MethodType(lambda self, x_j, alpha: 3 * alpha.unsqueeze(-1) * x_j, fused)
    torch.testing.assert_close(fused(case.x, case.edge_index), 3 * plain(case.x, case.edge_index))
    assert "message replaced on this instance" in reasons()[0]


@pytest.mark.parametrize(("kind", "target"), [("gat", True), ("gat", False), ("gatv2", True)])
def test_reverse_flow_between_two_sets(make_twins, bipartite, reasons, target):
    plain, fused = make_twins((5, 6), 4, flow="target_to_source")
    x = (bipartite.x, bipartite.x_dst if target else None)
    edge_index = bipartite.edge_index % 7
    torch.testing.assert_close(fused(x, edge_index), plain(x, edge_index))
    assert "flow='target_to_source'" in reasons()[0]


def test_each_reason_and_module_once(classes, case, reasons):
    layers = [classes[1](5, 4, aggr="mean").double() for _ in range(2)]
    for layer in layers * 2:
        layer(case.x, case.edge_index)
    assert len(reasons()) == 2
    layers[0].register_message_forward_hook(lambda *args: None)
    layers[0](case.x, case.edge_index)
    layers[0](case.x, case.edge_index)
    assert len(reasons()) == 3


def explained(model, algorithm, case, **kwargs):
    explainer = Explainer(
        model,
        algorithm,
        explanation_type="model",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
        **kwargs,
    )
    torch.manual_seed(4)
    return explainer(case.x, case.edge_index, index=2)


@pytest.mark.parametrize("algorithm", ["attention", "mask"])
def test_explainers(classes, make_net, case, reasons, algorithm):
    model = make_net(classes[0]).eval()

    def explain():
        method = AttentionExplainer() if algorithm == "attention" else GNNExplainer(epochs=5)
        return explained(model, method, case).edge_mask

    expected, before = explain(), model(case.x, case.edge_index)
    fuse(model)
    torch.testing.assert_close(explain(), expected)
    assert len(reasons()) == 2  # one for each of the two layers
    # Afterwards the layers are back on the fused path.
    assert all(conv._fallback_reason() is None for conv in model.children())
    torch.testing.assert_close(model(case.x, case.edge_index), before)


def test_subclass_of_the_fused_layer_explains(case):
    class Named(FusedGATConv):
        pass

    layer = Named(5, 4).double()
    layer(case.x, case.edge_index)
    layer.explain = True
    layer._edge_mask = torch.full((30,), -100.0, dtype=torch.float64)  # closes every edge but the loops
    layer._loop_mask = case.edge_index[0] != case.edge_index[1]
    out, (edges, alpha) = layer(case.x, case.edge_index, return_attention_weights=True)
    loops = alpha[edges[0] == edges[1]] * layer.lin(case.x)
    torch.testing.assert_close(out, loops + layer.bias)
