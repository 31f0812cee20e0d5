"""DGL 1.1.3's layers; the last release with wheels that import beside any torch."""

from __future__ import annotations

import os
from typing import Any

from gattn.bench.graphs import GraphCase
from gattn.bench.peers import Contender, Peer, copy_parameters, node_bytes
from gattn.bench.problem import Problem


def _graph(problem: Problem) -> Any:
    """DGL's layers add no self-loops: they are in the graph, and its formats are built ahead, untimed."""
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else the first import writes a file into the home folder
    import dgl

    graph = dgl.graph((problem.looped[0], problem.looped[1]), num_nodes=problem.case.num_nodes)
    graph.create_formats_()
    return graph


def gat(problem: Problem) -> Contender:
    graph, case = _graph(problem), problem.case
    import dgl

    module = dgl.nn.GATConv(case.in_channels, case.channels, case.heads)
    names = {"fc.weight": "lin.weight", "attn_l": "att_src", "attn_r": "att_dst", "bias": "bias"}
    leaves = copy_parameters(module, problem.parameters, names)
    x = problem.x.clone().requires_grad_()
    return Contender(lambda: module(graph, x), {"x": x, **leaves}, problem.grad_out)


def gatv2(problem: Problem) -> Contender:
    """DGL's layer has no bias on its result; PyG's has, and so it is added."""
    graph, case = _graph(problem), problem.case
    import dgl

    module = dgl.nn.GATv2Conv(case.in_channels, case.channels, case.heads)
    sides = {"fc_src": "lin_l", "fc_dst": "lin_r"}
    names = {f"{own}.{kind}": f"{side}.{kind}" for own, side in sides.items() for kind in ("weight", "bias")}
    values = dict(problem.parameters)
    bias = values.pop("bias").clone().requires_grad_()
    leaves = copy_parameters(module, values, {**names, "attn": "att"})
    x = problem.x.clone().requires_grad_()
    return Contender(lambda: module(graph, x).flatten(1) + bias, {"x": x, "bias": bias, **leaves}, problem.grad_out)


def _least_memory(case: GraphCase) -> tuple[int, str]:
    # Logits, activated logits, attention and their gradients [E, H]; the edges as given, with loops, and in
    # DGL's three formats.
    index = 8 if case.index_dtype == "int64" else 4
    per_edge = 6 * 4 * case.heads + 10 * index
    needed = node_bytes(case) + case.num_edges * per_edge
    return needed, "node features, six tensors of edges x heads, three graph formats"


DGL = Peer("dgl", "DGL", ("dgl",), {"gat": gat, "gatv2": gatv2}, _least_memory)
