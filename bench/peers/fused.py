"""gattn's own layers, used exactly as PyG's are."""

from __future__ import annotations

from gattn.bench.graphs import GraphCase
from gattn.bench.peers import Contender, Peer
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


def _node_tensors(case: GraphCase) -> tuple[int, str]:
    # x, projected x, out and their gradients; the graph and its transpose.
    nodes = 6 * 4 * case.num_nodes * max(case.in_channels, case.heads * case.channels)
    return nodes + 4 * 4 * case.num_edges, "six tensors of nodes x channels, the graph and its transpose"


GATTN = Peer("gattn", "gattn", ("torch_geometric",), {"gat": gat}, _node_tensors, _obstacle)
