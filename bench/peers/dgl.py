"""DGL 1.1.3's layers; the last release with wheels that import beside any torch."""

from __future__ import annotations

import os

from gattn.bench.graphs import GraphCase
from gattn.bench.peers import Contender, Peer, copy_parameters, node_bytes
from gattn.bench.problem import Problem


def gat(problem: Problem) -> Contender:
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else the first import writes a file into the home folder
    import dgl

    case = problem.case
    # DGL's layer adds no self-loops: they are in the graph, and its formats are built ahead, untimed.
    graph = dgl.graph((problem.looped[0], problem.looped[1]), num_nodes=case.num_nodes)
    graph.create_formats_()
    module = dgl.nn.GATConv(case.in_channels, case.channels, case.heads)
    names = {"fc.weight": "lin.weight", "attn_l": "att_src", "attn_r": "att_dst", "bias": "bias"}
    leaves = copy_parameters(module, problem.parameters, names)
    x = problem.x.clone().requires_grad_()
    return Contender(lambda: module(graph, x), {"x": x, **leaves}, problem.grad_out)


def _least_memory(case: GraphCase) -> tuple[int, str]:
    # Logits, activated logits, attention and their gradients [E, H]; the edges as given, with loops, and in
    # DGL's three formats.
    index = 8 if case.index_dtype == "int64" else 4
    per_edge = 6 * 4 * case.heads + 10 * index
    needed = node_bytes(case) + case.num_edges * per_edge
    return needed, "node features, six tensors of edges x heads, three graph formats"


DGL = Peer("dgl", "DGL", ("dgl",), {"gat": gat}, _least_memory)
