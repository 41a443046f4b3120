// Fact: a record larger than the whole ring never arrives; the kernel counts it as lost, and only PERF_FORMAT_LOST tells: the
// LOST record is written before the next record that fits, and here none ever does. So a ring must hold the largest record.
// Source: kernel/events/ring_buffer.c, __perf_output_begin (goto fail, local_inc(&rb->lost)); PERF_FORMAT_LOST since Linux 6.0.
#include "check.h"

#define FACT "ring: a record larger than the ring never arrives but is counted"

int main(void) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_IP | PERF_SAMPLE_STACK_USER | PERF_SAMPLE_REGS_USER);
    attr.sample_regs_user = 1;
    attr.sample_stack_user = 32768;
    attr.read_format = PERF_FORMAT_LOST;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0 && errno == EINVAL) cannot(FACT, "PERF_FORMAT_LOST is newer", "only LOST records are counted");
    ring_t *ring = ring_map(fd, 1);
    burn_ms(100);
    disable(fd);
    uint64_t counts[2] = {0, 0};
    ssize_t got = read(fd, counts, sizeof counts);
    struct perf_event_header *record = ring_next(ring);
    verdict(got == 16 && counts[1] > 0 && !record, FACT, "%s in the ring, %lu lost by read()", record ? "a record" : "nothing",
            counts[1]);
}
