#include "attention.h"

#include <algorithm>
#include <vector>

#include "launcher.h"

namespace gattn::cuda {

namespace {

// Blocks that sum over all rows, each a part of its own.
constexpr int64_t kParts = 1024;

constexpr Group kGroups[] = {Group::chunk, Group::middle, Group::small};

// A gradient that is a sum over edges or rows: where it goes, and whether it is made of features.
struct Total {
  void*& (*of)(Arguments&);
  bool channels;
};
constexpr Total kD = {[](Arguments& a) -> void*& { return a.d; }, false};
constexpr Total kQ = {[](Arguments& a) -> void*& { return a.found.q; }, true};
constexpr Total kADst = {[](Arguments& a) -> void*& { return a.found.a_dst; }, false};
constexpr Total kDivisor = {[](Arguments& a) -> void*& { return a.found.divisor; }, false};
constexpr Total kK = {[](Arguments& a) -> void*& { return a.found.k; }, true};
constexpr Total kV = {[](Arguments& a) -> void*& { return a.found.v; }, true};
constexpr Total kASrc = {[](Arguments& a) -> void*& { return a.found.a_src; }, false};
constexpr Total kAtt = {[](Arguments& a) -> void*& { return a.found.att; }, true};
constexpr Total kHop = {[](Arguments& a) -> void*& { return a.found.hop; }, false};
constexpr Total kSinkValue = {[](Arguments& a) -> void*& { return a.found.sink_value; }, true};

class Pass {
 public:
  Pass(const Launcher& launcher_, bool by_target_) : launcher(launcher_), by_target(by_target_) {}

  // `rows` are sums over a row's edges, `over_rows` those over all rows.
  void run(Kernel kernel, const Arguments& a, const std::vector<Total>& rows, const std::vector<Total>& over_rows) {
    const bool has_totals = std::any_of(over_rows.begin(), over_rows.end(), [&](Total t) { return given(a, t); });
    int64_t parts = 0;
    for (const Group group : kGroups) parts += grid(group_of(a, group), has_totals);
    Arguments partial = a, chunk = a;
    for (const Total& total : over_rows)
      if (given(a, total)) total.of(partial) = total.of(chunk) = launcher.empty(parts * width(total));
    for (const Total& total : rows)
      if (given(a, total)) total.of(chunk) = launcher.empty(launcher.side(by_target).chunks * width(total));

    int64_t first = 0;
    for (const Group group : kGroups) {
      Arguments of = group_of(group == Group::chunk ? chunk : partial, group);
      of.blocks = launcher.blocks(of, by_target);
      of.first_part = first;
      launcher.launch(kernel, grid(of, has_totals), of);
      first += grid(of, has_totals);
    }
    for (const Total& total : rows)
      if (given(a, total)) sum_chunks(a, total, total.of(chunk));
    for (const Total& total : over_rows)
      if (given(a, total)) sum_blocks(a, total, total.of(partial), parts);
  }

 private:
  const Launcher& launcher;
  bool by_target;

  static bool given(Arguments a, const Total& total) { return total.of(a) != nullptr; }
  static Arguments group_of(Arguments a, Group group) {
    a.walk.group = group;
    return a;
  }
  int64_t grid(const Arguments& a, bool has_totals) const {
    const int64_t blocks = launcher.blocks(a, by_target);
    return has_totals ? std::min(blocks, kParts) : blocks;
  }
  int64_t width(const Total& total) const {
    return launcher.call.heads * (total.channels ? launcher.call.channels : 1);
  }
  void sum_chunks(Arguments a, const Total& total, const void* parts) const {
    a.parts = parts;
    a.sums = total.of(a);
    a.count = width(total);
    const DType dtype = total.channels ? launcher.call.dtype : launcher.wide;
    launcher.launch(sum_chunks_kernel_of(dtype), launcher.side(by_target).hubs, (a.count + kThreads - 1) / kThreads, a);
  }
  void sum_blocks(Arguments a, const Total& total, const void* parts, int64_t count) const {
    a.parts = parts;
    a.sums = total.of(a);
    a.count = width(total);
    a.blocks = count;
    launcher.launch(sum_blocks_kernel_of(launcher.wide), (a.count + kWarps - 1) / kWarps, 1, a);
  }
};

bool has_source_gradient(const AttentionGradients& g) { return g.k || g.v || g.a_src; }
bool has_target_gradient(const AttentionGradients& g) {
  return g.q || g.edge || g.att || g.a_dst || g.a_edge || g.edge_weight || g.divisor || g.hop || g.sink_logit ||
         g.sink_value;
}

}  // namespace

void attention_forward(const Call& call, const AttentionOutputs& results) {
  const Launcher launcher(call, {results.out, results.edge});
  Arguments a = launcher.arguments(true);
  a.out = results.out;
  a.row_stats = results.row_stats;
  a.alpha = results.alpha;
  a.edge_out = results.edge;
  a.chunk_stats = launcher.empty(call.rows.chunks * 2 * call.heads);
  a.sums = launcher.empty(call.rows.chunks * call.heads * call.channels);
  for (const Group group : kGroups) {
    a.walk.group = group;
    launcher.launch(launcher.of_score.forward, launcher.blocks(a, true), a);
  }
  if (call.rows.chunks > 0) {
    a.walk.group = Group::hub;
    launcher.launch(row_kernels(call.dtype, launcher.width).merge, call.rows.hubs, a);
  }
  if (results.alpha == nullptr) return;
  Arguments b = launcher.head_arguments(false);
  b.row_stats = results.row_stats;
  b.alpha = results.alpha;
  b.count = call.num_edges;
  launcher.launch(alpha_kernel_of(launcher.wide), Launcher::blocks_of(b, call.num_edges), b);
}

void attention_backward(const Call& call, const AttentionSaved& saved, const AttentionGradients& found) {
  const Launcher launcher(call, {saved.out, saved.grad_out, saved.grad_edge, found.q, found.k, found.v, found.edge});
  Arguments rows = launcher.arguments(true), columns = launcher.arguments(false);
  for (Arguments* a : {&rows, &columns}) {
    a->row_stats = const_cast<void*>(saved.row_stats);
    a->grad_out = saved.grad_out;
    a->grad_alpha = saved.grad_alpha;
    a->grad_edge = saved.grad_edge;
  }
  rows.d = columns.d = launcher.empty(call.num_dst * call.heads);
  // Where values are not part of the score, a pass that has gathered them for dalpha spares the next one doing so.
  const bool by_source = has_source_gradient(found), by_target = has_target_gradient(found);
  const bool from_out = saved.out != nullptr && saved.grad_out != nullptr && saved.grad_alpha == nullptr;
  void* dalpha = nullptr;
  if (by_target && call.in.v != nullptr && (by_source || !from_out))
    dalpha = launcher.empty(call.num_edges * call.heads);
  if (from_out) {
    Arguments a = rows;
    a.saved_out = saved.out;
    a.count = call.num_dst;
    launcher.launch(row_kernels(call.dtype, launcher.width).d_of_out, Launcher::blocks_of(a, call.num_dst), a);
  } else {
    Arguments a = rows;
    a.dalpha_found = dalpha;
    Pass(launcher, true).run(launcher.of_score.d, a, {kD}, {});
  }
  if (by_source) {
    columns.found = found;
    columns.dalpha_found = from_out ? dalpha : nullptr;
    Pass(launcher, false).run(launcher.of_score.source, columns, {kK, kV, kASrc}, {});
  }
  if (by_target) {
    rows.found = found;
    rows.dalpha_known = dalpha;
    if (from_out) rows.dalpha_slot = launcher.graph().csr_to_csc;
    Pass(launcher, true).run(launcher.of_score.target, rows, {kQ, kADst, kDivisor}, {kAtt, kHop, kSinkValue});
  }
}

void first_largest(const Call& call, const void* values, int64_t* found) {
  const Launcher launcher(call, {});
  Arguments a = launcher.head_arguments(true);
  a.parts = values;
  a.sums = found;
  for (const Group group : {Group::hub, Group::middle, Group::small}) {
    a.walk.group = group;
    launcher.launch(largest_kernel_of(launcher.wide), launcher.blocks(a, true), a);
  }
}

}  // namespace gattn::cuda
