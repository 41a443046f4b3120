// Fact: when a ring is full, new records are dropped and the old stay. How many were dropped comes in a PERF_RECORD_LOST {id, lost}
// in front of the next record that fits, and PERF_FORMAT_LOST gives the sum of an event by read(), exact at any time.
// Source: perf_event_open(2), PERF_RECORD_LOST; kernel/events/ring_buffer.c; commit 119a784c8127 (PERF_FORMAT_LOST, Linux 6.0).
#include "check.h"

#define FACT "ring: LOST records and PERF_FORMAT_LOST agree"

static uint64_t drain(ring_t *ring, int *samples) {
    uint64_t lost = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type == PERF_RECORD_LOST) lost += body(record)[1];
        *samples += record->type == PERF_RECORD_SAMPLE;
    }
    return lost;
}

int main(void) {
    struct perf_event_attr attr = cpu_clock(5000, PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME);
    attr.read_format = PERF_FORMAT_LOST;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0 && errno == EINVAL) cannot(FACT, "PERF_FORMAT_LOST is newer", "only LOST records are counted");
    ring_t *ring = ring_map(fd, 1);
    int before = 0, after = 0;
    burn_ms(200); // 1000 samples of 32 bytes into 4096 bytes
    uint64_t by_record = drain(ring, &before);
    burn_ms(20); // the next sample that fits brings the LOST record
    disable(fd);
    by_record += drain(ring, &after);
    uint64_t counts[2] = {0, 0};
    ssize_t got = read(fd, counts, sizeof counts);
    verdict(got == 16 && by_record > 0 && counts[1] == by_record, FACT, "%d samples kept, %lu lost by LOST records, %lu by read()",
            before + after, by_record, counts[1]);
}
