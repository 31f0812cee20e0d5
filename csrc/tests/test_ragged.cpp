// All-pairs attention within graphs against scalar loops: types, sizes on both sides of what is taken apart, options;
// and the plan's errors.
#include "common/philox.h"
#include "cpu/ragged_plan.h"
#include "fixtures.h"
#include "tests.h"

namespace gattn::tests {

namespace {

using cpu::kernels;

struct RaggedCase {
  std::vector<int64_t> sizes;
  DType dtype = DType::f32;
  int64_t heads = 1, channels = 1;
  double dropout_p = 0.0;
  bool decay = true;
  DType distance_dtype = DType::i16, ptr_dtype = DType::i64;
  double gamma = 0.5;
  int threads = 1;

  std::string name() const {
    std::string text = "graphs of";
    for (const int64_t n : sizes) text += " " + std::to_string(n);
    return text + ", " + dtype_name(dtype) + ", " + std::to_string(heads) + "x" + std::to_string(channels) +
           ", dropout " + std::to_string(dropout_p) + (decay ? ", decay of " : ", no decay ") +
           dtype_name(distance_dtype) + ", gamma " + std::to_string(gamma) + ", " + kernels().name;
  }
};

Array pointers(const RaggedCase& test) {
  Array ptr(test.ptr_dtype, {static_cast<int64_t>(test.sizes.size()) + 1});
  double at = 0;
  ptr.set(0, at);
  for (size_t b = 0; b < test.sizes.size(); ++b) ptr.set(b + 1, at += static_cast<double>(test.sizes[b]));
  return ptr;
}

struct RaggedResults {
  Array out, row_stats, dq, dk, dv, dhop;
};

struct RaggedTest {
  const RaggedCase& test;
  const DType wide = accumulate_dtype(test.dtype);
  const int64_t heads = test.heads, channels = test.channels;
  const Array ptr = pointers(test);
  const int64_t nodes = static_cast<int64_t>(ptr.get(ptr.size() - 1));
  const Array q = features(1), k = features(2), v = features(3), grad_out = features(4);
  Array distance = distances();
  const Array hop = random_array(wide, {heads}, 5);
  static constexpr double kScale = 0.25, kSlope = 0.25;

  Array features(unsigned seed) const { return random_array(test.dtype, {nodes, heads, channels}, seed); }
  Array distances() const {
    int64_t pairs = 0;
    for (const int64_t n : test.sizes) pairs += n * n;
    Array far(test.distance_dtype, {pairs});
    std::mt19937_64 random(6);
    for (int64_t i = 0; i < pairs; ++i) {
      const uint64_t kind = random() % 16;
      far.set(i, static_cast<double>(kind == 0 ? 100 + random() % 28 : random() % 5));
    }
    return far;
  }

  RaggedResults run(int threads) const {
    const cpu::RaggedPlan plan(ptr.view(), nodes, heads, test.dropout_p > 0);
    cpu::RaggedProblem problem;
    problem.dtype = test.dtype;
    problem.heads = heads;
    problem.channels = channels;
    problem.dropout_p = test.dropout_p;
    problem.seed = kSeed;
    problem.threads = threads;
    problem.batch = plan.batch();
    problem.q = q.data();
    problem.k = k.data();
    problem.v = v.data();
    if (test.decay) {
      problem.distance = distance.data();
      problem.hop = hop.data();
    }
    problem.distance_dtype = test.distance_dtype;
    problem.scale = kScale;
    problem.gamma = test.gamma;
    problem.slope = kSlope;
    const std::vector<int64_t> shape = {nodes, heads, channels};
    RaggedResults r{{test.dtype, shape}, {wide, {nodes, 2, heads}}, {test.dtype, shape},
                    {test.dtype, shape}, {test.dtype, shape},       {wide, {heads}}};
    kernels().ragged_forward(problem, {r.out.data(), r.row_stats.data()});
    kernels().ragged_backward(problem, {r.row_stats.data(), grad_out.data()},
                              {r.dq.data(), r.dk.data(), r.dv.data(), test.decay ? r.dhop.data() : nullptr});
    return r;
  }

  // The formulas, head by head and query by query.
  void compare_with_naive(const RaggedResults& got) const {
    Numbers out(q.size()), dq(q.size()), dk(q.size()), dv(q.size()), dhop(heads);
    int64_t node = 0, pair = 0;
    for (const int64_t n : test.sizes) {
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < n; ++i) {
          const auto at = [&](int64_t j) { return ((node + j) * heads + h) * channels; };
          Numbers score(n), mask(n, 1.0), by_hop(n), kept(n, 1.0), on_weight(n);
          double largest = -INFINITY, sum = 0, mean = 0;
          for (int64_t j = 0; j < n; ++j) {
            const int64_t p = pair + i * n + j;
            if (test.decay) {
              const double excess = distance.get(p) - hop.get(h), slope = excess > 0 ? 1.0 : kSlope;
              mask[j] = std::pow(test.gamma, slope * excess);
              by_hop[j] = -std::log(test.gamma) * slope;
            }
            if (test.dropout_p > 0) {
              const uint32_t word = philox(kSeed, p, static_cast<uint32_t>(h / 4)).word[h % 4];
              kept[j] = word >= dropout_threshold(test.dropout_p) ? 1 / (1 - test.dropout_p) : 0;
            }
            for (int64_t c = 0; c < channels; ++c) {
              score[j] += q.get(at(i) + c) * k.get(at(j) + c) * kScale;
              on_weight[j] += grad_out.get(at(i) + c) * v.get(at(j) + c) * kept[j];
            }
            score[j] *= mask[j];
            largest = std::max(largest, score[j]);
          }
          for (int64_t j = 0; j < n; ++j) sum += std::exp(score[j] - largest);
          for (int64_t j = 0; j < n; ++j) mean += std::exp(score[j] - largest) / sum * on_weight[j];
          for (int64_t j = 0; j < n; ++j) {
            const double weight = std::exp(score[j] - largest) / sum, ds = weight * (on_weight[j] - mean);
            dhop[h] += ds * score[j] * by_hop[j];
            for (int64_t c = 0; c < channels; ++c) {
              out[at(i) + c] += weight * kept[j] * v.get(at(j) + c);
              dq[at(i) + c] += ds * mask[j] * kScale * k.get(at(j) + c);
              dk[at(j) + c] += ds * mask[j] * kScale * q.get(at(i) + c);
              dv[at(j) + c] += weight * kept[j] * grad_out.get(at(i) + c);
            }
          }
        }
      node += n;
      pair += n * n;
    }
    compare("out", got.out, out, test.dtype, test.name());
    compare("dq", got.dq, dq, test.dtype, test.name());
    compare("dk", got.dk, dk, test.dtype, test.name());
    compare("dv", got.dv, dv, test.dtype, test.name());
    if (test.decay) compare("dhop", got.dhop, dhop, wide, test.name());
  }
};

void test_case(const RaggedCase& test) {
  RaggedTest ragged{test};
  const RaggedResults got = ragged.run(test.threads);
  ragged.compare_with_naive(got);
  if (test.threads > 1) {
    const RaggedResults alone = ragged.run(1);
    CHECK(same_bytes(got.out, alone.out) && same_bytes(got.row_stats, alone.row_stats) &&
              same_bytes(got.dq, alone.dq) && same_bytes(got.dk, alone.dk) && same_bytes(got.dv, alone.dv) &&
              (!test.decay || same_bytes(got.dhop, alone.dhop)),
          "threads change bits: " + test.name());
  }
  for (const Array* array : {&ragged.q, &ragged.k, &ragged.v, &ragged.grad_out, &ragged.hop}) make_wild(*array);
  ragged.run(test.threads);  // for the sanitizers: no index may be made of such numbers
  if (!test.decay) return;
  for (int64_t i = 0; i < ragged.distance.size(); i += 3) ragged.distance.set(i, -1);
  ragged.run(test.threads);
}

void test_plan() {
  const auto plan = [](std::vector<double> bounds, DType dtype, int64_t nodes) {
    Array ptr(dtype, {static_cast<int64_t>(bounds.size())});
    for (size_t i = 0; i < bounds.size(); ++i) ptr.set(i, bounds[i]);
    return cpu::RaggedPlan(ptr.view(), nodes, 2, false).batch().task_count;
  };
  CHECK(plan({0}, DType::i64, 0) == 0 && plan({0, 0, 0}, DType::i32, 0) == 0);
  CHECK(plan({0, 1, 3, 3, 7}, DType::i32, 7) == 1, "small graphs share a task");
  CHECK(plan({0, 256}, DType::i64, 256) == 1 && plan({0, 257}, DType::i64, 257) == 2 * 2);
  CHECK_RAISES(ValueError, plan({}, DType::i64, 0));
  CHECK_RAISES(ValueError, plan({1, 2}, DType::i64, 2));
  CHECK_RAISES(ValueError, plan({0, 3, 2}, DType::i32, 2));
  CHECK_RAISES(ValueError, plan({0, 2}, DType::i64, 3));
  CHECK_RAISES(TypeError, plan({0, 2}, DType::i16, 2));
}

}  // namespace

void test_ragged(int threads) {
  test_plan();
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1, 1}, {3, 5}, {4, 16}, {5, 17}, {2, 33}};
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const auto& shape : shapes)
      for (const bool decay : {false, true}) {
        RaggedCase test{{0, 1, 2, 17, 33, 0, 8}, dtype, shape.first, shape.second};
        test.decay = decay;
        test.dropout_p = shape.first % 2 ? 0.0 : 0.5;
        test.ptr_dtype = decay ? DType::i32 : DType::i64;
        test.threads = threads;
        test_case(test);
      }
    for (const DType distance_dtype : {DType::i8, DType::i16, DType::i32}) {
      RaggedCase test{{3, 21}, dtype, 2, 3};
      test.distance_dtype = distance_dtype;
      test.gamma = distance_dtype == DType::i8 ? 1.0 : distance_dtype == DType::i16 ? 0.99 : 0.01;
      test.threads = threads;
      test_case(test);
    }
    RaggedCase test{{5, cpu::kPanelRows + 2, 1}, dtype, 5, 3};
    test.dropout_p = 0.25;
    test.threads = threads;
    test_case(test);
  }
}

}  // namespace gattn::tests
