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
    lines = ",\n".join(json.dumps(_short(result), allow_nan=False) for result in results)
    data = json.dumps(settings, indent=1, allow_nan=False)[:-2] + f',\n "results": [\n{lines}\n]}}\n'
    write_atomic(folder / f"{name}.json", lambda file: file.write(data.encode()))
    return page


def _short(value: Any) -> Any:
    """Numbers as exact as a float32, which takes half the digits."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list) else value
