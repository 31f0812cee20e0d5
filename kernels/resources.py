"""What a kernel needs of a GPU, read off code compiled ahead of time; no GPU is needed."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import gattn.kernels
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class Variant(NamedTuple):
    """One way in which a kernel is compiled."""

    name: str
    function: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    num_stages: int
    attrs: dict[Any, Any] | None = None
    registers: int | None = None  # what a thread may take on NVIDIA's GPUs


class Usage(NamedTuple):
    """Per thread registers and spilled bytes, per program bytes of shared memory, and what part of a
    multiprocessor's warps can be there at once (``None`` where it is not known)."""

    registers: int
    shared: int
    spilled: int
    occupancy: float | None


class Multiprocessor(NamedTuple):
    """What all warps of an NVIDIA multiprocessor share (CUDA programming guide, compute capabilities)."""

    warps: int
    registers: int
    shared: int
    blocks: int


MULTIPROCESSORS = {
    "sm_80": Multiprocessor(64, 65536, 164 << 10, 32),
    "sm_90": Multiprocessor(64, 65536, 228 << 10, 32),
    "sm_100": Multiprocessor(64, 65536, 228 << 10, 32),
}
#: Registers are given out to a warp in units of this many, and shared memory to a block with this much on top.
_REGISTER_UNIT, _SHARED_EXTRA = 256, 1024


def occupancy(target: str, threads: int, registers: int, shared: int) -> float | None:
    """Part of a multiprocessor's warps that blocks of so many threads can fill; ``None`` for unknown targets."""
    limits = MULTIPROCESSORS.get(target)
    if limits is None:
        return None
    warps = -(-threads // 32)
    a_warp = -(-registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    blocks = min(
        limits.warps // warps,
        limits.registers // a_warp // warps,
        limits.shared // (shared + _SHARED_EXTRA),
        limits.blocks,
    )
    return blocks * warps / limits.warps


def modules() -> Iterator[ModuleType]:
    """The modules of the package that have kernels to compile."""
    for found in pkgutil.iter_modules(gattn.kernels.__path__, "gattn.kernels."):
        module = import_module(found.name)
        if hasattr(module, "variants"):
            yield module


def collect(sources: Iterator[ModuleType] | list[ModuleType]) -> dict[str, Variant]:
    """Every variant by name.

    Raises:
        ValueError: Two have the same name.
    """
    found: dict[str, Variant] = {}
    for module in sources:
        for fields in module.variants():
            variant = Variant(*fields)
            if variant.name in found:
                raise ValueError(f"Expected names of variants to differ (got {variant.name!r} twice).")
            found[variant.name] = variant
    return found


def build(variant: Variant, target: str) -> Any:
    """The compiled kernel, which Triton's cache may have."""
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages, "enable_fp_fusion": True}
    if variant.registers is not None and TARGETS[target].backend == "cuda":
        options["maxnreg"] = variant.registers
    source = ASTSource(variant.function, variant.signature, variant.constexprs, variant.attrs)
    return triton.compile(source, target=TARGETS[target], options=options)


def usage(variant: Variant, target: str) -> Usage:
    """Builds the variant and reads its needs."""
    compiled = build(variant, target)
    read = _READERS[TARGETS[target].backend]
    registers, spilled = read(compiled)
    shared = int(compiled.metadata.shared)
    return Usage(registers, shared, spilled, occupancy(target, 32 * variant.num_warps, registers, shared))


def _cubin(compiled: Any) -> tuple[int, int]:
    """The stack is where ptxas spills; the kernels themselves have no arrays to put there."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return _number(r"REG:(\d+)", text), _number(r"STACK:(\d+)", text) + _number(r"LOCAL:(\d+)", text)


def _amdgcn(compiled: Any) -> tuple[int, int]:
    """Vector registers, and the scratch memory that spilled ones take."""
    text = compiled.asm["amdgcn"]
    return _number(r"\.vgpr_count:\s+(\d+)", text), _number(r"\.private_segment_fixed_size:\s+(\d+)", text)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"Expected {pattern!r} in the compiler's report (got {text[:500]!r}).")
    return int(found[1])


_READERS: dict[str, Callable[[Any], tuple[int, int]]] = {"cuda": _cubin, "hip": _amdgcn}
