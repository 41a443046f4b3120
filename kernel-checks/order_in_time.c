// Fact: records of one ring are nearly in the order of their times: an interrupt can put its record before one whose time was read
// earlier, so they are out of order only by the length of a nested interrupt. Rings of different CPUs have no order among them, but
// once all were read at a time T, no record before T - that bound comes later. So: merge by time, hold back a margin.
// Source: kernel/events/core.c, __perf_event_header__init_id reads the clock before perf_output_begin reserves the room.
#include "check.h"

#define FACT "order: records are out of order by less than 10 ms, in a ring and across CPUs"
#define BOUND 10000000ull

typedef struct {
    uint64_t newest, worst_in_ring, worst_late, records;
} order_t;

// floor: the time at which all rings were last drained; what comes now should not be older than that.
static void drain(ring_t *ring, uint64_t floor, order_t *order) {
    for (struct perf_event_header *record; (record = ring_next(ring)); order->records++) {
        if (record->type == PERF_RECORD_LOST) continue;
        uint64_t time = record->type == PERF_RECORD_SAMPLE ? body(record)[1] : *trailer(record, 1);
        if (time < order->newest && order->newest - time > order->worst_in_ring) order->worst_in_ring = order->newest - time;
        if (time < floor && floor - time > order->worst_late) order->worst_late = floor - time;
        if (time > order->newest) order->newest = time;
    }
}

int main(void) {
    enum { MOST = 64 };
    int count = cpus() < MOST ? cpus() : MOST;
    ring_t *rings[MOST];
    order_t orders[MOST] = {0};
    for (int cpu = 0; cpu < count; cpu++) {
        struct perf_event_attr attr = cpu_clock(4000, PERF_SAMPLE_TID | PERF_SAMPLE_TIME);
        attr.use_clockid = attr.sample_id_all = attr.comm = attr.mmap = attr.mmap2 = attr.task = attr.context_switch = 1;
        attr.clockid = CLOCK_MONOTONIC;
        int fd = perf_open(&attr, -1, cpu, -1, 0);
        if (fd < 0) cannot(FACT, "events on CPUs are not allowed", "the same order is kept within each task's ring");
        rings[cpu] = ring_map(fd, 256);
    }
    uint64_t floor = 0;
    for (int turn = 0; turn < 50; turn++) {
        pid_t child = fork_child();
        if (child == 0) execl("/bin/true", "true", NULL), _exit(1);
        waitpid(child, NULL, 0);
        burn_ms(5);
        uint64_t next = now_ns(CLOCK_MONOTONIC);
        for (int cpu = 0; cpu < count; cpu++) drain(rings[cpu], floor, &orders[cpu]);
        floor = next;
    }
    order_t all = {0};
    for (int cpu = 0; cpu < count; cpu++) {
        all.records += orders[cpu].records;
        if (orders[cpu].worst_in_ring > all.worst_in_ring) all.worst_in_ring = orders[cpu].worst_in_ring;
        if (orders[cpu].worst_late > all.worst_late) all.worst_late = orders[cpu].worst_late;
    }
    verdict(all.records > 500 && all.worst_in_ring < BOUND && all.worst_late < BOUND, FACT,
            "%lu records of %d CPUs: at worst %lu ns in a ring, %lu ns behind the last round", all.records, count, all.worst_in_ring,
            all.worst_late);
}
