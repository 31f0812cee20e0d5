"""Statistics of activations that the kernels of attention take on their way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gattn
from gattn import ops
from gattn.activations import ActivationStats
from gattn.reference.activations import examined
from gattn.reference.attention import Inputs, Settings
from gattn.reference.dropout import accumulate_dtype

N, HUB = 60, 1100  # node 0 has more edges than one piece of the kernels
SCORES = ["gt", "dot", "dot-edge", "gatv2", "gatv2-edge"]


def make_graph() -> gattn.Graph:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(0, N, (2, HUB + 300), generator=generator)
    edges[1, ::2] = 0
    edges[1, edges[1] == N - 1] = 1  # an isolated target
    return gattn.Graph.from_edge_index(edges, N)


GRAPH = make_graph()


def make(score: str, dtype: torch.dtype, heads: int = 3, channels: int = 5) -> dict[str, Tensor]:
    """The op's tensors by name."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    nodes = [draw(N, heads, channels) for _ in range(3)]
    names = ("x_src", "x_dst") if score.startswith("gatv2") else ("q", "k", "v")
    tensors = dict(zip(names, nodes, strict=False))
    if score.startswith("gatv2"):
        tensors["att"] = draw(heads, channels)
    if score == "gt" or score.endswith("edge"):
        name = "x_edge" if score.startswith("gatv2") else "edge"
        tensors[name] = draw(GRAPH.num_edges, heads, channels)
    return tensors


def run(score: str, tensors: dict[str, Tensor], graph: gattn.Graph = GRAPH, **options: Any) -> Any:
    return getattr(ops, score.partition("-")[0])(**tensors, graph=graph, **options)


def activations(score: str, tensors: dict[str, Tensor]) -> Tensor:
    """``[E, H * C]`` from the definition."""
    name = score.partition("-")[0]
    if name == "gatv2":
        inputs = Inputs(q=tensors["x_dst"], k=tensors["x_src"], edge=tensors.get("x_edge"), att=tensors["att"])
    else:
        inputs = Inputs(tensors["q"], tensors["k"], tensors["v"], tensors.get("edge"))
    scale = 1.0 if name == "gatv2" else next(iter(tensors.values())).shape[2] ** -0.5
    return examined(inputs, Settings(name, 0.2, scale=scale), GRAPH, slice(None)).flatten(1)


def same(a: ActivationStats, b: ActivationStats) -> bool:
    assert a.rows is not None
    assert b.rows is not None
    rows = all(torch.equal(x, y) for x, y in zip(a.rows, b.rows, strict=True))
    return rows and a.as_dict() == b.as_dict()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("score", SCORES)
def test_numbers_are_those_of_the_rows(score: str, dtype: torch.dtype, backend: str) -> None:
    tensors = make(score, dtype)
    out, found = run(score, tensors, return_stats=True, backend=backend)
    assert torch.equal(out, run(score, tensors, backend=backend))
    expected = ops.activation_stats(activations(score, tensors))
    wide = accumulate_dtype(dtype)
    assert found.rows.ratio.dtype == wide
    close = 16 * torch.finfo(wide).eps  # a product's factors may be multiplied in another order
    for got, want in zip(found.rows, expected.rows, strict=True):
        torch.testing.assert_close(got, want, rtol=4 * close, atol=close)
    assert found.sum == pytest.approx(expected.sum, rel=100 * close, abs=1e4 * close)
    assert found.squares == pytest.approx(expected.squares, rel=100 * close)
    assert (found.count, found.width) == (GRAPH.num_edges, 15)
    assert int(found.histogram.sum()) == GRAPH.num_edges
    assert found.largest.row == expected.largest.row
    assert found.largest.column == expected.largest.column
    assert found.largest_ratio.row == expected.largest_ratio.row
    assert abs(found.above[10.0] - expected.above[10.0]) <= 1  # one may lie on the threshold


@pytest.mark.parametrize(("heads", "channels"), [(1, 1), (1, 3), (8, 8), (2, 33), (4, 64), (3, 100)])
def test_the_edge_streams_own_numbers(heads: int, channels: int) -> None:
    tensors = make("gt", torch.float32, heads, channels)
    _, alpha, stream, found = run("gt", tensors, return_attention=True, return_edge=True, return_stats=[2.0, 5.0])
    assert alpha.shape == (GRAPH.num_edges, heads)
    expected = ops.activation_stats(stream.flatten(1), thresholds=[2.0, 5.0])
    assert found.above == expected.above
    assert all(torch.equal(a, b) for a, b in zip(found.rows, expected.rows, strict=True))
    assert torch.equal(found.histogram, expected.histogram)
    assert (found.largest, found.largest_ratio) == (expected.largest, expected.largest_ratio)
    assert found.squares == pytest.approx(expected.squares, rel=1e-6)


def test_some_edges_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = make("gatv2-edge", torch.float32)
    whole = run("gatv2-edge", tensors, return_stats=True, backend="reference")[1]
    monkeypatch.setattr("gattn.ops.attention_stats.CHUNK", 100)
    parts = run("gatv2-edge", tensors, return_stats=True, backend="reference")[1]
    assert all(torch.equal(a, b) for a, b in zip(whole.rows, parts.rows, strict=True))
    assert (whole.above, whole.largest, whole.largest_ratio) == (parts.above, parts.largest, parts.largest_ratio)
    assert parts.squares == pytest.approx(whole.squares, rel=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_threads_do_not_change_bits(score: str) -> None:
    tensors, threads = make(score, torch.float32, 4, 8), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(run(score, tensors, return_stats=True, backend="cpu")[1])
    finally:
        torch.set_num_threads(threads)
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_what_is_not_finite_and_zero_medians(backend: str) -> None:
    tensors = make("gt", torch.float32)
    edge = tensors["edge"]
    edge[3, 0, 0], edge[5, 1, 1] = float("nan"), float("inf")
    edge[7] = 0
    edge[9, 1:], edge[9, 0] = 0, 1e30  # squares overflow, the median is 0
    _, found = run("gt", tensors, return_stats=True, backend=backend)
    assert (found.nan, found.infinite, found.bad_rows, found.zero_median_rows) == (1, 1, 2, 2)
    assert found.rows.ratio[[3, 5]].isnan().all()
    assert found.rows.ratio[[7, 9]].isinf().all()
    assert found.squares > 1e57


def test_gradients_flow_as_without() -> None:
    tensors = {name: x.requires_grad_() for name, x in make("gt", torch.float64).items()}
    out, found = run("gt", tensors, return_stats=True)
    assert not found.rows.ratio.requires_grad
    with_stats = torch.autograd.grad(out.square().sum(), tuple(tensors.values()))
    without = torch.autograd.grad(run("gt", tensors).square().sum(), tuple(tensors.values()))
    assert all(torch.equal(a, b) for a, b in zip(with_stats, without, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_no_edges(backend: str) -> None:
    tensors = make("dot", torch.float32)
    empty = gattn.Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), N)
    _, found = run("dot", tensors, empty, return_stats=True, backend=backend)
    assert found.count == found.sum == 0
    assert found.largest is None
    assert int(found.histogram.sum()) == 0


def test_modifiers_come_after() -> None:
    tensors = make("dot", torch.float32)
    plain = run("dot", tensors, return_stats=True)[1]
    logit = torch.zeros(N, 3)
    modified = run("dot", tensors, return_stats=True, sink=gattn.Sink(logit), dropout_p=0.5, seed=1)[1]
    assert same(plain, modified)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (3.0, TypeError, "'return_stats' to be a bool, or a list or tuple of thresholds (got 'float')"),
        ([10.0, 1.0], ValueError, "'thresholds' to be positive, finite and to rise (got [10.0, 1.0])"),
    ],
)
def test_errors(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        run("dot", make("dot", torch.float32), return_stats=given)
    assert words in str(caught.value)


def test_not_in_compiled_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(RuntimeError, match="outside of compiled programs"):
        run("dot", make("dot", torch.float32), return_stats=True)
