"""Where the pairs of every graph of a batch begin."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("num_graphs",))
def ragged_pair_ptr_kernel(
    ptr,  # [B + 1]
    pair_ptr,  # [B + 1], int64
    num_graphs: tl.int64,
    block: tl.constexpr,
):
    """One program: a batch has few graphs beside its pairs."""
    before = num_graphs * 0
    tl.store(pair_ptr, before)
    for start in range(0, num_graphs, block):
        graph = start + tl.arange(0, block)
        exist = graph < num_graphs
        size = tl.load(ptr + graph + 1, mask=exist, other=0).to(tl.int64) - tl.load(ptr + graph, mask=exist, other=0)
        pairs = size * size
        tl.store(pair_ptr + graph + 1, before + tl.cumsum(pairs, 0), mask=exist)
        before += tl.sum(pairs, 0)
