// Every score with every modifier as scalar loops over edges in fp64 (MATH: s = M phi(t / c), softmax with sink and
// epsilon, dropout, sum of values); its gradients come from the tape.
#pragma once

#include "attention_case.h"
#include "autodiff.h"
#include "common/philox.h"

namespace gattn::tests {

using Vars = std::vector<Var>;

struct NaiveAttention {
  const AttentionCase& test;
  const Vars* in;         // an array for every Input, empty where the attention has none
  const Array& distance;  // [E]
  const int64_t heads = test.heads, channels = test.channels;

  Vars out{}, alpha{}, products{};  // [num_dst, heads, channels], [E, heads], [E, heads, channels] (score gt)
  Numbers row_stats{};              // [num_dst, 2, heads]

  void run() {
    const int64_t rows = test.list.num_dst * heads;
    Vars s(test.edges() * heads), sum(rows), sink(rows);
    Numbers maximum(rows, -std::numeric_limits<double>::infinity());
    std::vector<bool> has_edges(test.list.num_dst);
    products.resize(test.is(ScoreKind::gt) ? s.size() * channels : 0);
    each([&](int64_t e, int64_t h, int64_t j, int64_t i) {
      s[e * heads + h] = score(e, h, j, i);
      const bool counts = !test.has(kEdgeWeight) || in[kEdgeWeight][e * heads + h].value > 0;
      if (counts) maximum[i * heads + h] = std::max(maximum[i * heads + h], s[e * heads + h].value);
      has_edges[i] = true;
    });
    for (int64_t ih = 0; ih < rows; ++ih) {
      if (test.has(kSink)) maximum[ih] = std::max(maximum[ih], in[kSink][ih].value);
      if (!std::isfinite(maximum[ih]) && !has_edges[ih / heads]) continue;  // and no sink
      if (!std::isfinite(maximum[ih])) maximum[ih] = 0;                     // no edge weighs anything
      if (test.has(kSink)) sum[ih] = sink[ih] = exp(in[kSink][ih] + -maximum[ih]);
      sum[ih] = sum[ih] + test.epsilon() * std::exp(-maximum[ih]);
    }
    alpha.resize(s.size());
    each([&](int64_t e, int64_t h, int64_t, int64_t i) {
      Var& weight = alpha[e * heads + h] = exp(s[e * heads + h] + -maximum[i * heads + h]);
      if (test.has(kEdgeWeight)) weight = weight * in[kEdgeWeight][e * heads + h];
      sum[i * heads + h] = sum[i * heads + h] + weight;
    });
    out.resize(rows * channels);
    each([&](int64_t e, int64_t h, int64_t j, int64_t i) {
      Var& weight = alpha[e * heads + h] = alpha[e * heads + h] / sum[i * heads + h];
      const Var kept = weight * dropout_factor(e, h);
      if (!test.modifier.undropped) weight = kept;
      add_values(e, h, j, i, kept);
    });
    for (int64_t c = 0; test.has(kSinkValue) && c < rows * channels; ++c)
      out[c] = out[c] + sink[c / channels] / sum[c / channels] * in[kSinkValue][c % (heads * channels)];
    for (int64_t i = 0; i < test.list.num_dst; ++i)
      for (const bool of_sum : {false, true})
        for (int64_t ih = i * heads; ih < (i + 1) * heads; ++ih)
          row_stats.push_back(of_sum ? sum[ih].value : maximum[ih]);
  }

 private:
  // body(edge, head, source, target)
  template <class Body>
  void each(const Body& body) const {
    for (int64_t e = 0; e < test.edges(); ++e)
      for (int64_t h = 0; h < heads; ++h) body(e, h, test.list.edges[e].first, test.list.edges[e].second);
  }

  Var score(int64_t e, int64_t h, int64_t j, int64_t i) {
    Var t;
    if (test.has(kSrc)) t = t + in[kSrc][j * heads + h];
    if (test.has(kDst)) t = t + in[kDst][i * heads + h];
    if (test.has(kEdgeLogit)) t = t + in[kEdgeLogit][e * heads + h];
    for (int64_t c = 0; test.has(kQ) && c < channels; ++c) t = t + term(e, h, j, i, c);
    if (test.has(kDivisor)) t = t / in[kDivisor][i * heads + h];
    if (test.is(ScoreKind::gat)) t = leaky_relu(t, test.slope);
    if (test.is(ScoreKind::gt)) t = clamp(t, test.clip);
    if (!test.has(kHop)) return t;
    const Var excess = Var(distance.get(e)) + in[kHop][h] * -1.0;
    return t * exp(leaky_relu(excess, test.decay_slope) * std::log(test.gamma));
  }

  Var term(int64_t e, int64_t h, int64_t j, int64_t i, int64_t c) {
    const int64_t ec = (e * heads + h) * channels + c;
    const Var q = in[kQ][(i * heads + h) * channels + c], k = in[kK][(j * heads + h) * channels + c];
    const Var edge = test.has(kEdge) ? in[kEdge][ec] : Var();
    if (test.is(ScoreKind::gt)) return products[ec] = q * k * test.scale() * edge;
    if (test.is(ScoreKind::dot)) return q * (k + edge) * test.scale();
    return leaky_relu(k + q + edge, test.slope) * in[kAtt][h * channels + c] * test.scale();
  }

  void add_values(int64_t e, int64_t h, int64_t j, int64_t i, Var weight) {
    const Vars& values = in[test.is(ScoreKind::gatv2) ? kK : kV];
    for (int64_t c = 0; !values.empty() && c < channels; ++c) {
      Var value = values[(j * heads + h) * channels + c];
      if (test.is(ScoreKind::dot) && test.has(kEdge)) value = value + in[kEdge][(e * heads + h) * channels + c];
      Var& to = out[(i * heads + h) * channels + c];
      to = to + weight * value;
    }
  }

  double dropout_factor(int64_t e, int64_t h) const {
    const bool dropped =
        philox(kSeed, e, static_cast<uint32_t>(h / 4)).word[h % 4] < dropout_threshold(test.modifier.dropout_p);
    return dropped ? 0.0 : 1.0 / (1.0 - test.modifier.dropout_p);
  }
};

}  // namespace gattn::tests
