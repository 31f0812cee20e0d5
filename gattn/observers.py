"""Who watches what the attention ops are given: :class:`gattn.analysis.MassiveActivations`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from gattn.activations import ActivationStats
    from gattn.graph import Graph
    from gattn.reference.attention import Inputs, Settings


class Attended(NamedTuple):
    """One attention, as the op computes it.

    Attributes:
        inputs: Its tensors, with those of its modifiers.
        settings: Its numbers.
        graph: Its edges.
        by_edge: ``[E, H]``, what divides the scores edge by edge (``Lipschitz(variant="as-released")``).
        stats: Of its activations, with the thresholds of all observers, where the op has taken them on its way.
    """

    inputs: Inputs
    settings: Settings
    graph: Graph
    by_edge: Tensor | None = None
    stats: ActivationStats | None = None


class Observer(Protocol):
    """Something that wants to know."""

    def thresholds(self, attended: Attended) -> Sequence[float]:
        """Ratios above which activations of what is about to be computed should be counted on the way; none where
        their statistics are not wanted."""

    def attended(self, attended: Attended) -> None:
        """An attention was computed, or is about to be, by the thread that calls this."""

    def message_passing(self, layer: Any) -> AbstractContextManager[object]:
        """While a fused layer runs PyTorch Geometric's message passing instead of an op."""


#: Those who watch, in any thread; replaced and never changed, so that whoever goes through it may be interrupted.
present: tuple[Observer, ...] = ()
_changing = threading.Lock()


def add(observer: Observer) -> None:
    """From now on ``observer`` is told."""
    global present
    with _changing:
        present = (*present, observer)


def remove(observer: Observer) -> None:
    """From now on it is not."""
    global present
    with _changing:
        present = tuple(one for one in present if one is not observer)


def thresholds(attended: Attended) -> set[float]:
    """All that the observers want."""
    return {threshold for observer in present for threshold in observer.thresholds(attended)}


def show(attended: Attended) -> None:
    """Tells all observers. Ops ask ``observers.present`` first, which costs them nothing without any."""
    for observer in present:
        observer.attended(attended)


def message_passing(layer: Any) -> ExitStack:
    """All observers' contexts around message passing in ``layer``."""
    stack = ExitStack()
    for observer in present:
        stack.enter_context(observer.message_passing(layer))
    return stack
