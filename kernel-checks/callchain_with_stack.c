// Fact: the kernel's own user callchain (exclude_callchain_user = 0) and a copy of the stack can be had in one sample: the chain
// starts with PERF_CONTEXT_USER, then the sampled address, then return addresses by frame pointer.
// Source: perf_event_open(2), PERF_SAMPLE_CALLCHAIN; kernel/events/callchain.c, get_perf_callchain.
#include "check.h"

#define FACT "CALLCHAIN of user code comes together with STACK_USER"

int main(void) {
    struct perf_event_attr attr =
        cpu_clock(1000, PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER);
    attr.sample_regs_user = 1;
    attr.sample_stack_user = 4096;
    attr.exclude_kernel = 1;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 256);
    burn_ms(50);
    disable(fd);
    int samples = 0, right = 0;
    uint64_t frames = 0;
    for (struct perf_event_header *record; (record = ring_next(ring)); samples++) {
        uint64_t *words = body(record); // ip | nr | chain[nr] | abi regs[1] | size …
        uint64_t nr = words[1], *behind = words + 2 + nr;
        right += nr >= 2 && words[2] == (uint64_t)PERF_CONTEXT_USER && words[3] == words[0] && behind[2] == 4096;
        frames = nr - 1;
    }
    verdict(samples > 10 && right == samples, FACT, "%d of %d samples have both; the last chain has %lu frames", right, samples, frames);
}
