"""Hop counts in compiled and exported programs: how many there are depends on the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gattn import ops

Function = Callable[..., Tensor]


class Near(nn.Module):
    def forward(self, edge_index: Tensor, ptr: Tensor) -> Tensor:
        distance = ops.shortest_path(edge_index, ptr, unreachable=20)
        return torch.exp(-distance.float())


def batch_of(sizes: list[int], edges_of: Function) -> tuple[Tensor, Tensor]:
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return torch.cat([edges_of(n, n, 2 * n) + first for n, first in zip(sizes, ptr, strict=False)], 1), ptr


def test_one_program_for_all_sizes(edges_of: Function) -> None:
    program = torch.compile(Near(), fullgraph=True, dynamic=True, backend="aot_eager")
    for i, sizes in enumerate([[5, 70, 9], [30, 4], [3, 4, 5, 100]]):
        arguments = batch_of(sizes, edges_of)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            found = program(*arguments)
        torch.testing.assert_close(found, Near()(*arguments), rtol=0, atol=0)


def test_export(edges_of: Function) -> None:
    dynamic = {"edge_index": {1: torch.export.Dim.DYNAMIC}, "ptr": {0: torch.export.Dim.DYNAMIC}}
    for strict in (False, True):
        exported = torch.export.export(Near(), batch_of([5, 70], edges_of), dynamic_shapes=dynamic, strict=strict)
        for sizes in ([5, 70], [8, 3, 12]):
            arguments = batch_of(sizes, edges_of)
            torch.testing.assert_close(exported.module()(*arguments), Near()(*arguments), rtol=0, atol=0)
