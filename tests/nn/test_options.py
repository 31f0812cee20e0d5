"""The fused layers against PyG's over the constructors' options: outputs and all gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

ADDITIVE = ("gat", "gatv2")
FILLS = {
    "mean": "mean",
    "add": "add",
    "min": "min",
    "max": "max",
    "mul": "mul",
    "float": 0.5,
    "vector": torch.tensor([0.1, -0.2, 0.3]),
    "rows": torch.linspace(-1, 1, 27).view(9, 3),
    "none": None,
}


def combinations(*flags):
    choices = {"heads": (1, 3), **dict.fromkeys(("concat", "bias", *flags), (True, False))}
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


COMBINATIONS = {
    "gat": combinations("add_self_loops", "residual"),
    "gatv2": combinations("add_self_loops", "residual", "share_weights"),
    "transformer": combinations("root_weight", "beta"),
}


def combination_id(value):
    if not isinstance(value, dict):
        return str(value)
    return "-".join(f"{name}={value}" if name == "heads" else name for name, value in value.items() if value) or "none"


@pytest.mark.parametrize("edges", [True, False], ids=["edges", "no edges"])
@pytest.mark.parametrize("pair", [True, False], ids=["pair", "single"])
@pytest.mark.parametrize(
    ("kind", "options"), [(k, o) for k, options in COMBINATIONS.items() for o in options], ids=combination_id
)
def test_combinations(make_twins, assert_same, make_case, options, pair, edges):
    case = make_case(9, 7 if pair else None)
    targets = 5 if options.get("share_weights") else 6
    plain, fused = make_twins((5, targets) if pair else 5, 4, edge_dim=3 if edges else None, **options)
    x = (case.x, case.x_dst[:, :targets]) if pair else case.x
    # Half of the cases with the attention, whose gradient then joins the output's.
    weights = options["heads"] == 3 or None
    assert_same(plain, fused, x, case.edge_index, case.edge_attr if edges else None, return_attention_weights=weights)


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("edges", [True, False])
def test_single_precision(make_twins, assert_same, make_case, edges, concat):
    case = make_case(dtype=torch.float32)
    layers = make_twins(5, 4, heads=3, concat=concat, edge_dim=3 if edges else None, dtype=torch.float32)
    assert_same(*layers, case.x, case.edge_index, case.edge_attr if edges else None)


@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", ADDITIVE)
def test_fill_value(make_twins, assert_same, case, fill, flow):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3, fill_value=FILLS[fill], flow=flow)
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr)


@pytest.mark.parametrize("fill", ["mean", "max", 2.0, torch.tensor(0.5), torch.tensor([0.5])], ids=str)
@pytest.mark.parametrize("kind", ADDITIVE)
def test_one_dimensional_edge_attr(make_twins, assert_same, case, fill):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=1, fill_value=fill)
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr[:, 0])


@pytest.mark.parametrize("kind", ADDITIVE)
def test_fill_without_dropped_loops(make_twins, assert_same, case):
    keep = case.edge_index[0] != case.edge_index[1]
    plain, fused = make_twins(5, 4, edge_dim=3)
    assert_same(plain, fused, case.x, case.edge_index[:, keep], case.edge_attr[keep])


@pytest.mark.parametrize("num_dst", [9, 12])
def test_more_targets_than_sources(make_twins, assert_same, make_case, num_dst):
    case = make_case(9, num_dst)
    plain, fused = make_twins((5, 6), 4, heads=2)
    assert_same(plain, fused, (case.x, case.x_dst), case.edge_index)


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("kind", ["gat"])
def test_no_target_features(make_twins, assert_same, bipartite, self_loops):
    plain, fused = make_twins((5, 6), 4, heads=2, residual=True, add_self_loops=self_loops)
    assert_same(plain, fused, (bipartite.x, None), bipartite.edge_index, size=(9, 7))
    assert_same(plain, fused, (bipartite.x, None), bipartite.edge_index)


def test_reverse_flow(make_twins, assert_same, make_case):
    case = make_case(9, 9)
    plain, fused = make_twins((5, 6), 4, heads=2, flow="target_to_source", edge_dim=3)
    assert_same(plain, fused, (case.x, case.x_dst), case.edge_index, case.edge_attr)
    plain, fused = make_twins(5, 4, heads=2, flow="target_to_source", edge_dim=3)
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr)


@pytest.mark.parametrize("kind", ["transformer"])
def test_reverse_flow_between_two_sets(make_twins, assert_same, bipartite):
    plain, fused = make_twins((5, 6), 4, heads=2, flow="target_to_source")
    assert_same(plain, fused, (bipartite.x, bipartite.x_dst), bipartite.edge_index.flip(0))


def test_shared_and_separate_maps(make_twins, assert_same, case):
    other = torch.randn(9, 5, dtype=torch.float64)
    assert_same(*make_twins(5, 4, heads=2), (case.x, other), case.edge_index)
    assert_same(*make_twins((5, 5), 4, heads=2), case.x, case.edge_index)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 1.5])
@pytest.mark.parametrize("kind", ADDITIVE)
def test_negative_slope(make_twins, assert_same, case, slope):
    assert_same(*make_twins(5, 4, heads=2, negative_slope=slope), case.x, case.edge_index)


def test_dropout_is_off_in_eval(make_twins, assert_same, case):
    plain, fused = make_twins(5, 4, heads=2, dropout=0.6)
    assert_same(plain.eval(), fused.eval(), case.x, case.edge_index, return_attention_weights=True)


@pytest.mark.parametrize("aggr", ["add", "sum"])
def test_aggregation(make_twins, assert_same, case, aggr):
    assert_same(*make_twins(5, 4, heads=2, aggr=aggr), case.x, case.edge_index)


@pytest.mark.parametrize(("kind", "edges"), [("gat", True), ("gat", False), ("gatv2", True)])
def test_edge_attr_against_edge_dim(make_twins, assert_same, case, edges):
    # PyG's GATConv ignores features that the layer was not built for; both run without those that it was.
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3 if edges else None)
    assert_same(plain, fused, case.x, case.edge_index, None if edges else case.edge_attr)
