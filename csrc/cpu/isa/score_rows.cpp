// A score is a struct of what it computes of one vector of channels:
//   term(k, e, q, att, slope)      summed over channels it is the score (without scale)
//   by_target, by_source, by_edge  d term / dq, dk, de; gatv2: without the factor att where `att_later` says so
#include "score_rows.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

template <class V, class A>
inline V branch(V z, A slope) {
  const V one = V{} + A{1};
  return z > V{} ? one : one * slope;
}
template <class A>
inline A branch(A z, A slope) {
  return z > A{0} ? A{1} : slope;
}

template <bool HasEdge>
struct DotScore {
  static constexpr bool reads_edge = HasEdge, has_att = false;
  template <class V, class A>
  static V term(V k, V e, V q, V, A) {
    return HasEdge ? q * (k + e) : q * k;
  }
  template <class V, class A>
  static V by_target(V k, V e, V, A) {
    return HasEdge ? k + e : k;
  }
  template <class V, class A>
  static V by_source(V, V, V q, A) {
    return q;
  }
  template <class V, class A>
  static V by_edge(V, V, V q, V, A) {
    return q;
  }
};

struct GtScore {
  static constexpr bool reads_edge = true, has_att = false;
  template <class V, class A>
  static V term(V k, V e, V q, V, A) {
    return q * k * e;
  }
  template <class V, class A>
  static V by_target(V k, V e, V, A) {
    return k * e;
  }
  template <class V, class A>
  static V by_source(V, V e, V q, A) {
    return q * e;
  }
  template <class V, class A>
  static V by_edge(V k, V, V q, V, A) {
    return q * k;
  }
};

template <bool HasEdge>
struct Gatv2Score {
  static constexpr bool reads_edge = HasEdge, has_att = true;
  template <class V>
  static V sum(V k, V e, V q) {
    return HasEdge ? k + q + e : k + q;
  }
  template <class V, class A>
  static V term(V k, V e, V q, V att, A slope) {
    return att * activated(k, e, q, slope);
  }
  template <class V, class A>
  static V activated(V k, V e, V q, A slope) {
    const V z = sum(k, e, q);
    return z > V{} ? z : z * slope;
  }
  template <class V, class A>
  static V by_target(V k, V e, V q, A slope) {
    return branch(sum(k, e, q), slope);
  }
  template <class V, class A>
  static V by_source(V k, V e, V q, A slope) {
    return branch(sum(k, e, q), slope);
  }
  template <class V, class A>
  static V by_edge(V k, V e, V q, V att, A slope) {
    return att * branch(sum(k, e, q), slope);
  }
};

template <class S, int W, class A>
inline Vec<A, W> load_edge(const A* e, int64_t c) {
  if constexpr (S::reads_edge) {
    return load<W>(e + c);
  } else {
    return Vec<A, W>{};
  }
}

// Vectors added in a row before another partial sum starts: short sums err less.
constexpr int64_t kSumBlock = 16;

template <class S, class A>
void score_four(A* t, const A* const* k, const A* const* e, const A* q, const ScoreParameters<A>& p) {
  constexpr int L = kLanes<A>;
  for (int64_t h = 0; h < p.heads; ++h) {
    const int64_t base = h * p.channels;
    Vec<A, L> whole[4]{};
    A rest[4]{}, sum[4];
    for (int64_t begin = 0; begin < p.channels; begin += kSumBlock * L) {
      const int64_t end = begin + kSumBlock * L < p.channels ? begin + kSumBlock * L : p.channels;
      Vec<A, L> block[4]{};
      for_channels<A>(
          end,
          [&](auto width, int64_t channel) {
            constexpr int W = decltype(width)::value;
            using V = Vec<A, W>;
            const int64_t c = base + channel;
            const V mine = load<W>(q + c);
            V att{};
            if constexpr (S::has_att) att = load<W>(p.att + c);
            for (int u = 0; u < 4; ++u) {
              const V edge = load_edge<S, W>(S::reads_edge ? e[u] : nullptr, c);
              const V term = S::template term<V, A>(load<W>(k[u] + c), edge, mine, att, p.slope);
              if constexpr (W == L) {
                block[u] += term;
              } else {
                rest[u] += sum_lanes<A, W>(term);
              }
            }
          },
          begin);
      for (int u = 0; u < 4; ++u) whole[u] += block[u];
    }
    sum_lanes_of<A, L, 4>(whole, sum, 1);
    for (int u = 0; u < 4; ++u) t[u * p.heads + h] += p.scale * (sum[u] + rest[u]);
  }
}

template <class S, class A>
void term_row(A* to, const A* k, const A* e, const A* q, const ScoreParameters<A>& p) {
  for_channels<A>(p.heads * p.channels, [&](auto width, int64_t c) {
    constexpr int W = decltype(width)::value;
    using V = Vec<A, W>;
    V att{};
    if constexpr (S::has_att) att = load<W>(p.att + c);
    store<W>(to + c,
             p.scale * S::template term<V, A>(load<W>(k + c), load_edge<S, W>(e, c), load<W>(q + c), att, p.slope));
  });
}

// (The terms are computed again: a sum of those that are stored would be rounded in other places.)
template <class S, class A>
void score_four_with_terms(A* t, A* to, const A* const* k, const A* const* e, const A* q, const ScoreParameters<A>& p) {
  score_four<S, A>(t, k, e, q, p);
  for (int u = 0; u < 4; ++u) term_row<S, A>(to + u * p.heads * p.channels, k[u], S::reads_edge ? e[u] : nullptr, q, p);
}

// Calls function(width, c, gradient) over an edge's vectors, gradient being that of scale-free terms.
template <class A, class Function>
inline void for_gradient(const EdgeGradient<A>& gradient, const ScoreParameters<A>& p, const Function& function) {
  for (int64_t h = 0; h < p.heads; ++h) {
    const A of_t = gradient.t[h] * p.scale;
    const int64_t base = h * p.channels;
    if (gradient.products == nullptr)
      for_channels<A>(p.channels, [&](auto width, int64_t c) {
        function(width, base + c, splat<A, decltype(width)::value>(of_t));
      });
    else
      for_channels<A>(p.channels, [&](auto width, int64_t c) {
        constexpr int W = decltype(width)::value;
        function(width, base + c, splat<A, W>(of_t) + p.scale * load<W>(gradient.products + base + c));
      });
  }
}

template <class S, class A>
void target_row(A* dq, A* datt, const EdgeGradient<A>& gradient, const A* k, const A* e, const A* q,
                const ScoreParameters<A>& p) {
  for_gradient(gradient, p, [&](auto width, int64_t c, auto g) {
    constexpr int W = decltype(width)::value;
    using V = Vec<A, W>;
    const V theirs = load<W>(k + c), edge = load_edge<S, W>(e, c), mine = load<W>(q + c);
    store<W>(dq + c, load<W>(dq + c) + g * S::template by_target<V, A>(theirs, edge, mine, p.slope));
    if constexpr (S::has_att)
      store<W>(datt + c, load<W>(datt + c) + g * S::template activated<V, A>(theirs, edge, mine, p.slope));
  });
}

template <class S, class A>
void source_row(A* dk, const EdgeGradient<A>& gradient, const A* k, const A* e, const A* q,
                const ScoreParameters<A>& p) {
  for_gradient(gradient, p, [&](auto width, int64_t c, auto g) {
    constexpr int W = decltype(width)::value;
    using V = Vec<A, W>;
    const V part = S::template by_source<V, A>(load<W>(k + c), load_edge<S, W>(e, c), load<W>(q + c), p.slope);
    store<W>(dk + c, load<W>(dk + c) + g * part);
  });
}

template <class S, class A>
void edge_row(A* de, const EdgeGradient<A>& gradient, const A* k, const A* e, const A* q, const ScoreParameters<A>& p) {
  for_gradient(gradient, p, [&](auto width, int64_t c, auto g) {
    constexpr int W = decltype(width)::value;
    using V = Vec<A, W>;
    V att{};
    if constexpr (S::has_att) att = load<W>(p.att + c);
    store<W>(de + c,
             g * S::template by_edge<V, A>(load<W>(k + c), load_edge<S, W>(e, c), load<W>(q + c), att, p.slope));
  });
}

template <class S, class A>
constexpr ScoreRows<A> kRows = {score_four<S, A>, term_row<S, A>, target_row<S, A>,
                                source_row<S, A>, edge_row<S, A>, score_four_with_terms<S, A>};

}  // namespace

template <class A>
const ScoreRows<A>& score_rows(ScoreKind score, bool has_edge) {
  switch (score) {
    case ScoreKind::gatv2:
      return has_edge ? kRows<Gatv2Score<true>, A> : kRows<Gatv2Score<false>, A>;
    case ScoreKind::gt:
      return kRows<GtScore, A>;
    default:
      return has_edge ? kRows<DotScore<true>, A> : kRows<DotScore<false>, A>;
  }
}

template const ScoreRows<float>& score_rows<float>(ScoreKind, bool);
template const ScoreRows<double>& score_rows<double>(ScoreKind, bool);

}  // namespace gattn::cpu::GATTN_ISA
