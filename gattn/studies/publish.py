"""A study's results as a page of the documents: Markdown, figures, and the results themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gattn.figure import figure
from gattn.files import write_atomic
from gattn.studies.page import Section
from gattn.studies.plan import Result

#: Results of a number a graph and layer, drawn of the first seed: twenty times as long as all else together.
CURVES = ("maxima", "band_low", "band_high")


def publish(
    folder: Path, name: str, title: str, sections: Sequence[Section], settings: dict[str, Any], results: list[Result]
) -> Path:
    """Writes ``<name>.md``, ``<name>-<number>.png`` and ``<name>.json`` (settings, sessions and results, a line each)
    into ``folder``; returns the page."""
    page = folder / f"{name}.md"
    parts = [
        f"# {title}",
        f"Written by `gattn study {settings['study']} --publish`; settings, machines and every run's numbers are in "
        f"[{name}.json]({name}.json).",
    ]
    for number, section in enumerate(sections, 1):
        parts += [f"## {section.title}", section.text, *(table.markdown() for table in section.tables)]
        if section.panels:
            drawing = folder / f"{name}-{number}.png"
            drawn = figure(section.panels, "png")
            write_atomic(drawing, lambda file, drawn=drawn: file.write(drawn))  # type: ignore[misc]
            parts.append(f"![{section.title}]({drawing.name})")
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_atomic(page, lambda file: file.write(text.encode()))
    lines = ",\n".join(json.dumps(result, allow_nan=False) for result in _shown(results))
    data = json.dumps(settings, indent=1, allow_nan=False)[:-2] + f',\n "results": [\n{lines}\n]}}\n'
    write_atomic(folder / f"{name}.json", lambda file: file.write(data.encode()))
    return page


def _shown(results: list[Result]) -> list[Result]:
    """The results without curves that the page does not draw."""
    first = min((result["seed"] for result in results), default=0)
    return [{k: v for k, v in r.items() if r["seed"] == first or k not in CURVES} for r in results]
