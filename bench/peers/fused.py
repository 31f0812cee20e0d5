"""gattn's own layers, used exactly as PyG's are."""

from __future__ import annotations

from gattn.bench.graphs import GraphCase
from gattn.bench.peers import Contender, Peer, node_bytes
from gattn.bench.peers.pyg import layer_contender, pyg_style
from gattn.bench.problem import Problem


def gat(problem: Problem) -> Contender:
    from gattn.nn import FusedGATConv

    module = pyg_style(FusedGATConv, problem)
    return layer_contender(module, module, problem.edge_index, problem)


def _obstacle() -> str | None:
    import gattn

    usable, reason = gattn.backends()["cpu"]
    return None if usable else f"the compiled CPU backend is not usable: {reason}"


def _least_memory(case: GraphCase) -> tuple[int, str]:
    # Two numbers an edge as given, five in the sorted graph.
    return node_bytes(case) + 7 * 4 * case.num_edges, "node features, the graph and its transpose"


GATTN = Peer("gattn", "gattn", ("torch_geometric",), {"gat": gat}, _least_memory, _obstacle)
