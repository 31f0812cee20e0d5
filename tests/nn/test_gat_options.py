"""FusedGATConv against PyG's GATConv over the constructor's options: outputs and all gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize(
    ("heads", "concat", "residual", "bias", "self_loops", "edges"),
    list(itertools.product((1, 3), (True, False), (True, False), (True, False), (True, False), (True, False))),
)
def test_options(make_twins, assert_same, make_case, heads, concat, residual, bias, self_loops, edges, dtype):
    case = make_case(dtype=dtype)
    options = {"concat": concat, "residual": residual, "bias": bias, "add_self_loops": self_loops}
    plain, fused = make_twins(5, 4, heads, edge_dim=3 if edges else None, dtype=dtype, **options)
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr if edges else None)


@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
@pytest.mark.parametrize("fill", FILLS)
def test_fill_value(make_twins, assert_same, case, fill, flow):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3, fill_value=FILLS[fill], flow=flow)
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr)


@pytest.mark.parametrize("fill", ["mean", "max", 2.0, torch.tensor(0.5), torch.tensor([0.5])], ids=str)
def test_one_dimensional_edge_attr(make_twins, assert_same, case, fill):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=1, fill_value=fill)
    assert_same(plain, fused, case.x, case.edge_index, case.edge_attr[:, 0])


def test_fill_without_dropped_loops(make_twins, assert_same, case):
    keep = case.edge_index[0] != case.edge_index[1]
    plain, fused = make_twins(5, 4, edge_dim=3)
    assert_same(plain, fused, case.x, case.edge_index[:, keep], case.edge_attr[keep])


@pytest.mark.parametrize(
    ("residual", "self_loops", "edges"), list(itertools.product((True, False), (True, False), (True, False)))
)
def test_bipartite(make_twins, assert_same, bipartite, residual, self_loops, edges):
    case = bipartite
    options = {"residual": residual, "add_self_loops": self_loops}
    plain, fused = make_twins((5, 6), 4, heads=2, edge_dim=3 if edges else None, **options)
    assert_same(plain, fused, (case.x, case.x_dst), case.edge_index, case.edge_attr if edges else None)


@pytest.mark.parametrize("num_dst", [9, 12])
def test_more_targets_than_sources(make_twins, assert_same, make_case, num_dst):
    case = make_case(9, num_dst)
    plain, fused = make_twins((5, 6), 4, heads=2)
    assert_same(plain, fused, (case.x, case.x_dst), case.edge_index)


@pytest.mark.parametrize("self_loops", [True, False])
def test_no_target_features(make_twins, assert_same, bipartite, self_loops):
    plain, fused = make_twins((5, 6), 4, heads=2, residual=True, add_self_loops=self_loops)
    assert_same(plain, fused, (bipartite.x, None), bipartite.edge_index, size=(9, 7))
    assert_same(plain, fused, (bipartite.x, None), bipartite.edge_index)


def test_reverse_flow_of_a_pair(make_twins, assert_same, make_case):
    case = make_case(9, 9)
    plain, fused = make_twins((5, 6), 4, heads=2, flow="target_to_source", residual=True)
    assert_same(plain, fused, (case.x, case.x_dst), case.edge_index)


def test_shared_and_separate_maps(make_twins, assert_same, case):
    other = torch.randn(9, 5, dtype=torch.float64)
    assert_same(*make_twins(5, 4, heads=2, residual=True), (case.x, other), case.edge_index)
    assert_same(*make_twins(5, 4, heads=2), (case.x, None), case.edge_index)
    assert_same(*make_twins((5, 5), 4, heads=2, residual=True), case.x, case.edge_index)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 1.5])
def test_negative_slope(make_twins, assert_same, case, slope):
    assert_same(*make_twins(5, 4, heads=2, negative_slope=slope), case.x, case.edge_index)


def test_dropout_is_off_in_eval(make_twins, assert_same, case):
    plain, fused = make_twins(5, 4, heads=2, dropout=0.6)
    assert_same(plain.eval(), fused.eval(), case.x, case.edge_index, return_attention_weights=True)


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("aggr", ["add", "sum"])
def test_edge_attr_needs_edge_dim(make_twins, assert_same, case, aggr, edges):
    # PyG ignores features that the layer was not built for, and runs without those that it was.
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3 if edges else None, aggr=aggr)
    assert_same(plain, fused, case.x, case.edge_index, None if edges else case.edge_attr)
