// The network that finds medians.
#pragma once

#include <vector>

#include "activation.h"

namespace gattn::cpu {

// From blocks of kSortedBlock sorted numbers, the last one maybe shorter, to the lower median of all `width`: those
// comparators of a network that sorts them which have a say in it. None for widths beyond kMaxNetwork.
std::vector<Comparator> median_network(int64_t width);

}  // namespace gattn::cpu
