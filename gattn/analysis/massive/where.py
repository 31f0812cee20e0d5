"""Where a thread is in a model, and what is known of the batch that runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gattn.analysis.massive import carriers
from gattn.analysis.massive import step as steps
from gattn.analysis.massive.findings import Findings
from gattn.analysis.massive.record import Edges, Record
from gattn.analysis.massive.step import Step
from gattn.graph import Graph


@dataclass(eq=False)
class Frame:
    """A module that runs, and what its attention is recorded in."""

    name: str
    module: nn.Module
    records: list[Record] = field(default_factory=list)


class Where(threading.local):
    """One thread's.

    Attributes:
        stack: Modules that run, the outermost first.
        announced: The batch that the caller has named.
        call: Makes the batch that is not announced, from its number, once it is known to be one.
        step: The batch that runs, if attention has run in it.
    """

    def __init__(self) -> None:
        self.stack: list[Frame] = []
        self.announced: Step | None = None
        self.call: Callable[[int], Step] = Step
        self.step: Step | None = None
        self._first_graph = 0
        self._edges: tuple[tuple[Any, ...], Edges] | None = None

    def announce(self, step: Step | None) -> None:
        """From now on batches are this one; ``None`` for those that calls are found to be of."""
        self.announced, self.step, self._edges = step, None, None

    def begin(self, name: str, module: nn.Module) -> None:
        """A module begins; the outermost begins a batch, unless that is announced."""
        if not self.stack and self.announced is None:
            self.step, self._edges, self.call = None, None, Step
        self.stack.append(Frame(name, module))

    def end(self, module: nn.Module) -> Frame | None:
        """A module ends, and whatever has raised within it; ``None`` for one that has not begun."""
        if all(frame.module is not module for frame in self.stack):
            return None
        while self.stack[-1].module is not module:
            self.stack.pop()
        frame = self.stack.pop()
        if not self.stack:
            self.call = Step  # keeps no arguments alive
        return frame

    def edges(self, graph: Graph, kinds: tuple[str, ...], findings: Findings, *, per_graph: bool) -> Edges:
        """What is known of the edges that the innermost module attends over; modules with one graph share it.

        Raises:
            ValueError: The graph has other nodes than the batch.
        """
        step, frame = self._step(findings, per_graph), self.stack[-1]
        flow = getattr(frame.module, "flow", "source_to_target")
        if self._edges is not None and self._edges[0][0] is graph and self._edges[0][1:] == (flow, kinds):
            return self._edges[1]
        source, target = graph.edge_index.cpu()
        kind, source = source % max(1, len(kinds)), source // max(1, len(kinds))
        ends = torch.stack([source, target])
        names = carriers.DegreeNames()
        classes: dict[str, Any] = {}
        if len(kinds) > 1:
            classes["kind"] = (kind, dict(enumerate(kinds)))
        if step.types is not None:
            classes["type"] = steps.labels(step, ends, flow)
        classes["target degree"] = (carriers.degree_classes(target.bincount(minlength=1)[target]), names)
        classes["source degree"] = (carriers.degree_classes(source.bincount(minlength=1)[source]), names)
        member = _members(step, target, graph.num_dst, frame.name)
        edges = Edges(ends, member, step.graphs, step.number, self._first_graph, classes)
        self._edges = ((graph, flow, kinds), edges)
        return edges

    def _step(self, findings: Findings, per_graph: bool) -> Step:
        """The batch that runs, counted when its first attention does."""
        if self.step is None:
            number = findings.batches
            step = self.call(number) if self.announced is None else replace(self.announced, number=number)
            self.step = step if per_graph else replace(step, graph=None, graphs=1)
            self._first_graph = findings.graphs
            findings.batches, findings.graphs = number + 1, self._first_graph + self.step.graphs
        return self.step


def _members(step: Step, target: Tensor, nodes: int, name: str) -> Tensor:
    """The graph of every edge."""
    if step.graph is None:
        return torch.zeros_like(target)
    if len(step.graph) != nodes:
        raise ValueError(
            f"Expected the layer {name!r} to attend over the {len(step.graph)} nodes of the batch (got a graph with "
            f"{nodes} targets). Say what the batch is with batch(...), or pass per_graph=False."
        )
    return step.graph.cpu().long()[target]
