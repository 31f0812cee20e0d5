"""What was found in a model: a record a layer, which merge over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gattn.analysis.massive.record import Limits, Record

if TYPE_CHECKING:
    from gattn.analysis.massive.report import Report


@dataclass(eq=False)
class Findings:
    """All layers through all batches.

    Attributes:
        limits: What was counted, and how much kept.
        taps: What was examined.
        records: By name of the layer, in the order in which layers ran first.
        batches, graphs: How many.
    """

    limits: Limits
    taps: tuple[str, ...]
    records: dict[str, Record] = field(default_factory=dict)
    batches: int = 0
    graphs: int = 0

    def merge(self, other: Findings) -> Findings:
        """These batches followed by the others'.

        Raises:
            ValueError: The two did not count the same, or layers of one name are not the same.
        """
        if (self.limits, self.taps) != (other.limits, other.taps):
            raise ValueError(
                f"Expected findings of the same taps and limits (got {self.taps} with {self.limits} and {other.taps} "
                f"with {other.limits})."
            )
        records = dict(self.records)
        for name, record in other.records.items():
            own = records.get(name)
            if own is None:
                own = Record.empty(name, record.module, record.score, record.heads, record.channels, self.limits.sample)
            records[name] = own.merge(record, self.batches, self.graphs)
        return replace(self, records=records, batches=self.batches + other.batches, graphs=self.graphs + other.graphs)

    __add__ = merge

    def all_reduce(self, group: Any = None) -> Findings:
        """The findings of all processes of the group together, the same in each, in the order of their ranks."""
        import torch.distributed as dist

        parts: list[Findings | None] = [None] * dist.get_world_size(group)
        dist.all_gather_object(parts, self.cpu(), group)
        whole, *others = (part for part in parts if part is not None)
        for part in others:
            whole = whole.merge(part)
        return whole

    def cpu(self) -> Findings:
        """With every tensor on the CPU."""
        records = {
            name: replace(record, graph_ratio={batch: by.cpu() for batch, by in record.graph_ratio.items()})
            for name, record in self.records.items()
        }
        return replace(self, records=records)

    def report(self, base: Sequence[Findings] = ()) -> Report:
        """Tables, figures and JSON, beside what the same data gave in untrained copies.

        Raises:
            ValueError: Nothing was found.
        """
        from gattn.analysis.massive.report import Report

        return Report.of(self, base)
