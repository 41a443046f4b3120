// Fact: PERF_SAMPLE_STACK_USER copies only as far as the stack reaches: dyn_size, the word behind the bytes, says how many are valid.
// But the whole sample_stack_user bytes are reserved in the ring. So a large size costs ring space, not copying.
// Source: perf_event_open(2); kernel/events/core.c, perf_output_sample_ustack ("dyn_size = dump_size - rem").
#include "check.h"
#include <pthread.h>

#define FACT "STACK_USER: dyn_size stops at the stack's end, the whole size is reserved"
#define ASKED 32768u

static void *burn(void *unused) {
    burn_ms(50);
    return unused;
}

int main(void) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TID | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER);
    attr.sample_regs_user = 1;
    attr.sample_stack_user = ASKED;
    attr.exclude_kernel = 1;
    attr.inherit = 1;
    int cpu = sched_getcpu();
    bind_to(cpu);
    int fd = perf_open(&attr, 0, cpu, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 1024);
    // A thread's stack ends at a mapping's end, close above its first frames.
    char *stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(stack + (1 << 20) - 4096, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    pthread_attr_t where;
    pthread_attr_init(&where);
    pthread_attr_setstack(&where, stack, (1 << 20) - 4096);
    pthread_t thread;
    pthread_create(&thread, &where, burn, NULL);
    pthread_join(thread, NULL);
    uint64_t dyn = 0;
    unsigned size = 0, samples = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        uint64_t *words = body(record); // pid tid | abi | regs[1] | size | bytes … | dyn_size
        if (record->type != PERF_RECORD_SAMPLE || (uint32_t)words[0] == (uint32_t)(words[0] >> 32) || words[3] != ASKED) continue;
        samples++;
        size = record->size;
        dyn = words[4 + ASKED / 8];
    }
    verdict(samples > 5 && size == 8 + 8 + 16 + 8 + ASKED + 8 && dyn > 0 && dyn < ASKED, FACT,
            "%u samples of a thread: record %u bytes, %u asked, %lu copied", samples, size, ASKED, dyn);
}
