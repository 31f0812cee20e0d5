// Functions on stacks of their own that hand over to each other, without the system calls of ucontext's switch where
// it is written out below for the machine.
#pragma once

#include <cstddef>
#include <memory>

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
#define GATTN_OWN_SWITCH 1
#else
#define GATTN_OWN_SWITCH 0
#include <ucontext.h>
#endif

namespace gattn::emulation {

class Fibre {
 public:
  Fibre() = default;  // what runs already, on the stack it has
  explicit Fibre(size_t stack_size) : stack(new char[stack_size]), bottom(stack.get()), size(stack_size) {}

  // `entry` is called on this stack when it is first switched to, and never returns.
  void start(void (*entry)());
  // Called on this stack; returns when somebody switches back.
  void switch_to(Fibre& other) { leave(other, false); }
  // The same for the last time before the next start.
  void end(Fibre& other) { leave(other, true); }

 private:
  std::unique_ptr<char[]> stack;
  const void* bottom = nullptr;
  size_t size = 0;
  void (*entry)() = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
#if GATTN_OWN_SWITCH
  void* top = nullptr;  // where the registers lie
#else
  ucontext_t context{};
#endif

  void leave(Fibre& other, bool for_good);
  void arrive();
  static void begin();
};

}  // namespace gattn::emulation
