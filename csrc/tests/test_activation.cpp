// Statistics of activations against sorted rows, for widths on all sides of vectors and networks.
#include "fixtures.h"
#include "tests.h"

namespace gattn::tests {

namespace {

struct Statistics {
  Array rows, sums, counts, extremes;
};

constexpr int64_t kEdges = 3;
constexpr double kThreshold[] = {2.0}, kBins[kEdges] = {1.0, 2.0, 4.0};

Statistics run(const Array& x, int64_t rows, int64_t width, int threads) {
  const DType wide = accumulate_dtype(x.dtype());
  Statistics s{{wide, {3, rows}},
               {DType::f64, {2}},
               {DType::i64, {cpu::kActivationCounts + 1 + kEdges + 1}},
               {DType::f64, {2, 3}}};
  // A copy of their own, so that one too far is out of bounds.
  const Array thresholds(DType::f64, {1}), edges(DType::f64, {kEdges});
  thresholds.at<double>(0) = kThreshold[0];
  for (int64_t i = 0; i < kEdges; ++i) edges.at<double>(i) = kBins[i];
  cpu::kernels().activation_stats(
      {x.dtype(), rows, width, threads, x.data(), {&thresholds.at<double>(0), &edges.at<double>(0), 1, kEdges}},
      {s.rows.data(), 1, rows, &s.sums.at<double>(0), &s.counts.at<int64_t>(0), &s.extremes.at<double>(0)});
  return s;
}

void test_rows(DType dtype, int64_t rows, int64_t width, int threads) {
  const std::string name = std::to_string(rows) + " x " + std::to_string(width);
  const Array x = random_array(dtype, {rows, width}, static_cast<unsigned>(rows + width));
  const Statistics got = run(x, rows, width, threads);
  Numbers numbers(3 * rows), sums(2);
  int64_t zeros = 0, above = 0;
  for (int64_t i = 0; i < rows; ++i) {
    Numbers sorted(width);
    for (int64_t c = 0; c < width; ++c) {
      const double value = x.get(i * width + c);
      sorted[c] = std::abs(value);
      sums[0] += value;
      sums[1] += value * value;
    }
    std::sort(sorted.begin(), sorted.end());
    const double largest = numbers[i] = sorted.back(), median = numbers[rows + i] = sorted[(width - 1) / 2];
    numbers[2 * rows + i] = median == 0 ? std::numeric_limits<double>::infinity() : largest / median;
    zeros += median == 0;
    if (median != 0)
      above += std::count_if(sorted.begin(), sorted.end(), [&](double v) { return v / median > kThreshold[0]; });
  }
  compare("rows", got.rows, numbers, DType::f32, name);
  compare("sums", got.sums, sums, DType::f32, name);
  CHECK(got.counts.get(cpu::kZeroMedians) == zeros && got.counts.get(cpu::kBadRows) == 0, name);
  CHECK(got.counts.get(cpu::kActivationCounts) == above, name);
  double counted = 0;
  for (int64_t bin = 0; bin <= kEdges; ++bin) counted += got.counts.get(cpu::kActivationCounts + 1 + bin);
  CHECK(counted == rows - zeros, name);
  const Statistics alone = run(x, rows, width, 1);
  CHECK(same_bytes(got.sums, alone.sums) && same_bytes(got.counts, alone.counts) &&
            same_bytes(got.extremes, alone.extremes),
        "threads change bits: " + name);
  make_wild(x);
  run(x, rows, width, threads);
}

}  // namespace

void test_activation(int threads) {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const int64_t width : {1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 129, 256, 257, 300})
      for (const int64_t rows : {0, 1, 15, 16, 33}) test_rows(dtype, rows, width, threads);
  test_rows(DType::f32, 9001, 5, threads);
}

}  // namespace gattn::tests
