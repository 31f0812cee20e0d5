"""The size of the terms that an attention's results and gradients are sums of.

The forward and backward formulas with every product and summand replaced by its absolute value: what rounding
errors are proportional to where terms cancel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn.check.registry import Tensors, sum_rows
from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.reference.attention import SCORES, Inputs, Settings, decay_mask, neighbourhood_maximum
from gattn.reference.dropout import apply_dropout

#: A case's names of what a :class:`~gattn.Lipschitz` holds: its source norms, then the others.
NORM_NAMES = {"gat": ("source_norm", "target_norm", "norm_weight"), "dot": ("key_norm", "value_norm", "query_norm")}


def _slopes(score: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """``phi`` of a divided score and the size of its derivative."""
    if settings.score == "gat":
        slope = settings.negative_slope
        return torch.where(score > 0, score, slope * score), torch.where(score > 0, 1.0, abs(slope)).to(score.dtype)
    if settings.score == "gt":
        return score.clamp(-settings.clip, settings.clip), (score.abs() <= settings.clip).to(score.dtype)
    return score, torch.ones_like(score)


def _divisor(norm: Lipschitz | None, graph: Graph, like: Tensor) -> tuple[Tensor, list[Tensor]]:
    """``c`` ``[N_dst, H]`` and the tensors that it is differentiable by."""
    if norm is None:
        return like.new_ones(graph.num_dst, like.size(1)), []
    leaves = [tensor.detach().requires_grad_() for tensor in (*norm.source_norms, *norm.others)]
    count = len(norm.source_norms)
    copy = Lipschitz(norm.form, tuple(leaves[:count]), tuple(leaves[count:]))
    return copy.divisor([neighbourhood_maximum(leaf, graph) for leaf in leaves[:count]]), leaves


def _softmax(score: Tensor, t: Inputs, sink: Sink | None, graph: Graph, epsilon: float) -> tuple[Tensor, Tensor]:
    """``exp(score) / total`` of the edges, and the sink's weight ``[N_dst, H]``."""
    target = graph.edge_index[1]
    start = score.new_full((graph.num_dst, score.size(1)), -torch.inf)
    largest = start.scatter_reduce(0, target.unsqueeze(1).expand_as(score), score, "amax")
    if sink is not None:
        largest = torch.maximum(largest, sink.logit)
    power = (score - largest[target]).exp()
    slot = torch.zeros_like(largest) if sink is None else (sink.logit - largest).exp()
    weighted = power if t.edge_weight is None else power * t.edge_weight
    total = sum_rows(weighted, target, graph.num_dst) + slot + (epsilon * torch.exp(-largest) if epsilon else 0.0)
    return power / total[target], slot / total if sink is not None else slot


def _sizes(t: Inputs, settings: Settings, graph: Graph) -> Tensor:
    """``[E, H]``: the raw scores' own terms."""
    source, target = graph.edge_index
    if settings.score == "gatv2":
        assert t.q is not None
        assert t.k is not None
        assert t.att is not None
        z = t.k[source].abs() + t.q[target].abs() + (0.0 if t.edge is None else t.edge.abs())
        return (t.att.abs() * z).sum(-1)
    return SCORES[settings.score](Inputs(*(None if x is None else x.abs() for x in t)), source, target, settings).abs()


def _by_score(
    t: Inputs, settings: Settings, d: Tensor, weight: Tensor, g: Tensor, stream: Tensor, graph: Graph
) -> Tensors:
    """Gradients of the inputs of a score, by :class:`Inputs`'s names.

    Args:
        d: ``[E, H]``, the raw scores' gradient.
        weight: ``[E, H]``, attention after dropout.
        g: ``[E, H, C]``, the gradient of each edge's target.
        stream: ``[E, H, C]``, the gradient of score ``gt``'s edge stream.
    """
    source, target = graph.edge_index
    values = weight.unsqueeze(-1) * g

    def sources(by_edge: Tensor) -> Tensor:
        return sum_rows(by_edge, source, graph.num_src)

    def targets(by_edge: Tensor) -> Tensor:
        return sum_rows(by_edge, target, graph.num_dst)

    if settings.score in ("gat", "edge_softmax"):
        return {"v": sources(values), "a_src": sources(d), "a_dst": targets(d), "a_edge": d}
    assert t.q is not None
    assert t.k is not None
    q, k, wide = t.q[target].abs(), t.k[source], d.unsqueeze(-1)
    if settings.score == "gatv2":
        assert t.att is not None
        z = k + t.q[target] if t.edge is None else k + t.q[target] + t.edge
        slope = torch.where(z > 0, 1.0, abs(settings.negative_slope))
        dz = wide * t.att.abs() * slope
        return {"q": targets(dz), "k": sources(dz + values), "edge": dz, "att": (wide * slope * z.abs()).sum(0)}
    if settings.score == "dot":
        k, size = (k if t.edge is None else k + t.edge).abs(), abs(settings.scale)
        dk = wide * q * size
        return {"q": targets(wide * k * size), "k": sources(dk), "v": sources(values), "edge": dk + values}
    assert t.edge is not None
    dw, k, e = (wide + stream) * settings.scale, k.abs(), t.edge.abs()
    return {"q": targets(dw * k * e), "k": sources(dw * q * e), "v": sources(values), "edge": dw * q * k}


def attention_terms(
    t: Inputs, settings: Settings, names: dict[str, str], tensors: Tensors, grads: Tensors, graph: Graph, options: Any
) -> Tensors:
    """Terms of every output and gradient.

    Args:
        t, settings: The op's inputs in fp64 and its numbers, as the reference names them.
        names: The case's names of the :class:`Inputs` fields.
        tensors: The case's inputs, to find the modifiers' names.
        grads: Gradients of the outputs.
        graph: The adjacency.
        options: The op's keyword arguments: modifiers, dropout, ``return_attention``.
    """
    source, target = graph.edge_index
    decay: Decay | None = options.get("decay")
    sink: Sink | None = options.get("sink")
    raw = SCORES[settings.score](t, source, target, settings)
    c, norms = _divisor(options.get("lipschitz"), graph, raw)
    by_edge = c.detach()[target]
    phi, slope = _slopes(raw / by_edge, settings)
    mask = torch.ones_like(phi)
    if decay is not None:
        mask = decay_mask(decay.distance, decay.hop, decay.gamma, decay.slope)
    power, slot = _softmax(phi * mask, t, sink, graph, settings.epsilon)
    # A score's rounding error is one of its exponential, relative to it, and so of its row's sum; a quarter of the
    # unit roundoff for each of its terms, as errors of either sign cancel.
    share = power if t.edge_weight is None else power * t.edge_weight
    doubt = _sizes(t, settings, graph) / by_edge * mask / 4
    row = sum_rows(share * doubt, target, graph.num_dst)
    if sink is not None:
        row = row + slot * sink.logit.abs() / 4
        slot = slot * (1.0 + sink.logit.abs() / 4 + row)
    power = power * (1.0 + doubt + row[target])
    alpha = power if t.edge_weight is None else power * t.edge_weight
    keep = apply_dropout(torch.ones_like(alpha), graph, options.get("dropout_p", 0.0), options.get("seed"))
    kept = alpha * keep

    g = grads["out"].abs() if "out" in grads else raw.new_zeros(graph.num_dst, raw.size(1), 1)
    values = t.k if settings.score == "gatv2" else t.v
    value = raw.new_zeros(raw.size(0), raw.size(1), 1) if values is None else values[source].abs()
    if settings.score == "dot" and t.edge is not None:
        value = value + t.edge.abs()
    before = options.get("return_attention") == "before_dropout"
    d_alpha = (g[target] * value).sum(-1) * keep
    if "alpha" in grads:
        d_alpha = d_alpha + grads["alpha"].abs() * (1.0 if before else keep)
    sink_value = None if sink is None or sink.value is None else sink.value.abs()
    d_slot = torch.zeros_like(slot) if sink_value is None else (g * sink_value).sum(-1)
    total = sum_rows(alpha * d_alpha, target, graph.num_dst) + slot * d_slot
    unweighted = power * (d_alpha + total[target])
    d_score = alpha * (d_alpha + total[target])
    d_raw = d_score * mask * slope / by_edge
    stream = grads["edge"].abs() if "edge" in grads else torch.zeros_like(value)

    out = sum_rows(kept.unsqueeze(-1) * value, target, graph.num_dst)
    if sink_value is not None:
        out = out + slot.unsqueeze(-1) * sink_value
    found = {"out": out, "alpha": alpha if before else kept}
    if settings.score == "gt":
        assert t.q is not None
        assert t.k is not None
        assert t.edge is not None
        found["edge"] = (t.q[target] * t.k[source] * t.edge * settings.scale).abs()
    scores = _by_score(t, settings, d_raw, kept, g[target], stream, graph)
    found |= {f"grad {names[field]}": value for field, value in scores.items() if field in names}
    if "edge_weight" in tensors:
        found["grad edge_weight"] = unweighted.sum(1) if tensors["edge_weight"].dim() == 1 else unweighted
    if norms:
        d_c = sum_rows(d_raw * (raw / by_edge).abs(), target, graph.num_dst)
        for name, grad in zip(NORM_NAMES[options["lipschitz"].form], torch.autograd.grad(c, norms, d_c), strict=True):
            found[f"grad {name}"] = grad.abs()
    if decay is not None:
        rho = torch.where(decay.distance.unsqueeze(1) > decay.hop, 1.0, abs(decay.slope))
        found["grad hop"] = (d_score * phi.abs() * mask * rho).sum(0) * abs(torch.log(torch.tensor(decay.gamma)))
    if sink is not None:
        found["grad sink_logit"] = slot * (d_slot + total)
        found["grad sink_value"] = (slot.unsqueeze(-1) * g).sum(0)
    return found
