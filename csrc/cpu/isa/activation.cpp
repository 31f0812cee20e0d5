// Statistics of activations, one pass over [rows, width]. As many rows at a time as a vector has lanes are transposed,
// a row a lane, so that medians of all of them come out of one sorting network.
#include "../activation.h"

#include <cmath>

#include "../buffer.h"
#include "../parallel.h"
#include "products.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

template <class A>
struct BitsOf {
  using type = uint32_t;
};
template <>
struct BitsOf<double> {
  using type = uint64_t;
};

// The smaller and the larger of two, lane by lane: one instruction each, where comparing and choosing would be three.
template <class V>
inline void put_in_order(V& low, V& high) {
  const V a = low, b = high;
#if defined(__AVX512F__)
  if constexpr (sizeof(a[0]) == 4) {
    low = (V)_mm512_maskz_min_ps(0xFFFF, (__m512)a, (__m512)b);
    high = (V)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)b);
  } else {
    low = (V)_mm512_maskz_min_pd(0xFF, (__m512d)a, (__m512d)b);
    high = (V)_mm512_maskz_max_pd(0xFF, (__m512d)a, (__m512d)b);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(a[0]) == 4) {
    low = (V)_mm256_min_ps((__m256)a, (__m256)b);
    high = (V)_mm256_max_ps((__m256)a, (__m256)b);
  } else {
    low = (V)_mm256_min_pd((__m256d)a, (__m256d)b);
    high = (V)_mm256_max_pd((__m256d)a, (__m256d)b);
  }
#else
  low = a < b ? a : b;
  high = a < b ? b : a;
#endif
}

// Batcher's odd-even merge sort of C wires from I on, D apart, all in registers.
template <int I, int C, int D, class V>
inline void merge_wires(V* wires) {
  if constexpr (C == 2) {
    put_in_order(wires[I], wires[I + D]);
  } else {
    merge_wires<I, C / 2, 2 * D>(wires);
    merge_wires<I + D, C / 2, 2 * D>(wires);
#pragma GCC unroll 16
    for (int i = 1; i + 1 < C; i += 2) put_in_order(wires[I + i * D], wires[I + (i + 1) * D]);
  }
}
template <int I, int C, class V>
inline void sort_wires(V* wires) {
  if constexpr (C > 1) {
    sort_wires<I, C / 2>(wires);
    sort_wires<I + C / 2, C / 2>(wires);
    merge_wires<I, C, 1>(wires);
  }
}

template <class A, int W>
inline Vec<A, W> magnitude(Vec<A, W> v) {
  using Bits = Vec<typename BitsOf<A>::type, W>;
  constexpr auto sign = typename BitsOf<A>::type{1} << (8 * sizeof(A) - 1);
  return (Vec<A, W>)((Bits)v & ~sign);
}

// What one block of rows adds to the whole.
struct Part {
  double sum = 0, squares = 0;
  double largest = -1, ratio = -1;
  int64_t largest_row = -1, ratio_row = -1;
};

constexpr int64_t kBlockRows = 4096;  // a multiple of every vector's lanes; sums are kept by block

template <class A, class S>
class Activations {
 public:
  static constexpr int W = kLanes<A>;
  using V = Vec<A, W>;

  Activations(const ActivationProblem& problem, const ActivationOutputs& outputs)
      : problem_(problem),
        outputs_(outputs),
        x_(static_cast<const S*>(problem.x)),
        blocks_((problem.rows + kBlockRows - 1) / kBlockRows),
        counts_(kActivationCounts + problem.threshold_count + problem.edge_count + 1),
        room_size_((problem.width + kSortedBlock - 1) / kSortedBlock * kSortedBlock * W),
        room_(problem.threads * room_size_),
        counted_(problem.threads * counts_),
        parts_(blocks_) {}

  void run() const {
    memset(counted_.get(), 0, problem_.threads * counts_ * sizeof(int64_t));
    parallel_tasks(blocks_, problem_.threads, [&](int64_t block, int worker) {
      const int64_t begin = block * kBlockRows, end = begin + kBlockRows;
      Part part;
      for (int64_t row = begin; row < end && row < problem_.rows; row += W) {
        const int64_t left = problem_.rows - row;
        vector_of_rows(row, static_cast<int>(left < W ? left : W), worker, &part);
      }
      parts_[block] = part;
    });
    add_up();
  }

 private:
  // Rows from `first` on; lanes beyond the last repeat it and are not counted.
  void vector_of_rows(int64_t first, int count, int worker, Part* part) const {
    const int64_t width = problem_.width;
    A* values = room_.get() + worker * room_size_;
    V sum{}, squares{}, largest{};
    for (int64_t c = 0; c < width; c += W) {
      prefetch_next(first, c);
      V rows[W];
      const bool whole = c + W <= width;
      for (int i = 0; i < W; ++i) {
        const S* row = x_ + (first + (i < count ? i : count - 1)) * width + c;
        if (whole) {
          rows[i] = load<W>(row);
        } else {
          rows[i] = V{};
          for (int l = 0; l < width - c; ++l) rows[i][l] = load<1>(row + l);
        }
      }
      transpose<A, W>(rows);
      for (int i = 0; i < W; ++i) {  // zeros beyond the width add nothing
        sum += rows[i];
        squares += rows[i] * rows[i];
        const V positive = magnitude<A, W>(rows[i]);
        largest = positive > largest ? positive : largest;
        store<W>(values + (c + i) * W, positive);
      }
    }
    const V median = width <= kMaxNetwork ? sorted_median(values) : counted_median(values);
    const V quotient = largest / median;
    for (int l = 0; l < count; ++l)
      finish_row(first + l, worker, part, sum[l], squares[l], largest[l], median[l], quotient[l]);
  }

  // A share of the next rows, as much as is read here: no prefetcher sees a stream in rows that are read across.
  void prefetch_next(int64_t first, int64_t column) const {
    constexpr int64_t lines = W * W * static_cast<int64_t>(sizeof(S)) / 64;
    const char* next = reinterpret_cast<const char*>(x_ + (first + W) * problem_.width + column * W);
    const char* end = reinterpret_cast<const char*>(x_ + problem_.rows * problem_.width);
    for (int64_t line = 0; line < lines && next + line * 64 < end; ++line) __builtin_prefetch(next + line * 64);
  }

  V sorted_median(A* values) const {
    const V beyond = splat<A, W>(infinity());
    for (int64_t c = 0; c < problem_.width; c += kSortedBlock) {
      V wires[kSortedBlock];
#pragma GCC unroll 16
      for (int i = 0; i < kSortedBlock; ++i) wires[i] = c + i < problem_.width ? load<W>(values + (c + i) * W) : beyond;
      sort_wires<0, kSortedBlock>(wires);
#pragma GCC unroll 16
      for (int i = 0; i < kSortedBlock; ++i) store<W>(values + (c + i) * W, wires[i]);
    }
    const Comparator* const network = problem_.network;
    for (int64_t i = 0, count = problem_.comparators; i < count; ++i) {
      A *low = values + int64_t{network[i].low} * W, *high = values + int64_t{network[i].high} * W;
      V a = load<W>(low), b = load<W>(high);
      put_in_order(a, b);
      store<W>(low, a);
      store<W>(high, b);
    }
    return load<W>(values + (problem_.width - 1) / 2 * W);
  }

  // Bits of numbers that are not negative rise with them: the median's, from the highest on. A bit is set where too few
  // numbers are below the one that has it set.
  V counted_median(const A* values) const {
    using Bits = Vec<typename BitsOf<A>::type, W>;
    using Signed = decltype(Bits{} < Bits{});
    const int64_t rank = (problem_.width - 1) / 2;
    Bits found{};
    for (int bit = 8 * static_cast<int>(sizeof(A)) - 2; bit >= 0; --bit) {
      const Bits candidate = found | (typename BitsOf<A>::type{1} << bit);
      Signed below{};  // minus their number
      for (int64_t c = 0; c < problem_.width; ++c)
        below += (Signed)bit_cast<Bits>(load<W>(values + c * W)) < (Signed)candidate;
      found = -below <= (Signed{} + static_cast<int32_t>(rank)) ? candidate : found;
    }
    return bit_cast<V>(found);
  }

  void finish_row(int64_t row, int worker, Part* part, A sum, A squares, A largest, A median, A ratio) const {
    auto *largest_of = static_cast<A*>(outputs_.largest), *median_of = static_cast<A*>(outputs_.median);
    auto* ratio_of = static_cast<A*>(outputs_.ratio);
    int64_t* counts = counted_.get() + worker * counts_;
    if (!(squares <= max_finite())) {  // also where squares of finite numbers are too large
      double exact_sum = 0, exact_squares = 0;
      if (!look_closely(row, counts, &exact_sum, &exact_squares)) {
        largest_of[row] = median_of[row] = ratio_of[row] = bit_cast<A>(quiet_nan());
        return;
      }
      part->sum += exact_sum;
      part->squares += exact_squares;
    } else {
      part->sum += sum;
      part->squares += squares;
    }
    largest_of[row] = largest;
    median_of[row] = median;
    if (largest > part->largest) {
      part->largest = largest;
      part->largest_row = row;
    }
    if (median == 0) {
      ratio_of[row] = infinity();
      ++counts[kZeroMedians];
      return;
    }
    ratio_of[row] = ratio;
    if (ratio > part->ratio) {
      part->ratio = ratio;
      part->ratio_row = row;
    }
    for (int64_t t = 0; t < problem_.threshold_count && ratio > problem_.thresholds[t]; ++t)
      counts[kActivationCounts + t] += above(row, median, problem_.thresholds[t]);
    ++counts[kActivationCounts + problem_.threshold_count + bin_of(ratio)];
  }

  // Counts what is not finite; false if there is any. Sums in double.
  bool look_closely(int64_t row, int64_t* counts, double* sum, double* squares) const {
    int64_t nan = 0, infinite = 0;
    for (int64_t c = 0; c < problem_.width; ++c) {
      const double value = load<1>(x_ + row * problem_.width + c);
      if (value != value)
        ++nan;
      else if (value - value != 0)
        ++infinite;
      *sum += value;
      *squares += value * value;
    }
    counts[kNan] += nan;
    counts[kInfinite] += infinite;
    counts[kBadRows] += nan + infinite > 0;
    return nan + infinite == 0;
  }

  int64_t above(int64_t row, A median, double threshold) const {
    int64_t found = 0;
    for (int64_t c = 0; c < problem_.width; ++c) {
      const A value = load<1>(x_ + row * problem_.width + c);
      found += (value < 0 ? -value : value) / median > threshold;
    }
    return found;
  }

  // The number of edges that are not above the ratio: a guess from its exponent and mantissa, then a look at the edges.
  int64_t bin_of(A ratio) const {
    const float rough = static_cast<float>(ratio < static_cast<A>(1e30) ? ratio : static_cast<A>(1e30));
    const auto bits = bit_cast<int32_t>(rough) - 0x3f800000;
    const float exponent = static_cast<float>(bits >> 23), rest = static_cast<float>(bits & 0x7fffff) / 8388608.0f;
    const float log2 = exponent + rest + 0.34f * rest * (1 - rest);
    const double per_bin = (problem_.edge_count > 1 ? bins_per_octave_ : 0);
    int64_t bin = static_cast<int64_t>(log2 * per_bin) + 1;
    bin = bin < 0 ? 0 : bin > problem_.edge_count ? problem_.edge_count : bin;
    while (bin < problem_.edge_count && problem_.edges[bin] <= ratio) ++bin;
    while (bin > 0 && problem_.edges[bin - 1] > ratio) --bin;
    return bin;
  }

  void add_up() const {
    Part all;
    for (int64_t block = 0; block < blocks_; ++block) {
      const Part& part = parts_[block];
      all.sum += part.sum;
      all.squares += part.squares;
      if (part.largest > all.largest) {
        all.largest = part.largest;
        all.largest_row = part.largest_row;
      }
      if (part.ratio > all.ratio) {
        all.ratio = part.ratio;
        all.ratio_row = part.ratio_row;
      }
    }
    outputs_.sums[0] = all.sum;
    outputs_.sums[1] = all.squares;
    for (int64_t i = 0; i < counts_; ++i) {
      outputs_.counts[i] = 0;
      for (int worker = 0; worker < problem_.threads; ++worker) outputs_.counts[i] += counted_[worker * counts_ + i];
    }
    write_extreme(outputs_.extremes, all.largest, all.largest_row);
    write_extreme(outputs_.extremes + 3, all.ratio, all.ratio_row);
  }
  void write_extreme(double* to, double value, int64_t row) const {
    to[0] = value;
    to[1] = static_cast<double>(row);
    to[2] = row < 0 ? -1.0 : static_cast<double>(largest_column(row));
  }
  int64_t largest_column(int64_t row) const {
    int64_t at = 0;
    A best = -1;
    for (int64_t c = 0; c < problem_.width; ++c) {
      const A value = load<1>(x_ + row * problem_.width + c), positive = value < 0 ? -value : value;
      if (positive > best) {
        best = positive;
        at = c;
      }
    }
    return at;
  }

  static A max_finite() { return sizeof(A) == 4 ? static_cast<A>(__FLT_MAX__) : static_cast<A>(__DBL_MAX__); }
  static A infinity() { return static_cast<A>(__builtin_inf()); }
  static typename BitsOf<A>::type quiet_nan() {
    return sizeof(A) == 4 ? 0x7fc00000u : static_cast<typename BitsOf<A>::type>(0x7ff8000000000000ull);
  }

  const ActivationProblem& problem_;
  const ActivationOutputs& outputs_;
  const S* x_;
  int64_t blocks_, counts_, room_size_;
  double bins_per_octave_ = 1.0 / ::log2(problem_.edge_count > 1 ? problem_.edges[1] / problem_.edges[0] : 2.0);
  const Buffer<A> room_;
  const Buffer<int64_t> counted_;
  const Buffer<Part> parts_;
};

}  // namespace

void activation_stats(const ActivationProblem& problem, const ActivationOutputs& outputs) {
  switch (problem.dtype) {
    case DType::bf16:
      return Activations<float, bfloat16>(problem, outputs).run();
    case DType::f16:
      return Activations<float, float16>(problem, outputs).run();
    case DType::f64:
      return Activations<double, double>(problem, outputs).run();
    default:
      return Activations<float, float>(problem, outputs).run();
  }
}

}  // namespace gattn::cpu::GATTN_ISA
