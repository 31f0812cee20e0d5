// Errors that the bindings translate into Python's ValueError, TypeError and IndexError.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace gattn {

struct ValueError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct IndexError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class Error, class... Parts>
[[noreturn]] void raise(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str());
}

}  // namespace gattn
