// The few words of a test framework that the driver needs.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace gattn::tests {

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

}  // namespace gattn::tests

#define CHECK(condition, ...) \
  if (!(condition))           \
  ::gattn::tests::fail(__FILE__, __LINE__, std::string("failed: " #condition " ") + std::string(__VA_ARGS__))

#define CHECK_RAISES(Error, expression)                                                   \
  do {                                                                                    \
    bool raised = false;                                                                  \
    try {                                                                                 \
      expression;                                                                         \
    } catch (const Error&) {                                                              \
      raised = true;                                                                      \
    }                                                                                     \
    if (!raised) ::gattn::tests::fail(__FILE__, __LINE__, "no " #Error ": " #expression); \
  } while (false)
