// Fact: cpu-clock on a CPU also ticks while that CPU is idle; attr.exclude_idle leaves out those samples (of task 0). An idle host
// then costs nothing to watch.
// Source: perf_event_open(2), exclude_idle; kernel/events/core.c, perf_swevent_hrtimer ("exclude_idle && is_idle_task(current)").
#include "check.h"

#define FACT "exclude_idle: cpu-clock on a CPU gives no samples of the idle task"

static int idle_samples(int exclude, int cpu, int *samples) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TID);
    attr.exclude_idle = (unsigned)exclude;
    int fd = perf_open(&attr, -1, cpu, -1, 0), idle = 0;
    if (fd < 0) cannot(FACT, "events on CPUs are not allowed", "events on tasks never see the idle task");
    ring_t *ring = ring_map(fd, 64);
    for (int i = 0; i < 60; i++) usleep(5000);
    disable(fd);
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SAMPLE) continue;
        ++*samples;
        idle += (uint32_t)body(record)[0] == 0;
    }
    return idle;
}

int main(void) {
    int with = 0, without = 0, cpu = sched_getcpu();
    int idle_with = idle_samples(1, cpu, &with), idle_without = idle_samples(0, cpu, &without);
    verdict(idle_with == 0, FACT, "of task 0: %d of %d samples with it, %d of %d without%s", idle_with, with, idle_without, without,
            idle_without ? "" : " (the CPU was never idle)");
}
