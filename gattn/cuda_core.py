"""The module that has the CUDA kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gattn.exchange import call_core

try:
    from gattn import _C
except ImportError:  # gattn.backends says why
    core: Any = None
else:
    #: ``None`` where the core was built without them. Tests put the kernels that are compiled for the CPU here.
    core = None if _C.no_cuda else _C


def runs_on(capability: tuple[int, int]) -> bool:
    """Whether the kernels run on GPUs of that compute capability.

    They do if there is machine code for it or for a smaller one of its generation, or PTX, which drivers compile, for
    any smaller one. ``80-real`` has the first, ``80-virtual`` the second, ``80`` both.
    """
    here = 10 * capability[0] + capability[1]
    for name in core.cuda_compiler.split()[3:]:  # nvcc VERSION for ARCHITECTURES
        number, _, kind = name.partition("-")
        if not number[:1].isdigit():  # native, all, all-major
            return True
        compiled = int(number.rstrip("af"))
        if compiled <= here and (kind != "real" or compiled // 10 == capability[0]):
            return True
    return False


def serves(device: torch.device) -> bool:
    """Whether the kernels run on tensors there."""
    if core is None or core.cuda_device != device.type:
        return False
    return device.type == "cpu" or runs_on(torch.cuda.get_device_capability(device))


def call(name: str, device: torch.device, *arguments: Any) -> None:
    """Calls the core's function ``name`` on the device's current stream, with memory of torch's for what it asks."""
    scratch: list[Tensor] = []

    def allocate(size: int) -> int:
        """Memory until this call returns: after it, what torch puts there waits for the stream."""
        scratch.append(torch.empty(size, dtype=torch.uint8, device=device))
        return scratch[-1].data_ptr()

    kernel = getattr(core, name)
    if device.type == "cuda":
        with torch.cuda.device(device):
            call_core(kernel, *arguments, torch.cuda.current_stream().cuda_stream, allocate)
    else:
        call_core(kernel, *arguments, 0, allocate)


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
