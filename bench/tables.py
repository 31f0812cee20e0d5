"""Numbers and tables as the documents show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def seconds(value: float) -> str:
    """``0.00321`` -> ``3.2 ms``."""
    scaled, unit = (value, "s") if value >= 1 else (value * 1e3, "ms")
    return f"{scaled:.3g} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"


def size(value: float) -> str:
    """Bytes in MB or GB (powers of ten)."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def times(value: float | None) -> str:
    """``7.345`` -> ``7.3×``; a dash for what was not measured."""
    return "–" if value is None else f"{value:.1f}×" if value < 100 else f"{value:.0f}×"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column flush left and the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def describe(run: dict[str, Any]) -> str:
    """One line on where, when and with what a run was measured."""
    machine, packages = run["machine"], run["machine"]["packages"]
    versions = ", ".join(f"{name} {found}" for name, found in packages.items() if found and name != "gattn")
    git = machine["git"]
    commit = "" if git is None else f", commit {git['commit'][:10]}{' with changes' if git['dirty'] else ''}"
    settings = "".join(f", {name}={value}" for name, value in machine.get("environment", {}).items())
    return (
        f"{machine['cpu']}, {run['settings']['threads']} threads, {size(machine['memory_bytes'])} memory, "
        f"{machine['core'].get('isa', 'no')} kernels{settings}, {versions}; {run['created'][:10]}{commit}."
    )
