// Fact: cpu-clock by frequency keeps a fixed period, 1e9 / frequency ns, and PERF_SAMPLE_PERIOD reports it: a sample's weight is
// known without counting. (A hardware event's period moves, and the reported one is that sample's own.)
// Source: kernel/events/core.c, perf_swevent_init_hrtimer ("attr->sample_period = NSEC_PER_SEC / freq; attr->freq = 0").
#include "check.h"

#define FACT "cpu-clock: the period of a frequency is fixed and reported"

int main(void) {
    struct perf_event_attr attr = cpu_clock(999, PERF_SAMPLE_PERIOD);
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    burn_ms(100);
    disable(fd);
    int samples = 0, right = 0;
    uint64_t period = 0;
    for (struct perf_event_header *record; (record = ring_next(ring)); samples++) {
        period = body(record)[0];
        right += period == 1000000000 / 999;
    }
    verdict(samples > 20 && right == samples, FACT, "%d samples of 100 ms CPU at 999 Hz, %d with period 1001001, the last %lu", samples,
            right, period);
}
