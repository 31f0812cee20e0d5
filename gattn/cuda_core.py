"""The module that has the CUDA kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    from gattn import _C
except ImportError:  # gattn.backends says why
    core: Any = None
else:
    #: ``None`` where the core was built without them. Tests put the kernels that are compiled for the CPU here.
    core = None if _C.no_cuda else _C


def device_bytes(library: Path) -> int:
    """Bytes of device code in a module: its section ``.nv_fatbin``; 0 without one.

    Raises:
        ValueError: It is not a 64-bit ELF file.
    """
    data = library.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        raise ValueError(f"Expected a 64-bit ELF file (got {library}).")

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    table, size, count, names = number(40, 8), number(58, 2), number(60, 2), number(62, 2)
    text = number(table + names * size + 24, 8)
    total = 0
    for section in range(table, table + count * size, size):
        start = text + number(section, 4)
        if data[start : data.index(b"\0", start)] in (b".nv_fatbin", b"__nv_relfatbin"):
            total += number(section + 32, 8)
    return total
