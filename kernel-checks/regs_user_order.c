// Fact: PERF_SAMPLE_REGS_USER is an ABI word (0: none, 1: 32-bit, 2: 64-bit), then one word for each set bit of sample_regs_user
// from the lowest up, whatever the DWARF numbers of the registers are. With ABI 0 no words follow.
// Source: perf_event_open(2); arch/x86/include/uapi/asm/perf_regs.h and arch/arm64/…; kernel/events/core.c, perf_output_sample_regs.
#include "check.h"
#if defined(__x86_64__)
#include <asm/perf_regs.h>
#define FIRST PERF_REG_X86_BX
#define SECOND PERF_REG_X86_R12
#define STACK PERF_REG_X86_SP
#define HOLD(a, b) __asm__ volatile("movq %0, %%rbx; movq %1, %%r12; movl $200000, %%ecx; 1: decl %%ecx; jnz 1b" ::"r"(a), "r"(b) : "rbx", "r12", "rcx")
#elif defined(__aarch64__)
#include <asm/perf_regs.h>
#define FIRST PERF_REG_ARM64_X19
#define SECOND PERF_REG_ARM64_X20
#define STACK PERF_REG_ARM64_SP
#define HOLD(a, b) __asm__ volatile("mov x19, %0; mov x20, %1; mov x9, #50000; 1: subs x9, x9, #1; b.ne 1b" ::"r"(a), "r"(b) : "x19", "x20", "x9", "cc")
#endif

#define FACT "REGS_USER: ABI, then the registers in the order of the mask's bits"

int main(void) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_REGS_USER);
    attr.sample_regs_user = 1ull << FIRST | 1ull << SECOND | 1ull << STACK;
    attr.exclude_kernel = 1;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    uint64_t a = 0x1111111111111111, b = 0x2222222222222222;
    for (int i = 0; i < 1000; i++) HOLD(a, b);
    disable(fd);
    // The stack pointer's bit lies between the two on x86 and above both on ARM.
    int second_at = STACK < SECOND ? 3 : 2, samples = 0, right = 0;
    for (struct perf_event_header *record; (record = ring_next(ring)); samples++) {
        uint64_t *words = body(record);
        right += record->size == 8 + 4 * 8 && words[0] == PERF_SAMPLE_REGS_ABI_64 && words[1] == a && words[second_at] == b;
    }
    verdict(samples > 10 && right * 10 > samples * 9, FACT, "%d of %d samples hold both values where expected", right, samples);
}
