"""Scores and norms of nodes in one pass, against their formulas."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gattn import _C
from gattn.ops.node_terms import node_terms
from gattn.reference import scores

CASES = [case for case in product([False, True], repeat=3) if any(case)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
#: Some roundings of the dtype that sums accumulate in; in fp64 a wrong formula is looked for and not the last digits.
FLOOR = {torch.float64: 256 * torch.finfo(torch.float64).eps}
FLOOR |= dict.fromkeys(DTYPES[1:], 16 * torch.finfo(torch.float32).eps)


def inputs(source, target, *, nodes=7, heads=3, channels=5, dtype=torch.float64):
    """Features, whose last node is zero, and the parameters asked for."""
    x = torch.randn(nodes, heads, channels, dtype=dtype)
    if nodes:
        x[-1] = 0
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    att = [torch.randn(heads, channels, dtype=wide).requires_grad_() if wanted else None for wanted in (source, target)]
    return x.requires_grad_(), *att


def given(terms):
    return [term for term in terms if term is not None]


@pytest.mark.parametrize(("source", "target", "norm"), CASES)
def test_gradients(source, target, norm):
    x, att_src, att_dst = inputs(source, target)
    leaves = given((x[:-1].detach().requires_grad_(), att_src, att_dst))  # norms have no second derivative at 0

    def run(x, *att):
        att = iter(att)
        terms = node_terms(x, next(att) if source else None, next(att) if target else None, norm=norm)
        assert [term is not None for term in terms] == [source, target, norm]
        return tuple(given(terms))

    assert gradcheck(run, leaves)
    assert gradgradcheck(run, leaves)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("nodes", "heads", "channels"), [(7, 3, 5), (600, 1, 1), (40, 4, 33), (1300, 2, 8), (0, 2, 3)])
@pytest.mark.parametrize(("source", "target", "norm"), [(True, True, True), (False, True, False), (False, False, True)])
def test_error_is_the_references(source, target, norm, nodes, heads, channels, dtype):
    tensors = inputs(source, target, nodes=nodes, heads=heads, channels=channels, dtype=dtype)

    def run(function, *tensors):
        leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
        terms = given(function(*leaves, norm=norm))
        grads = torch.autograd.grad(
            [(term * weight).sum() for term, weight in zip(terms, weights, strict=False)], given(leaves)
        )
        return [*terms, *grads]

    weights = [torch.randn(nodes, heads) for _ in range(3)]
    exact = [None if t is None else t.detach().double() for t in tensors]
    expected = run(scores.node_terms, *exact)
    own, got = run(scores.node_terms, *tensors), run(node_terms, *tensors)
    for want, reference, found in zip(expected, own, got, strict=True):
        assert found.dtype is reference.dtype
        assert found.shape == want.shape
        ours, theirs = (float((t.detach().double() - want.detach()).norm()) for t in (found, reference))
        assert ours <= 2 * theirs + FLOOR[reference.dtype] * float(want.detach().norm())


def test_autocast_keeps_the_precision_of_the_parameters():
    x, att_src, _ = inputs(True, False, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a_src = node_terms(x.bfloat16(), att_src)[0]
    torch.testing.assert_close(a_src, (x.bfloat16().float() * att_src).sum(-1))
    a_src.sum().backward()
    assert x.grad is not None
    assert att_src.grad is not None


def test_large_half_precision_numbers_have_a_norm():
    assert node_terms(torch.full((1, 1, 4), 3e4, dtype=torch.float16), norm=True)[2].item() == pytest.approx(6e4)


def test_threads_give_the_same_bits():
    x, att_src, att_dst = inputs(True, True, nodes=2000, heads=4, channels=17, dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        terms = node_terms(x, att_src, att_dst, norm=True)
        found.append([*terms, *torch.autograd.grad(sum(term.sin().sum() for term in terms), (x, att_src, att_dst))])
    torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_an_unused_term_has_no_gradient():
    x, att_src, att_dst = inputs(True, True)
    node_terms(x, att_src, att_dst, norm=True)[0].sum().backward()
    torch.testing.assert_close(x.grad, att_src.detach().expand_as(x))
    assert att_dst.grad.abs().max() == 0


def test_opcheck():
    x, att_src, att_dst = inputs(True, True)
    x = x[:-1].detach().requires_grad_()  # norms have no second derivative at 0
    torch.library.opcheck(torch.ops.gattn.node_terms.default, (x, att_src, att_dst, True))
    norm = node_terms(x, norm=True)[2].detach()
    grads = [torch.randn_like(norm, requires_grad=True) for _ in range(3)]
    torch.library.opcheck(torch.ops.gattn.node_terms_backward.default, (x, att_src, att_dst, norm, *grads))


def test_compiles_whole():
    x, att_src, att_dst = inputs(True, True)
    run = torch.compile(lambda *t: node_terms(*t, norm=True), fullgraph=True, dynamic=True, backend="aot_eager")
    for nodes in (7, 4):
        got, expected = run(x[:nodes], att_src, att_dst), node_terms(x[:nodes], att_src, att_dst, norm=True)
        torch.testing.assert_close(got, expected)


X, ATT, TERM = torch.zeros(4, 2, 3), torch.zeros(2, 3), torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((X[0], None, None, None, None, TERM, 1), ValueError, "'x'"),
        ((X.int(), None, None, None, None, TERM, 1), TypeError, "'x'"),
        ((X, ATT[0], None, TERM, None, None, 1), ValueError, "'att_src'"),
        ((X, ATT.double(), None, TERM, None, None, 1), TypeError, "'att_src'"),
        ((X, None, ATT, None, TERM[1:], None, 1), ValueError, "'a_dst'"),
        ((X, None, None, None, None, TERM.t(), 1), ValueError, "'norm'"),
        ((X, ATT, None, None, None, None, 1), ValueError, "'att_src' and 'a_src' together"),
        ((X, None, None, None, None, TERM, 0), ValueError, "thread"),
    ],
)
def test_the_core_checks_its_arguments(arguments, error, match):
    before = TERM.clone()
    with pytest.raises(error, match=match):
        _C.node_terms(*arguments)
    assert torch.equal(TERM, before)
