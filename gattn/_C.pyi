# The compiled core (csrc/bindings.cpp): tensors cross as DLPack capsules and are checked before use.

from typing import TypeAlias

_Capsule: TypeAlias = object  # types.CapsuleType, from Python 3.13 on

version: str
compiler: str
GRAPH_HEADER: int
HUB_DEGREE: int

def isa() -> str: ...
def isas() -> list[str]: ...
def pool() -> str: ...
def build_graph(
    edge_index: _Capsule,
    num_src: int,
    num_dst: int,
    swap_rows: bool,
    self_loops: bool,
    wide: bool,
    threads: int,
    /,
) -> tuple[_Capsule, int, int, int]: ...
def gat_forward(
    graph: _Capsule,
    x: _Capsule,
    a_src: _Capsule,
    a_dst: _Capsule | None,
    a_edge: _Capsule | None,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Capsule,
    row_stats: _Capsule,
    alpha: _Capsule | None,
    threads: int,
    /,
) -> None: ...
def gat_backward(
    graph: _Capsule,
    x: _Capsule,
    a_src: _Capsule,
    a_dst: _Capsule | None,
    a_edge: _Capsule | None,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Capsule,
    row_stats: _Capsule,
    alpha: _Capsule | None,
    grad_out: _Capsule,
    grad_alpha: _Capsule | None,
    grad_x: _Capsule,
    grad_a_src: _Capsule,
    grad_a_dst: _Capsule | None,
    grad_a_edge: _Capsule | None,
    threads: int,
    /,
) -> None: ...
def gat_layer_forward(
    graph: _Capsule,
    x: _Capsule,
    att_src: _Capsule,
    att_dst: _Capsule,
    a_edge: _Capsule | None,
    bias: _Capsule | None,
    a_src: _Capsule,
    a_dst: _Capsule,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Capsule,
    row_stats: _Capsule,
    alpha: _Capsule | None,
    threads: int,
    /,
) -> None: ...
def gat_layer_backward(
    graph: _Capsule,
    x: _Capsule,
    att_src: _Capsule,
    att_dst: _Capsule,
    a_edge: _Capsule | None,
    bias: _Capsule | None,
    a_src: _Capsule,
    a_dst: _Capsule,
    negative_slope: float,
    dropout_p: float,
    seed: int,
    out: _Capsule,
    row_stats: _Capsule,
    alpha: _Capsule | None,
    grad_out: _Capsule,
    grad_alpha: _Capsule | None,
    grad_x: _Capsule,
    grad_a_edge: _Capsule | None,
    grad_att_src: _Capsule,
    grad_att_dst: _Capsule,
    grad_bias: _Capsule | None,
    threads: int,
    /,
) -> None: ...
def attention_forward(
    graph: _Capsule,
    inputs: dict[str, _Capsule],
    settings: tuple[str | float | bool, ...],
    seed: int,
    results: dict[str, _Capsule],
    threads: int,
    /,
) -> None: ...
def attention_backward(
    graph: _Capsule,
    inputs: dict[str, _Capsule],
    settings: tuple[str | float | bool, ...],
    seed: int,
    saved: dict[str, _Capsule],
    gradients: dict[str, _Capsule],
    threads: int,
    /,
) -> None: ...
def first_largest(graph: _Capsule, values: _Capsule, first: _Capsule, threads: int, /) -> None: ...
def gather_limit(graph: _Capsule, x: _Capsule, out: _Capsule, threads: int, /) -> None: ...
