"""The device and the software, as facts that results are tied to."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from gattn.bench import machine

from gattn.info import PACKAGES, version_of


def _sources() -> str:
    """A digest of everything that computes: another revision's results must not be taken for this one's."""
    import gattn.bench
    import gattn.kernels

    digest = hashlib.sha256()
    for package in (gattn, gattn.kernels, gattn.bench):
        for folder in package.__path__:
            for path in sorted(Path(folder).rglob("*")):
                if path.suffix in (".py", ".so"):
                    digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _device(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"name": "no GPU (dry run)"}
    facts = torch.cuda.get_device_properties(device)
    return {
        "name": facts.name,
        "capability": f"{facts.major}.{facts.minor}",
        "memory_bytes": facts.total_memory,
        "multiprocessors": facts.multi_processor_count,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
    }


def describe(device: torch.device) -> dict[str, Any]:
    """The machine, its device, packages and sources, as plain JSON types."""
    return {
        **machine.describe(),
        "device": _device(device),
        "packages": {name: version_of(name) for name in ("gattn", *PACKAGES)},
        "sources": _sources(),
    }


def slug(name: str) -> str:
    """``NVIDIA H100 80GB HBM3`` -> ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
