// Truth: the argument says where the stack of `fiber` > `leaf` ends, which has nearly all samples.
//   makecontext  at the C library's entry of a context
//   zero         below it lies a return address of 0, as coroutine libraries put it there
//   luck         as `zero`, in code without unwind information whose frame pointer is 0: where that stack ends nobody can tell
#define _GNU_SOURCE
#include "burn.h"

#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { STACK = 256 << 10 };

static deadline_t end;
static ucontext_t main_context, fiber_context;
static void *saved_stack;

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME void fiber(void) {
    uint64_t sum = 0;
    while (!passed(end)) sum += leaf(10 * TURN);
    if (sum == 42) abort();
}

FRAME void by_makecontext(char *stack) {
    getcontext(&fiber_context);
    fiber_context.uc_stack.ss_sp = stack;
    fiber_context.uc_stack.ss_size = STACK;
    fiber_context.uc_link = &main_context;
    makecontext(&fiber_context, fiber, 0);
    swapcontext(&main_context, &fiber_context);
}

// Comes back to whoever entered the hand-made stack; nothing is returned to.
void leave(void);

FRAME void entry(void) {
    fiber();
    leave();
}

void enter(void (*function)(void), char *top, void **saved);
#if defined(__x86_64__)
__asm__(
    ".text\n.globl enter, leave, entry_without_rules\n"
    // Registers that a callee keeps, then the other stack, on which the function finds a return address of 0.
    "enter: push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, (%rdx); mov %rsi, %rsp; xor %ebp, %ebp; push $0; jmp *%rdi\n"
    "leave: mov saved_stack(%rip), %rsp\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret\n"
    "entry_without_rules: sub $24, %rsp; call fiber; jmp leave\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl enter, leave, entry_without_rules\n"
    "enter: sub sp, sp, #176; stp x19, x20, [sp]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]\n"
    "mov x9, sp; str x9, [x2]; mov sp, x1; mov x29, #0; mov x30, #0; br x0\n"
    "leave: adrp x9, saved_stack; ldr x9, [x9, :lo12:saved_stack]; mov sp, x9\n"
    "ldp x19, x20, [sp]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]; ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]; add sp, sp, #176; ret\n"
    "entry_without_rules: sub sp, sp, #32; bl fiber; b leave\n");
#endif
void entry_without_rules(void);

int main(int argc, char **argv) {
    char *stack = aligned_alloc(16, STACK);
    const char *how = argc > 2 ? argv[2] : "makecontext";
    end = deadline_in(seconds_of(argc, argv));
    ready();
    if (!strcmp(how, "makecontext")) by_makecontext(stack);
    else if (!strcmp(how, "zero")) enter(entry, stack + STACK, &saved_stack);
    else enter(entry_without_rules, stack + STACK, &saved_stack);
    return 0;
}
