"""The invariants of the conservation law while a network trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gattn.analysis.conservation import conserved
from gattn.figure import figure
from gattn.files import write_atomic


class ConservationMonitor:
    """Records :func:`gattn.analysis.conserved` every ``every`` steps of training, the first time when it is made.

    Gradient flow keeps the invariants; gradient descent lets them drift, with the square of the learning rate in every
    step. Call :meth:`step` after every step of the optimiser::

        monitor = ConservationMonitor(model, every=10)
        for ...:
            optimizer.step()
            monitor.step()
        monitor.plot("drift.png")

    Args:
        convs: The attention layers in order, or a model that they are found in, with two layers or more.
        every: Steps between records.

    Raises:
        TypeError, ValueError: As :func:`gattn.analysis.conserved`, or ``every < 1``, or no hidden layer.
    """

    def __init__(self, convs: nn.Module | Sequence[nn.Module], every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"Expected 'every' to be at least 1 (got {every}).")
        self.convs, self.every, self._count = convs, every, 0
        #: Numbers of the steps recorded.
        self.steps: list[int] = [0]
        #: The invariants ``[neurons]`` of every hidden layer at those steps.
        self.invariants: list[list[Tensor]] = [conserved(convs)]
        if not self.invariants[0]:
            raise ValueError("Expected at least two attention layers (got one): the law is about hidden neurons.")

    def step(self) -> None:
        """Counts a step, and records it if its turn has come."""
        self._count += 1
        if self._count % self.every == 0:
            self.steps.append(self._count)
            self.invariants.append(conserved(self.convs))

    def drift(self) -> Tensor:
        """``[records, hidden layers]``: the largest change of a layer's invariants since the first record."""
        first = self.invariants[0]
        return torch.stack(
            [
                torch.stack([(now - then).abs().max() for now, then in zip(record, first, strict=True)])
                for record in self.invariants
            ]
        )

    def plot(self, path: str | Path) -> None:
        """Draws the drift of every layer to a PNG file. Needs matplotlib."""
        drift = self.drift()

        def draw(axes: Any) -> None:
            for layer in range(drift.shape[1]):
                axes.plot(self.steps, drift[:, layer], label=f"layer {layer + 1}")
            axes.set(xlabel="step", ylabel="largest change of an invariant")
            axes.legend(frameon=False, fontsize=8)

        picture = figure([draw], "png")
        write_atomic(Path(path), lambda file: file.write(picture))
