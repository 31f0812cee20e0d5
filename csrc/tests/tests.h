// What the driver runs.
#pragma once

namespace gattn::tests {

void test_graph(int threads);
void test_kernels(int threads);
void test_attention(int threads);
void test_activation(int threads);
void test_shortest_path(int threads);
void test_ragged(int threads);

// Does what a sanitizer must stop: "read" out of bounds inside a kernel, "race" in the pool, "overflow" of an
// integer.
void plant_fault(const char* kind);

}  // namespace gattn::tests
