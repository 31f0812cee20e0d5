"""Registration of the ops with torch.library: one namespace, schemas, CPU kernels, fakes and autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack

from gattn.reference.softmax import draw_seed

# Defined here, once, for the life of the process; submodules add to it.
library = torch.library.Library("gattn", "DEF")


def register(
    schema: str,
    *,
    cpu: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Any:
    """Defines ``gattn::<schema>`` with its CPU kernel, its fake and, if given, its gradient; returns the op."""
    name = schema.split("(", 1)[0]
    library.define(schema)
    library.impl(name, cpu, "CPU")
    torch.library.register_fake(f"gattn::{name}", fake, lib=library)
    if backward is not None:
        torch.library.register_autograd(f"gattn::{name}", backward, setup_context=setup_context, lib=library)
    return getattr(torch.ops.gattn, name).default


def capsule(tensor: Tensor | None) -> Any:
    """The tensor as the compiled core takes it."""
    return None if tensor is None else to_dlpack(tensor)


def seed_tensor(dropout_p: float, seed: int | None) -> Tensor | None:
    """The dropout seed as an op's argument: ``None`` without dropout, drawn from torch's generator if not given."""
    if dropout_p == 0.0:
        return None
    return torch.tensor(draw_seed() if seed is None else seed, dtype=torch.int64)


def seed_value(seed: Tensor | None) -> int:
    """The number a kernel takes; without dropout it is not used."""
    return 0 if seed is None else int(seed)
