"""``MassiveActivations``: watches a model's attention layers while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

from gattn import observers
from gattn.analysis.massive import step as steps
from gattn.analysis.massive.activations import shape
from gattn.analysis.massive.base import untrained
from gattn.analysis.massive.eager import eagerly
from gattn.analysis.massive.examine import examine
from gattn.analysis.massive.findings import Findings
from gattn.analysis.massive.own import OWN, Own
from gattn.analysis.massive.record import Limits, Record
from gattn.analysis.massive.watch import message_passing, watch_of
from gattn.analysis.massive.where import Frame, Where
from gattn.nn._fused import FusedConv
from gattn.observers import Attended
from gattn.ops.activation_stats import THRESHOLDS
from gattn.reference.activations import CHUNK

if TYPE_CHECKING:
    from typing_extensions import Self

    from gattn.analysis.massive.report import Report

_log = logging.getLogger("gattn")

#: What can be examined.
TAPS = ("activations", "logits", "attention", "outputs")


class MassiveActivations:
    """Statistics of what the attention layers of a model compute while it runs, as a context manager::

        with MassiveActivations(model) as found:
            for data in loader:
                model(data)
        print(found.report())

    A layer is any module of ``model`` that calls an attention op of gattn (the fused convolutions, the graph
    transformers, modules of one's own), and PyTorch Geometric's GATConv, GATv2Conv and TransformerConv. What is
    examined depends on the score, for edge j -> i with one row of numbers an edge (Bini, Sorbi and Marchand-Maillet,
    arXiv 2409.03463, define it for the first):

    ========  ==============================================================  =============
    gt        ``q_i * k_j * e_ij / sqrt(C)``                                  ``[E, H * C]``
    dot       ``q_i * (k_j + e_ij) / sqrt(C)``                                ``[E, H * C]``
    gatv2     ``att * LeakyReLU(x_i + x_j + e_ij)``                           ``[E, H * C]``
    gat       ``a_src_j + a_dst_i + a_edge_ij``, before LeakyReLU             ``[E, H]``
    ========  ==============================================================  =============

    so that a head's sum is its raw score: before clip, LipschitzNorm, decay, softmax and dropout. The ratio
    of an activation is its magnitude over the lower median magnitude of its row; it is massive above ``threshold``.
    Rows with a NaN or an infinity, and those whose median is 0 and whose ratio is infinite, are counted apart and are
    in no other number.

    The model computes the same numbers as without. On the CPU gattn's kernels take the statistics of activations on
    their way, and only rows that are looked at one by one are made again: massive ones, the largest, a sample.
    Elsewhere all rows are, ``chunk`` numbers at a time, and never kept; PyTorch Geometric's own layers hold such
    tensors anyway.
    Compiled code runs eagerly in the context. A second
    ``with`` goes on counting.

    Which graph a node belongs to is taken from a ``Data`` among the arguments of the call or from parameters of
    ``forward`` called ``batch``, ``edge_index``, ``edge_type`` and ``edge_attr`` (types: an integer one, its first
    column), or from :meth:`batch`; without any of these a call is one graph.

    Args:
        model: Any module.
        taps: Some of ``"activations"``, ``"logits"`` (``[E, H]``, what the softmax gets), ``"attention"`` (``[E, H]``,
            the weights before dropout) and ``"outputs"`` (what the layer returns, a row a node).
        threshold: Ratio above which an activation is massive.
        thresholds: Further ratios above which activations are counted.
        per_graph: ``False`` for models whose layers do not share one set of nodes, as after pooling: a call is then one
            graph.
        sample: Numbers kept of a layer, of each of its two distributions; up to so many they are exact.
        chunk: Numbers of activations that exist at a time.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: An unknown tap, or a number that does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        taps: Iterable[str] = ("activations",),
        threshold: float = 1000.0,
        thresholds: Sequence[float] = THRESHOLDS,
        per_graph: bool = True,
        sample: int = 100_000,
        chunk: int = CHUNK,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"Expected 'model' to be a torch.nn.Module (got '{type(model).__name__}').")
        taps = tuple(dict.fromkeys(taps))
        unknown = [tap for tap in taps if tap not in TAPS]
        if unknown or not taps:
            raise ValueError(f"Expected 'taps' to be some of {', '.join(TAPS)} (got {list(taps)}).")
        for name, number in (("threshold", threshold), ("sample", sample), ("chunk", chunk)):
            if not number > 0:
                raise ValueError(f"Expected '{name}' to be positive (got {number}).")
        limits = Limits(threshold, tuple(sorted({*map(float, thresholds), float(threshold)})), sample, chunk)
        self.model, self.per_graph = model, per_graph
        #: What was found so far.
        self.findings = Findings(limits, taps)
        self._names = {id(module): (module, name) for name, module in model.named_modules()}
        self._where, self._lock = Where(), threading.Lock()
        self._entered: ExitStack | None = None

    def __enter__(self) -> Self:
        if self._entered is not None:
            raise RuntimeError("Expected a MassiveActivations that is not in use (got one inside its own context).")
        with ExitStack() as stack:
            stack.enter_context(eagerly())
            for hook in (
                register_module_forward_pre_hook(self._begin),
                self.model.register_forward_pre_hook(self._called, with_kwargs=True),
                register_module_forward_hook(self._end, always_call=True),
            ):
                stack.callback(hook.remove)
            observers.add(self)
            stack.callback(observers.remove, self)
            for module, name in self._names.values():
                self._watch(stack, module, name)
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._entered = self._entered, None
        self._where = Where()
        if stack is not None:
            stack.close()

    def batch(
        self,
        data: Data | None = None,
        *,
        batch: Tensor | None = None,
        num_graphs: int | None = None,
        edge_index: Tensor | None = None,
        edge_type: Tensor | None = None,
    ) -> None:
        """Says which graphs this thread's next calls are of, until it says so again; without arguments, the calls
        speak for themselves again.

        Args:
            data: The batch; the others come before what it says.
            batch: ``[N]``, integer, the graph of every node.
            num_graphs: Number of graphs; by default one more than the largest in ``batch``.
            edge_index: ``[2, E]``, which edges the types are of.
            edge_type: ``[E]``, integer.

        Raises:
            TypeError, ValueError: What is given does not fit together.
        """
        given = (data, batch, num_graphs, edge_index, edge_type)
        self._where.announce(None if all(x is None for x in given) else steps.announced(0, *given))

    def report(self, base: Sequence[Findings] = ()) -> Report:
        """Tables, figures and JSON; ``base`` is what :meth:`base` found.

        Raises:
            ValueError: No attention ran in the context.
        """
        return self.findings.report(base)

    def all_reduce(self, group: Any = None) -> Findings:
        """What all processes of the group found together, the same in each."""
        return self.findings.all_reduce(group)

    def base(
        self,
        evaluate: Callable[[nn.Module, MassiveActivations], object],
        *,
        seeds: Iterable[int] = range(3),
        reset: Callable[[nn.Module], object] | None = None,
    ) -> list[Findings]:
        """The same statistics of untrained copies of the model: the band that a trained one has to leave.

        Args:
            evaluate: Runs the copy that it is given over the data; what watches the copy is its second argument.
            seeds: Of torch's generator, one a copy; its state is as before afterwards.
            reset: Initialises a copy; by default every ``reset_parameters`` that its modules have.

        Raises:
            ValueError: Parameters of a module without ``reset_parameters``, and no ``reset``.
        """
        if self._entered is not None:
            raise RuntimeError("Expected base() outside the context (got it inside): a copy would be watched twice.")
        found = []
        for seed in seeds:
            copy = untrained(self.model, seed, reset)
            limits = self.findings.limits
            watching = MassiveActivations(
                copy,
                taps=self.findings.taps,
                threshold=limits.threshold,
                thresholds=limits.thresholds,
                per_graph=self.per_graph,
                sample=limits.sample,
                chunk=limits.chunk,
            )
            with watching:
                evaluate(copy, watching)
            found.append(watching.findings)
        return found

    # What the ops and layers call ------------------------------------------------------------------------------

    def thresholds(self, attended: Attended) -> Sequence[float]:
        """Those of this thread's layer, where what the op computes is what the layer means."""
        here = self._where
        if not here.stack or self._entered is None or "activations" not in self.findings.taps:
            return ()
        with torch.no_grad():
            return self.findings.limits.thresholds if _own(here.stack[-1], attended) is None else ()

    def attended(self, attended: Attended) -> None:
        """An attention, of the innermost module of the model that runs in this thread."""
        here = self._where
        if not here.stack or self._entered is None:
            return
        frame, limits = here.stack[-1], self.findings.limits
        with self._lock, torch.no_grad():
            own = _own(frame, attended)
            kinds = () if own is None else own.kinds
            edges = here.edges(attended.graph, kinds, self.findings, per_graph=self.per_graph)
            record = self._record(frame, attended, own)
            examine(record, attended, own, edges, self.findings.taps, limits)
        if record not in frame.records:
            frame.records.append(record)

    def message_passing(self, layer: Any) -> AbstractContextManager[object]:
        """While a fused layer of the model runs PyTorch Geometric's path."""
        return message_passing(layer, self.attended) if self._name(layer) is not None else nullcontext()

    # ------------------------------------------------------------------------------------------------------------

    def _name(self, module: nn.Module) -> str | None:
        known = self._names.get(id(module))
        return known[1] if known is not None and known[0] is module else None

    def _watch(self, stack: ExitStack, module: nn.Module, name: str) -> None:
        watch = watch_of(module)
        if watch is not None:
            stack.enter_context(watch(module, self.attended))
        elif isinstance(module, (GATConv, GATv2Conv, TransformerConv)) and not isinstance(module, FusedConv):
            _log.warning(
                "massive activations of %r are not examined: %s changes what its base class computes; register it in "
                "gattn.analysis.massive.WATCHED",
                name,
                type(module).__name__,
            )

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        name = self._name(module)
        if name is not None:
            self._where.begin(name, module)

    def _called(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(self._where.stack) == 1:
            self._where.call = lambda number: steps.found(number, model, args, kwargs)

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        frame = self._where.end(module) if self._name(module) is not None else None
        if frame is not None and frame.records and "outputs" in self.findings.taps and output is not None:
            rows = _first_tensor(output, frame.name)
            with self._lock, torch.no_grad():
                for record in frame.records:
                    record.count("outputs", rows.reshape(len(rows), -1), self.findings.limits)

    def _record(self, frame: Frame, attended: Attended, own: Own | None) -> Record:
        score, (heads, channels) = attended.settings.score, shape(attended, own)
        name, known, sample = frame.name, self.findings.records, self.findings.limits.sample
        other = known.get(name)
        if other is not None and (other.score, other.heads, other.channels) != (score, heads, channels):
            name = f"{name} ({score}, {heads} x {channels})"  # a module with more than one attention
        if name not in known:
            known[name] = Record.empty(name, type(frame.module).__name__, score, heads, channels, sample)
        return known[name]


def _own(frame: Frame, attended: Attended) -> Own | None:
    translate = next((OWN[kind] for kind in type(frame.module).__mro__ if kind in OWN), None)
    return None if translate is None else translate(frame.module, attended)


def _first_tensor(output: Any, name: str) -> Tensor:
    """What a layer returns, or the first tensor of a tuple."""
    for found in (output,) if isinstance(output, Tensor) else output if isinstance(output, (tuple, list)) else ():
        if isinstance(found, Tensor):
            return found
    raise TypeError(
        f"Expected the layer {name!r} to return a tensor or a tuple with one (got '{type(output).__name__}'). Leave "
        f"the tap 'outputs' out."
    )
