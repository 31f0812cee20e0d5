"""Which graph a node belongs to and of what type an edge is, as models and loaders say it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.data import Data

#: What edges of a layer are called that the batch does not have.
LOOP, ADDED = "self-loop", "added"


@dataclass(frozen=True, eq=False)
class Step:
    """A batch of graphs.

    Attributes:
        number: Its place among all batches, from 0.
        graph: ``[N]``, the graph of every node from 0, or ``None``: all are one graph.
        graphs: How many there are.
        edges: ``[2, E]`` with ``types``, which edges the types are of.
        types: ``[E]`` integer types, or ``None``.
    """

    number: int
    graph: Tensor | None = None
    graphs: int = 1
    edges: Tensor | None = None
    types: Tensor | None = None


def announced(
    number: int,
    data: Data | None,
    batch: Tensor | None,
    num_graphs: int | None,
    edge_index: Tensor | None,
    edge_type: Tensor | None,
) -> Step:
    """The batch that a caller names, by ``data`` or by tensors, which come before what ``data`` says.

    Raises:
        TypeError: ``data`` is no ``torch_geometric.data.Data``, or a tensor is not of an integer dtype.
        ValueError: A shape does not fit.
    """
    if data is not None and not isinstance(data, Data):
        raise TypeError(
            f"Expected torch_geometric.data.Data or a Batch of them (got '{type(data).__name__}'). Give 'batch', "
            f"'edge_index' and 'edge_type' instead."
        )
    if data is not None:
        batch = getattr(data, "batch", None) if batch is None else batch
        num_graphs = int(data.num_graphs) if num_graphs is None and hasattr(data, "num_graphs") else num_graphs
        edge_index = data.edge_index if edge_index is None else edge_index
        if edge_type is None:
            edge_type = _types(getattr(data, "edge_type", None))
        if edge_type is None:
            edge_type = _types(data.edge_attr)
    for name, tensor in (("batch", batch), ("edge_type", edge_type)):
        if tensor is not None and (not _is_integer(tensor) or tensor.dim() != 1):
            raise TypeError(
                f"Expected '{name}' to be a vector of an integer dtype (got {tensor.dtype}, shape "
                f"{list(tensor.shape)})."
            )
    graphs = num_graphs or 1
    if batch is not None and batch.numel():
        least, most = (int(end) for end in batch.aminmax())
        graphs = most + 1 if num_graphs is None else num_graphs
        if least < 0 or most >= graphs:
            raise ValueError(f"Expected 'batch' to lie in [0, {graphs - 1}] (got {least if least < 0 else most}).")
    if not isinstance(edge_index, Tensor) or edge_index.layout is not torch.strided:
        edge_index = None  # a sparse adjacency orders its edges by itself
    if edge_type is None or edge_index is None:
        return Step(number, batch, graphs)
    edge_index = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
    if edge_type.numel() != edge_index.size(1):
        raise ValueError(f"Expected {edge_index.size(1)} types, one an edge of 'edge_index' (got {edge_type.numel()}).")
    return Step(number, batch, graphs, edge_index.long(), edge_type.long())


def found(number: int, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Step:
    """The batch that a call of ``model`` gives away: a ``Data`` among its arguments, or parameters of ``forward`` named
    ``batch``, ``edge_index``, ``edge_type`` and ``edge_attr``. What is not of the right kind is left alone."""
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # no such call, or no signature: forward itself will say so
        return Step(number)
    for value in bound.values():
        if isinstance(value, Data):
            return announced(number, value, None, None, None, None)
    batch, edge_type = bound.get("batch"), _types(bound.get("edge_type"))
    edge_type = _types(bound.get("edge_attr")) if edge_type is None else edge_type
    batch = batch if isinstance(batch, Tensor) and _is_integer(batch) and batch.dim() == 1 else None
    return announced(number, None, batch, None, bound.get("edge_index"), edge_type)


def _types(attribute: Any) -> Tensor | None:
    """The first column of an integer attribute."""
    if not isinstance(attribute, Tensor) or not _is_integer(attribute) or attribute.numel() == 0:
        return None
    if attribute.dim() not in (1, 2):
        return None
    return attribute if attribute.dim() == 1 else attribute[:, 0]


def _is_integer(x: Tensor) -> bool:
    return not (x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool)


def labels(step: Step, edges: Tensor, flow: str) -> tuple[Tensor, dict[int, str]]:
    """``[E]``, the types of a layer's ``edges`` ``[2, E]``, and what they are called.

    The layer may have another order than the batch, or other edges: self-loops, and pairs that it adds. Of several
    edges between the same two nodes the first of the layer is the first of the batch.
    """
    assert step.types is not None
    assert step.edges is not None
    given = step.edges if flow == "source_to_target" else step.edges.flip(0)
    types, edges = step.types.cpu(), edges.cpu()
    names = {int(number): str(int(number)) for number in types.unique()}
    loop, added = (max(names, default=-1) + further for further in (1, 2))
    names |= {loop: LOOP, added: ADDED}
    nodes = 1 + max((int(x.max()) for x in (given, edges) if x.numel()), default=0)
    known, order = (given[0].cpu() * nodes + given[1].cpu()).sort(stable=True)
    wanted, places = (edges[0] * nodes + edges[1]).sort(stable=True)
    first = torch.searchsorted(known, wanted)
    number = first + _occurrence(wanted)
    there = torch.searchsorted(known, wanted, right=True) > number
    result = torch.where(edges[0] == edges[1], loop, added)
    result[places[there]] = types[order[number[there]]]
    return result, names


def _occurrence(ordered: Tensor) -> Tensor:
    """How many equal numbers stand before each one of ``ordered``."""
    return torch.arange(ordered.numel()) - torch.searchsorted(ordered, ordered)
