"""Wrong arguments are refused with an error of the right type that says what was got."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Decay, Graph, Lipschitz, Sink, ops
from gattn.ops.attention import Call
from gattn.reference.attention import Inputs, Settings

Function = Callable[..., Any]
N, E, H, C = 4, 5, 2, 3


@pytest.fixture
def graph() -> Graph:
    return Graph.from_edge_index(torch.tensor([[0, 1, 2, 3, 0], [1, 1, 0, 2, 2]]), N)


@pytest.fixture
def arguments() -> dict[str, dict[str, Any]]:
    """Good arguments of every op."""
    nodes, edges, heads = torch.randn(N, H), torch.randn(E, H), torch.randn(H, C)
    x, edge = torch.randn(N, H, C), torch.randn(E, H, C)
    return {
        "gat": {"x": torch.randn(N, H, C), "a_src": nodes, "a_dst": nodes, "a_edge": edges},
        "gat_layer": {
            "x": torch.randn(N, H, C),
            "att_src": heads,
            "att_dst": heads,
            "a_edge": edges,
            "bias": torch.randn(H * C),
        },
        "gatv2": {"x_src": x, "x_dst": x, "att": heads, "x_edge": edge},
        "dot": {"q": x, "k": x, "v": x, "edge": edge},
        "gt": {"q": x, "k": x, "v": x, "edge": edge, "edge_weight": edges.abs()},
        "edge_softmax": {"logits": edges},
    }


F64, I64 = torch.float64, torch.int64
WRONG: list[tuple[str, str, Any, type[Exception], str]] = [
    ("gat", "x", torch.randn(N, C), ValueError, f"[{N}, heads, channels]"),
    ("gat", "x", torch.randn(N + 1, H, C), ValueError, f"got [{N + 1}, {H}, {C}]"),
    ("gat", "x", torch.randn(N, H, 0), ValueError, f"got [{N}, {H}, 0]"),
    ("gat", "x", torch.randn(N, 0, C), ValueError, f"got [{N}, 0, {C}]"),
    ("gat", "x", torch.ones(N, H, C, dtype=torch.int64), TypeError, "got torch.int64"),
    ("gat", "x", torch.ones(N, H, C, dtype=torch.complex64), TypeError, "got torch.complex64"),
    ("gat", "x", torch.ones(N, H, C, device="meta"), ValueError, "got 'meta'"),
    ("gat", "a_src", torch.randn(N, H + 1), ValueError, f"'a_src' to have shape [{N}, {H}]"),
    ("gat", "a_src", torch.randn(N), ValueError, "'a_src'"),
    ("gat", "a_src", torch.randn(N, H, dtype=torch.float64), TypeError, "got torch.float64"),
    ("gat", "a_src", torch.randn(N, H, dtype=torch.bfloat16), TypeError, "got torch.bfloat16"),
    ("gat", "a_src", torch.ones(N, H, device="meta"), ValueError, "'a_src' on the graph's device"),
    ("gat", "a_dst", torch.randn(N - 1, H), ValueError, "'a_dst'"),
    ("gat", "a_edge", torch.randn(E + 1, H), ValueError, f"'a_edge' to have shape [{E}, {H}]"),
    ("gat", "a_edge", torch.randn(E, 1), ValueError, "'a_edge'"),
    ("gat_layer", "x", torch.randn(N - 1, H, C), ValueError, "'x'"),
    ("gat_layer", "att_src", torch.randn(1, H, C), ValueError, f"'att_src' to have shape [{H}, {C}]"),
    ("gat_layer", "att_dst", torch.randn(H, C + 1), ValueError, "'att_dst'"),
    ("gat_layer", "att_dst", torch.randn(H, C, dtype=torch.float16), TypeError, "'att_dst'"),
    ("gat_layer", "bias", torch.randn(H, C), ValueError, f"'bias' to have shape [{H * C}]"),
    ("gat_layer", "a_edge", torch.randn(E), ValueError, "'a_edge'"),
    ("gat_layer", "lipschitz", object(), TypeError, "'lipschitz' to be True or False"),
    ("gatv2", "x_src", torch.randn(N, C), ValueError, f"[{N}, heads, channels]"),
    ("gatv2", "x_src", torch.ones(N, H, C, dtype=I64), TypeError, "got torch.int64"),
    ("gatv2", "x_dst", torch.randn(N, H, C + 1), ValueError, f"'x_dst' to have shape [{N}, {H}, {C}]"),
    ("gatv2", "x_dst", torch.randn(N, H, C, dtype=F64), TypeError, "'x_dst' to be of dtype torch.float32 (got"),
    ("gatv2", "x_dst", torch.ones(N, H, C, device="meta"), ValueError, "'x_dst' on the graph's device"),
    ("gatv2", "att", torch.randn(1, H, C), ValueError, f"'att' to have shape [{H}, {C}]"),
    ("gatv2", "att", torch.randn(H, C, dtype=torch.bfloat16), TypeError, "'att'"),
    ("gatv2", "x_edge", torch.randn(E, H), ValueError, f"'x_edge' to have shape [{E}, {H}, {C}]"),
    ("gatv2", "x_edge", torch.randn(E, H, C, dtype=torch.float16), TypeError, "'x_edge'"),
    ("dot", "q", torch.randn(N + 1, H, C), ValueError, f"got [{N + 1}, {H}, {C}]"),
    ("dot", "k", torch.randn(N, H + 1, C), ValueError, f"'k' to have shape [{N}, {H}, {C}]"),
    ("dot", "k", torch.randn(N, H, C, dtype=F64), TypeError, "'k'"),
    ("dot", "v", torch.randn(N - 1, H, C), ValueError, "'v'"),
    ("dot", "v", torch.ones(N, H, C, device="meta"), ValueError, "'v' on the graph's device"),
    ("dot", "edge", torch.randn(E + 1, H, C), ValueError, f"'edge' to have shape [{E}, {H}, {C}]"),
    ("gt", "q", torch.randn(N, H), ValueError, f"[{N}, heads, channels]"),
    ("gt", "v", torch.randn(N, H, C + 1), ValueError, "'v'"),
    ("gt", "edge", torch.randn(E, H), ValueError, f"'edge' to have shape [{E}, {H}, {C}]"),
    ("gt", "edge", torch.randn(E, H, C, dtype=F64), TypeError, "'edge'"),
    ("gt", "edge_weight", torch.rand(E - 1), ValueError, f"'edge_weight' to have shape [{E}]"),
    ("gt", "edge_weight", torch.rand(E, 1), ValueError, f"'edge_weight' to have shape [{E}, {H}]"),
    ("gt", "edge_weight", torch.full((E, H), -0.5), ValueError, "'edge_weight' >= 0 (got -0.5)"),
    ("gt", "edge_weight", torch.ones(E, dtype=I64), TypeError, "'edge_weight'"),
    ("gt", "clip", 0.0, ValueError, "'clip' > 0 (got 0.0). Use math.inf"),
    ("gt", "clip", float("nan"), ValueError, "'clip' > 0 (got nan)"),
    ("edge_softmax", "logits", torch.randn(E), ValueError, f"[{E}, heads]"),
    ("edge_softmax", "logits", torch.randn(E, 0), ValueError, "got"),
    ("edge_softmax", "logits", torch.randn(E - 1, H), ValueError, f"got [{E - 1}, {H}]"),
    ("edge_softmax", "logits", torch.ones(E, H, dtype=torch.int32), TypeError, "got torch.int32"),
    ("edge_softmax", "logits", torch.ones(E, H, device="meta"), ValueError, "got 'meta'"),
]


@pytest.mark.parametrize("backend", ["cpu", "reference", None])
@pytest.mark.parametrize(("op", "name", "value", "kind", "words"), WRONG)
def test_wrong_tensor(
    op: str,
    name: str,
    value: Tensor,
    kind: type[Exception],
    words: str,
    backend: str | None,
    graph: Graph,
    arguments: dict[str, dict[str, Any]],
) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        getattr(ops, op)(**{**arguments[op], name: value}, graph=graph, backend=backend)


SCORES = ("gat", "gatv2", "dot", "gt")


@pytest.mark.parametrize("op", [*SCORES, "gat_layer", "edge_softmax"])
def test_wrong_option(op: str, graph: Graph, arguments: dict[str, dict[str, Any]]) -> None:
    call = getattr(ops, op)
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"probability in \[0, 1\] \(got {p}\)"):
            call(**arguments[op], graph=graph, dropout_p=p)
    with pytest.raises(ValueError, match="got 'cuda11'"):
        call(**arguments[op], graph=graph, backend="cuda11")
    with pytest.raises(TypeError, match=r"gattn.Graph \(got 'Tensor'\). Build one"):
        call(**arguments[op], graph=torch.zeros(2, E, dtype=torch.int64))


@pytest.mark.parametrize("op", SCORES)
def test_wrong_return_attention(op: str, graph: Graph, arguments: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"True, False or 'before_dropout' \(got 'after'\)"):
        getattr(ops, op)(**arguments[op], graph=graph, return_attention="after")


NODES, HOP, HOPS = torch.rand(N, H), torch.rand(H), torch.arange(E)
MODIFIERS: dict[str, tuple[str, Any, type[Exception], str]] = {
    "lipschitz of another type": ("lipschitz", Decay(HOPS, HOP, 0.5), TypeError, "gattn.Lipschitz (got 'Decay')"),
    "decay of another type": ("decay", 0.5, TypeError, "'decay' to be a gattn.Decay (got 'float')"),
    "sink of another type": ("sink", NODES, TypeError, "'sink' to be a gattn.Sink (got 'Tensor')"),
    "norms without heads": (
        *("lipschitz", Lipschitz.gat(NODES[:, 0], NODES, HOP)),
        *(ValueError, f"'source_norm' to have shape [{N}, {H}] (got [{N}])"),
    ),
    "target norms": ("lipschitz", Lipschitz.gat(NODES, NODES[1:], HOP), ValueError, "'target_norm'"),
    "weight": ("lipschitz", Lipschitz.gat(NODES, NODES, HOP[:1]), ValueError, f"'weight' to have shape [{H}]"),
    "query norm": ("lipschitz", Lipschitz.dot(NODES, NODES, NODES), ValueError, f"'query_norm' to have shape [{H}]"),
    "key norm": ("lipschitz", Lipschitz.dot(HOP, HOP, NODES), ValueError, f"'key_norm' to have shape [{N}, {H}]"),
    "value norm": ("lipschitz", Lipschitz.dot(HOP, NODES, NODES.half()), TypeError, "'value_norm'"),
    "short distance": ("decay", Decay(HOPS[1:], HOP, 0.5), ValueError, f"shape [{E}], one number an edge"),
    "distance by head": ("decay", Decay(HOPS.view(E, 1), HOP, 0.5), ValueError, f"got [{E}, 1]"),
    "negative distance": ("decay", Decay(HOPS - 1, HOP, 0.5), ValueError, ">= 0 (got -1). Give unreachable"),
    "floating distance": ("decay", Decay(HOPS.float(), HOP, 0.5), TypeError, "'distance'"),
    "distance elsewhere": ("decay", Decay(HOPS.to("meta"), HOP, 0.5), ValueError, "'distance' on the graph's device"),
    "hop": ("decay", Decay(HOPS, HOP[:1], 0.5), ValueError, f"'hop' to have shape [{H}] (got [1])"),
    "integer hop": ("decay", Decay(HOPS, HOP.long(), 0.5), TypeError, "'hop'"),
    "gamma of zero": ("decay", Decay(HOPS, HOP, 0.0), ValueError, "'gamma' in (0, 1] (got 0.0)"),
    "large gamma": ("decay", Decay(HOPS, HOP, 1.01), ValueError, "'gamma' in (0, 1] (got 1.01)"),
    "gamma that is no number": ("decay", Decay(HOPS, HOP, float("nan")), ValueError, "'gamma' in (0, 1] (got nan)"),
    "sink logit": ("sink", Sink(HOP), ValueError, f"'sink logit' to have shape [{N}, {H}] (got [{H}])"),
    "sink logit in half": ("sink", Sink(NODES.half()), TypeError, "'sink logit'"),
    "sink value": ("sink", Sink(NODES, torch.rand(H, C + 1)), ValueError, f"'sink value' to have shape [{H}, {C}]"),
}


@pytest.mark.parametrize("backend", ["reference", None])
@pytest.mark.parametrize("op", SCORES)
@pytest.mark.parametrize("case", MODIFIERS)
def test_wrong_modifier(
    case: str, op: str, backend: str | None, graph: Graph, arguments: dict[str, dict[str, Any]]
) -> None:
    name, modifier, kind, words = MODIFIERS[case]
    with pytest.raises(kind, match=re.escape(words)):
        getattr(ops, op)(**arguments[op], graph=graph, backend=backend, **{name: modifier})


def test_a_distance_is_looked_at_again_only_after_a_change(
    graph: Graph, arguments: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU every look is a synchronisation."""
    looks, least = [], Tensor.min
    monkeypatch.setattr(Tensor, "min", lambda x, *rest: looks.append(x) or least(x, *rest))
    decay = Decay(HOPS.clone(), HOP, 0.5)
    for _ in range(3):
        ops.gat(**arguments["gat"], graph=graph, decay=decay)
    assert len(looks) == 1
    decay.distance[0] = -3
    with pytest.raises(ValueError, match=r">= 0 \(got -3\)"):
        ops.gat(**arguments["gat"], graph=graph, decay=decay)
    with torch.inference_mode():
        unversioned = Decay(HOPS.clone(), HOP, 0.5)
        ops.gat(**arguments["gat"], graph=graph, decay=unversioned)
        unversioned.distance[0] = -1
        with pytest.raises(ValueError, match=r">= 0 \(got -1\)"):
            ops.gat(**arguments["gat"], graph=graph, decay=unversioned)


def test_edge_softmax_has_no_values_for_a_sink(graph: Graph, arguments: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="sink without 'value'"):
        ops.edge_softmax(**arguments["edge_softmax"], graph=graph, sink=Sink(NODES, torch.rand(H, C)))


def test_gat_layer_refuses_two_sets_of_nodes(arguments: dict[str, dict[str, Any]]) -> None:
    bipartite = Graph.from_edge_index(torch.zeros(2, E, dtype=torch.int64), (N, N + 1))
    with pytest.raises(ValueError, match=r"4 sources and 5 targets.*gattn.ops.gat"):
        ops.gat_layer(**arguments["gat_layer"], graph=bipartite)


def garbage(graph: Graph) -> dict[str, Tensor]:
    """Tensors that are no packed adjacency."""
    data = graph.data
    swapped = data.clone()
    swapped[[2, 3]] = swapped[[3, 2]]
    negative = data.clone()
    negative[1] = -1
    huge = data.clone()
    huge[3] = 2**31 - 1
    return {
        "random": torch.randint(100, data.shape, dtype=torch.int32),
        "zeros": torch.zeros_like(data),
        "no magic": torch.cat([data.new_zeros(1), data[1:]]),
        "sizes swapped": swapped,
        "negative size": negative,
        "huge size": huge,
        "cut": data[:-1],
        "too long": torch.cat([data, data[:1]]),
        "empty": data[:0],
        "short": data[:5],
        "two-dimensional": data.view(1, -1),
        "strided": torch.stack([data, data], 1)[:, 0],
        "float": data.float(),
        "int16": data.to(torch.int16),
    }


def attention(
    packed: Tensor, given: Inputs, score: str = "gat", *, backward: bool = False, **settings: Any
) -> tuple[Any, ...]:
    """Arguments of the op behind all scores, or of its backward."""
    numbers = (*Settings(score)._replace(**settings), *Call(E, N, True, False, None, (), "cpu"))
    if not backward:
        return (packed, None, *given, None, *numbers)
    saved = (torch.zeros(N, 2, H), None, torch.ones(N, H, C), None, None)
    return (packed, None, *given, None, *saved, *numbers, [x is not None for x in given[:-1]])


@pytest.mark.parametrize(
    "kind",
    [
        *("random", "zeros", "no magic", "sizes swapped", "negative size", "huge size", "cut", "too long", "empty"),
        *("short", "two-dimensional", "strided", "float", "int16"),
    ],
)
def test_garbage_for_a_graph_is_refused(
    kind: str, graph: Graph, arguments: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every registered op, before anything is written into the results."""
    packed, allocated = garbage(graph)[kind], []

    def remember(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            allocated.append(allocate(*args, **kwargs).fill_(7.0))
            return allocated[-1]

        return call

    monkeypatch.setattr(torch, "empty_like", remember(torch.empty_like))
    monkeypatch.setattr(Tensor, "new_empty", remember(Tensor.new_empty))
    x, a_src, a_dst, a_edge = arguments["gat"].values()
    layer = arguments["gat_layer"]
    att_src, att_dst, bias, grad = layer["att_src"], layer["att_dst"], layer["bias"], torch.ones(N, H, C)
    calls = {
        "gat": (x, a_src, a_dst, a_edge, None, packed, None, N, E, 0.2, 0.0, True),
        "gat_backward": (
            *(grad, a_edge, x, a_src, a_dst, a_edge, None, packed, None, grad, a_src, a_edge, 0.2, 0.0),
            *(True, True, False),
        ),
        "gat_layer": (x, att_src, att_dst, a_edge, bias, None, packed, None, E, 0.2, 0.0, True),
        "gat_layer_backward": (
            *(grad, a_edge, x, att_src, att_dst, a_edge, bias, None, packed, None, grad, a_src, a_dst, None, a_src),
            *(a_edge, 0.2, 0.0, True),
        ),
        "attention": attention(packed, Inputs(v=x, a_src=a_src)),
        "attention_backward": attention(packed, Inputs(v=x, a_src=a_src), backward=True),
        "first_largest": (a_src, packed, None, E, N, (), "cpu"),
    }
    for name, given in calls.items():
        with pytest.raises(ValueError, match=r"packed adjacency of a gattn\.Graph"):
            getattr(torch.ops.gattn, name)(*given)
    assert allocated
    assert all((tensor == 7.0).all() for tensor in allocated)


def test_sizes_that_do_not_fit_the_graph_are_refused_by_the_core(graph: Graph) -> None:
    """The registered ops take the sizes of results as numbers, which the core checks against the graph."""
    x, nodes = torch.randn(N, H, C), torch.randn(N, H)
    for num_dst, num_edges in [(N - 1, E), (N, E - 1), (N + 1, E)]:
        with pytest.raises(ValueError, match="to have shape"):
            torch.ops.gattn.gat(x, nodes, None, None, None, graph.data, None, num_dst, num_edges, 0.2, 0.0, True)
    with pytest.raises(ValueError, match="'x' to have shape"):
        torch.ops.gattn.gat(x[1:], nodes, None, None, None, graph.data, None, N, E, 0.2, 0.0, False)
    with pytest.raises(ValueError, match="'x' to be contiguous"):
        torch.ops.gattn.gat(x.mT.contiguous().mT, nodes, None, None, None, graph.data, None, N, E, 0.2, 0.0, False)
    with pytest.raises(TypeError, match="'a_src' to be of dtype float32"):
        torch.ops.gattn.gat(x, nodes.double(), None, None, None, graph.data, None, N, E, 0.2, 0.0, False)


X, LOGITS = torch.randn(N, H, C), torch.randn(E, H)
NOT_FOR_THE_CORE: dict[str, tuple[Inputs, dict[str, Any], type[Exception], str]] = {
    "unknown score": (Inputs(v=X), {"score": "cosine"}, ValueError, "got 'cosine'"),
    "no values": (Inputs(a_src=NODES), {}, ValueError, "'v' to be a tensor"),
    "no queries": (Inputs(k=X, v=X), {"score": "dot"}, ValueError, "'q' to be a tensor"),
    "no edge features": (Inputs(X, X, X), {"score": "gt"}, ValueError, "'edge' to be a tensor"),
    "another score's input": (Inputs(v=X, att=X[0]), {}, ValueError, "no 'att' with this score"),
    "a row too few": (Inputs(X[1:], X, X), {"score": "dot"}, ValueError, "'q' to have shape"),
    "other channels": (Inputs(X, X, X[..., :2].contiguous()), {"score": "dot"}, ValueError, "'v' to have shape"),
    "other dtype": (Inputs(X.double(), X, X), {"score": "dot"}, TypeError, "'q'"),
    "strided": (Inputs(X.mT.contiguous().mT, X, X), {"score": "dot"}, ValueError, "'q' to be contiguous"),
    "short divisor": (Inputs(v=X, divisor=NODES[1:]), {}, ValueError, "'divisor' to have shape"),
    "hop without distance": (Inputs(v=X, hop=HOP), {}, ValueError, "'distance' and 'hop' together"),
    "distance without hop": (Inputs(v=X, distance=HOPS), {}, ValueError, "'distance' and 'hop' together"),
    "short distance": (Inputs(v=X, hop=HOP, distance=HOPS[1:]), {}, ValueError, "'distance' to have shape"),
    "floating distance": (Inputs(v=X, hop=HOP, distance=HOPS.float()), {}, TypeError, "'distance'"),
    "gamma": (Inputs(v=X), {"gamma": 2.0}, ValueError, "'gamma' in (0, 1]"),
    "dropout": (Inputs(v=X), {"dropout_p": 2.0}, ValueError, "got 2"),
    "sink without values": (
        *(Inputs(a_edge=LOGITS, sink_logit=NODES, sink_value=X[0]), {"score": "edge_softmax"}),
        *(ValueError, "no 'sink_value' with this score"),
    ),
}


@pytest.mark.parametrize("case", NOT_FOR_THE_CORE)
def test_what_the_core_refuses(case: str, graph: Graph) -> None:
    """The checks in front of the memory, for callers of the registered ops."""
    given, settings, kind, words = NOT_FOR_THE_CORE[case]
    with pytest.raises(kind, match=re.escape(words)):
        torch.ops.gattn.attention(*attention(graph.data, given, **{"score": "gat", **settings}))


def test_the_core_refuses_results_and_gradients_of_other_shapes(graph: Graph) -> None:
    given = Inputs(v=X, a_src=NODES)
    forward, backward = (list(attention(graph.data, given, backward=b)) for b in (False, True))
    for place, wrong in ((-7, E - 1), (-6, N + 1)):
        with pytest.raises(ValueError, match="to have shape"):
            torch.ops.gattn.attention(*forward[:place], wrong, *forward[place + 1 :])
    first = 2 + len(Inputs._fields) + 1
    for place, wrong in (
        (first, torch.zeros(N, 2, H + 1)),
        (first + 2, torch.ones(N - 1, H, C)),
        (first + 3, LOGITS[1:]),
    ):
        with pytest.raises(ValueError, match="to have shape"):
            torch.ops.gattn.attention_backward(*backward[:place], wrong, *backward[place + 1 :])
