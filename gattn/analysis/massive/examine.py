"""One attention of one layer, added to what is kept of the layer."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from gattn.activations import ActivationStats, Rows
from gattn.analysis.massive import activations, carriers
from gattn.analysis.massive.carriers import Carrier
from gattn.analysis.massive.own import Own
from gattn.analysis.massive.record import LISTED, Edges, Limits, Record
from gattn.observers import Attended
from gattn.ops.activation_stats import largest_by_segment

#: Activations ``[n, D]`` of the edges with these places among those that are looked at.
Activations = Callable[[Tensor], Tensor]


@torch.no_grad()
def examine(
    record: Record, attended: Attended, own: Own | None, edges: Edges, taps: Collection[str], limits: Limits
) -> None:
    """Counts everything that is wanted of the attention, ``limits.chunk`` numbers of its activations at a time; those
    of which the op has taken the statistics are made again for single edges alone."""
    record.calls += 1
    ratios, massive, scores = [], [], []
    fused = attended.stats if own is None and "activations" in taps else None
    if fused is not None:
        stats = fused.with_thresholds(limits.thresholds)
        record.add("activations", stats)
        found = _activations(
            record, stats, lambda place: activations.of_edges(attended, place).flatten(1), 0, edges, limits
        )
        ratios.append(found[0])
        massive.append(found[1])
    by_score = "logits" in taps or "attention" in taps
    if by_score or (fused is None and "activations" in taps):
        for part, x, score in activations.chunks(attended, own, limits.chunk):
            if fused is None and "activations" in taps:
                x = x.flatten(1)
                stats = record.count("activations", x, limits)
                found = _activations(record, stats, x.__getitem__, part.start, edges, limits)
                ratios.append(found[0])
                massive.append(found[1])
            if by_score:
                scores.append(score)
    if ratios:
        _by_edge(record, torch.cat(ratios), torch.cat(massive), edges)
    if scores:
        s = activations.logits(attended, torch.cat(scores))
        if "logits" in taps:
            record.count("logits", s, limits)
        if "attention" in taps:
            record.count("attention", activations.weights(attended, s), limits)


def _activations(
    record: Record, stats: ActivationStats, x: Activations, start: int, edges: Edges, limits: Limits
) -> tuple[Tensor, Tensor]:
    """Ratio and number of massive activations of edges from ``start`` on, on the CPU."""
    rows = stats.rows
    assert rows is not None
    count = len(rows.ratio)
    heavy = (rows.ratio.isfinite() & (rows.ratio.double() > limits.threshold)).nonzero().flatten()
    massive = torch.zeros(count, dtype=torch.int64)
    for place in heavy.split(max(1, limits.chunk // record.width)):
        above = _ratios(x, rows, place).double() > limits.threshold
        record.features += above.sum(0).cpu()
        massive[place.cpu()] = above.sum(1).cpu()
    _list_largest(record, x, rows, start, edges)

    ratio, place = rows.ratio.cpu(), record.maxima.chosen(count)
    record.maxima = record.maxima.extend(place, ratio[place].unsqueeze(1), count)
    place = record.ratios.chosen(count)
    record.ratios = record.ratios.extend(place, _ratios(x, rows, place.to(rows.ratio.device)), count)
    return ratio, massive


def _ratios(x: Activations, rows: Rows, place: Tensor) -> Tensor:
    return x(place).abs() / rows.median[place].unsqueeze(1)


def _list_largest(record: Record, x: Activations, rows: Rows, start: int, edges: Edges) -> None:
    known = torch.where(rows.ratio.isfinite(), rows.ratio, -1.0)
    floor = record.largest[-1].ratio if len(record.largest) == LISTED else -1.0
    least = known.topk(min(LISTED, len(known))).values.amin() if len(known) else floor
    place = ((known > floor) & (known >= least)).nonzero().flatten()
    place = place[known[place].sort(descending=True, stable=True).indices[:LISTED]]
    column = x(place).abs().max(1).indices
    numbers = (rows.ratio[place], rows.largest[place], column, place + start)
    found = [_carrier(record, edges, *each) for each in zip(*(n.tolist() for n in numbers), strict=True)]
    record.largest = carriers.largest(record.largest, found, LISTED)


def _carrier(record: Record, edges: Edges, ratio: float, magnitude: float, column: int, edge: int) -> Carrier:
    head, channel = divmod(column, record.channels)
    source, target = edges.ends[:, edge].tolist()
    types = edges.classes.get("type")
    return Carrier(
        ratio=ratio,
        magnitude=magnitude,
        head=head,
        channel=channel,
        graph=edges.first_graph + int(edges.graph[edge]),
        source=source,
        target=target,
        type=None if types is None else types[1][int(types[0][edge])],
    )


def _by_edge(record: Record, ratio: Tensor, massive: Tensor, edges: Edges) -> None:
    """What goes by the edge: the largest of every graph, and carriers by class."""
    found = largest_by_segment(ratio, edges.graph, edges.graphs)
    known = record.graph_ratio.get(edges.batch)
    record.graph_ratio[edges.batch] = found if known is None else torch.fmax(known, found)
    for name, (kind, names) in edges.classes.items():
        table = carriers.tabulate(kind, names, ratio, massive)
        record.tables[name] = carriers.merge(record.tables.get(name, {}), table)
