#include <algorithm>

#include "activation_network.h"

namespace gattn::cpu {

namespace {

// Batcher's odd-even merge of two sorted halves of wires `first`, `first` + step, ... (`count` of them). Wires from
// `width` on carry infinity and need no comparator.
void merge(int64_t first, int64_t count, int64_t step, int64_t width, std::vector<Comparator>& network) {
  const auto add = [&](int64_t low, int64_t high) {
    if (high < width) network.push_back({static_cast<int32_t>(low), static_cast<int32_t>(high)});
  };
  if (count == 2) return add(first, first + step);
  merge(first, count / 2, 2 * step, width, network);
  merge(first + step, count / 2, 2 * step, width, network);
  for (int64_t i = 1; i + 1 < count; i += 2) add(first + i * step, first + (i + 1) * step);
}

}  // namespace

std::vector<Comparator> median_network(int64_t width) {
  if (width > kMaxNetwork) return {};
  std::vector<Comparator> network, kept;
  for (int64_t sorted = kSortedBlock; sorted < width; sorted *= 2)
    for (int64_t first = 0; first < width; first += 2 * sorted) merge(first, 2 * sorted, 1, width, network);
  std::vector<bool> needed(width);
  needed[(width - 1) / 2] = true;
  for (auto it = network.rbegin(); it != network.rend(); ++it)
    if (needed[it->low] || needed[it->high]) {
      needed[it->low] = needed[it->high] = true;
      kept.push_back(*it);
    }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

}  // namespace gattn::cpu
