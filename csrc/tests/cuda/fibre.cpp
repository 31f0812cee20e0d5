#include "fibre.h"

#include <cstdint>

#if defined(GATTN_SANITIZED)
#include <sanitizer/common_interface_defs.h>
#endif

#if GATTN_OWN_SWITCH
// Pushes the registers that a call preserves, notes in *from where they lie, and pops those that lie at `to`. The
// floating-point unit's modes are nobody's own.
extern "C" void gattn_switch_stack(void** from, void* to);
asm(".text\n"
    ".globl gattn_switch_stack\n"
    ".hidden gattn_switch_stack\n"
    "gattn_switch_stack:\n"
#if defined(__x86_64__)
    "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
#else
    "stp d14, d15, [sp, #-16]!\n stp d12, d13, [sp, #-16]!\n stp d10, d11, [sp, #-16]!\n stp d8, d9, [sp, #-16]!\n"
    "stp x27, x28, [sp, #-16]!\n stp x25, x26, [sp, #-16]!\n stp x23, x24, [sp, #-16]!\n stp x21, x22, [sp, #-16]!\n"
    "stp x19, x20, [sp, #-16]!\n stp x29, x30, [sp, #-16]!\n"
    "mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
    "ldp x29, x30, [sp], #16\n ldp x19, x20, [sp], #16\n"
    "ldp x21, x22, [sp], #16\n ldp x23, x24, [sp], #16\n ldp x25, x26, [sp], #16\n ldp x27, x28, [sp], #16\n"
    "ldp d8, d9, [sp], #16\n ldp d10, d11, [sp], #16\n ldp d12, d13, [sp], #16\n ldp d14, d15, [sp], #16\n"
#endif
    "ret\n");
#endif

namespace gattn::emulation {

namespace {

Fibre *left = nullptr, *reached = nullptr;  // of the last switch

}  // namespace

void Fibre::start(void (*function)()) {
  entry = function;
#if GATTN_OWN_SWITCH
  // As if begin() had been called from nowhere, where a walk up the stack ends.
  auto** at = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack.get()) + size) / 16 * 16);
  const auto first = reinterpret_cast<void*>(&Fibre::begin);
#if defined(__x86_64__)
  constexpr int kRegisters = 6;
  *--at = nullptr;
  *--at = first;
  for (int i = 0; i < kRegisters; ++i) *--at = nullptr;
#else
  constexpr int kRegisters = 18;
  for (int i = 0; i < kRegisters; ++i) *--at = nullptr;
  *--at = first;    // x30
  *--at = nullptr;  // x29
#endif
  top = at;
#else
  getcontext(&context);
  context.uc_stack.ss_sp = stack.get();
  context.uc_stack.ss_size = size;
  context.uc_link = nullptr;
  makecontext(&context, &Fibre::begin, 0);
#endif
}

void Fibre::begin() {
  Fibre& self = *reached;
  self.fake_stack = nullptr;
  self.arrive();
  self.entry();
}

void Fibre::leave(Fibre& other, [[maybe_unused]] bool for_good) {
  left = this, reached = &other;
#if defined(GATTN_SANITIZED)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack, other.bottom, other.size);
#endif
#if GATTN_OWN_SWITCH
  gattn_switch_stack(&top, other.top);
#else
  swapcontext(&context, &other.context);
#endif
  arrive();
}

void Fibre::arrive() {
#if defined(GATTN_SANITIZED)
  __sanitizer_finish_switch_fiber(fake_stack, &left->bottom, &left->size);  // a thread's own stack is learnt here
#endif
}

}  // namespace gattn::emulation
