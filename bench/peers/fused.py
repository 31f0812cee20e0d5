"""gattn's own layers, used exactly as PyG's are."""

from __future__ import annotations

from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS
from gattn.bench.peers import Contender, Peer, node_bytes
from gattn.bench.peers.pyg import layer_contender, pyg_style
from gattn.bench.problem import Problem

#: Our layers by the benchmark's.
CLASSES = {"gat": "FusedGATConv", "gatv2": "FusedGATv2Conv", "transformer": "FusedTransformerConv"}


def layer(problem: Problem) -> Contender:
    from gattn import nn

    module = pyg_style(getattr(nn, CLASSES[problem.layer.name.removesuffix("-edge")]), problem)
    return layer_contender(module, module, *problem.given, problem)


def _obstacle() -> str | None:
    import gattn

    usable, reason = gattn.backends()["cpu"]
    return None if usable else f"the compiled CPU backend is not usable: {reason}"


def _least_memory(case: GraphCase) -> tuple[int, str]:
    # Two numbers an edge as given, five in the sorted graph.
    return node_bytes(case) + 7 * 4 * case.num_edges, "node features, the graph and its transpose"


GATTN = Peer("gattn", "gattn", ("torch_geometric",), dict.fromkeys(LAYERS, layer), _least_memory, _obstacle)
