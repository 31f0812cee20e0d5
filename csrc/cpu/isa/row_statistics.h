// Statistics of rows of activations, as many rows at a time as a vector has lanes: they are transposed, a row a lane,
// so that the medians of all of them come out of one sorting network.
#pragma once

#include <cmath>

#include "../activation.h"
#include "../buffer.h"
#include "integers.h"
#include "median.h"
#include "products.h"

namespace gattn::cpu::GATTN_ISA {

// The largest number so far and where it is; of equal ones that of the first row.
struct Top {
  double value = -1;
  int64_t row = -1, column = -1;

  bool below(double other, int64_t at) const { return other > value || (other == value && at < row); }
  void take(const Top& other) {
    if (other.row >= 0 && below(other.value, other.row)) *this = other;
  }
  void write(double* to) const {
    to[0] = value;
    to[1] = static_cast<double>(row);
    to[2] = static_cast<double>(column);
  }
};

// Where numbers of the rows of a vector go: to places one after the other, and to any.
struct SuccessivePlaces {
  static constexpr bool kSuccessive = true;
  int64_t first;
  int64_t operator[](int l) const { return first + l; }
};
struct AnyPlaces {
  static constexpr bool kSuccessive = false;
  const int64_t* places;
  int64_t operator[](int l) const { return places[l]; }
};

// Rows are taken by workers, each row as part of an owner's share of the work. What depends on the order of additions
// is kept by owner, so it is the same for any number of threads if the rows of each owner come in one order.
template <class A, class S>
class RowStatistics {
 public:
  static constexpr int W = kLanes<A>;
  using V = Vec<A, W>;

  RowStatistics(int64_t rows, int64_t width, const ActivationLimits& limits, const ActivationOutputs& outputs,
                int threads, int64_t owners)
      : width_(width),
        limits_(limits),
        outputs_(outputs),
        threads_(threads),
        owners_(owners),
        medians_(width),
        counted_(kActivationCounts + limits.threshold_count + limits.edge_count + 1),
        count_size_(whole_lines<int64_t>(counted_)),
        room_size_(whole_lines<A>((medians_.room() + W) * W)),  // whole blocks of columns are transposed
        bins_per_octave_(limits.edge_count > 1 ? 1.0 / ::log2(limits.edges[1] / limits.edges[0]) : 0.0),
        near_(static_cast<float>(1e-6 * bins_per_octave_ + 3e-7 * static_cast<double>(limits.edge_count))),
        room_(threads * room_size_),
        counts_(threads * kCopies * count_size_),
        least_above_(limits.threshold_count),
        tops_(threads),
        sums_(owners) {
    advise_huge_pages(outputs.rows, 3 * rows * static_cast<int64_t>(sizeof(A)));
    for (int64_t i = 0; i < threads * kCopies * count_size_; ++i) counts_[i] = 0;
    for (int64_t t = 0; t < limits.threshold_count; ++t) least_above_[t] = least_above(limits.thresholds[t]);
    for (int64_t i = 0; i < threads; ++i) tops_[i] = Tops();
    for (int64_t i = 0; i < owners; ++i) sums_[i] = Sums();
    for (int64_t i = 0; i < limits.edge_count; ++i)
      geometric_ &= ::fabs(::log2(limits.edges[i]) * bins_per_octave_ - static_cast<double>(i)) < 1e-6;
  }

  // W rows from `first` on, one after the other in memory that may be read up to `end`, of which `count` count; the
  // numbers of row l go to the place ids[l]. fetch() may ask for memory that is wanted next, as much as comes in the
  // time that this takes.
  template <class Ids, class Fetch>
  void take(const S* first, const S* end, const Ids& ids, int count, int worker, int64_t owner,
            const Fetch& fetch) const {
    A* values = room_.get() + worker * room_size_;
    Lanes lanes{};
    int64_t c = 0;
    for (; c + W <= width_; c += W) add_columns<W>(first + c, W, end, values + c * W, &lanes);
    const int left = static_cast<int>(width_ - c);
    if (left > kHalf)
      add_columns<W>(first + c, left, end, values + c * W, &lanes);
    else if (left > 0)
      add_columns<kHalf>(first + c, left, end, values + c * W, &lanes);
    fetch();  // not before these rows are there, which would have to wait
    lanes.median = medians_.lower(values);
    lanes.ratio = lanes.largest / lanes.median;
    Sums* sums = sums_.get() + owner;
    add_sums(lanes, count, sums);
    int64_t* counts = counts_.get() + worker * kCopies * count_size_;
    if (count == W && ordinary(lanes, tops_[worker])) {
      count_above(lanes, values, counts + kActivationCounts);
      return finish_all(lanes, ids, counts + kActivationCounts + limits_.threshold_count);
    }
    for (int l = 0; l < count; ++l) {
      const Lane lane{first + l * width_, ids[l], lanes.squares[l], lanes.largest[l], lanes.median[l], lanes.ratio[l]};
      finish(lane, worker, counts, sums);
    }
  }

  // Where a row's numbers go.
  A* place(int64_t id) const { return static_cast<A*>(outputs_.rows) + id * outputs_.row_stride; }

  void add_up() const {
    Tops all;
    for (int worker = 0; worker < threads_; ++worker) {
      all.largest.take(tops_[worker].largest);
      all.ratio.take(tops_[worker].ratio);
    }
    all.largest.write(outputs_.extremes);
    all.ratio.write(outputs_.extremes + 3);
    for (int64_t i = 0; i < counted_; ++i) {
      outputs_.counts[i] = 0;
      for (int copy = 0; copy < threads_ * kCopies; ++copy) outputs_.counts[i] += counts_[copy * count_size_ + i];
    }
    outputs_.sums[0] = outputs_.sums[1] = 0;
    for (int64_t i = 0; i < owners_; ++i) {
      outputs_.sums[0] += sum_lanes<double, kWide>(sums_[i].sum);
      outputs_.sums[1] += sum_lanes<double, kWide>(sums_[i].squares);
    }
  }

 private:
  using Bits = Vec<Unsigned<A>, W>;
  using Signed = decltype(Bits{} < Bits{});
  static constexpr int kHalf = W > 2 ? W / 2 : W;  // columns of a narrow block
  static constexpr int kWide = kLanes<double>;
  static constexpr int kCopies = 4;  // of a worker's counts: one number that is counted often would wait for itself
  using Wide = Vec<double, kWide>;
  using Floats = Vec<float, W>;
  using Bins = Vec<int32_t, W>;
  struct Sums {
    Wide sum{}, squares{};
  };
  struct alignas(kCacheLine) Tops {
    Top largest, ratio;
  };
  struct Lane {
    const S* row;
    int64_t id;
    A squares, largest, median, ratio;
  };

  struct Lanes {
    V sum, squares, largest, median, ratio;
  };

  // `left` columns, at the most C, of the rows from `first` on become vectors with a row a lane.
  template <int C>
  GATTN_INLINE void add_columns(const S* first, int left, const S* end, A* values, Lanes* lanes) const {
    V block[C];
    if (left == C || first + (W - 1) * width_ + C <= end) {
#pragma GCC unroll 16
      for (int i = 0; i < C; ++i) {
        if constexpr (C == W)
          block[i] = load<W>(first + i * width_);
        else
          block[i] = join<A, W>(load<C>(first + i * width_), load<C>(first + (i + C) * width_));
      }
    } else {
      for (int i = 0; i < C; ++i) {
        A lanes_of[W];
        for (int l = 0; l < W; ++l)
          lanes_of[l] = l % C < left ? static_cast<A>(load<1>(first + (i + l / C * C) * width_ + l % C)) : A{};
        block[i] = load<W>(lanes_of);
      }
    }
    transpose<A, W, C == W ? W / 2 : C / 2>(block);
    if (left == C)
      add_vectors<C>(block, C, values, lanes);
    else
      add_vectors<C>(block, left, values, lanes);
  }

  template <int C>
  GATTN_INLINE static void add_vectors(const V (&block)[C], int count, A* values, Lanes* lanes) {
    constexpr int kChains = 4;  // a sum after the other would wait for the one before
    V sum[kChains]{}, squares[kChains]{}, largest[kChains]{};
#pragma GCC unroll 16
    for (int i = 0; i < C; ++i) {
      if (i >= count) break;
      sum[i % kChains] += block[i];
      squares[i % kChains] += block[i] * block[i];
      V positive = magnitude(block[i]);
      store<W>(values + i * W, positive);
      put_in_order(positive, largest[i % kChains]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kChains; ++i) {
      lanes->sum += sum[i];
      lanes->squares += squares[i];
      put_in_order(largest[i], lanes->largest);
    }
  }

  static Wide widened(V v) {
    if constexpr (sizeof(A) == 8) {
      return v;
    } else {
      Vec<A, W / 2> low, high;
      halve<A, W>(v, &low, &high);
      return __builtin_convertvector(low, Wide) + __builtin_convertvector(high, Wide);
    }
  }
  // In one order, whatever else is done with the lanes.
  static void add_sums(const Lanes& lanes, int count, Sums* sums) {
    auto use = lanes.squares <= splat<A, W>(max_finite());
    for (int l = count; l < W; ++l) use[l] = 0;
    sums->sum += widened(use ? lanes.sum : V{});
    sums->squares += widened(use ? lanes.squares : V{});
  }

  // Whether no lane asks for more than its sums, its numbers, its bin and counts.
  bool ordinary(const Lanes& lanes, const Tops& tops) const {
    const auto good = (lanes.squares <= splat<A, W>(max_finite())) & (lanes.median > V{}) &
                      (lanes.largest < splat<A, W>(static_cast<A>(tops.largest.value))) &
                      (lanes.ratio < splat<A, W>(static_cast<A>(tops.ratio.value)));
    return all(good);
  }
  template <class Mask>
  static bool all(Mask mask) {
    return !any_lane(~mask);
  }

  template <class Ids>
  GATTN_INLINE void finish_all(const Lanes& lanes, const Ids& ids, int64_t* bins) const {
    A numbers[3][W];
    store<W>(numbers[0], lanes.largest);
    store<W>(numbers[1], lanes.median);
    store<W>(numbers[2], lanes.ratio);
    for (int k = 0; k < 3; ++k) {
      A* to = place(0) + k * outputs_.number_stride;
      if (Ids::kSuccessive && outputs_.row_stride == 1)
        memcpy(to + ids[0], numbers[k], sizeof(numbers[k]));
      else
        for (int l = 0; l < W; ++l) to[ids[l] * outputs_.row_stride] = numbers[k][l];
    }
    Bins bin;
    const auto sure = rough_bins(lanes.ratio, &bin);
    if (!all(sure))
      for (int l = 0; l < W; ++l)
        if (!sure[l]) bin[l] = static_cast<int32_t>(exact_bin(numbers[2][l], bin[l]));
#pragma GCC unroll 16
    for (int l = 0; l < W; ++l) ++bins[l % kCopies * count_size_ + bin[l]];
  }

  // Activations of all lanes above each threshold. |x| / median is one of those numbers if |x| is no less than a number
  // that is found once, to the last bit: dividing every |x| would take longer than everything else.
  void count_above(const Lanes& lanes, const A* values, int64_t* counts) const {
    for (int64_t t = 0; t < limits_.threshold_count; ++t) {
      const V quotient = splat<A, W>(least_above_[t]);
      if (all(lanes.ratio < quotient)) return;
      V least = quotient * lanes.median;
      for (int step = 0; step < 2; ++step) {  // rounding has moved it by so much at the most
        const V lower = bit_cast<V>(bit_cast<Bits>(least) - 1), higher = bit_cast<V>(bit_cast<Bits>(least) + 1);
        least = least / lanes.median < quotient ? higher : lower / lanes.median < quotient ? least : lower;
      }
      Signed above{};  // minus their number
      for (int64_t c = 0; c < width_; ++c) above += load<W>(values + c * W) >= least;
      for (int l = 0; l < W; ++l) counts[t] -= above[l];
    }
  }
  static A least_above(double threshold) {
    const A nearest = static_cast<A>(threshold);
    return nearest > threshold ? nearest : bit_cast<A>(bit_cast<Unsigned<A>>(nearest) + 1);
  }

  static V magnitude(V v) {
    constexpr auto sign = Unsigned<A>{1} << (8 * sizeof(A) - 1);
    return (V)((Bits)v & ~sign);
  }

  void finish(const Lane& lane, int worker, int64_t* counts, Sums* sums) const {
    A* const found = place(lane.id);
    const int64_t next = outputs_.number_stride;
    Tops& tops = tops_[worker];
    if (!(lane.squares <= max_finite()) && !look_closely(lane.row, counts, sums)) {
      found[0] = found[next] = found[2 * next] = bit_cast<A>(quiet_nan());
      return;
    }
    found[0] = lane.largest;
    found[next] = lane.median;
    if (tops.largest.below(lane.largest, lane.id)) tops.largest = {lane.largest, lane.id, largest_column(lane.row)};
    if (lane.median == 0) {
      found[2 * next] = static_cast<A>(__builtin_inf());
      ++counts[kZeroMedians];
      return;
    }
    found[2 * next] = lane.ratio;
    if (tops.ratio.below(lane.ratio, lane.id)) tops.ratio = {lane.ratio, lane.id, largest_column(lane.row)};
    for (int64_t t = 0; t < limits_.threshold_count && lane.ratio > limits_.thresholds[t]; ++t)
      counts[kActivationCounts + t] += above(lane.row, lane.median, limits_.thresholds[t]);
    ++counts[kActivationCounts + limits_.threshold_count + exact_bin(lane.ratio, rough_bin(lane.ratio))];
  }

  // Counts what is not finite; false if there is any. A row whose squares are too large, and finite, is added up in
  // double.
  bool look_closely(const S* row, int64_t* counts, Sums* sums) const {
    int64_t nan = 0, infinite = 0;
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < width_; ++c) {
      const double value = load<1>(row + c);
      if (value != value)
        ++nan;
      else if (value - value != 0)
        ++infinite;
      sum += value;
      squares += value * value;
    }
    counts[kNan] += nan;
    counts[kInfinite] += infinite;
    counts[kBadRows] += nan + infinite > 0;
    if (nan + infinite > 0) return false;
    sums->sum[0] += sum;
    sums->squares[0] += squares;
    return true;
  }

  int64_t above(const S* row, A median, double threshold) const {
    int64_t found = 0;
    for (int64_t c = 0; c < width_; ++c) {
      const A value = load<1>(row + c);
      found += (value < 0 ? -value : value) / median > threshold;
    }
    return found;
  }

  int64_t largest_column(const S* row) const {
    int64_t at = 0;
    A best = -1;
    for (int64_t c = 0; c < width_; ++c) {
      const A value = load<1>(row + c), positive = value < 0 ? -value : value;
      if (positive > best) {
        best = positive;
        at = c;
      }
    }
    return at;
  }

  // The number of edges that are not above the ratio, by the logarithm where edges are powers; not sure of lanes that
  // are too near an edge for that, and of none where they are no powers: then the numbers are about right.
  Bins rough_bins(V ratio, Bins* bins) const {
    const V limit = splat<A, W>(static_cast<A>(1e30));
    const Floats rough = __builtin_convertvector(ratio < limit ? ratio : limit, Floats);
    const Bins bits = bit_cast<Bins>(rough) - 0x3f800000;
    const Floats exponent = __builtin_convertvector(bits >> 23, Floats);
    const Floats rest = __builtin_convertvector(bits & 0x7fffff, Floats) * (1.0f / 8388608.0f);
    const Floats square = rest * rest;
    const Floats curve = (0.44266644f - 0.2778878f * rest) +
                         square * ((0.19543639f - 0.1297038f * rest) + square * (0.06332586f - 0.01520911f * rest));
    const Floats log2 = exponent + (rest + (rest - square) * curve);  // within 5e-7, but for the sum's rounding
    const Floats place = log2 * static_cast<float>(bins_per_octave_);
    const Bins below = __builtin_convertvector(place, Bins);
    const Bins highest = Bins{} + static_cast<int32_t>(limits_.edge_count);
    *bins = below + 1 < highest ? below + 1 : highest;
    const Floats above = place - __builtin_convertvector(below, Floats);
    return (above > near_) & (above < 1.0f - near_) & (below < highest) & (Bins{} - geometric_);
  }
  int64_t rough_bin(A ratio) const {
    const double place = ::log2(ratio) * bins_per_octave_;  // may be infinite, and NaN where edges are no powers
    return place < static_cast<double>(limits_.edge_count) ? static_cast<int64_t>(place) + 1 : limits_.edge_count;
  }
  int64_t exact_bin(A ratio, int64_t bin) const {
    bin = bin < 0 ? 0 : bin > limits_.edge_count ? limits_.edge_count : bin;
    while (bin < limits_.edge_count && limits_.edges[bin] <= ratio) ++bin;
    while (bin > 0 && limits_.edges[bin - 1] > ratio) --bin;
    return bin;
  }

  static A max_finite() { return sizeof(A) == 4 ? static_cast<A>(__FLT_MAX__) : static_cast<A>(__DBL_MAX__); }
  static Unsigned<A> quiet_nan() {
    return sizeof(A) == 4 ? 0x7fc00000u : static_cast<Unsigned<A>>(0x7ff8000000000000ull);
  }

  const int64_t width_;
  const ActivationLimits limits_;
  const ActivationOutputs outputs_;
  const int threads_;
  const int64_t owners_;
  const Medians<A> medians_;
  const int64_t counted_, count_size_, room_size_;
  const double bins_per_octave_;
  const float near_;  // of an edge: where the logarithm's error or its rounding could be on the wrong side
  bool geometric_ = true;
  const Buffer<A> room_;
  const Buffer<int64_t> counts_;
  const Buffer<A> least_above_;
  const Buffer<Tops> tops_;  // by worker
  const Buffer<Sums> sums_;  // by owner: of numbers, of squares
};

}  // namespace gattn::cpu::GATTN_ISA
