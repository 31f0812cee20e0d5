// Faults that tests plant to see whether the emulation and its sanitizers show them.
#pragma once

namespace gattn {

extern const bool kSanitized;  // whether AddressSanitizer watches the kernels

// Whether every thread of a block gets its neighbour's number; `synchronise`: they wait for it to be there.
bool neighbours_are_right(bool synchronise);
// Element `at` of 8, read in a kernel.
int read_at(int at);
// Half a warp votes, for all of it.
void diverge();

}  // namespace gattn
