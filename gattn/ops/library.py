"""Registration of the ops with torch.library: one namespace, schemas, CPU kernels, fakes and autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import Function, forward_ad

from gattn.reference.dropout import draw_seed

# Defined here, once, for the life of the process; submodules add to it.
library = torch.library.Library("gattn", "DEF")

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_modes = torch._C._len_torch_dispatch_stack
_transform = torch._C._functorch.peek_interpreter_stack


def register(
    schema: str,
    *,
    cpu: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
    cuda: bool = False,
) -> Callable[..., Any]:
    """Defines ``gattn::<schema>``, tensors first, with its CPU kernel (its kernel on CUDA devices too, with ``cuda``),
    its fake and its gradient.

    Returns a function that calls the kernel directly in plain eager mode, and through the dispatcher wherever
    something wants to see the op (compilation, export, fakes, transforms, other devices). Both ways share one
    gradient. The dispatcher's own way through Python costs more than a small graph's kernel.

    Under ``torch.func.vmap`` the op runs once a slice; forward-mode derivatives raise NotImplementedError.
    """
    op, call = _define(schema, cpu, fake, cuda, direct=_with_gradient(schema, cpu, setup_context, backward))

    def below_autograd(*inputs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch._C._AutoDispatchBelowAutograd())
            if _transform() is not None:  # the transforms around the innermost one record for themselves
                stack.enter_context(torch.enable_grad())
                stack.enter_context(forward_ad._set_fwd_grad_enabled(True))
            return op(*inputs)

    library.impl(_name(schema), _with_gradient(schema, below_autograd, setup_context, backward), "Autograd")
    return call


def define(schema: str, *, cpu: Callable[..., Any], fake: Callable[..., Any], cuda: bool = False) -> Callable[..., Any]:
    """Defines ``gattn::<schema>`` for an op without a gradient; returns as :func:`register` does."""
    return _define(schema, cpu, fake, cuda, direct=cpu)[1]


def _define(
    schema: str, cpu: Callable[..., Any], fake: Callable[..., Any], cuda: bool, *, direct: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The op, and the function that calls it or, in plain eager mode, ``direct``."""
    name = _name(schema)
    library.define(schema)
    for device in ("CPU", "CUDA") if cuda else ("CPU",):
        library.impl(name, cpu, device)
    torch.library.register_fake(f"gattn::{name}", fake, lib=library)
    op = getattr(torch.ops.gattn, name).default

    def call(*inputs: Any) -> Any:
        return direct(*inputs) if _is_plain(inputs[0], cuda) else op(*inputs)

    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        if info.batch_size == 0:
            raise ValueError(f"Expected at least one slice to map gattn::{name} over (got none).")
        slices = [
            call(
                *(
                    x.select(d, i).contiguous() if isinstance(d, int) else x
                    for x, d in zip(inputs, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ]
        if isinstance(slices[0], Tensor):
            return torch.stack(slices), 0
        stacked = tuple(None if results[0] is None else torch.stack(results) for results in zip(*slices, strict=True))
        return stacked, tuple(None if x is None else 0 for x in stacked)

    torch.library.register_vmap(f"gattn::{name}", vmap, lib=library)
    return op, call


def _name(schema: str) -> str:
    return schema.split("(", 1)[0]


def _with_gradient(
    schema: str, run: Callable[..., Any], setup: Callable[..., None], gradient: Callable[..., Any]
) -> Callable[..., Any]:
    """``run`` with a gradient where one is asked for."""
    name = _name(schema)
    tensors = schema.split("->")[0].count("Tensor")

    def forward(ctx: Any, *inputs: Any) -> Any:
        inputs = (*inputs[:-1], *inputs[-1])
        output = run(*inputs)
        ctx.set_materialize_grads(False)  # an output nobody used costs no zeros
        setup(ctx, inputs, output)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        return *gradient(ctx, *grads)[:tensors], None

    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            f"Forward-mode derivatives of gattn::{name} are not implemented. Use backend='reference' (an argument of "
            f"the op, or gattn.use_backend), or reverse mode: torch.func.vjp, torch.func.jacrev."
        )

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward), "jvp": staticmethod(jvp)}
    # Function.apply itself only looks for transforms, which have been taken off here, and costs as much as the rest.
    apply = super(Function, type(name, (Function,), methods)).apply  # type: ignore[misc]

    def call(*inputs: Any) -> Any:
        recorded = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs[:tensors])
        if not recorded and forward_ad._current_level < 0:
            return run(*inputs)
        # What is no tensor goes as one: every argument costs.
        packed = (*inputs[:tensors], inputs[tensors:])
        if _transform() is None:
            return apply(*packed)
        with enable_single_level_autograd_function():  # the dispatcher has taken the transform apart
            return apply(*packed)

    return call


def _is_plain(x: Tensor, cuda: bool) -> bool:
    """Whether nothing but a device with a kernel looks at ``x``: no tracing, no mode, no transform, no subclass."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in _PLAIN_TYPES
        and (x.is_cpu or (cuda and x.is_cuda))
        and _modes() == 0
        and _transform() is None
    )


def seed_tensor(dropout_p: float, seed: int | None, device: torch.device | None = None) -> Tensor | None:
    """The dropout seed as an op's argument: ``None`` without dropout, drawn from torch's generator if not given."""
    if dropout_p == 0.0:
        return None
    # torch.full fills on the device, where torch.tensor would copy from the host.
    return draw_seed(device) if seed is None else torch.full((), seed, dtype=torch.int64, device=device)


def seed_value(seed: Tensor | None) -> int:
    """The number a kernel takes; without dropout it is not used."""
    return 0 if seed is None else int(seed)
