// Fact: PERF_EVENT_IOC_PERIOD changes the distance of a running clock's samples at once, but their PERF_SAMPLE_PERIOD goes on telling the
// period that the event was opened with: so a new rate needs a new event, or every weight is wrong.
// Source: kernel/events/core.c, __perf_event_period() sets sample_period; perf_swevent_hrtimer() reports hw.last_period, set at init.
#include "check.h"

#define FACT "clock: IOC_PERIOD changes the rate, not the period that samples tell"

int main(void) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_IP | PERF_SAMPLE_TIME | PERF_SAMPLE_PERIOD);
    int fd = perf_open(&attr, 0, -1, -1, 0);
    ring_t *ring = ring_map(fd, 64);
    uint64_t period = 10 * 1000 * 1000, told = 0, first = 0, last = 0;
    int samples = 0;
    int changed = ioctl(fd, PERF_EVENT_IOC_PERIOD, &period);
    burn_ms(300);
    disable(fd);
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SAMPLE) continue;
        uint64_t *words = body(record);
        first = first ? first : words[1];
        last = words[1];
        told = words[2];
        samples++;
    }
    uint64_t distance = samples > 1 ? (last - first) / (samples - 1) : 0;
    verdict(changed == 0 && samples > 5 && distance > period / 2, FACT, "%d samples, %lu us apart, telling a period of %lu us", samples,
            distance / 1000, told / 1000);
}
