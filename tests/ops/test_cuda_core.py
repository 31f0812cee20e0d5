"""The CUDA kernels in the compiled core, on machines with and without them, and without a driver."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import gattn
from gattn import _C, cuda_core, info
from gattn.backends import select_backend

CPU = torch.device("cpu")
without_driver = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_the_core_says_what_it_has() -> None:
    """Either kernels and the compiler that made them, or why not and what to do."""
    facts = info.collect()
    if _C.no_cuda:
        assert not _C.cuda_compiler
        assert cuda_core.core is None
        assert facts["core"]["cuda"] is None
        assert "run 'pip install .' again" in facts["backends"]["cuda"]["reason"]
    else:
        assert _C.cuda_compiler.startswith("nvcc ")
        assert cuda_core.core is _C
        assert _C.cuda_device == "cuda"
        assert facts["core"]["cuda"]["device_bytes"] > 100_000
    assert cuda_core.device_bytes(Path(_C.__file__)) == (facts["core"]["cuda"] or {}).get("device_bytes", 0)


def test_a_build_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_core, "core", None)
    monkeypatch.setattr(sys.modules["gattn.backends"], "_C", SimpleNamespace(no_cuda="no nvcc", isa=str, pool=str))
    usable, reason = gattn.backends()["cuda"]
    assert not usable
    assert reason == "the compiled core has no CUDA kernels: no nvcc"
    with pytest.raises(RuntimeError, match=r"'cuda' is not usable: .*no nvcc"):
        select_backend("cuda", CPU)


@without_driver
def test_kernels_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_core, "core", SimpleNamespace(cuda_device="cuda"))
    usable, reason = gattn.backends()["cuda"]
    assert not usable
    assert reason == "compiled, but PyTorch finds no GPU or no driver for it"
    with pytest.raises(RuntimeError, match="no driver"):
        select_backend("cuda", CPU)
    assert select_backend(None, CPU) == "cpu"


def test_a_line_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = info.collect()
    facts["core"]["cuda"] = {"compiler": "nvcc 13.0 for 80-real 90", "device_bytes": 12_345_678}
    assert "CUDA kernels     nvcc 13.0 for 80-real 90, 12.3 MB of device code" in info._lines(facts)
    facts["core"]["cuda"] = None
    assert not any(line.startswith("CUDA kernels") for line in info._lines(facts))


def test_device_bytes_of_a_file(tmp_path: Path) -> None:
    """The sections of a 64-bit ELF file with nvcc's name."""
    names = b"\0.text\0.nv_fatbin\0"
    table = 64 + len(names)
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", header, 40, table)
    struct.pack_into("<HHH", header, 58, 64, 3, 0)  # a section header's size, how many, which one names

    def section(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, 0, 0, 0, offset, size, 0, 0, 0, 0)

    sections = section(0, 64, len(names)) + section(1, 0, 999) + section(7, 0, 4321)
    (tmp_path / "a.so").write_bytes(bytes(header) + names + sections)
    assert cuda_core.device_bytes(tmp_path / "a.so") == 4321
    (tmp_path / "b.so").write_bytes(b"#!/bin/sh")
    with pytest.raises(ValueError, match="64-bit ELF"):
        cuda_core.device_bytes(tmp_path / "b.so")


@pytest.mark.skipif(bool(_C.no_cuda), reason=f"the core has no CUDA kernels: {_C.no_cuda}")
def test_no_kernel_spills() -> None:
    pytest.importorskip("triton", reason="its wheel carries cuobjdump")
    from gattn.kernels import cuda_resources

    rows = cuda_resources.measure(Path(_C.__file__))
    assert {row["name"].split()[0] for row in rows} >= {"cuda:forward", "cuda:source", "cuda:target"}
    assert [row for row in rows if row["spilled"]] == []
    assert all(0 < row["occupancy"] <= 1 for row in rows)
