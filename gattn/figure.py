"""Figures for reports: panels side by side, as bytes. Needs matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

#: Fills the axes that it is given.
Panel = Callable[[Any], None]


def figure(panels: Sequence[Panel], kind: Literal["svg", "png"]) -> bytes:
    """The panels side by side, as a PNG file or as an SVG element to stand in a page."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"Figures need matplotlib ({error}): pip install matplotlib, or gattn[train]") from error

    drawing = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(drawing)
    for panel, axes in zip(panels, drawing.subplots(1, len(panels), squeeze=False)[0], strict=True):
        panel(axes)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format=kind, dpi=120)
    data = buffer.getvalue()
    if kind == "png":
        return data
    return re.sub(rb"^.*?(?=<svg)", b"", data, flags=re.DOTALL)  # an element has no document's prologue
