// The kernels of every score with every modifier against naive_attention.h, whose gradients come from the tape.
#include "naive_attention.h"
#include "tests.h"

namespace gattn::tests {

namespace {

using cpu::kernels;

struct Results {
  Array out, row_stats, alpha, products;
  Array activations, sums, counts, extremes;  // what the tap finds
  std::vector<Array> gradients;               // one for every Input, empty where not asked for
};

struct AttentionTest {
  const AttentionCase test;
  const bool has_products = test.is(ScoreKind::gt);
  const bool has_tap = has_products || test.is(ScoreKind::dot) || test.is(ScoreKind::gatv2);
  const DType wide = accumulate_dtype(test.dtype);
  const cpu::PackedGraph graph = pack(test.list, test.wide, test.threads);
  std::vector<Array> inputs;
  Array distance{test.modifier.distance_dtype, {test.edges()}};
  const Array grad_out = random_array(test.dtype, {test.list.num_dst, test.heads, test.channels}, 51);
  const Array grad_alpha = random_array(wide, {test.edges(), test.heads}, 52);
  const Array grad_products =
      random_array(test.dtype, {has_products ? test.edges() : 0, test.heads, test.channels}, 53);

  explicit AttentionTest(const AttentionCase& test_) : test(test_) {
    std::mt19937_64 random(54);
    for (int i = 0; i < kInputs; ++i) {
      const auto input = static_cast<Input>(i);
      inputs.push_back(test.array(input, test.has(input)));
      Array& array = inputs.back();
      for (int64_t at = 0; at < array.size(); ++at) {
        const double value = static_cast<double>(random() % 33) / 8 - 2;  // exact in every type
        array.set(at, input == kDivisor ? value + 3 : input == kEdgeWeight ? std::abs(value) : value);
      }
    }
    const double far = distance.dtype() == DType::i8 ? 127 : 200;  // the sign bit of an unsigned byte is none
    for (int64_t e = 0; e < distance.size(); ++e)
      distance.set(e, random() % 8 ? static_cast<double>(random() % 7) : far);
  }

  AttentionInputs kernel_inputs() const {
    AttentionInputs in;
    in.score = test.variant.score;
    for (int i = 0; i < kInputs; ++i)
      if (test.has(static_cast<Input>(i))) in.*kSlots[i].input = inputs[i].data();
    if (test.has(kHop)) in.distance = distance.data();
    in.distance_dtype = distance.dtype();
    in.negative_slope = test.slope;
    in.scale = test.scale();
    in.clip = test.clip;
    in.epsilon = test.epsilon();
    in.gamma = test.gamma;
    in.decay_slope = test.decay_slope;
    in.undropped = test.modifier.undropped;
    return in;
  }

  // `wanted`: bits of the inputs whose gradients are asked for.
  Results run(int threads, unsigned wanted = ~0u) const {
    const auto problem = problem_of(graph, test.dtype, test.heads, test.channels, test.modifier.dropout_p, threads);
    const AttentionInputs in = kernel_inputs();
    const bool has_values = test.has_values();
    Results r{{test.dtype, {has_values ? test.list.num_dst : 0, test.heads, test.channels}},
              {wide, {test.list.num_dst, 2, test.heads}},
              {wide, {test.edges(), test.heads}},
              {test.dtype, {has_products ? test.edges() : 0, test.heads, test.channels}},
              {wide, {has_tap ? test.edges() : 0, 3}},
              {DType::f64, {has_tap ? 2 : 0}},
              {DType::i64, {has_tap ? cpu::kActivationCounts + 2 : 0}},
              {DType::f64, {has_tap ? 2 : 0, 3}},
              {}};
    const Array threshold(DType::f64, {1});
    threshold.at<double>(0) = 2;
    cpu::ActivationTap tap;
    if (has_tap) {
      tap.limits = {&threshold.at<double>(0), nullptr, 1, 0};
      tap.outputs.rows = r.activations.data();
      tap.outputs.sums = &r.sums.at<double>(0);
      tap.outputs.counts = &r.counts.at<int64_t>(0);
      tap.outputs.extremes = &r.extremes.at<double>(0);
    }
    AttentionGradients gradients;
    for (int i = 0; i < kInputs; ++i) {
      const auto input = static_cast<Input>(i);
      const bool asked = wanted & test.inputs() & bit(input);
      r.gradients.push_back(test.array(input, asked));
      if (asked) gradients.*kSlots[i].gradient = r.gradients[i].data();
    }
    kernels().attention_forward(problem, in,
                                {has_values ? r.out.data() : nullptr, r.row_stats.data(), r.alpha.data(),
                                 has_products ? r.products.data() : nullptr},
                                tap);
    kernels().attention_backward(
        problem, in,
        {r.row_stats.data(), has_values ? r.out.data() : nullptr,
         has_values && test.grad_out ? grad_out.data() : nullptr, test.grad_alpha ? grad_alpha.data() : nullptr,
         has_products && test.grad_products ? grad_products.data() : nullptr},
        gradients);
    return r;
  }

  void compare_with_naive(const Results& got) const {
    const std::string name = test.name();
    tape.clear();
    Vars in[kInputs];
    for (int i = 0; i < kInputs; ++i)
      for (int64_t at = 0; at < inputs[i].size(); ++at) in[i].push_back(variable(inputs[i].get(at)));
    NaiveAttention naive{test, in, distance};
    naive.run();
    Numbers gradient(tape.size());
    const auto check = [&](const char* what, const Array& array, const Vars& want, const Array* its_gradient) {
      Numbers values;
      for (const Var& number : want) values.push_back(number.value);
      compare(what, array, values, array.dtype(), name);
      for (size_t i = 0; its_gradient && i < want.size(); ++i)
        if (want[i].id >= 0) gradient[want[i].id] += its_gradient->get(static_cast<int64_t>(i));
    };
    compare("row_stats", got.row_stats, naive.row_stats, wide, name);
    check("alpha", got.alpha, naive.alpha, test.grad_alpha ? &grad_alpha : nullptr);
    if (test.has_values()) check("out", got.out, naive.out, test.grad_out ? &grad_out : nullptr);
    check("products", got.products, naive.products, test.grad_products ? &grad_products : nullptr);
    if (has_products && test.dtype == wide) check_tap(got, name);
    sweep_back(gradient);
    for (int i = 0; i < kInputs; ++i) {
      Numbers want;
      for (const Var& number : in[i]) want.push_back(gradient[number.id]);
      compare(kSlots[i].name, got.gradients[i], want, got.gradients[i].dtype(), "gradient, " + name);
    }
  }

  // The products are what the tap has seen.
  void check_tap(const Results& got, const std::string& name) const {
    const int64_t width = test.heads * test.channels;
    double squares = 0;
    for (int64_t e = 0; e < test.edges(); ++e) {
      double largest = 0;
      for (int64_t c = 0; c < width; ++c) {
        const double product = got.products.get(e * width + c);
        largest = std::max(largest, std::abs(product));
        squares += product * product;
      }
      CHECK(got.activations.get(3 * e) == largest, "largest activation, " + name);
    }
    CHECK(std::abs(got.sums.get(1) - squares) <= 1e-5 * squares, "squares of activations, " + name);
  }
};

void check_same(const Results& a, const Results& b, const std::string& what) {
  CHECK(same_bytes(a.out, b.out) && same_bytes(a.row_stats, b.row_stats) && same_bytes(a.alpha, b.alpha) &&
            same_bytes(a.products, b.products),
        what);
  CHECK(same_bytes(a.activations, b.activations) && same_bytes(a.sums, b.sums) && same_bytes(a.counts, b.counts) &&
            same_bytes(a.extremes, b.extremes),
        "tap, " + what);
  for (int i = 0; i < kInputs; ++i)
    if (a.gradients[i].size() > 0)
      CHECK(same_bytes(a.gradients[i], b.gradients[i]), std::string("gradient of ") + kSlots[i].name + ", " + what);
}

void test_case(const AttentionCase& test) {
  const AttentionTest attention(test);
  const Results got = attention.run(test.threads);
  attention.compare_with_naive(got);
  const bool shared = test.threads > 1 && test.edges() > cpu::kHubDegree;  // smaller graphs are one task
  if (shared) check_same(got, attention.run(1), "threads change bits: " + test.name());
}

// A gradient is the same whichever others are asked for.
void test_some_gradients(const AttentionCase& test) {
  const AttentionTest attention(test);
  const Results all = attention.run(test.threads);
  for (int i = 0; i < kInputs; ++i)
    if (test.has(static_cast<Input>(i)))
      for (const unsigned wanted : {1u << i, ~(1u << i)})
        check_same(attention.run(test.threads, wanted), all, "when some are asked for: " + test.name());
}

// No index or table may be made of NaN, infinities and numbers beyond exp. (What comes out is Python's to test.)
void test_wild_values(const AttentionCase& test) {
  AttentionTest attention(test);
  for (const Array& array : attention.inputs) make_wild(array);
  for (const Array* array : {&attention.grad_out, &attention.grad_alpha, &attention.grad_products}) make_wild(*array);
  attention.run(test.threads);
}

void test_first_largest(const EdgeList& list, DType dtype, int64_t heads, bool wide, int threads) {
  const auto graph = pack(list, wide, threads);
  const auto problem = problem_of(graph, dtype, heads, 1, 0.0, threads);
  const Array values = random_array(dtype, {list.num_src, heads}, 55);
  const Array first(DType::i64, {list.num_dst, heads});
  kernels().first_largest(problem, values.data(), static_cast<int64_t*>(first.data()));
  std::vector<int64_t> want(first.size(), -1);
  for (const auto& edge : list.edges)
    for (int64_t h = 0; h < heads; ++h) {
      int64_t& best = want[edge.second * heads + h];
      if (best < 0 || values.get(edge.first * heads + h) > values.get(best * heads + h)) best = edge.first;
    }
  for (int64_t i = 0; i < first.size(); ++i)
    CHECK(first.at<int64_t>(i) == want[i], std::string("first_largest: ") + list.name);

  make_wild(values);
  kernels().first_largest(problem, values.data(), static_cast<int64_t*>(first.data()));
  for (int64_t i = 0; i < first.size(); ++i)
    CHECK(first.at<int64_t>(i) >= -1 && first.at<int64_t>(i) < list.num_src,
          std::string("of wild values, ") + list.name);
}

}  // namespace

void test_attention(int threads) {
  const int64_t all_heads[] = {1, 2, 3, 4, 8}, all_channels[] = {1, 3, 5, 8, 17, 33};
  const std::vector<EdgeList> graphs = small_graphs();
  const EdgeList hub = hub_edges(60, 2 * cpu::kHubDegree + 100);
  const Modifier* const end = std::end(kModifiers);
  std::mt19937_64 random(56);
  const auto one_of = [&](const auto& choices) { return choices[random() % std::size(choices)]; };
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const Variant& variant : kVariants) {
      // Score gat has no edge_weight outside these tests: without one it takes a backward of its own.
      const Modifier &plain = kModifiers[0], &everything = variant.score == ScoreKind::gat ? end[-2] : end[-1];
      const auto make_case = [&](const EdgeList& list, const Modifier& modifier) {
        AttentionCase test{list, variant, modifier, dtype, one_of(all_heads)};
        if (test.has_values()) test.channels = one_of(all_channels);
        test.wide = random() % 2;
        test.threads = threads;
        return test;
      };
      for (const Modifier& modifier : kModifiers)
        for (const EdgeList* list : {&graphs[random() % 4], &graphs[4 + random() % 3]}) {
          AttentionCase test = make_case(*list, modifier);
          test.grad_out = random() % 4 > 0;
          test.grad_alpha = random() % 4 > 0;
          test.grad_products = random() % 4 > 0;
          test_case(test);
        }
      for (const Modifier* modifier : {&plain, &everything}) test_wild_values(make_case(graphs[5], *modifier));
      if (dtype != accumulate_dtype(dtype)) continue;  // loops over a graph are compiled once an accumulate type
      test_some_gradients(make_case(graphs[6], everything));
      for (const Modifier* modifier : {&plain, &everything}) {
        AttentionCase test = make_case(hub, *modifier);
        test.heads = 3;
        test.channels = test.has_values() ? 3 : 1;
        test_case(test);
      }
    }
  }
  for (const DType dtype : {DType::f32, DType::f64})
    for (const bool wide : {false, true}) {
      for (const EdgeList& list : graphs) test_first_largest(list, dtype, one_of(all_heads), wide, threads);
      test_first_largest(hub, dtype, one_of(all_heads), wide, threads);
    }
}

}  // namespace gattn::tests
