"""All-pairs attention within the graphs of a batch: numbers, bits, masks, and what a launch does not do."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gattn.reference.dropout import keep_mask, philox

from ..ops import ragged_cases as cases
from ..ops.conftest import compare, hold_to_twice
from ..ops.test_ragged_errors import WRONG, arguments

triton = pytest.importorskip("triton", reason="the package triton is not installed")
tl = pytest.importorskip("triton.language")
ragged = pytest.importorskip("gattn.kernels.ragged")
tiles = pytest.importorskip("gattn.kernels.ragged_tiles")
blocks = pytest.importorskip("gattn.kernels.ragged_blocks")
launch = pytest.importorskip("gattn.kernels.launch")

module = importlib.import_module("gattn.ops.ragged_attention")  # the package has the function under its name
ragged_attention = module.ragged_attention
F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
#: Empty, a row of a block, a whole and more than one of them (the interpreter's have 32 rows and 64 columns).
SIZES = (0, 1, 2, 17, 33, 65)
DROPOUT = {"dropout_p": 0.3, "seed": 2**62 + 1}
NAMES = ("out", "grad q", "grad k", "grad v")


def check(tensors: dict[str, Tensor], batch: Any, **options: Any) -> None:
    hold_to_twice(cases.errors_of(compare, batch, "triton", **options), tensors)


def run(tensors: dict[str, Tensor], batch: Any, **options: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = cases.run_ragged(tensors, batch, backend="triton", **options)
    return found


@pytest.fixture
def blocks_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes all kernels take these."""

    def choose(rows: int, columns: int, together: int, channels: int, chunks: int) -> None:
        chosen = blocks.Blocks(rows, columns, together, channels, chunks, 1, 2)
        monkeypatch.setattr(ragged, "choose", lambda *_: chosen)

    return choose


def test_every_size() -> None:
    batch = cases.make_batch(SIZES)
    check(cases.make_tensors(batch, 2, 5), batch, **DROPOUT)


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_every_dtype(dtype: torch.dtype) -> None:
    """With more heads than numbers that single errors say nothing of."""
    batch = cases.make_batch((3, 0, 33))
    check(cases.make_tensors(batch, 5, 5, dtype=dtype), batch, **DROPOUT)


@pytest.mark.parametrize(("decay", "options"), [(True, {}), (False, DROPOUT), (False, {})])
def test_every_option(decay: bool, options: dict[str, Any]) -> None:
    batch = cases.make_batch((5, 40), decay=decay)
    check(cases.make_tensors(batch, 1, 33), batch, **options)


@pytest.mark.parametrize(
    ("heads", "channels", "shape"),
    [
        (1, 1, (16, 16, 1, 16, 1)),
        (4, 5, (16, 32, 4, 16, 1)),
        (2, 33, (32, 16, 2, 16, 3)),
        (1, 257, (16, 32, 1, 128, 3)),
    ],
)
def test_every_shape_of_blocks(
    heads: int, channels: int, shape: tuple[int, ...], blocks_of: Callable[..., None]
) -> None:
    """Heads together, and channels in several tiles."""
    blocks_of(*shape)
    batch = cases.make_batch((0, 20))
    check(cases.make_tensors(batch, heads, channels), batch, **DROPOUT)


def test_blocks_fit_heads_and_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of GPUs: the interpreter has others."""
    monkeypatch.setattr(blocks, "interprets_triton", lambda: False)
    numbers = [(h, c) for h in (1, 2, 3, 4, 6, 8) for c in (1, 8, 16, 33, 40, 64, 65, 96, 128, 257, 1000)]
    for kernel, dtype in product(("forward", "query", "key"), (F64, F32, BF16, F16)):
        for (heads, channels), dropout, large in product(numbers, (False, True), (False, True)):
            found = blocks.choose.__wrapped__(kernel, dtype, heads, channels, dropout, large)
            assert channels <= found.channels * found.chunks < channels + max(16, found.channels)
            assert heads % found.together == 0
            for size in (found.rows, found.columns, found.channels):
                assert size >= 16
                assert size & (size - 1) == 0
            assert found.together in (1, 2, 4)
            assert found.warps in (1, 2, 4, 8)


@pytest.mark.parametrize("gamma", [1e-3, 1.0])
def test_distances_of_any_size(gamma: float) -> None:
    """A hop among them meets the kink, where the derivative has the slope below; others are above or below all."""
    some = torch.tensor([0, 1, 2, 3, 300, 510, 70_000, 2**31 - 1])
    distance = some[torch.randint(len(some), (29 * 29 + 1,), generator=torch.Generator().manual_seed(1))].int()
    batch = cases.Batch(torch.tensor([0, 29, 30]), distance)
    tensors = cases.make_tensors(batch, 5, 16, dtype=F32)
    tensors["hop"] = torch.tensor([2.0, -1.0, 30.5, 3.0, 2.5])
    check(tensors, batch, gamma=gamma, slope=0.01, scale=-0.7)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_wider_hop_than_features(dtype: torch.dtype) -> None:
    """Its gradient is far smaller than the terms of ``D``, in which weights are split."""
    batch = cases.make_batch((4, 9))
    tensors = cases.make_tensors(batch, 5, 3, dtype=dtype)
    tensors["hop"] = tensors["hop"].float() + 0.001
    tensors["v"] += 8
    assert run(tensors, batch)["grad hop"].dtype == F32
    check(tensors, batch)


@pytest.mark.parametrize(
    ("name", "value", "kind"), [w[:3] for w in WRONG], ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)]
)
def test_nothing_is_launched_for_a_wrong_argument(name: str, value: Any, kind: type[Exception]) -> None:
    with launch.keep_launches() as kept, pytest.raises(kind):
        ragged_attention(**{"backend": "triton", **arguments(**{name: value})})
    assert not kept


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32], ids=str)
def test_integers_of_any_width_give_the_same_bits(dtype: torch.dtype) -> None:
    batch = cases.make_batch((2, 0, 17), distance_dtype=torch.int8)
    tensors = cases.make_tensors(batch, 1, 5, dtype=F32)
    expected = run(tensors, batch)
    other = cases.Batch(batch.ptr.int(), batch.distance.to(dtype))
    got = run(tensors, other)
    assert all(torch.equal(got[name], value) for name, value in expected.items())


@pytest.mark.parametrize("heads", [1, 4, 6])
def test_the_mask_is_the_reference_s(heads: int) -> None:
    """With equal scores and one value a key, the output is the mask."""
    sizes = (3, 0, 33)
    ptr = cases.make_batch(sizes, decay=False).ptr
    zeros = torch.zeros(sum(sizes), heads, 33)
    value = torch.cat([torch.eye(n, 33) for n in sizes]).unsqueeze(1).expand(-1, heads, -1)
    out = ragged_attention(zeros, zeros, value, ptr, dropout_p=0.3, seed=-3, backend="triton").split(sizes)
    found = [x[..., :n].transpose(1, 2).reshape(n * n, heads) for x, n in zip(out, sizes, strict=True)]
    assert torch.equal(torch.cat(found) != 0, keep_mask(torch.arange(sum(n * n for n in sizes)), heads, 0.3, -3))


def test_all_is_dropped_at_one() -> None:
    batch = cases.make_batch((3, 1))
    for p in (1.0, 1.0 - 2.0**-40):  # the second rounds to it
        got = run(cases.make_tensors(batch, 2, 3), batch, dropout_p=p, seed=1)
        assert not any(value.any() for value in got.values())


@triton.jit
def write_kept(first, found, threshold, seed, s: tl.constexpr):  # type: ignore[no-untyped-def]
    within = tl.arange(0, 16)[:, None] * 7 + tl.arange(0, 16)[None, :]
    pairs = (tl.load(first), within)
    bits = tiles.kept_pairs(seed, pairs, tl.program_id(0), tl.load(threshold), s)
    tl.store(found + tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :], bits)


@pytest.mark.parametrize("first", [2**32 - 50, 2**62 + 7])
def test_pair_numbers_beyond_32_bits_reach_the_counter(first: int) -> None:
    """Also where they get there within a tile."""
    found, seed = torch.empty(16, 16, dtype=torch.int32), torch.tensor(3)
    setup = tiles.RaggedSetup(1.0, 0.0, 0.0, 0.0, True, 4, 16, tl.float32, 16, 16, 4, 16, 1)
    write_kept[(1,)](torch.tensor([first]), found, torch.tensor([2**31]), seed, s=setup)
    pair = first + torch.arange(16)[:, None] * 7 + torch.arange(16)
    expected = sum((word >= 2**31).int() << i for i, word in enumerate(philox(3, pair, 0)))
    assert torch.equal(found, expected)


def test_same_bits_every_time_and_whatever_lies_beside() -> None:
    batch = cases.make_batch((3, 40, 0, 12))
    tensors = cases.make_tensors(batch, 3, 5, dtype=F32)
    whole = run(tensors, batch)
    again = run(tensors, batch)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    alone = cases.Batch(torch.tensor([0, 40]), batch.distance[9 : 9 + 1600])
    one = {name: x if name == "hop" else x[3:43] for name, x in tensors.items()}
    got = run(one, alone, grad=cases.noise(whole["out"])[3:43].contiguous())
    assert all(torch.equal(got[name], whole[name][3:43]) for name in NAMES)


def test_nonfinite_numbers_stay_in_their_graph_and_head() -> None:
    batch = cases.make_batch((20, 35))
    tensors = cases.make_tensors(batch, 3, 5, dtype=F32)
    tensors["k"][22, 1, 2] = float("inf")
    got, expected = (cases.run_ragged(tensors, batch, backend=name)["out"] for name in ("triton", "reference"))
    torch.testing.assert_close(got, expected, equal_nan=True)
    assert got[20:, 1].isnan().any()
    assert got[:20].isfinite().all()


@pytest.mark.parametrize("sizes", [(), (0, 0)])
def test_no_nodes(sizes: tuple[int, ...]) -> None:
    batch = cases.make_batch(sizes)
    got = run(cases.make_tensors(batch, 2, 3), batch, **DROPOUT)
    assert [tuple(value.shape) for value in got.values()] == [*4 * [(0, 2, 3)], (2,)]
    assert not got["grad hop"].any()


@pytest.mark.parametrize("missing", ["q", "k", "v", "hop"])
def test_gradients_that_are_not_asked_for_are_not_computed(missing: str) -> None:
    """And the others have the same bits."""
    batch = cases.make_batch((2, 17))
    tensors = cases.make_tensors(batch, 1, 3)
    expected = run(tensors, batch)
    leaves = {name: x.clone().requires_grad_(name != missing) for name, x in tensors.items()}
    out = ragged_attention(**leaves, ptr=batch.ptr, distance=batch.distance, backend="triton", **cases.DECAY)
    asked = {name: leaf for name, leaf in leaves.items() if name != missing}
    for name, grad in zip(asked, torch.autograd.grad(out, list(asked.values()), cases.noise(out)), strict=True):
        assert torch.equal(grad, expected[f"grad {name}"])


class NoReading(TorchDispatchMode):
    """Raises where a GPU would have to be waited for, and keeps the size of the largest result."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if func.overloadpacket in (aten.item, aten._local_scalar_dense, aten.nonzero):
            raise AssertionError(f"{func} waits for the device")
        result = func(*args, **(kwargs or {}))
        self.largest = max(self.largest, result.numel())
        return result


def test_launching_waits_for_nothing_and_takes_little_memory() -> None:
    """Kernels are not run; what is around them reads no tensor, and allocates nothing of the pairs' size."""
    batch = cases.make_batch(SIZES)
    tensors = cases.make_tensors(batch, 2, 3, dtype=BF16)
    with launch.keep_launches() as kept, NoReading() as mode:
        call = ragged.Inputs(*(tensors[name] for name in "qkv"), tensors["hop"].float(), *batch, torch.tensor(3))
        numbers = ragged.Numbers(0.5, 0.6, 0.1, 0.3)
        q, wide = call.q, call.q.float()
        stats = torch.zeros(q.shape[0], 2, 2)
        ragged.forward(call, numbers, q, stats, wide)
        ragged.backward(call, numbers, ragged.Saved(stats, wide, q), q, q, q, call.hop)
    assert len(kept) == 5
    assert 0 < mode.largest <= q.numel() < len(batch.distance) // 4
    with pytest.raises(AssertionError, match="waits"), NoReading():
        batch.ptr.max().item()


def test_second_derivatives() -> None:
    batch = cases.make_batch((1, 4))
    tensors = cases.make_tensors(batch, 1, 2)
    grads = []
    for backend in ("triton", "reference"):
        leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
        out = ragged_attention(**leaves, ptr=batch.ptr, distance=batch.distance, backend=backend, **cases.DECAY)
        first = torch.autograd.grad(out.square().sum(), list(leaves.values()), create_graph=True)
        grads.append(torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values())))
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("dtype", "checks"),
    [
        (BF16, ["test_schema", "test_autograd_registration", "test_faketensor"]),
        pytest.param(BF16, ["test_aot_dispatch_dynamic"], marks=pytest.mark.whole),
        pytest.param(F32, ["test_aot_dispatch_dynamic"], marks=pytest.mark.whole),
    ],
)
def test_op_passes_opcheck(dtype: torch.dtype, checks: list[str]) -> None:
    """Half precision has one output more."""
    batch = cases.make_batch((2,))
    tensors = {name: x.requires_grad_() for name, x in cases.make_tensors(batch, 1, 2, dtype=dtype).items()}
    captured: list[Any] = []
    call = module._ragged
    module._ragged = lambda *flat: captured.append(flat) or call(*flat)
    try:
        ragged_attention(**tensors, ptr=batch.ptr, distance=batch.distance, backend="triton", **cases.DECAY)
    finally:
        module._ragged = call
    torch.library.opcheck(torch.ops.gattn.ragged_attention.default, captured[0], test_utils=checks)


@pytest.mark.whole
@pytest.mark.parametrize("dtype", [F64, F32, BF16, F16], ids=str)
@pytest.mark.parametrize("distance", [None, torch.int8, torch.int16, torch.int32], ids=str)
@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["kept", "dropout"])
@pytest.mark.parametrize("channels", [1, 5, 33])
@pytest.mark.parametrize("heads", [1, 3])
def test_whole_matrix(
    heads: int, channels: int, options: dict[str, Any], distance: torch.dtype | None, dtype: torch.dtype
) -> None:
    batch = cases.make_batch(SIZES, decay=distance is not None, distance_dtype=distance or torch.int16)
    check(cases.make_tensors(batch, heads, channels, dtype=dtype), batch, **options)


@pytest.mark.whole
@pytest.mark.parametrize("dtype", [F64, F32, BF16], ids=str)
@pytest.mark.parametrize(("heads", "channels"), [(4, 16), (8, 8), (1, 64), (2, 129), (1, 257), (1, 300)])
def test_all_widths(heads: int, channels: int, dtype: torch.dtype) -> None:
    batch = cases.make_batch((33, 1, 140))
    check(cases.make_tensors(batch, heads, channels, dtype=dtype), batch, **DROPOUT)


def test_float64_needs_a_triton_that_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ragged = importlib.import_module("gattn.kernels.ragged")
    monkeypatch.setattr(ragged.triton, "__version__", "3.4.0")
    given = arguments()
    wide = {name: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for name, x in given.items()}
    with pytest.raises(RuntimeError, match=r"Triton 3\.5 or newer for attention over all pairs in float64 \(got 3\.4"):
        module.ragged_attention(**wide, backend="triton")
