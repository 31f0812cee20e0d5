"""Launches the kernels as on a GPU, with a driver that runs nothing, for graphs and batches of many sizes."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
import triton
from gattn.kernels import (
    activation,
    activation_rows,
    activation_summary,
    attention,
    d_pass,
    forward,
    ragged,
    ragged_backward,
    ragged_forward,
    ragged_pairs,
    reductions,
    source_pass,
    target_pass,
)
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel
from triton.runtime import driver

from gattn import Graph
from gattn.ops.attention import Call
from gattn.reference.attention import Inputs, Settings

KERNELS = {
    "forward": forward.forward_kernel,
    "alpha": forward.alpha_kernel,
    "d": d_pass.d_kernel,
    "target": target_pass.target_kernel,
    "source": source_pass.source_kernel,
    "programs": reductions.sum_programs_kernel,
}
#: And how often batches of graphs compile them: the backward's once over queries and once over keys.
RAGGED = {
    ragged_pairs.ragged_pair_ptr_kernel: 1,
    ragged_forward.ragged_forward_kernel: 1,
    ragged_backward.ragged_backward_kernel: 2,
}
#: The kernels of statistics of activations: once each.
STATS = {
    activation_rows.activation_rows_kernel: 1,
    activation_summary.activation_summary_kernel: 1,
    activation_summary.activation_total_kernel: 1,
}


class NoDriver:
    """An H100 that no kernel reaches."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


launched: list[str] = []


def _keep_off(kernel: Any) -> None:
    kernel.module = kernel.function = 0
    kernel._run = lambda *_: launched.append(kernel.metadata.name)


def _run(nodes: int, edges: int) -> None:
    graph = Graph.from_edge_index(torch.randint(nodes, (2, edges)), nodes)
    features = [torch.randn(nodes, 2, 8) for _ in range(3)]
    inputs = Inputs(*features, sink_logit=torch.randn(nodes, 2), sink_value=torch.randn(2, 8))
    out, stats, alpha = torch.empty(nodes, 2, 8), torch.empty(nodes, 2, 2), torch.empty(edges, 2)
    call = Call(edges, nodes, True, False, None, graph.groups.sizes, "triton")
    settings, seed = Settings("dot", scale=0.3, dropout_p=0.5), torch.tensor(3)
    attention.forward(graph.data, graph.groups.data, inputs, settings, seed, call, (out, stats, alpha, None))
    found: list[Tensor | None] = [None if x is None else torch.empty_like(x) for x in inputs[:-1]]
    attention.backward(
        graph.data, graph.groups.data, inputs, settings, seed, call, (stats, None, out, alpha, None), found
    )


def _run_ragged(sizes: tuple[int, ...]) -> None:
    ptr = torch.tensor([0, *accumulate(sizes)])
    q, hop = torch.randn(sum(sizes), 2, 16).bfloat16(), torch.randn(2)
    wide, stats = q.float(), torch.empty(len(q), 2, 2)
    distance = torch.zeros(sum(n * n for n in sizes), dtype=torch.int16)
    inputs, numbers = ragged.Inputs(q, q, q, hop, ptr, distance, None), ragged.Numbers(0.25, 0.6, 0.0, 0.0)
    ragged.forward(inputs, numbers, q, stats, wide)
    ragged.backward(inputs, numbers, ragged.Saved(stats, wide, q), q, q, q, hop)


def _run_stats(rows: int) -> None:
    by_row = [torch.empty(rows) for _ in range(3)]
    thresholds, edges = torch.ones(1 + rows % 3).double(), torch.ones(1001).double()
    counts = torch.empty(len(thresholds) + 1006, dtype=torch.int64)
    outputs = activation.Outputs(*by_row, torch.empty(2).double(), counts, torch.empty(2, 3).double())
    activation.activation_stats(torch.ones(rows, 24), thresholds, edges, outputs)


def main() -> None:
    driver.set_active(NoDriver())
    CompiledKernel._init_handles = _keep_off
    for nodes, edges in ((50, 3000), (1, 1), (16, 64), (17, 65), (1000, 5000)):
        _run(nodes, edges)
    # Small and middle rows; the others have no groups.
    expected = {name: 1 if name in ("alpha", "programs") else 2 for name in KERNELS}
    compiled = {name: len(kernel.device_caches[0][0]) for name, kernel in KERNELS.items()}
    assert compiled == expected, compiled
    assert {f"{name}_kernel" for name in KERNELS} - {"programs_kernel"} <= {*launched}, launched
    for sizes in ((50, 3000), (49,), (64, 128), (65, 0, 127, 1)):
        _run_ragged(sizes)
    for rows in (1, 16, 50, 100_000):
        _run_stats(rows)
    once = RAGGED | STATS
    compiled = {kernel: len(kernel.device_caches[0][0]) for kernel in once}
    assert compiled == once, compiled


if __name__ == "__main__":
    assert not triton.knobs.runtime.interpret
    main()
