// The kernels made for score gat, of the instruction set in use, against the scalar loops of naive.h: types, shapes,
// hubs, options.
#include <atomic>
#include <thread>

#include "cpu/parallel.h"
#include "naive.h"
#include "tests.h"

namespace gattn::tests {

namespace {

using cpu::kernels;

struct Case {
  EdgeList list;
  DType dtype;
  bool wide = false;
  int64_t heads = 1, channels = 1;
  double dropout_p = 0.0;
  bool with_target = true, with_edge = true, with_attention = true;
  bool layer = false;    // node scores, attention and bias, as GATConv has them
  bool divided = false;  // scores, by a number a target and head
  int threads = 1;

  std::string name() const {
    return std::string(list.name) + ", " + dtype_name(dtype) + (wide ? ", int64" : ", int32") + ", " +
           std::to_string(heads) + "x" + std::to_string(channels) + ", dropout " + std::to_string(dropout_p) +
           (with_target ? ", a_dst" : "") + (with_edge ? ", a_edge" : "") + (with_attention ? ", alpha" : "") +
           (divided ? ", divided" : "") + (layer ? ", layer, " : ", ") + kernels().name;
  }
};

cpu::Problem problem_of(const Case& test, const cpu::PackedGraph& graph) {
  return tests::problem_of(graph, test.dtype, test.heads, test.channels, test.dropout_p, test.threads);
}
cpu::PackedGraph pack(const Case& test) { return tests::pack(test.list, test.wide, test.threads); }

struct Results {
  Array a_src, a_dst, out, row_stats, alpha, dx, da_src, da_dst, da_edge, datt_src, datt_dst, dbias, ddivisor;
};

Array positive_array(DType dtype, std::vector<int64_t> shape, unsigned seed) {
  Array array = random_array(dtype, std::move(shape), seed);
  for (int64_t i = 0; i < array.size(); ++i) array.set(i, std::abs(array.get(i)) + 0.5);
  return array;
}

struct GatTest {
  const Case& test;
  const DType logit = accumulate_dtype(test.dtype);
  const int64_t n_src = test.list.num_src, n_dst = test.list.num_dst, heads = test.heads, channels = test.channels;
  const int64_t edges = static_cast<int64_t>(test.list.edges.size());
  const cpu::PackedGraph graph = pack(test);
  const Array x = random_array(test.dtype, {n_src, heads, channels}, 11);
  const Array a_src = random_array(logit, {n_src, heads}, 12), a_dst = random_array(logit, {n_dst, heads}, 13);
  const Array a_edge = random_array(logit, {edges, heads}, 14);
  const Array grad_out = random_array(test.dtype, {n_dst, heads, channels}, 15);
  const Array grad_alpha = random_array(logit, {edges, heads}, 16);
  const Array att_src = random_array(logit, {heads, channels}, 17),
              att_dst = random_array(logit, {heads, channels}, 18);
  const Array bias = random_array(logit, {heads, channels}, 19);
  const Array divisor = positive_array(logit, {n_dst, heads}, 20);

  Results run(int threads) const {
    auto problem = problem_of(test, graph);
    problem.threads = threads;
    Results r{{logit, {n_src, heads}},    {logit, {n_dst, heads}},    {test.dtype, {n_dst, heads, channels}},
              {logit, {n_dst, 2, heads}}, {logit, {edges, heads}},    {test.dtype, {n_src, heads, channels}},
              {logit, {n_src, heads}},    {logit, {n_dst, heads}},    {logit, {edges, heads}},
              {logit, {heads, channels}}, {logit, {heads, channels}}, {logit, {heads, channels}},
              {logit, {n_dst, heads}}};
    cpu::GatInputs in;
    in.negative_slope = 0.2;
    in.v = x.data();
    in.a_src = a_src.data();
    in.a_dst = test.with_target ? a_dst.data() : nullptr;
    in.a_edge = test.with_edge ? a_edge.data() : nullptr;
    in.divisor = test.divided ? divisor.data() : nullptr;
    const cpu::NodeParameters parameters{att_src.data(), att_dst.data()};
    if (test.layer) {
      kernels().node_terms(problem, n_src, x.data(), parameters, {r.a_src.data(), r.a_dst.data(), nullptr});
      in.a_src = r.a_src.data();
      in.a_dst = r.a_dst.data();
      in.bias = bias.data();
    }
    void* alpha = test.with_attention ? r.alpha.data() : nullptr;
    kernels().gat_forward(problem, in, {r.out.data(), r.row_stats.data(), alpha});
    cpu::GatGradients gradients;
    gradients.v = r.dx.data();
    gradients.a_src = r.da_src.data();
    gradients.a_dst = test.with_target ? r.da_dst.data() : nullptr;
    gradients.a_edge = test.with_edge ? r.da_edge.data() : nullptr;
    gradients.divisor = test.divided ? r.ddivisor.data() : nullptr;
    const void* grad = test.with_attention ? grad_alpha.data() : nullptr;
    kernels().gat_backward(problem, in, {{r.row_stats.data(), r.out.data(), grad_out.data(), grad}, alpha}, gradients);
    if (test.layer)
      kernels().node_terms_backward(
          problem, n_src, x.data(), parameters, {r.da_src.data(), r.da_dst.data()},
          {r.dx.data(), r.datt_src.data(), r.datt_dst.data(), r.dbias.data(), grad_out.data(), r.dx.data()});
    return r;
  }

  // <x, att> of every node, [nodes, heads].
  Numbers node_scores(const Array& att) const {
    Numbers scores(n_src * heads);
    for (int64_t i = 0; i < x.size(); ++i) scores[i / channels] += x.get(i) * att.get(i % (heads * channels));
    return scores;
  }

  void compare_with_naive(const Results& got) const {
    const auto numbers = [](const Array& array) {
      Numbers result(array.size());
      for (int64_t i = 0; i < array.size(); ++i) result[i] = array.get(i);
      return result;
    };
    const Numbers from = test.layer ? node_scores(att_src) : numbers(a_src);
    const Numbers to = test.layer ? node_scores(att_dst) : numbers(a_dst);
    Naive naive{test.list, heads, channels, 0.2, test.dropout_p, kSeed, {}, {}, {}};
    naive.t.resize(edges * heads);
    naive.each([&](int64_t, int64_t, int64_t j, int64_t i, int64_t eh) {
      naive.t[eh] = from[j] + (test.with_target ? to[i] : 0) + (test.with_edge ? a_edge.get(eh) : 0);
      if (test.divided) naive.t[eh] /= divisor.get(i);
    });
    const Numbers row_stats = naive.softmax(), alpha = naive.alpha();
    Numbers out(got.out.size()), dx(got.dx.size()), da_src(got.da_src.size()), da_dst(got.da_dst.size());
    Numbers on_alpha(alpha.size());
    naive.each_channel([&](int64_t j, int64_t i, int64_t eh) {
      out[i] += alpha[eh] * x.get(j);
      dx[j] += alpha[eh] * grad_out.get(i);
      on_alpha[eh] += grad_out.get(i) * x.get(j);
    });
    if (test.with_attention)
      for (size_t i = 0; i < on_alpha.size(); ++i) on_alpha[i] += grad_alpha.get(i);
    Numbers dt = naive.backward(on_alpha), ddivisor(got.ddivisor.size());
    naive.each([&](int64_t, int64_t, int64_t j, int64_t i, int64_t eh) {
      if (test.divided) dt[eh] /= divisor.get(i);
      ddivisor[i] -= dt[eh] * naive.t[eh];
      da_src[j] += dt[eh];
      da_dst[i] += dt[eh];
    });

    const std::string name = test.name();
    if (test.layer) {
      Numbers datt_src(heads * channels), datt_dst(datt_src.size()), dbias(datt_src.size());
      for (int64_t i = 0; i < x.size(); ++i) {
        const int64_t hc = i % (heads * channels);
        out[i] += bias.get(hc);
        dx[i] += da_src[i / channels] * att_src.get(hc) + da_dst[i / channels] * att_dst.get(hc);
        datt_src[hc] += da_src[i / channels] * x.get(i);
        datt_dst[hc] += da_dst[i / channels] * x.get(i);
        dbias[hc] += grad_out.get(i);
      }
      compare("a_src", got.a_src, from, logit, name);
      compare("a_dst", got.a_dst, to, logit, name);
      compare("datt_src", got.datt_src, datt_src, test.dtype, name);
      compare("datt_dst", got.datt_dst, datt_dst, test.dtype, name);
      compare("dbias", got.dbias, dbias, logit, name);
    }
    compare("out", got.out, out, test.dtype, name);
    compare("row_stats", got.row_stats, row_stats, logit, name);
    if (test.with_attention) compare("alpha", got.alpha, alpha, logit, name);
    compare("dx", got.dx, dx, test.dtype, name);
    compare("da_src", got.da_src, da_src, test.dtype, name);
    if (test.with_target) compare("da_dst", got.da_dst, da_dst, test.dtype, name);
    if (test.with_edge) compare("da_edge", got.da_edge, dt, test.dtype, name);
    if (test.divided) compare("ddivisor", got.ddivisor, ddivisor, test.dtype, name);
  }
};

void test_gat(const Case& test) {
  const GatTest gat{test};
  const Results got = gat.run(test.threads);
  gat.compare_with_naive(got);
  if (test.threads == 1) return;
  const Results alone = gat.run(1);
  CHECK(same_bytes(got.out, alone.out) && same_bytes(got.alpha, alone.alpha) && same_bytes(got.dx, alone.dx) &&
            same_bytes(got.da_src, alone.da_src) && same_bytes(got.da_dst, alone.da_dst) &&
            same_bytes(got.da_edge, alone.da_edge) && same_bytes(got.datt_src, alone.datt_src) &&
            same_bytes(got.datt_dst, alone.datt_dst) && same_bytes(got.dbias, alone.dbias) &&
            same_bytes(got.ddivisor, alone.ddivisor),
        "threads change bits: " + test.name());
}

// Norms of nodes and their gradient; scores are the layer's, above.
void test_norms(const Case& test) {
  const int64_t nodes = test.list.num_src;
  const DType wide = accumulate_dtype(test.dtype);
  const Array x = random_array(test.dtype, {nodes, test.heads, test.channels}, 41);
  const Array grad = random_array(wide, {nodes, test.heads}, 42);
  Array norm(wide, {nodes, test.heads}), dx(test.dtype, {nodes, test.heads, test.channels});
  cpu::Problem problem;
  problem.dtype = test.dtype;
  problem.heads = test.heads;
  problem.channels = test.channels;
  problem.threads = test.threads;
  kernels().node_terms(problem, nodes, x.data(), {}, {nullptr, nullptr, norm.data()});
  kernels().node_terms_backward(problem, nodes, x.data(), {}, {nullptr, nullptr, norm.data(), grad.data()},
                                {dx.data()});
  Numbers want(norm.size()), want_dx(dx.size());
  for (int64_t i = 0; i < x.size(); ++i) want[i / test.channels] += x.get(i) * x.get(i);
  for (double& square : want) square = std::sqrt(square);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t at = i / test.channels;
    want_dx[i] = want[at] == 0 ? 0 : grad.get(at) * x.get(i) / want[at];
  }
  compare("norm", norm, want, wide, test.name());
  compare("norm's dx", dx, want_dx, test.dtype, test.name());
}

// LipschitzNorm's divisor, and its gradient to norms and weight.
void test_divisor(const Case& test) {
  const auto graph = pack(test);
  const int64_t nodes = test.list.num_src, heads = test.heads;
  const DType wide = accumulate_dtype(test.dtype);
  const cpu::Problem problem = problem_of(test, graph);
  const Array norm = positive_array(wide, {nodes, heads}, 43), weight = positive_array(wide, {heads}, 44);
  const Array grad = random_array(wide, {nodes, heads}, 45);
  Array first(DType::i64, {nodes, heads}), divisor(wide, {nodes, heads}), dnorm(wide, {nodes, heads});
  Array dweight(wide, {heads});
  kernels().first_largest(problem, norm.data(), static_cast<int64_t*>(first.data()));
  const cpu::DivisorInputs in{norm.data(), weight.data(), static_cast<const int64_t*>(first.data())};
  kernels().gat_divisor(problem, nodes, in, divisor.data());
  kernels().gat_divisor_backward(problem, nodes, in, grad.data(), {dnorm.data(), dweight.data()});
  Numbers want(norm.size()), want_dnorm(norm.size()), want_dweight(heads);
  for (int64_t at = 0; at < norm.size(); ++at) {
    const int64_t h = at % heads, source = static_cast<int64_t>(first.get(at));
    const double other = source < 0 ? 0.0 : norm.get(source * heads + h), root = std::hypot(norm.get(at), other);
    want[at] = weight.get(h) * root + 1e-12;
    want_dweight[h] += grad.get(at) * root;
    want_dnorm[at] += grad.get(at) * weight.get(h) * norm.get(at) / root;
    if (source >= 0) want_dnorm[source * heads + h] += grad.get(at) * weight.get(h) * other / root;
  }
  compare("divisor", divisor, want, wide, test.name());
  compare("divisor's dnorm", dnorm, want_dnorm, wide, test.name());
  compare("divisor's dweight", dweight, want_dweight, wide, test.name());
}

void test_gather_limit(const Case& test) {
  const auto graph = pack(test);
  const Array x = random_array(test.dtype, {test.list.num_src, test.heads, test.channels}, 31);
  Array got(test.dtype, {test.list.num_dst, test.heads, test.channels});
  kernels().gather_limit(problem_of(test, graph), x.data(), got.data());
  const Naive naive{test.list, test.heads, test.channels, 0, 0, 0, {}, {}, {}};
  Numbers want(got.size());
  naive.each_channel([&](int64_t j, int64_t i, int64_t) { want[i] += x.get(j); });
  compare("gather", got, want, test.dtype, test.name());
}

// No index or table may be made of NaN, infinities and numbers beyond exp. (What comes out is Python's to test.)
void test_wild_values(const Case& test) {
  const GatTest gat{test};
  for (const Array* array : {&gat.x, &gat.a_src, &gat.a_dst, &gat.a_edge, &gat.grad_out, &gat.grad_alpha})
    make_wild(*array);
  gat.run(test.threads);
}

void test_all(Case test) {
  test_gat(test);
  test_gather_limit(test);
  test_norms(test);
  test_wild_values(test);
  const bool one_set = test.list.num_src == test.list.num_dst;
  if (one_set) test_divisor(test);
  for (const bool divided : {true, false}) {
    test.divided = divided;
    test.layer = false;
    if (divided) test_gat(test);
    test.layer = true;
    if (one_set) test_gat(test);
  }
}

}  // namespace

void test_kernels(int threads) {
  // Heads: the unrolled counts and others; channels: below, at and beyond each vector's length, with ragged
  // ends.
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1, 1}, {2, 3}, {3, 5}, {4, 8}, {5, 17}, {8, 16}, {4, 33}};
  const EdgeList hub = hub_edges(60, 2 * cpu::kHubDegree + 100);
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const EdgeList& list : small_graphs())
      for (const auto& shape : shapes)
        for (const double dropout_p : {0.0, 0.5}) {
          Case test{list, dtype};
          test.heads = shape.first;
          test.channels = shape.second;
          test.dropout_p = dropout_p;
          test.wide = shape.first % 2;
          test.threads = threads;
          test_all(test);
        }
    for (int options = 0; options < 8; ++options) {
      Case test{small_graphs().back(), dtype};
      test.heads = 2;
      test.channels = 8;
      test.with_target = options & 1;
      test.with_edge = options & 2;
      test.with_attention = options & 4;
      test.threads = threads;
      test_gat(test);
    }
    for (const bool wide : {false, true}) {
      Case test{hub, dtype};
      test.wide = wide;
      test.heads = wide ? 4 : 3;
      test.channels = 9;
      test.dropout_p = 0.25;
      test.threads = threads;
      test_all(test);
    }
  }
}

void plant_fault(const char* kind) {
  const Case test{random_edges("planted", 8, 8, 40, 6), DType::f32};
  if (std::strcmp(kind, "read") == 0) {
    const auto graph = pack(test);
    const Array x(DType::f32, {test.list.num_src - 1, 1, 1});  // one row fewer than the graph has sources
    Array out(DType::f32, {test.list.num_dst, 1, 1});
    kernels().gather_limit(problem_of(test, graph), x.data(), out.data());
  } else if (std::strcmp(kind, "overflow") == 0) {
    volatile int64_t largest = std::numeric_limits<int64_t>::max();
    largest = largest + 1;
  } else if (std::strcmp(kind, "race") == 0) {
    int64_t sum = 0;
    std::atomic<int> met{0};  // both threads have a task before either goes on
    cpu::parallel_tasks(2, 2, [&](int64_t task, int) {
      met.fetch_add(1, std::memory_order_relaxed);
      while (met.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
      for (int i = 0; i < 1000; ++i) sum += task;
    });
    std::printf("%lld\n", static_cast<long long>(sum));
  } else {
    fail(__FILE__, __LINE__, std::string("no such fault: ") + kind);
  }
}

}  // namespace gattn::tests
