// Fact: with use_clockid and CLOCK_MONOTONIC the time of every record is that of clock_gettime, so it can be compared with jitdump
// files and with other tools. Raw perf time (the scheduler's clock) cannot.
// Source: perf_event_open(2), use_clockid (Linux 4.1); kernel/events/core.c, perf_event_set_clock.
#include "check.h"

#define FACT "use_clockid: the times of records are CLOCK_MONOTONIC"

int main(void) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TIME);
    attr.use_clockid = 1;
    attr.clockid = CLOCK_MONOTONIC;
    attr.comm = attr.sample_id_all = 1;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    uint64_t from = now_ns(CLOCK_MONOTONIC);
    prctl(PR_SET_NAME, "renamed");
    burn_ms(30);
    disable(fd);
    uint64_t to = now_ns(CLOCK_MONOTONIC);
    int inside = 0, records = 0;
    for (struct perf_event_header *record; (record = ring_next(ring)); records++) {
        uint64_t time = *trailer(record, 1); // a sample's only field, another record's trailer
        inside += time >= from && time <= to;
    }
    // A sample may fall between the opening and the first reading of the clock.
    verdict(records > 5 && inside >= records - 1, FACT, "%d of %d records lie between two readings of the clock", inside, records);
}
