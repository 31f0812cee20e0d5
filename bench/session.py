"""One run over some graphs: memory, then the numerics gate, then time, then the kernels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from gattn.bench import gate, kernels, limits, memory, norm, overhead, timing, variants
from gattn.bench.graphs import GraphCase, title
from gattn.bench.layers import LAYERS
from gattn.bench.peers import Contender, Peer
from gattn.bench.problem import Problem
from gattn.bench.results import Record


@dataclass(frozen=True)
class Settings:
    """What was asked for, as stored with the results."""

    layer: str
    threads: int
    repeats: int
    stages: Sequence[str]  #: of :data:`STAGES`

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the constants of the method beside."""
        method = {"tolerance": gate.TOLERANCE, "memory_method": memory.METHOD}
        return {**asdict(self), **method}


STAGES = ("layer", "norm", "kernel", "variants", "memory")


class Session:
    """Measures graph after graph into a :class:`Record`; ``tell`` shows progress to a person."""

    def __init__(self, settings: Settings, peers: dict[str, Peer], record: Record, tell: Callable[[str], None]) -> None:
        self.settings, self.peers, self.record, self.tell = settings, peers, record, tell
        torch.set_num_threads(settings.threads)
        record.data["limits"]["copy_bytes_per_second"] = limits.copy_bandwidth()
        if "kernel" in settings.stages:
            record.data["call"] = overhead.measure(LAYERS[settings.layer], settings.repeats)

    def measure(self, case: GraphCase) -> dict[str, Any]:
        """Everything asked for on one graph. Returns its entry in the record."""
        entry: dict[str, Any] = {
            "case": case.as_dict(),
            "title": title(case),
            "complete": False,
            "contenders": {},
            "kernel": {},
        }
        self.record.data["graphs"].append(entry)
        able = self._able(case, entry["contenders"])
        if "memory" in self.settings.stages:
            self._memory(case, able, entry["contenders"])
        if set(STAGES) - {"memory"} & set(self.settings.stages):
            self.tell(f"{case.name}: building the graph and the reference")
            problem = Problem.build(case, self.settings.layer)
            green = self._gate(problem, able, entry["contenders"])
            if "layer" in self.settings.stages:
                self._time(case, green, entry["contenders"])
            if "norm" in self.settings.stages and "gattn" in green and norm.can_run(case, self.settings.layer):
                self.tell(f"{case.name}: the layer with a norm")
                entry["norm"] = norm.measure(problem, self.settings.repeats)
                self.record.save()
            trusted, layer, edge_index = "gattn" in green, problem.layer, problem.edge_index
            del problem, green  # at products size the kernels need the room
            if "kernel" in self.settings.stages and trusted:
                self.tell(f"{case.name}: kernels and the gather limit")
                entry["kernel"] = kernels.measure(case, layer, edge_index, self.settings.repeats)
                self.record.save()
            if "variants" in self.settings.stages and trusted:
                self.tell(f"{case.name}: modifiers and half precision")
                entry["variants"] = variants.measure(case, layer, edge_index, self.settings.repeats)
        entry["complete"] = True
        self.record.save()
        return entry

    def _able(self, case: GraphCase, entries: dict[str, Any]) -> list[str]:
        """Names of the peers that can run the case; the others' reasons go into the record."""
        able = []
        for name, peer in self.peers.items():
            usable, reason = peer.can_run(case, self.settings.layer)
            entries[name] = {"title": peer.title, "status": "able" if usable else "skipped", "reason": reason}
            if usable:
                able.append(name)
            else:
                self.tell(f"{case.name}: {peer.title} skipped: {reason}")
        self.record.save()
        return able

    def _memory(self, case: GraphCase, able: list[str], entries: dict[str, Any]) -> None:
        for name in able:
            self.tell(f"{case.name}: memory of {self.peers[name].title}")
            found = memory.in_subprocess(case, self.settings.layer, name, self.settings.threads)
            entries[name]["memory"] = found
            self.record.save()

    def _gate(self, problem: Problem, able: list[str], entries: dict[str, Any]) -> dict[str, Contender]:
        """Contenders whose numbers are right; the step that the gate takes is also their first warm-up."""
        want = gate.expected(problem)
        green = {}
        for name in able:
            self.tell(f"{problem.case.name}: numerics of {self.peers[name].title}")
            entry = entries[name]
            try:
                contender = self.peers[name].contender(problem)
                verdict = gate.judge(contender.result(like={"x": problem.x, **problem.parameters}), want)
            except Exception as failure:  # other people's code on any machine: report it and measure the rest
                entry.update(status="failed", reason=f"{type(failure).__name__}: {failure}".splitlines()[0])
            else:
                entry["errors"] = verdict.errors
                entry.update(status="red" if verdict.reason else "green", reason=verdict.reason)
                if not verdict.reason:
                    green[name] = contender
            if entry["reason"]:
                self.tell(f"{problem.case.name}: {entry['title']} {entry['status']}: {entry['reason']}")
            self.record.save()
        return green

    def _time(self, case: GraphCase, green: dict[str, Contender], entries: dict[str, Any]) -> None:
        collected: dict[str, list[float]] = {name: [] for name in green}

        def keep(name: str, seconds: float) -> None:
            collected[name].append(seconds)
            entries[name]["time"] = timing.summary(collected[name])
            if name == list(green)[-1] and (len(collected[name]) == 1 or not len(collected[name]) % 5):
                self.tell(f"{case.name}: round {len(collected[name])}")
                self.record.save()

        steps = {name: contender.step for name, contender in green.items()}
        timing.alternate(steps, self.settings.repeats, keep)
        for contender in green.values():
            contender.clear()
        self.record.save()
