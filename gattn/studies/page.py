"""A report as one self-contained HTML page: tables, figures as inline SVG, and the exact settings."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gattn.figure import Panel, figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
tr.published { color: #777; font-style: italic }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 13px }
"""


@dataclass(frozen=True)
class Table:
    """Header and rows of text; rows whose first cell is in ``quoted`` are others' numbers and look it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    quoted: frozenset[str] = frozenset()

    def html(self) -> str:
        lines = ["<table>", _row("th", self.header)]
        for row in self.rows:
            lines.append(_row("td", row, "published" if row[0] in self.quoted else ""))
        return "\n".join([*lines, "</table>"])

    def markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        return "\n".join("| " + " | ".join(row) + " |" for row in [self.header, rule, *self.rows])


@dataclass(frozen=True)
class Section:
    """A heading with text, tables and a figure of panels."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()


def render(title: str, sections: Sequence[Section], settings: dict[str, Any]) -> str:
    """The page."""
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"]
    parts += [f"<style>{_STYLE}</style>", f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{html.escape(section.text)}</p>")
        parts += [table.html() for table in section.tables]
        if section.panels:
            parts.append(f"<figure>{figure(section.panels, 'svg').decode()}</figure>")
    parts += [
        "<h2>Settings</h2>",
        f"<pre>{html.escape(json.dumps(settings, indent=2, allow_nan=False), quote=False)}</pre></html>",
    ]
    return "\n".join(parts) + "\n"


def markdown(sections: Sequence[Section]) -> str:
    """The text and the tables, for a page of the documents."""
    parts = []
    for section in sections:
        parts += [f"## {section.title}", section.text, *(table.markdown() for table in section.tables)]
    return "\n\n".join(part for part in parts if part)


def _row(cell: str, texts: Sequence[str], kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<tr{mark}>" + "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in texts) + "</tr>"
