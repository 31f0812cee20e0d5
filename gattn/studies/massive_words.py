"""What the numbers of the massive-activation study say, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gattn.studies.massive_examine import THRESHOLD
from gattn.studies.plan import Result

TERMS = {"none": "no bias term", "edge_bias": "edge bias", "kv_slot": "key-value slot"}
#: Which of a trained network and its untrained copies exceed the threshold in a layer.
TRAINED, BOTH, UNTRAINED, NEITHER = "trained alone", "both", "untrained alone", "neither"


def value(x: float | None) -> float:
    """What is read back, NaN for ``None``."""
    return math.nan if x is None else x


def ratio(x: float) -> str:
    """A largest ratio; a dash where there is none."""
    return "–" if math.isnan(x) else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def times(result: Result, layer: int) -> float:
    """A layer's largest ratio, by that of the untrained copies."""
    return value(result["largest_ratio"][layer]) / value(result["base_ratio"][layer])


def exceeding(result: Result) -> list[str]:
    """Of every layer, who exceeds the threshold."""
    found = []
    for own, base in zip(result["largest_ratio"], result["base_ratio"], strict=True):
        names = {(True, False): TRAINED, (True, True): BOTH, (False, True): UNTRAINED, (False, False): NEITHER}
        found.append(names[value(own) > THRESHOLD, value(base) > THRESHOLD])
    return found


def carriers(result: Result, layers: Sequence[int]) -> str:
    """The types of the edges with a massive activation in these layers, the most frequent first; maybe nothing."""
    carrying = {kind: sum(by[i] for i in layers) for kind, by in _by_type(result, "type_carrying").items()}
    whole = sum(carrying.values())
    most = sorted((kind for kind in carrying if carrying[kind]), key=lambda kind: -carrying[kind])
    return ", ".join(f"{kind} {100 * carrying[kind] / whole:.3g} %" for kind in most)


def answer(result: Result) -> str:
    """The paper's question for one network: where it exceeds the threshold and its untrained copies do not."""
    who, name = exceeding(result), f"{TERMS[result['term']].capitalize()}: "
    if all(math.isnan(value(x)) for x in result["largest_ratio"]):
        return f"{name}no layer has an edge whose ratio is finite."
    alone, both, base = ([i for i, each in enumerate(who) if each == kind] for kind in (TRAINED, BOTH, UNTRAINED))
    layers = range(len(who))
    most = max(alone or both or layers, key=lambda i: _or_nothing(value(result["largest_ratio"][i])))
    by = (
        f"{ratio(value(result['largest_ratio'][most]))}, {times(result, most):.3g} times the "
        f"{ratio(value(result['base_ratio'][most]))} of the untrained copies"
    )
    if not (alone or both):
        text = f"{name}no layer exceeds {THRESHOLD:.0f}; the largest ratio is that of layer {most + 1}, {by}."
    elif alone:
        text = (
            f"{name}{_layers(alone)} of {len(who)} {_exceed(alone)} {THRESHOLD:.0f} where untrained copies stay "
            f"below, most of all layer {most + 1} with {by}."
        )
    else:
        text = f"{name}no layer exceeds {THRESHOLD:.0f} where untrained copies stay below."
    if both:
        text += f" {_layers(both).capitalize()} {_exceed(both)} it, but so do untrained copies."
    if base:
        text += f" In {_layers(base)} untrained copies alone exceed it."
    kinds = carriers(result, alone + both)
    if kinds:
        text += f" Edges that carry massive activations there, by type: {kinds}; of all edges {_shares(result)}."
    return text


def overall(results: Sequence[Result]) -> str:
    """One sentence for the runs of one network, without a bias term and with each."""
    parts = []
    for term in dict.fromkeys(r["term"] for r in results):
        own = [r for r in results if r["term"] == term]
        alone = sum(exceeding(r).count(TRAINED) for r in own)
        layers = sum(len(r["largest_ratio"]) for r in own)
        massive, base = (sum(sum(r[name]) for r in own) / len(own) for name in ("massive", "base_massive"))
        parts.append(
            f"{TERMS[term]} {alone} of {layers} layers, {massive:,.0f} massive activations (untrained {base:,.0f})"
        )
    return "; ".join(parts)


def _by_type(result: Result, name: str) -> dict[str, list[int]]:
    return dict(zip(result["types"], result[name], strict=True))


def _shares(result: Result) -> str:
    edges = {kind: by[0] for kind, by in _by_type(result, "type_edges").items()}
    whole = sum(edges.values())
    return ", ".join(f"{kind} {100 * edges[kind] / whole:.3g} %" for kind in sorted(edges, key=lambda k: -edges[k]))


def _layers(layers: Sequence[int]) -> str:
    """Numbers from 1, neighbours as a range."""
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and ranges[-1][1] == layer - 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    texts = [f"{a + 1}" if a == b else f"{a + 1} {'to' if b > a + 1 else 'and'} {b + 1}" for a, b in ranges]
    return f"layer{'s' if len(layers) > 1 else ''} " + ", ".join(texts)


def _exceed(layers: Sequence[int]) -> str:
    return "exceed" if len(layers) > 1 else "exceeds"


def _or_nothing(x: float) -> float:
    return -math.inf if math.isnan(x) else x
