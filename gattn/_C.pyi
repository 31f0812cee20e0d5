# The compiled core (csrc/bindings.cpp): tensors cross by DLPack (gattn.exchange) and are checked before use.

from collections.abc import Callable
from typing import TypeAlias

_Exported: TypeAlias = object  # a tensor, or its types.CapsuleType

version: str
compiler: str
GRAPH_HEADER: int
HUB_DEGREE: int
cuda_compiler: str  # and the architectures; empty without CUDA kernels
no_cuda: str  # why there are no CUDA kernels; empty if there are

def isa() -> str: ...
def isas() -> list[str]: ...
def pool() -> str: ...
def build_graph(
    edge_index: _Exported,
    num_src: int,
    num_dst: int,
    swap_rows: bool,
    self_loops: bool,
    wide: bool,
    threads: int,
    /,
) -> tuple[_Exported, int, int, int]: ...
def shortest_path(edge_index: _Exported, ptr: _Exported, unreachable: int, threads: int, /) -> _Exported: ...
def gat_forward(
    graph: _Exported,
    x: _Exported,
    a_src: _Exported,
    a_dst: _Exported | None,
    a_edge: _Exported | None,
    divisor: _Exported | None,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Exported,
    row_stats: _Exported,
    alpha: _Exported | None,
    threads: int,
    /,
) -> None: ...
def gat_backward(
    graph: _Exported,
    x: _Exported,
    a_src: _Exported,
    a_dst: _Exported | None,
    a_edge: _Exported | None,
    divisor: _Exported | None,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Exported,
    row_stats: _Exported,
    alpha: _Exported | None,
    grad_out: _Exported,
    grad_alpha: _Exported | None,
    grad_x: _Exported,
    grad_a_src: _Exported,
    grad_a_dst: _Exported | None,
    grad_a_edge: _Exported | None,
    grad_divisor: _Exported | None,
    threads: int,
    /,
) -> None: ...
def gat_layer_forward(
    graph: _Exported,
    x: _Exported,
    att_src: _Exported,
    att_dst: _Exported,
    a_edge: _Exported | None,
    bias: _Exported | None,
    weight: _Exported | None,
    a_src: _Exported,
    a_dst: _Exported,
    norm: _Exported | None,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Exported,
    row_stats: _Exported,
    alpha: _Exported | None,
    threads: int,
    /,
) -> None: ...
def gat_layer_backward(
    graph: _Exported,
    x: _Exported,
    att_src: _Exported,
    att_dst: _Exported,
    a_edge: _Exported | None,
    bias: _Exported | None,
    weight: _Exported | None,
    a_src: _Exported,
    a_dst: _Exported,
    norm: _Exported | None,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Exported,
    row_stats: _Exported,
    alpha: _Exported | None,
    grad_out: _Exported,
    grad_alpha: _Exported | None,
    grad_x: _Exported,
    grad_a_edge: _Exported | None,
    grad_att_src: _Exported,
    grad_att_dst: _Exported,
    grad_bias: _Exported | None,
    grad_weight: _Exported | None,
    threads: int,
    /,
) -> None: ...
def node_terms(
    x: _Exported,
    att_src: _Exported | None,
    att_dst: _Exported | None,
    a_src: _Exported | None,
    a_dst: _Exported | None,
    norm: _Exported | None,
    threads: int,
    /,
) -> None: ...
def node_terms_backward(
    x: _Exported,
    att_src: _Exported | None,
    att_dst: _Exported | None,
    norm: _Exported | None,
    grad_a_src: _Exported | None,
    grad_a_dst: _Exported | None,
    grad_norm: _Exported | None,
    grad_x: _Exported,
    grad_att_src: _Exported | None,
    grad_att_dst: _Exported | None,
    threads: int,
    /,
) -> None: ...
def activation_stats(
    x: _Exported,
    limits: tuple[_Exported, ...],
    results: tuple[_Exported, ...],
    threads: int,
    /,
) -> None: ...
def attention_forward(
    graph: _Exported,
    inputs: dict[str, _Exported],
    settings: tuple[str | float | bool, ...],
    seed: int,
    results: dict[str, _Exported],
    limits: tuple[_Exported, ...],
    statistics: tuple[_Exported, ...],
    threads: int,
    /,
) -> None: ...
def attention_backward(
    graph: _Exported,
    inputs: dict[str, _Exported],
    settings: tuple[str | float | bool, ...],
    seed: int,
    saved: dict[str, _Exported],
    gradients: dict[str, _Exported],
    threads: int,
    /,
) -> None: ...
def ragged_forward(
    q: _Exported,
    k: _Exported,
    v: _Exported,
    ptr: _Exported,
    distance: _Exported | None,
    hop: _Exported | None,
    numbers: tuple[float, ...],
    seed: int,
    out: _Exported,
    row_stats: _Exported,
    threads: int,
    /,
) -> None: ...
def ragged_backward(
    q: _Exported,
    k: _Exported,
    v: _Exported,
    ptr: _Exported,
    distance: _Exported | None,
    hop: _Exported | None,
    numbers: tuple[float, ...],
    seed: int,
    row_stats: _Exported,
    grad_out: _Exported,
    grad_q: _Exported | None,
    grad_k: _Exported | None,
    grad_v: _Exported | None,
    grad_hop: _Exported | None,
    threads: int,
    /,
) -> None: ...
def first_largest(graph: _Exported, values: _Exported, first: _Exported, threads: int, /) -> None: ...
def gather_limit(graph: _Exported, x: _Exported, out: _Exported, threads: int, /) -> None: ...

# Only where there are CUDA kernels. Sizes are (num_src, num_dst, num_edges), sides as gattn.groups.sides gives them,
# ``stream`` is a cudaStream_t, and ``allocate`` takes bytes and gives an address that holds until the call returns.
_Side: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
_Sizes: TypeAlias = tuple[int, int, int]
_Tensors: TypeAlias = dict[str, _Exported]
_Settings: TypeAlias = tuple[str | float | bool, ...]

cuda_device: str  # "cuda"; "cpu" of emulated kernels

def cuda_attention_forward(
    graph: _Exported,
    groups: _Exported,
    sizes: _Sizes,
    rows: _Side,
    columns: _Side,
    inputs: _Tensors,
    settings: _Settings,
    seed: _Exported | None,
    results: _Tensors,
    stream: int,
    allocate: Callable[[int], int],
    /,
) -> None: ...
def cuda_attention_backward(
    graph: _Exported,
    groups: _Exported,
    sizes: _Sizes,
    rows: _Side,
    columns: _Side,
    inputs: _Tensors,
    settings: _Settings,
    seed: _Exported | None,
    saved: _Tensors,
    gradients: _Tensors,
    stream: int,
    allocate: Callable[[int], int],
    /,
) -> None: ...
def cuda_first_largest(
    graph: _Exported,
    groups: _Exported,
    sizes: _Sizes,
    rows: _Side,
    columns: _Side,
    values: _Exported,
    first: _Exported,
    stream: int,
    allocate: Callable[[int], int],
    /,
) -> None: ...
def cuda_stable_sort(
    keys: _Exported,
    values: _Exported,
    sorted_keys: _Exported,
    sorted_values: _Exported,
    bits: int,
    stream: int,
    allocate: Callable[[int], int],
    /,
) -> None: ...
