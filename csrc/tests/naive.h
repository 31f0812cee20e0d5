// GAT attention and its gradients as scalar loops over edges in fp64: what the kernels are compared with.
#pragma once

#include "common/philox.h"
#include "fixtures.h"

namespace gattn::tests {

struct Naive {
  const EdgeList& list;
  int64_t heads, channels;
  double slope, dropout_p;
  uint64_t seed;

  Numbers t, p, factor;  // [E, heads]: before the LeakyReLU, softmax, dropout

  int64_t edges() const { return static_cast<int64_t>(list.edges.size()); }

  // Calls body(edge, head, source * heads + head, target * heads + head, edge * heads + head).
  template <class Body>
  void each(const Body& body) const {
    for (int64_t e = 0; e < edges(); ++e)
      for (int64_t h = 0; h < heads; ++h)
        body(e, h, list.edges[e].first * heads + h, list.edges[e].second * heads + h, e * heads + h);
  }

  // From t to p, factor and the rows' statistics [num_dst, 2, heads]: maximum and sum.
  Numbers softmax() {
    Numbers maximum(list.num_dst * heads, -std::numeric_limits<double>::infinity()), sum(maximum.size(), 0.0);
    Numbers row_stats(2 * maximum.size());
    p.resize(t.size());
    factor.resize(t.size());
    const uint64_t threshold = dropout_threshold(dropout_p);
    each([&](int64_t e, int64_t h, int64_t, int64_t i, int64_t eh) {
      p[eh] = t[eh] > 0 ? t[eh] : t[eh] * slope;
      maximum[i] = std::max(maximum[i], p[eh]);
      const bool dropped = philox(seed, e, static_cast<uint32_t>(h / 4)).word[h % 4] < threshold;
      factor[eh] = dropped ? 0.0 : 1.0 / (1.0 - dropout_p);
    });
    each([&](int64_t, int64_t, int64_t, int64_t i, int64_t eh) { sum[i] += p[eh] = std::exp(p[eh] - maximum[i]); });
    each([&](int64_t, int64_t, int64_t, int64_t i, int64_t eh) { p[eh] /= sum[i]; });
    for (int64_t i = 0; i < static_cast<int64_t>(sum.size()); ++i) {
      double* row = row_stats.data() + i / heads * 2 * heads;
      row[i % heads] = maximum[i];
      row[heads + i % heads] = sum[i];
    }
    return row_stats;
  }

  Numbers alpha() const {
    Numbers result(p);
    for (size_t i = 0; i < p.size(); ++i) result[i] *= factor[i];
    return result;
  }

  // dL/dt from dL/dalpha.
  Numbers backward(const Numbers& grad_alpha) const {
    Numbers d(list.num_dst * heads, 0.0), grad(t.size());
    each([&](int64_t, int64_t, int64_t, int64_t i, int64_t eh) { d[i] += p[eh] * factor[eh] * grad_alpha[eh]; });
    each([&](int64_t, int64_t, int64_t, int64_t i, int64_t eh) {
      grad[eh] = p[eh] * (factor[eh] * grad_alpha[eh] - d[i]) * (t[eh] > 0 ? 1.0 : slope);
    });
    return grad;
  }

  // body(x index, out index, edge * heads + head) for every channel of every edge.
  template <class Body>
  void each_channel(const Body& body) const {
    each([&](int64_t, int64_t, int64_t j, int64_t i, int64_t eh) {
      for (int64_t c = 0; c < channels; ++c) body(j * channels + c, i * channels + c, eh);
    });
  }
};

}  // namespace gattn::tests
