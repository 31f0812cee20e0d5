// W lanes with W <= channels; a ragged end is covered by one more vector that overlaps the one before it, so there are
// no scalar tails. U rows at a time: each pass over the accumulator (in L1) serves U gathered rows.
#include "rows.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

template <int W, int U, class A, class S>
void add_rows(A* acc, const void* const* rows, const A* weight, int64_t heads, int64_t channels) {
  const auto* row = reinterpret_cast<const S* const*>(rows);
  using V = Vec<A, W>;
  const int64_t whole = channels - channels % W, last = channels - W;
  for (int64_t h = 0; h < heads; ++h) {
    V w[U];
    for (int u = 0; u < U; ++u) w[u] = splat<A, W>(weight[u * heads + h]);
    const int64_t base = h * channels;
    const auto step = [&](V sum, int64_t at) {
      V several = w[0] * load<W>(row[0] + at);  // first among themselves: shorter sums err less
      for (int u = 1; u < U; ++u) several += w[u] * load<W>(row[u] + at);
      return sum + several;
    };
    if (whole == channels) {
      for (int64_t c = base; c < base + channels; c += W) store<W>(acc + c, step(load<W>(acc + c), c));
    } else {  // read the overlapping end before the loop changes it
      const V end = step(load<W>(acc + base + last), base + last);
      for (int64_t c = base; c < base + whole; c += W) store<W>(acc + c, step(load<W>(acc + c), c));
      store<W>(acc + base + last, end);
    }
  }
}

// Vectors a dot product adds in a row before it starts another partial sum: short sums err less.
constexpr int64_t kDotBlock = 16;

// Lanes of a head's last vector that the whole vectors before it already cover, zeroed: for dot products.
template <int W, class A, class S>
inline Vec<A, W> load_end(const S* head, int64_t channels) {
  Vec<A, W> v = load<W>(head + channels - W);
  if constexpr (W > 1) {
    const int covered = W - static_cast<int>(channels % W);
    for (int l = 0; l < covered; ++l) v[l] = A{0};
  }
  return v;
}

template <int W, int U, class A, class S>
void add_rows_and_dot(A* acc, const void* const* rows, const A* weight, A* dot, const void* local_row, int64_t heads,
                      int64_t channels) {
  const auto* row = reinterpret_cast<const S* const*>(rows);
  const auto* local = static_cast<const S*>(local_row);
  using V = Vec<A, W>;
  const int64_t whole = channels - channels % W, last = channels - W;
  for (int64_t h = 0; h < heads; ++h) {
    V w[U], product[U];
    for (int u = 0; u < U; ++u) {
      w[u] = splat<A, W>(weight[u * heads + h]);
      product[u] = V{};
    }
    const int64_t base = h * channels;
    const auto step = [&](V sum, V mine, int64_t at) {
      V several{};
      for (int u = 0; u < U; ++u) {
        const V theirs = load<W>(row[u] + at);
        several += w[u] * theirs;
        product[u] += mine * theirs;
      }
      return sum + several;
    };
    V end{};
    if (whole != channels) end = step(load<W>(acc + base + last), load_end<W, A>(local + base, channels), base + last);
    for (int64_t block = base; block < base + whole; block += kDotBlock * W) {
      const int64_t block_end = block + kDotBlock * W < base + whole ? block + kDotBlock * W : base + whole;
      V before[U];
      for (int u = 0; u < U; ++u) before[u] = product[u];
      if (block > base)
        for (int u = 0; u < U; ++u) product[u] = V{};
      for (int64_t c = block; c < block_end; c += W) store<W>(acc + c, step(load<W>(acc + c), load<W>(local + c), c));
      if (block > base)
        for (int u = 0; u < U; ++u) product[u] += before[u];
    }
    if (whole != channels) store<W>(acc + base + last, end);
    sum_lanes_of<A, W, U>(product, dot + h, heads);
  }
}

template <int W, class A, class S, class T>
void dot_row(A* dot, const void* a_row, const void* b_row, int64_t heads, int64_t channels) {
  const auto* a = static_cast<const S*>(a_row);
  const auto* b = static_cast<const T*>(b_row);
  const int64_t whole = channels - channels % W, last = channels - W;
  for (int64_t h = 0; h < heads; ++h, a += channels, b += channels) {
    Vec<A, W> sum{};
    for (int64_t block = 0; block < whole; block += kDotBlock * W) {
      const int64_t block_end = block + kDotBlock * W < whole ? block + kDotBlock * W : whole;
      Vec<A, W> partial{};
      for (int64_t c = block; c < block_end; c += W) partial += load<W>(a + c) * load<W>(b + c);
      sum += partial;
    }
    if (whole != channels) sum += load_end<W, A>(a, channels) * load<W>(b + last);
    dot[h] = sum_lanes<A, W>(sum);
  }
}

template <int W, class A, class S>
void write_row(void* out_row, const A* acc, const A* scale, const A* shift, int64_t heads, int64_t channels) {
  auto* out = static_cast<S*>(out_row);
  const int64_t whole = channels - channels % W, last = channels - W;
  for (int64_t h = 0; h < heads; ++h) {
    const Vec<A, W> s = splat<A, W>(scale[h]);
    const int64_t base = h * channels;
    const auto step = [&](int64_t at) {
      const Vec<A, W> value = load<W>(acc + at) * s;
      store<W>(out + at, shift ? value + load<W>(shift + at) : value);
    };
    for (int64_t c = base; c < base + whole; c += W) step(c);
    if (whole != channels) step(base + last);
  }
}

template <class A, class S>
void widen_row(A* to, const void* from, int64_t count) {
  const auto* row = static_cast<const S*>(from);
  for_channels<A>(count, [&](auto width, int64_t c) {
    constexpr int W = decltype(width)::value;
    store<W>(to + c, Vec<A, W>(load<W>(row + c)));
  });
}

template <class A, class S>
void narrow_row(void* to, const A* from, int64_t count) {
  auto* row = static_cast<S*>(to);
  for_channels<A>(count, [&](auto width, int64_t c) {
    constexpr int W = decltype(width)::value;
    store<W>(row + c, load<W>(from + c));
  });
}

template <class S, int W>
constexpr RowOps<typename Accumulate<S>::type> make_ops() {
  using A = typename Accumulate<S>::type;
  return {{add_rows<W, 1, A, S>, add_rows<W, 2, A, S>, add_rows<W, 3, A, S>, add_rows<W, 4, A, S>},
          {add_rows_and_dot<W, 1, A, S>, add_rows_and_dot<W, 2, A, S>, add_rows_and_dot<W, 3, A, S>,
           add_rows_and_dot<W, 4, A, S>},
          dot_row<W, A, S, S>,
          dot_row<W, A, S, A>,
          write_row<W, A, S>,
          widen_row<A, S>,
          narrow_row<A, S>};
}

// The widest vector that fits the channels of a head.
template <class S>
const RowOps<typename Accumulate<S>::type>& widest(int64_t channels) {
  constexpr int full = kLanes<typename Accumulate<S>::type>;
  constexpr int half = full >= 4 ? full / 2 : 1, quarter = full >= 8 ? full / 4 : 1;
  static constexpr RowOps<typename Accumulate<S>::type> ops[] = {make_ops<S, full>(), make_ops<S, half>(),
                                                                 make_ops<S, quarter>(), make_ops<S, 1>()};
  return ops[channels >= full ? 0 : channels >= half ? 1 : channels >= quarter ? 2 : 3];
}

}  // namespace

template <>
const RowOps<float>& row_ops<float>(DType dtype, int64_t channels) {
  switch (dtype) {
    case DType::bf16:
      return widest<bfloat16>(channels);
    case DType::f16:
      return widest<float16>(channels);
    default:
      return widest<float>(channels);
  }
}

template <>
const RowOps<double>& row_ops<double>(DType, int64_t channels) {
  return widest<double>(channels);
}

}  // namespace gattn::cpu::GATTN_ISA
