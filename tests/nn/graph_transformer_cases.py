"""Graph transformer layers written out with gathers and scatters, and what they are given."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gattn.nn import GraphiTLayer, GraphTransformerLayer, SANLayer

NODES, CHANNELS, HEADS = 9, 12, 3
LAYERS = [GraphTransformerLayer, SANLayer, GraphiTLayer]
BIASES = [None, "edge_bias", "kv_slot"]
#: All layers, on edges and on pairs of two kinds.
VARIANTS = [
    (GraphTransformerLayer, {}),
    (GraphTransformerLayer, {"edge_dim": 5, "bias": True}),
    (GraphTransformerLayer, {"edge_dim": None}),
    (SANLayer, {"bias": True}),
    (SANLayer, {"full_graph": True, "gamma": 0.3, "bias": True}),
    (SANLayer, {"full_graph": True, "gamma": 0.3, "edge_dim": None}),
    (GraphiTLayer, {"edge_dim": 5}),
    (GraphiTLayer, {"full_graph": True}),
    (GraphiTLayer, {"full_graph": True, "added_maps": True}),
]


def inputs(edge_dim: int | None = CHANNELS, edges: int = 30, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """With duplicates, self-loops and a node without in-edges."""
    edge_index = torch.randint(NODES, (2, edges))
    edge_index[1] %= NODES - 1
    given = {"x": torch.randn(NODES, CHANNELS, dtype=dtype, requires_grad=True), "edge_index": edge_index}
    if edge_dim is not None:
        given["edge_attr"] = torch.randn(edges, edge_dim, dtype=dtype, requires_grad=True)
    return given


def make(cls: Any, options: dict[str, Any], **more: Any) -> tuple[Any, dict[str, Tensor]]:
    """A layer whose every parameter is drawn, and what it takes."""
    layer = cls(CHANNELS, HEADS, **{**options, **more}).double()
    for parameter in layer.parameters():  # the norms' begin with 1 and 0
        nn.init.normal_(parameter, std=0.6)
    given = inputs(layer.edge_dim)
    edges = given["edge_index"].size(1)
    if layer.attention.kinds == 2:
        given["real"] = torch.rand(edges) < 0.6
    if getattr(layer, "full_graph", False) and cls is GraphiTLayer:
        given["kernel"] = torch.rand(edges, dtype=torch.float64)
    return layer, given


def by_formula(layer: Any, x: Tensor, edge_index: Tensor, edge_attr: Any = None, real: Any = None, kernel: Any = None):
    """``out`` ``[N, H * C]`` and ``w`` ``[E, H * C]`` of the attention, edge by edge."""
    at, (source, target) = layer.attention, edge_index
    kinds, size = at.kinds, CHANNELS // HEADS
    kind = torch.zeros_like(source) if real is None else (~real).long()

    def project(linear: Any, x: Tensor, kinds: int = kinds) -> Tensor:
        out = x @ linear.weight.T
        return (out if linear.bias is None else out + linear.bias).view(-1, HEADS, kinds, size).transpose(1, 2)

    q, k, v = project(layer.query, x), project(layer.key, x), project(layer.value, x, 1)[:, 0]
    e = torch.ones(len(source), kinds, HEADS, size).double() if edge_attr is None else project(layer.edge, edge_attr)
    number = torch.arange(len(source))
    w = q[target, kind] * k[source, kind] / math.sqrt(size) * e[number, kind]
    if at.explicit_bias == "edge_bias":
        own_k, own_e = (b.view(HEADS, kinds, size).transpose(0, 1)[kind] for b in (at.bias_key, at.bias_edge))
        w = w + (q[target, kind] * own_k).sum(-1, keepdim=True) / math.sqrt(size) * own_e
        v = v + at.bias_value
    weight = w.sum(-1).clamp(-at.clip, at.clip).exp()
    if isinstance(layer, SANLayer) and layer.full_graph:
        weight = weight * torch.tensor([1.0, layer.gamma], dtype=torch.float64)[kind, None] / (1 + layer.gamma)
    if kernel is not None:
        weight = weight * kernel[:, None]
    total = torch.zeros(NODES, HEADS).double().index_add(0, target, weight) + 1e-6
    out = torch.zeros(NODES, HEADS, size).double().index_add(0, target, weight[..., None] * v[source])
    if at.explicit_bias == "kv_slot":
        slot = ((q[:, 0] * at.bias_key).sum(-1) / math.sqrt(size)).clamp(-at.clip, at.clip).exp()
        total, out = total + slot, out + slot[..., None] * at.bias_value
    return (out / total[..., None]).flatten(1), w.flatten(1)


def block_by_formula(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    def norm(module: Any, x: Tensor) -> Tensor:
        if module is None:
            return x
        dim = 0 if isinstance(module, nn.BatchNorm1d) else 1
        centred = x - x.mean(dim, keepdim=True)
        return centred / (centred.square().mean(dim, keepdim=True) + 1e-5).sqrt() * module.weight + module.bias

    first, second = block.feed_forward[0], block.feed_forward[3]
    h = norm(block.norm_attention, block.residual * x + attended @ block.out.weight.T + block.out.bias)
    hidden = (h @ first.weight.T + first.bias).clamp(min=0)
    return norm(block.norm_out, block.residual * h + hidden @ second.weight.T + second.bias)


def expected_of(layer: Any, given: dict[str, Tensor]) -> list[Tensor]:
    out, w = by_formula(layer, **given)
    results = [block_by_formula(layer.nodes, given["x"], out)]
    if layer.edges is not None:
        results.append(block_by_formula(layer.edges, given["edge_attr"], w))
    return results


def results_of(layer: Any, given: dict[str, Tensor]) -> list[Tensor]:
    got = layer(**given)
    return [x for x in got if x is not None] if isinstance(got, tuple) else [got]


def gradients(layer: Any, given: dict[str, Tensor], results: list[Tensor]) -> dict[str, Tensor]:
    leaves = {**{n: x for n, x in given.items() if x.requires_grad}, **dict(layer.named_parameters())}
    loss = sum((x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in results)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def with_hooks(layer: Any, given: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
    """What a recorder sees of the attention: its products, and what it was given."""
    seen: dict[str, Any] = {}

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        seen.update(zip(("q", "k", "v", "edge", "graph"), args, strict=False))
        return args, {**kwargs, "return_edge": True}

    def after(module: nn.Module, args: Any, output: Any) -> None:
        seen["out"], seen["w"] = output

    handles = [
        layer.attention.register_forward_pre_hook(before, with_kwargs=True),
        layer.attention.register_forward_hook(after),
    ]
    out = results_of(layer, given)[0]
    for handle in handles:
        handle.remove()
    return out, seen
