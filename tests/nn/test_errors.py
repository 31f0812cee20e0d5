"""Bad input: PyG's type and words where PyG has them."""

from __future__ import annotations

import re

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.utils import to_torch_csc_tensor, to_torch_csr_tensor

ADDITIVE = ("gat", "gatv2")
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
def test_malformed_edge_index(make_twins, kind, edge_index, error, words):
    loops = () if kind == "transformer" else (("add_self_loops", False),)
    both_raise(make_twins, error, re.escape(words), (X, edge_index), *loops)


@pytest.mark.parametrize("edge_index", [EDGES - 1, EDGES + 1], ids=["negative", "large"])
@pytest.mark.parametrize(
    ("kind", "x"),
    [(kind, x) for kind in ADDITIVE for x in (X, (X, X[:2]))] + [("gat", (X, None))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_range_is_checked_with_self_loops(classes, edge_index, x):
    with pytest.raises(IndexError, match="valid indices"):
        classes[1](8, 4)(x, edge_index)


@pytest.mark.parametrize("size", [(5, 4), (4, 5)])
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("kind", ["gat"])
def test_size_disagrees_with_features(make_twins, size, self_loops):
    words = re.escape("Encountered tensor with size 4 in dimension 0, but expected size 5.")
    both_raise(make_twins, ValueError, words, (X, EDGES), ("add_self_loops", self_loops), size=size)


def test_sparse_shape_disagrees_with_features(make_twins, kind):
    adj = to_torch_csr_tensor(EDGES, size=(4, 5))
    both_raise(make_twins, ValueError, "expected size 5", (X, adj))
    edges = EdgeIndex(EDGES, sparse_size=(5, 5))
    loops = () if kind == "transformer" else (("add_self_loops", False),)
    both_raise(make_twins, ValueError, "expected size 5", (X, edges), *loops)


def test_sparse_against_the_flow(make_twins):
    adj = to_torch_csr_tensor(EDGES, size=(4, 4))
    words = 'Flow direction "target_to_source" is invalid'
    both_raise(make_twins, ValueError, words, (X, adj), ("flow", "target_to_source"))


@pytest.mark.parametrize("kind", ADDITIVE)
def test_csc_with_self_loops(make_twins):
    adj = to_torch_csc_tensor(EDGES, size=(4, 4))
    both_raise(make_twins, ValueError, "Unexpected sparse tensor layout", (X, adj))


@pytest.mark.parametrize("kind", ADDITIVE)
def test_sparse_with_self_loops_and_edge_attr(make_twins):
    adj = to_torch_csr_tensor(EDGES, size=(4, 4))
    both_raise(make_twins, AssertionError, None, (X, adj, torch.randn(4, 3)), ("edge_dim", 3))


@pytest.mark.parametrize("kind", ADDITIVE)
def test_static_graph(make_twins, kind):
    words = "Static graphs not supported in 'GATConv'" if kind == "gat" else None
    both_raise(make_twins, AssertionError, words, (X[None], EDGES))
    both_raise(make_twins, AssertionError, words, ((X[None], X), EDGES))


@pytest.mark.parametrize(("kind", "error"), [("gatv2", AssertionError), ("transformer", TypeError)])
def test_no_target_features(make_twins, error):
    both_raise(make_twins, error, None, ((X, None), EDGES))


@pytest.mark.parametrize("kind", ["gatv2"])
@pytest.mark.parametrize("sparse", [True, False])
def test_edge_features_without_edge_dim(make_twins, sparse):
    features = torch.randn(4, 3)
    args = (X, to_torch_csr_tensor(EDGES, features, size=(4, 4))) if sparse else (X, EDGES, features)
    both_raise(make_twins, AssertionError, None, args)


@pytest.mark.parametrize("kind", ["transformer"])
def test_edge_dim_without_edge_features(make_twins):
    both_raise(make_twins, AssertionError, None, (X, EDGES), ("edge_dim", 3))


@pytest.mark.parametrize("kind", ADDITIVE)
def test_fill_value(make_twins):
    options = ("edge_dim", 3), ("fill_value", [1.0])
    args = X, EDGES, torch.randn(4, 3)
    both_raise(make_twins, AttributeError, "No valid 'fill_value' provided", args, *options)


@pytest.mark.parametrize("rows", [3, 5])
@pytest.mark.parametrize("kind", ADDITIVE)
def test_edge_attr_of_another_length(make_twins, rows):
    both_raise(make_twins, IndexError, None, (X, EDGES, torch.randn(rows, 3)), ("edge_dim", 3))


def test_edge_attr_of_another_length_without_self_loops(classes, kind):
    loops = {} if kind == "transformer" else {"add_self_loops": False}
    with pytest.raises(ValueError, match=r"got .*3"):
        classes[1](8, 4, edge_dim=3, **loops)(X, EDGES, torch.randn(3, 3))


def test_feature_size_and_dtype(make_twins):
    both_raise(make_twins, RuntimeError, None, (torch.randn(4, 9), EDGES))
    both_raise(make_twins, RuntimeError, None, (X.double(), EDGES))


@pytest.mark.parametrize("option", [{"flow": "sideways"}, {"node_dim": 0}, {"colour": "red"}])
def test_constructor(classes, option):
    plain, fused = classes
    with pytest.raises((ValueError, TypeError)) as expected:
        plain(8, 4, **option)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value)).replace(plain.__name__, ".*")):
        fused(8, 4, **option)


@pytest.mark.parametrize("kind", ["gat", "transformer"])
def test_norm_must_exist(classes):
    with pytest.raises(ValueError, match="'norm' to be None or 'lipschitz'"):
        classes[1](8, 4, norm="layer")


@pytest.mark.parametrize("kind", ["gatv2"])
def test_gatv2_has_no_norm(classes):
    with pytest.raises(TypeError, match="norm"):
        classes[1](8, 4, norm="lipschitz")


def test_backend_must_exist(classes):
    with pytest.raises(ValueError, match="backend"):
        classes[1](8, 4, backend="abacus")(X, EDGES)
