"""Bad input: PyG's type and words where PyG has them."""

from __future__ import annotations

import re

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.utils import to_torch_csc_tensor, to_torch_csr_tensor

from gattn.nn import FusedGATConv

X = torch.randn(4, 8)
EDGES = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])


def both_raise(make_twins, error, match, args, *options, **kwargs):
    """PyG and the fused layer raise the same for the same mistake."""
    plain, fused = make_twins(8, 4, dtype=torch.float32, **dict(options))
    for layer in (plain, fused):
        with pytest.raises(error, match=match):
            layer(*args, **kwargs)


@pytest.mark.parametrize(
    ("edge_index", "error", "words"),
    [
        (EDGES.float(), ValueError, "Expected 'edge_index' to be of integer type (got 'torch.float32')"),
        (EDGES.view(-1), ValueError, "Expected 'edge_index' to be two-dimensional (got 1 dimensions)"),
        (EDGES.t(), ValueError, "Expected 'edge_index' to have size '2' in the first dimension (got '4')"),
        (EDGES.tolist(), ValueError, "`MessagePassing.propagate` only supports integer tensors"),
        (EDGES - 1, IndexError, "valid indices in the interval [0, 4)"),
        (EDGES + 1, IndexError, "valid indices in the interval [0, 4)"),
    ],
    ids=["dtype", "dim", "shape", "type", "negative", "large"],
)
def test_malformed_edge_index(make_twins, edge_index, error, words):
    both_raise(make_twins, error, re.escape(words), (X, edge_index), ("add_self_loops", False))


@pytest.mark.parametrize("edge_index", [EDGES - 1, EDGES + 1], ids=["negative", "large"])
@pytest.mark.parametrize("x", [X, (X, X[:2]), (X, None)], ids=["one", "pair", "no-target"])
def test_range_is_checked_with_self_loops(edge_index, x):
    with pytest.raises(IndexError, match="valid indices"):
        FusedGATConv(8, 4)(x, edge_index)


@pytest.mark.parametrize("size", [(5, 4), (4, 5)])
@pytest.mark.parametrize("self_loops", [True, False])
def test_size_disagrees_with_features(make_twins, size, self_loops):
    words = re.escape("Encountered tensor with size 4 in dimension 0, but expected size 5.")
    both_raise(make_twins, ValueError, words, (X, EDGES), ("add_self_loops", self_loops), size=size)


def test_sparse_shape_disagrees_with_features(make_twins):
    adj = to_torch_csr_tensor(EDGES, size=(4, 5))
    both_raise(make_twins, ValueError, "expected size 5", (X, adj))
    edges = EdgeIndex(EDGES, sparse_size=(5, 5))
    both_raise(make_twins, ValueError, "expected size 5", (X, edges), ("add_self_loops", False))


def test_sparse_against_the_flow(make_twins):
    adj = to_torch_csr_tensor(EDGES, size=(4, 4))
    words = 'Flow direction "target_to_source" is invalid'
    both_raise(make_twins, ValueError, words, (X, adj), ("flow", "target_to_source"))


def test_csc_with_self_loops(make_twins):
    adj = to_torch_csc_tensor(EDGES, size=(4, 4))
    both_raise(make_twins, ValueError, "Unexpected sparse tensor layout", (X, adj))


def test_sparse_with_self_loops_and_edge_attr(make_twins):
    adj = to_torch_csr_tensor(EDGES, size=(4, 4))
    both_raise(make_twins, AssertionError, None, (X, adj, torch.randn(4, 3)), ("edge_dim", 3))


def test_static_graph(make_twins):
    both_raise(make_twins, AssertionError, "Static graphs not supported in 'GATConv'", (X[None], EDGES))
    both_raise(make_twins, AssertionError, "Static graphs not supported", ((X[None], X), EDGES))


def test_fill_value(make_twins):
    options = ("edge_dim", 3), ("fill_value", [1.0])
    args = X, EDGES, torch.randn(4, 3)
    both_raise(make_twins, AttributeError, "No valid 'fill_value' provided", args, *options)


@pytest.mark.parametrize("rows", [3, 5])
def test_edge_attr_of_another_length(make_twins, rows):
    both_raise(make_twins, IndexError, None, (X, EDGES, torch.randn(rows, 3)), ("edge_dim", 3))


def test_edge_attr_of_another_length_without_self_loops():
    with pytest.raises(ValueError, match=r"got .*3"):
        FusedGATConv(8, 4, edge_dim=3, add_self_loops=False)(X, EDGES, torch.randn(3, 3))


def test_feature_size_and_dtype(make_twins):
    both_raise(make_twins, RuntimeError, None, (torch.randn(4, 9), EDGES))
    both_raise(make_twins, RuntimeError, None, (X.double(), EDGES))


@pytest.mark.parametrize("option", [{"flow": "sideways"}, {"node_dim": 0}, {"colour": "red"}])
def test_constructor(make_twins, option):
    with pytest.raises((ValueError, TypeError)) as expected:
        make_twins(8, 4, **option)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value)).replace("GATConv", ".*")):
        FusedGATConv(8, 4, **option)


def test_backend_must_exist():
    with pytest.raises(ValueError, match="backend"):
        FusedGATConv(8, 4, backend="abacus")(X, EDGES)
