"""Tables of what statistics of activations cost, for docs/massive-detection.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gattn.bench.tables import describe, markdown, seconds, times


def rows_table(run: dict[str, Any]) -> str:
    """The op on rows in memory, beside a copy and PyTorch's operations."""
    rows = [
        [
            str(found["width"]),
            seconds(found["times"]["op"]["median"]),
            f"{found['bytes_per_second'] / 1e9:.1f} GB/s",
            f"{100 * found['of_copy_bandwidth']:.0f} %",
            times(found["faster_than_pytorch"]),
        ]
        for found in run["widths"]
    ]
    return markdown(["activations a row", "time", "read", "of a copy's traffic", "PyTorch's operations"], rows)


def taps_table(run: dict[str, Any]) -> str:
    """Attention that takes statistics on its way, beside attention alone."""
    rows = [
        [
            f"{found['heads']} × {found['width'] // found['heads']}",
            seconds(found["times"]["attention"]["median"]),
            times(found["tap_of_attention"]),
            times(found["stream_of_attention"]),
            times(found["both_of_stream"]),
            times(found["stored_of_attention"]),
        ]
        for found in run["taps"]
    ]
    heads = ["heads × channels", "`gt`", "with statistics", "with the edge stream", "statistics beside it"]
    return markdown([*heads, "rows stored, then looked at"], rows)


def block(folder: Path) -> str:
    """What the document shows of the results that are there."""
    path = folder / "activation.json"
    if not path.is_file():
        return "No measurements are stored."
    run = json.loads(path.read_text())
    parts = [
        f"`ops.activation_stats` of {run['settings']['numbers'] / 1e6:.0f} million fp32 numbers, beside the traffic of "
        f"a copy of them (reading and writing) and `x.abs().amax(1) / x.abs().median(1).values`. {describe(run)}",
        rows_table(run),
    ]
    if run["taps"]:
        graph = run["taps"][0]
        parts += [
            f"The forward of `ops.gt` on a uniform random graph ({graph['nodes']:,} nodes, {graph['edges']:,} edges in "
            "no order), alone, with `return_stats`, with `return_edge`, with both (beside `return_edge` alone), and "
            "with the edge stream given to `ops.activation_stats`:",
            taps_table(run),
        ]
    return "\n\n".join(parts)
