"""Parameters and their life: initialisation, state dicts, copies, lazy channels."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import pickle

import pytest
import torch

from gattn.nn import FusedGATConv


def combinations(*flags):
    names = ("concat", "bias", "edge_dim", *flags)
    choices = itertools.product((True, False), (True, False), (None, 3), *[(True, False)] * len(flags))
    return [dict(zip(names, values, strict=True)) for values in choices]


OPTIONS = {
    "gat": combinations("residual"),
    "gatv2": combinations("residual", "share_weights"),
    "transformer": combinations("root_weight", "beta"),
}


@pytest.mark.parametrize("channels", [5, (5, 6)], ids=str)
@pytest.mark.parametrize(("kind", "options"), [(k, o) for k, options in OPTIONS.items() for o in options], ids=str)
def test_same_seed_same_state(make_twins, classes, options, channels):
    plain, fused = make_twins(channels, 4, heads=2, **options)
    assert list(plain.state_dict()) == list(fused.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, fused.state_dict()[name]), name
    drawn = torch.rand(1)
    torch.manual_seed(1)
    classes[0](channels, 4, heads=2, **options)
    assert torch.equal(drawn, torch.rand(1))


def test_reset_parameters(make_twins):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3)
    for layer in (plain, fused):
        torch.manual_seed(3)
        layer.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), fused.parameters(), strict=True))


def test_state_dict_both_ways(classes, case):
    plain, fused = (cls(5, 4, heads=2, edge_dim=3).double() for cls in classes)
    inputs = case.x, case.edge_index, case.edge_attr
    fused.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fused(*inputs), plain(*inputs))
    other = classes[1](5, 4, heads=2, edge_dim=3).double()
    plain.load_state_dict(other.state_dict())
    torch.testing.assert_close(other(*inputs), plain(*inputs))


@pytest.mark.parametrize("twin", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_legacy_state_dict(twin, nested):
    layer = FusedGATConv(5, 4)
    model = torch.nn.Sequential(layer) if nested else layer
    prefix = "0." if nested else ""
    state = dict(copy.deepcopy(model.state_dict()))
    weight = torch.randn_like(state.pop(f"{prefix}lin.weight"))
    state[f"{prefix}lin_src.weight"] = weight
    if twin:  # the one map was saved under both of its names
        state[f"{prefix}lin_dst.weight"] = weight
    keys = set(state)
    assert model.load_state_dict(state).missing_keys == []
    assert torch.equal(layer.lin.weight, weight)
    assert set(state) == keys


def test_bipartite_state_dict_is_no_legacy_one():
    with pytest.raises(RuntimeError, match="lin_dst"):
        FusedGATConv(5, 4).load_state_dict(FusedGATConv((5, 5), 4).state_dict())


@pytest.mark.parametrize("channels", [8, (8, 16)], ids=str)
def test_repr(classes, channels):
    plain, fused = classes
    assert str(fused(channels, 32, heads=2)) == f"Fused{plain(channels, 32, heads=2)}"


def test_signature(classes, kind):
    def parameters(function):
        return {p.name: p.default for p in inspect.signature(function).parameters.values()}

    plain, fused = (parameters(cls) for cls in classes)
    extras = ["backend"] if kind == "gatv2" else ["norm", "backend"]
    assert [fused.pop(extra) for extra in extras] == [None] * len(extras)
    assert list(fused) == list(plain)
    assert fused == plain
    plain, fused = (parameters(cls.forward) for cls in classes)
    assert fused == plain


def _through_torch_save(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "torch.save": _through_torch_save,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("used", [True, False])
def test_copies(make_twins, assert_same, classes, case, used, how):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3)
    fused.backend = "reference"
    if used:
        fused(case.x, case.edge_index, case.edge_attr)
    twin = COPIES[how](fused)
    assert type(twin) is classes[1]
    assert twin.backend == "reference"
    assert_same(plain, twin, case.x, case.edge_index, case.edge_attr)
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert next(fused.parameters()).any()


@pytest.mark.parametrize("channels", [-1, (-1, -1)], ids=str)
@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gat", {"residual": True}),
        ("gatv2", {"residual": True}),
        ("gatv2", {"share_weights": True}),
        ("transformer", {"beta": True}),
    ],
    ids=str,
)
def test_lazy_channels(make_case, make_twins, assert_same, options, channels, edges):
    case = make_case(9, 7)
    x = case.x if channels == -1 else (case.x, case.x_dst[:, :5])
    if channels == -1:
        case.edge_index = case.edge_index % 7
    edge_attr = case.edge_attr if edges else None
    layers = make_twins(channels, 4, heads=2, edge_dim=-1 if edges else None, **options)
    for layer in layers:
        torch.manual_seed(5)
        with torch.no_grad():
            layer(x, case.edge_index, edge_attr)
    plain, fused = layers
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), fused.parameters(), strict=True))
    assert_same(plain, fused, x, case.edge_index, edge_attr)


def test_lazy_layer_takes_a_state_dict(make_twins, classes, case):
    plain, _ = make_twins(5, 4, heads=2)
    fused = classes[1](-1, 4, heads=2)
    fused.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fused.double()(case.x, case.edge_index), plain(case.x, case.edge_index))


def test_lazy_state_dict(classes):
    plain, fused = (cls(-1, 4) for cls in classes)
    fused.load_state_dict(plain.state_dict())
    assert any(isinstance(p, torch.nn.UninitializedParameter) for p in fused.parameters())
