// What a node's own features give it, in one pass over them: scores <x, att> and the norm |x|.
#include "row_loop.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

// Nodes are handled in blocks whose size depends on their number alone, so that sums over nodes come out the same
// for any number of threads: one partial sum a block, added up in order.
struct Blocks {
  int64_t nodes, size, count;
  explicit Blocks(int64_t nodes_) : nodes(nodes_), size((nodes_ + 63) / 64 > 512 ? (nodes_ + 63) / 64 : 512) {
    count = (nodes + size - 1) / size;
  }
};

template <class Body>
void for_each_block(const Blocks& blocks, int threads, const Body& body) {
  parallel_tasks(blocks.count, threads, [&](int64_t block, int) {
    const int64_t begin = block * blocks.size, end = begin + blocks.size;
    body(block, begin, end < blocks.nodes ? end : blocks.nodes);
  });
}

template <class A>
void run_terms(const Problem& problem, int64_t nodes, const void* x, const NodeParameters& parameters,
               const NodeTerms& terms) {
  const int64_t heads = problem.heads, channels = problem.channels;
  const Rows<A> features(x, problem.dtype, heads, channels);
  auto *a_src = static_cast<A*>(terms.a_src), *a_dst = static_cast<A*>(terms.a_dst);
  auto* norm = static_cast<A*>(terms.norm);
  for_each_block(Blocks(nodes), problem.threads, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const void* row = features[i];
      if (a_src) features.ops->dot_wide(a_src + i * heads, row, parameters.att_src, heads, channels);
      if (a_dst) features.ops->dot_wide(a_dst + i * heads, row, parameters.att_dst, heads, channels);
      if (norm) features.ops->dot(norm + i * heads, row, row, heads, channels);
    }
    if (norm)
      for (int64_t at = begin * heads; at < end * heads; ++at) norm[at] = __builtin_sqrt(norm[at]);
  });
}

template <class A>
void run_backward(const Problem& problem, int64_t nodes, const void* x, const NodeParameters& parameters,
                  const NodeSaved& saved, const NodeGradients& grads) {
  const int64_t heads = problem.heads, channels = problem.channels, width = heads * channels;
  const Rows<A> features(x, problem.dtype, heads, channels), dx(grads.x, problem.dtype, heads, channels);
  const Rows<A> partial_dx(grads.partial_x, grads.wide_partial ? kWide<A> : problem.dtype, heads, channels);
  const Rows<A> grad_out(grads.grad_out, problem.dtype, heads, channels);
  const RowOps<A>& wide = row_ops<A>(kWide<A>, channels);
  const auto *da_src = static_cast<const A*>(saved.grad_a_src), *da_dst = static_cast<const A*>(saved.grad_a_dst);
  const auto *norm = static_cast<const A*>(saved.norm), *grad_norm = static_cast<const A*>(saved.grad_norm);
  const void *att_src = parameters.att_src, *att_dst = parameters.att_dst;
  A* const totals[] = {static_cast<A*>(grads.att_src), static_cast<A*>(grads.att_dst), static_cast<A*>(grads.bias)};
  const Blocks blocks(nodes);
  const int64_t scratch = 4 * width + heads;
  Buffer<A> partial(blocks.count * scratch), ones(heads);
  for (int64_t h = 0; h < heads; ++h) ones[h] = 1;
  if (!grads.partial_x) advise_huge_pages(grads.x, nodes * dx.bytes);
  for_each_block(blocks, problem.threads, [&](int64_t block, int64_t begin, int64_t end) {
    A *src = partial.get() + block * scratch, *dst = src + width, *bias = dst + width, *row = bias + width;
    A* factor = row + width;
    memset(src, 0, 3 * width * sizeof(A));
    for (int64_t i = begin; i < end; ++i) {
      const void *mine = features[i], *given = grad_out[i], *gradient = partial_dx[i];
      memset(row, 0, width * sizeof(A));
      if (grads.partial_x) partial_dx.ops->add[0](row, &gradient, ones.get(), heads, channels);
      if (da_src) {
        features.ops->add[0](src, &mine, da_src + i * heads, heads, channels);
        wide.add[0](row, &att_src, da_src + i * heads, heads, channels);
      }
      if (da_dst) {
        features.ops->add[0](dst, &mine, da_dst + i * heads, heads, channels);
        wide.add[0](row, &att_dst, da_dst + i * heads, heads, channels);
      }
      if (norm) {  // the norm's gradient at 0 is 0
        for (int64_t h = 0; h < heads; ++h)
          factor[h] = norm[i * heads + h] == 0 ? A{0} : grad_norm[i * heads + h] / norm[i * heads + h];
        features.ops->add[0](row, &mine, factor, heads, channels);
      }
      if (grads.bias) features.ops->add[0](bias, &given, ones.get(), heads, channels);
      dx.ops->write(const_cast<void*>(dx[i]), row, ones.get(), nullptr, heads, channels);
    }
  });
  for (int part = 0; part < 3; ++part) {
    if (totals[part] == nullptr) continue;
    memset(totals[part], 0, width * sizeof(A));
    for (int64_t block = 0; block < blocks.count; ++block)
      for (int64_t c = 0; c < width; ++c) totals[part][c] += partial[block * scratch + part * width + c];
  }
}

template <class A>
struct Divisor {
  int64_t heads;
  const A *norm, *weight;
  const int64_t* first;

  Divisor(const Problem& problem, const DivisorInputs& in)
      : heads(problem.heads),
        norm(static_cast<const A*>(in.norm)),
        weight(static_cast<const A*>(in.weight)),
        first(in.first) {}

  A largest(int64_t at, int64_t h) const { return first[at] < 0 ? A{0} : norm[first[at] * heads + h]; }
  A root(int64_t at, int64_t h) const {
    const A other = largest(at, h);
    return __builtin_sqrt(norm[at] * norm[at] + other * other);
  }
};

template <class A>
void run_divisor(const Problem& problem, int64_t nodes, const DivisorInputs& in, A* divisor) {
  const Divisor<A> of(problem, in);
  for_each_block(Blocks(nodes), problem.threads, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t h = 0; h < of.heads; ++h)
        divisor[i * of.heads + h] = of.weight[h] * of.root(i * of.heads + h, h) + static_cast<A>(1e-12);
  });
}

// A head a task: a node may have the largest norm of many neighbourhoods, and their gradients are added in one order.
template <class A>
void run_divisor_backward(const Problem& problem, int64_t nodes, const DivisorInputs& in, const A* grad_divisor,
                          A* grad_norm, A* grad_weight) {
  const Divisor<A> of(problem, in);
  const int64_t heads = of.heads;
  memset(grad_norm, 0, nodes * heads * sizeof(A));
  parallel_tasks(heads, problem.threads, [&](int64_t h, int) {
    double by_weight = 0;
    for (int64_t at = h; at < nodes * heads; at += heads) {
      const A root = of.root(at, h);
      by_weight += static_cast<double>(grad_divisor[at]) * root;
      if (root == 0) continue;  // the gradient at 0 is 0
      const A gradient = grad_divisor[at] * of.weight[h] / root;
      grad_norm[at] += gradient * of.norm[at];
      if (of.first[at] >= 0) grad_norm[of.first[at] * heads + h] += gradient * of.largest(at, h);
    }
    grad_weight[h] = static_cast<A>(by_weight);
  });
}

}  // namespace

void node_terms(const Problem& problem, int64_t nodes, const void* x, const NodeParameters& parameters,
                const NodeTerms& terms) {
  with_accumulator(problem, [&](auto zero) { run_terms<decltype(zero)>(problem, nodes, x, parameters, terms); });
}

void node_terms_backward(const Problem& problem, int64_t nodes, const void* x, const NodeParameters& parameters,
                         const NodeSaved& saved, const NodeGradients& grads) {
  with_accumulator(problem,
                   [&](auto zero) { run_backward<decltype(zero)>(problem, nodes, x, parameters, saved, grads); });
}

void gat_divisor(const Problem& problem, int64_t nodes, const DivisorInputs& in, void* divisor) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    run_divisor<A>(problem, nodes, in, static_cast<A*>(divisor));
  });
}

void gat_divisor_backward(const Problem& problem, int64_t nodes, const DivisorInputs& in, const void* grad_divisor,
                          const DivisorGradients& grads) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    run_divisor_backward<A>(problem, nodes, in, static_cast<const A*>(grad_divisor), static_cast<A*>(grads.norm),
                            static_cast<A*>(grads.weight));
  });
}

}  // namespace gattn::cpu::GATTN_ISA
