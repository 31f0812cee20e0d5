// Medians of wide rows of floats, a row a lane, by counting how many numbers are below a guess: of numbers that are not
// negative the upper 16 bits rise with them, and so many bits of two columns fit into a lane. This takes few passes,
// some seven for 128 numbers, where a sorting network compares each number the oftener the more there are.
#pragma once

#include "integers.h"
#include "networks.h"

namespace gattn::cpu::GATTN_ISA {

#if defined(__AVX2__)
class MedianSearch {
 public:
  static constexpr int W = kLanes<float>;
  static constexpr bool kServes = true;
  static constexpr int64_t kWidest = 2 * 32767;  // half the columns are counted in 16 bits
  using V = Vec<float, W>;

  explicit MedianSearch(int64_t width) : width_(width), rank_((width - 1) / 2) {}

  // Vectors that lower() needs behind a row's own: keys of all columns, filled up.
  static int64_t room(int64_t width) { return (width + 2 * kChains - 1) / (2 * kChains) * kChains; }

  // The lower median of every lane of values [width]; what lies behind them is overwritten. Lanes with NaN have any.
  V lower(float* values) const {
    V sample[kSample];
    for (int i = 0; i < kSample; ++i) sample[i] = load<W>(values + i * width_ / kSample * W);
    sort_wires<0, kSample>(sample);
    constexpr int kLow = kSample / 4, kHigh = kSample - 1 - kLow;
    const Keys base = all(0x40000000), middle = (bit_cast<Keys>(sample[(kSample - 1) / 2]) - base) >> kShift;
    const Floats spread = floats((bit_cast<Keys>(sample[kHigh]) - bit_cast<Keys>(sample[kLow])) >> kShift);
    // Keys from a number to the next one near the median, about.
    const Floats step = spread * ((kSample + 1.0f) / (kHigh - kLow) / static_cast<float>(width_));
    make_keys<kShift>(values, base);
    const Bracket found =
        search(values, {all(kLeast), all(kMost), Keys{}, all(static_cast<int32_t>(width_))}, middle, step, Keys{});
    return finish<kShift>(values, base, found);
  }

 private:
  using Keys = Vec<int32_t, W>;
  using Floats = Vec<float, W>;
  using Words = Vec<int16_t, 2 * W>;
  static constexpr int kSample = 16;  // columns whose median is the first guess
  static constexpr int kShift = 15;   // keys of all floats, which tell a 256th apart
  static constexpr int kGuesses = 8;  // then halving, which ends in any case
  static constexpr int kChains = 4;
  static constexpr int32_t kLeast = -32768, kMost = 32767;

  // The median's key is from low on and below high; so many numbers are below low, and below high.
  struct Bracket {
    Keys low, high, below, up_to;

    void take(Keys guess, Keys count, int32_t rank) {
      const Keys up = count <= all(rank);
      low = up ? guess : low;
      below = up ? count : below;
      high = up ? high : guess;
      up_to = up ? up_to : count;
    }
    // Lanes whose median is the least number of the bracket, and the largest.
    Keys first(int32_t rank) const { return below == all(rank); }
    Keys last(int32_t rank) const { return up_to == all(rank + 1); }
  };

  // Brackets of one key, or with the median at an end. A guess is made by `step` until there have been guesses on both
  // sides (`sided`), then by the counts at both.
  Bracket search(const float* values, Bracket found, Keys guess, Floats step, Keys sided) const {
    const Bracket whole = found;
    const Floats wanted = floats(all(rank_)) + 0.5f;
    for (int pass = 0;; ++pass) {
      guess = larger(guess, found.low + 1);
      guess = smaller(guess, found.high - 1);
      const Keys below = count_below(values, guess);
      found.take(guess, below, rank_);
      if (!any_lane((found.high - found.low > 1) & ~(found.first(rank_) | found.last(rank_)))) return found;
      const Floats share = (wanted - floats(found.below)) / floats(found.up_to - found.below);
      const Floats between = floats(found.low) + floats(found.high - found.low) * share;
      const Floats beyond = floats(guess) + (wanted - floats(below)) * step;
      sided = (found.low > whole.low) & (found.high < whole.high) ? all(-1) : sided;
      guess = pass < kGuesses ? integers(sided ? between : beyond) : (found.low + found.high) >> 1;
    }
  }

  template <int S>
  V finish(float* values, Keys base, const Bracket& found) const {
    const Keys start = base + (found.low << S), first = found.first(rank_), last = found.last(rank_);
    Keys least, most;
    ends(values, start, base + (found.high << S), &least, &most);
    const Keys known = first ? least : most;
    if constexpr (S > 0) {
      const Keys unknown = ~(first | last | (least == most));  // of one key mostly are equal numbers, but for
      if (any_lane(unknown)) {
        constexpr int32_t kHalf = 1 << (S - 1);
        make_keys<0>(values, start + kHalf);
        const Bracket finer =
            search(values, {all(-kHalf), all(kHalf), found.below, found.up_to}, Keys{}, Floats{}, all(-1));
        return unknown ? finish<0>(values, start + kHalf, finer) : bit_cast<V>(known);
      }
    }
    return bit_cast<V>(known);
  }

  template <int S>
  void make_keys(float* values, Keys base) const {
    float* keys = values + width_ * W;
    int64_t c = 0;
    for (; c + 2 <= width_; c += 2, keys += W)
      put(keys, pack((bits(values, c) - base) >> S, (bits(values, c + 1) - base) >> S));
    if (c < width_) put(keys, pack((bits(values, c) - base) >> S, all(kMost)));
    for (c = (width_ + 1) / 2; c < room(width_); ++c) put(values + (width_ + c) * W, pack(all(kMost), all(kMost)));
  }
  Keys count_below(const float* values, Keys guess) const {
    const Words pivot = pack(guess, guess);
    const float* keys = values + width_ * W;
    Words count[kChains]{};
    for (int64_t i = 0; i < room(width_); i += kChains)
#pragma GCC unroll 4
      for (int k = 0; k < kChains; ++k) count_below(count[k], bit_cast<Words>(load<W>(keys + (i + k) * W)), pivot);
    return sums_of_two((count[0] + count[1]) + (count[2] + count[3]));
  }
  // The least number from `start` on, and the largest below `end`.
  void ends(const float* values, Keys start, Keys end, Keys* least, Keys* most) const {
    Keys low[kChains], high[kChains]{};
    for (Keys& each : low) each = all(0x7fffffff);
    int64_t c = 0;
    for (; c + kChains <= width_; c += kChains)
#pragma GCC unroll 4
      for (int k = 0; k < kChains; ++k) take_ends(bits(values, c + k), start, end, low[k], high[k]);
    for (; c < width_; ++c) take_ends(bits(values, c), start, end, low[0], high[0]);
    *least = smaller(smaller(low[0], low[1]), smaller(low[2], low[3]));
    *most = larger(larger(high[0], high[1]), larger(high[2], high[3]));
  }

  static Keys all(int32_t value) { return splat<int32_t, W>(value); }
  static Keys bits(const float* values, int64_t column) { return bit_cast<Keys>(load<W>(values + column * W)); }
  static void put(float* to, Words words) { store<W>(to, bit_cast<V>(words)); }
  static Floats floats(Keys v) { return __builtin_convertvector(v, Floats); }
  static Keys integers(Floats v) { return __builtin_convertvector(v, Keys); }
#if defined(__AVX512F__)
  static Keys smaller(Keys a, Keys b) { return (Keys)_mm512_maskz_min_epi32(0xFFFF, (__m512i)a, (__m512i)b); }
  static Keys larger(Keys a, Keys b) { return (Keys)_mm512_maskz_max_epi32(0xFFFF, (__m512i)a, (__m512i)b); }
  static Words pack(Keys a, Keys b) { return (Words)_mm512_packs_epi32((__m512i)a, (__m512i)b); }
  static Keys sums_of_two(Words v) {
    const __m512i zero{};
    return (Keys)_mm512_unpacklo_epi16((__m512i)v, zero) + (Keys)_mm512_unpackhi_epi16((__m512i)v, zero);
  }
  GATTN_INLINE static void count_below(Words& count, Words keys, Words pivot) {
    const __mmask32 below = _mm512_cmplt_epi16_mask((__m512i)keys, (__m512i)pivot);
    count = (Words)_mm512_mask_add_epi16((__m512i)count, below, (__m512i)count, _mm512_set1_epi16(1));
  }
  GATTN_INLINE static void take_ends(Keys x, Keys start, Keys end, Keys& low, Keys& high) {
    const __mmask16 from = _mm512_cmpge_epi32_mask((__m512i)x, (__m512i)start);
    const __mmask16 below = _mm512_cmplt_epi32_mask((__m512i)x, (__m512i)end);
    low = (Keys)_mm512_mask_min_epi32((__m512i)low, from, (__m512i)low, (__m512i)x);
    high = (Keys)_mm512_mask_max_epi32((__m512i)high, below, (__m512i)high, (__m512i)x);
  }
#else
  static Keys smaller(Keys a, Keys b) { return (Keys)_mm256_min_epi32((__m256i)a, (__m256i)b); }
  static Keys larger(Keys a, Keys b) { return (Keys)_mm256_max_epi32((__m256i)a, (__m256i)b); }
  static Words pack(Keys a, Keys b) { return (Words)_mm256_packs_epi32((__m256i)a, (__m256i)b); }
  static Keys sums_of_two(Words v) {
    const __m256i zero{};
    return (Keys)_mm256_unpacklo_epi16((__m256i)v, zero) + (Keys)_mm256_unpackhi_epi16((__m256i)v, zero);
  }
  GATTN_INLINE static void count_below(Words& count, Words keys, Words pivot) { count -= keys < pivot; }
  GATTN_INLINE static void take_ends(Keys x, Keys start, Keys end, Keys& low, Keys& high) {
    low = smaller(low, x >= start ? x : all(0x7fffffff));
    high = larger(high, x < end ? x : Keys{});
  }
#endif

  int64_t width_;
  int32_t rank_;
};
#else
// Without instructions that pack keys, none.
class MedianSearch {
 public:
  static constexpr bool kServes = false;
  static constexpr int64_t kWidest = 0;
  static int64_t room(int64_t) { return 0; }
  explicit MedianSearch(int64_t) {}
  Vec<float, kLanes<float> > lower(float*) const { return Vec<float, kLanes<float> >{}; }
};
#endif

}  // namespace gattn::cpu::GATTN_ISA
