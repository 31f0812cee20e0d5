// Exponential decay of a row of scores: gamma ** rho(distance - hop), rho = LeakyReLU, for the queries and keys of a
// graph.
#pragma once

#include "../buffer.h"
#include "../ragged.h"
#include "exp.h"
#include "integers.h"

namespace gattn::cpu::GATTN_ISA {

template <class A>
using Floats = Vec<A, kLanes<A>>;

// The distances of some pairs, in any integer type; None is that of an attention without any. Lanes may reach into what
// follows the pairs, up to `end`.
struct None {};
template <class A, class D>
GATTN_INLINE Integers<A> load_distances(const D* pairs, const D* end) {
  constexpr int W = kLanes<A>;
  if (end - pairs >= W) return load_integers<A>(pairs);
  D some[W] = {};
  for (int l = 0; l < end - pairs; ++l) some[l] = pairs[l];
  return load_integers<A>(some);
}

// One head's decay times the scale of its scores, by distance. Distances are few and small, so every power is taken
// once and pairs look theirs up; on AVX-512 the first 32 without going to memory.
template <class A>
class HeadDecay {
 public:
  static constexpr int W = kLanes<A>;
  using V = Floats<A>;
  using I = Integers<A>;
  using U = Vec<Unsigned<A>, W>;
#if defined(__AVX512F__)
  static constexpr bool kInRegisters = sizeof(A) == 4;
#else
  static constexpr bool kInRegisters = false;
#endif
  static constexpr int64_t kLeast = kInRegisters ? 2 * W : 1;  // entries of a table

  HeadDecay() = default;
  // `ends`: beyond the table are only numbers like its last, 0.
  HeadDecay(const A* table, int64_t length, bool ends, double hop, double log_gamma, double slope, double scale)
      : table_(table),
        low_(load<W>(table)),
        high_(load<W>(table + (kInRegisters ? W : 0))),
        length_(U{} + static_cast<uint32_t>(length)),
        ends_(ends),
        hop_(static_cast<A>(hop)),
        log_gamma_(static_cast<A>(log_gamma)),
        slope_(static_cast<A>(slope)),
        scale_(static_cast<A>(scale)) {
    const double whole = ::floor(hop), low = whole > -1.0 ? whole : -1.0;
    near_ = I{} + static_cast<int32_t>(low < 2147483647.0 ? low : 2147483647.0);
  }

  // Lanes where the derivative of rho is 1, not the slope.
  GATTN_INLINE I beyond_hop(I distance) const { return distance > near_; }

  GATTN_INLINE V at(I distance) const {
    // A negative distance, which callers refuse, counts as a long one: nothing before the table may be read.
    const U far = (U)distance;
#if defined(__AVX512F__)
    if constexpr (kInRegisters)
      if (_mm512_cmpgt_epu32_mask((__m512i)far, _mm512_set1_epi32(2 * W - 1)) == 0)
        return (V)_mm512_permutex2var_ps((__m512)low_, (__m512i)far, (__m512)high_);
#endif
    if (!ends_ && any_lane(far >= length_)) return compute(distance, hop_, log_gamma_, slope_, scale_);
    const U last = length_ - 1;
    return look_up((I)(far > last ? last : far));
  }

 private:
  GATTN_INLINE V look_up(I at) const {
#if defined(__AVX512F__)
    if constexpr (sizeof(A) == 4)
      return (V)_mm512_mask_i32gather_ps((__m512)V{}, 0xFFFF, (__m512i)at, table_, 4);  // the plain one warns in GCC 12
    else
      return (V)_mm512_mask_i64gather_pd((__m512d)V{}, 0xFF, (__m512i)at, table_, 8);
#elif defined(__AVX2__)
    if constexpr (sizeof(A) == 4)
      return (V)_mm256_i32gather_ps(table_, (__m256i)at, 4);
    else
      return (V)_mm256_i64gather_pd(table_, (__m256i)at, 8);
#else
    V found{};
    for (int l = 0; l < W; ++l) found[l] = table_[at[l]];
    return found;
#endif
  }
  // Rare, and so kept out of the loops.
  __attribute__((noinline)) static V compute(I distance, A hop, A log_gamma, A slope, A scale) {
    const V excess = __builtin_convertvector(distance, V) - hop;
    return exp_vector<W>((excess > V{} ? excess : excess * slope) * log_gamma) * scale;
  }

  const A* table_ = nullptr;
  V low_, high_;
  U length_;
  bool ends_;
  A hop_, log_gamma_, slope_, scale_;
  I near_;
};

// Every head's table. Distances of paths are below the number of nodes; 510 stands for none.
template <class A>
class DecayTables {
 public:
  explicit DecayTables(const RaggedProblem& problem)
      : problem_(problem),
        hop_(static_cast<const A*>(problem.hop)),
        log_gamma_(::log(problem.gamma)),
        length_(problem.distance == nullptr ? 0 : choose_length()),
        table_(length_ == 0 ? 0 : problem.heads * stride()) {
    if (length_ > 0)
      for (int64_t h = 0; h < problem.heads; ++h) fill(h);
  }

  HeadDecay<A> of(int64_t head) const {
    const A* table = table_.get() + head * stride();
    return {table, length_, ends_, static_cast<double>(hop_[head]), log_gamma_, problem_.slope, problem_.scale};
  }

 private:
  int64_t stride() const {  // the first vectors are read whole
    const int64_t least = HeadDecay<A>::kLeast > kLanes<A> ? HeadDecay<A>::kLeast : kLanes<A>;
    return length_ > least ? length_ : least;
  }

  // Up to the first distance whose power is 0 in every head.
  int64_t choose_length() {
    const int64_t longest = problem_.batch.largest < 511 ? 511 : problem_.batch.largest;
    if (!(log_gamma_ < 0.0)) return longest;
    double end = 0;
    for (int64_t h = 0; h < problem_.heads; ++h) {
      const double zero = static_cast<double>(hop_[h]) + kVanishes / log_gamma_;
      if (!(zero < static_cast<double>(longest))) return longest;  // NaN too
      end = zero > end ? zero : end;
    }
    ends_ = true;
    return static_cast<int64_t>(end) + 2;
  }

  // In double: there are few of them, and each one's rounding would go into every pair at that distance.
  void fill(int64_t head) {
    A* table = table_.get() + head * stride();
    const double hop = hop_[head], beyond = ::exp(log_gamma_);
    double power = 0.0;
    bool first = true;
    for (int64_t far = 0; far < stride(); ++far) {
      const double excess = static_cast<double>(far) - hop;
      if (!(excess > 0.0))
        power = ::exp(log_gamma_ * problem_.slope * excess);
      else if (first || sizeof(A) == 8)
        power = ::exp(log_gamma_ * excess);
      else
        power *= beyond;
      first = !(excess > 0.0);
      table[far] = static_cast<A>(power * problem_.scale);
    }
    if (ends_) table[length_ - 1] = 0;
  }

  static constexpr double kVanishes = sizeof(A) == 4 ? -104.0 : -746.0;  // exp of it rounds to 0

  const RaggedProblem& problem_;
  const A* hop_;
  double log_gamma_;
  bool ends_ = false;
  int64_t length_;
  Buffer<A> table_;
};

}  // namespace gattn::cpu::GATTN_ISA
