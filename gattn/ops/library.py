"""Registration of the ops with torch.library: one namespace, schemas, CPU kernels, fakes and autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[attr-defined]

from gattn.reference.dropout import draw_seed

# Defined here, once, for the life of the process; submodules add to it.
library = torch.library.Library("gattn", "DEF")


def register(
    schema: str,
    *,
    cpu: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Defines ``gattn::<schema>`` with its CPU kernel, its fake and its gradient.

    Returns a function that calls the kernel directly in plain eager mode, and through the dispatcher wherever
    something wants to see the op (compilation, export, fakes, other devices). Both ways share one gradient. The
    dispatcher's own way through Python costs more than a small graph's kernel.
    """
    op = _define(schema, cpu, fake)
    name = schema.split("(", 1)[0]

    def below_autograd(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op(*inputs)

    dispatched = _with_gradient(name, below_autograd, setup_context, backward)
    direct = _with_gradient(name, cpu, setup_context, backward)
    library.impl(name, dispatched, "Autograd")

    def call(*inputs: Any) -> Any:
        return direct(*inputs) if _is_plain(inputs[0]) else op(*inputs)

    return call


def define(schema: str, *, cpu: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Defines ``gattn::<schema>`` for an op without a gradient; returns as :func:`register` does."""
    op = _define(schema, cpu, fake)

    def call(*inputs: Any) -> Any:
        return cpu(*inputs) if _is_plain(inputs[0]) else op(*inputs)

    return call


def _define(schema: str, cpu: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    name = schema.split("(", 1)[0]
    library.define(schema)
    library.impl(name, cpu, "CPU")
    torch.library.register_fake(f"gattn::{name}", fake, lib=library)
    return getattr(torch.ops.gattn, name).default


def _with_gradient(
    name: str, run: Callable[..., Any], setup: Callable[..., None], gradient: Callable[..., Any]
) -> Callable[..., Any]:
    def forward(ctx: Any, *inputs: Any) -> Any:
        output = run(*inputs)
        ctx.set_materialize_grads(False)  # an output nobody used costs no zeros
        setup(ctx, inputs, output)
        return output

    methods = {"forward": staticmethod(forward), "backward": staticmethod(gradient)}
    function = type(name, (torch.autograd.Function,), methods)

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            return function.apply(*inputs)  # type: ignore[attr-defined]
        return run(*inputs)

    return call


def _is_plain(x: Tensor) -> bool:
    """Whether nothing but this process's CPU looks at ``x``: no tracing, no mode, no transform, no subclass."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type == "cpu"
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


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
