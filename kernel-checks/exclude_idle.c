// Fact: cpu-clock on a CPU also ticks while that CPU is idle; attr.exclude_idle leaves out those samples (of task 0). An idle host
// then costs nothing to watch.
// Source: perf_event_open(2), exclude_idle; kernel/events/core.c, perf_swevent_hrtimer ("exclude_idle && is_idle_task(current)").
#include "check.h"

#define FACT "exclude_idle: cpu-clock on a CPU samples all tasks but the idle one"

typedef struct {
    int all, idle, own;
} seen_t;

// Sleeps 150 ms and burns 50 ms on one CPU, and says whose samples came.
static seen_t samples(int exclude, int cpu) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TID);
    attr.exclude_idle = (unsigned)exclude;
    int fd = perf_open(&attr, -1, cpu, -1, 0);
    if (fd < 0) cannot(FACT, "events on CPUs are not allowed", "events on tasks never see the idle task");
    ring_t *ring = ring_map(fd, 64);
    seen_t seen = {0};
    for (int i = 0; i < 30; i++) usleep(5000);
    burn_ms(50);
    disable(fd);
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SAMPLE) continue;
        uint32_t pid = (uint32_t)body(record)[0];
        seen.all++;
        seen.idle += pid == 0;
        seen.own += pid == (uint32_t)getpid();
    }
    return seen;
}

int main(void) {
    int cpu = sched_getcpu();
    bind_to(cpu);
    seen_t with = samples(1, cpu), without = samples(0, cpu);
    // How many idle samples come without it hangs on how busy the CPU is: only told.
    verdict(with.idle == 0 && with.own > 30, FACT, "with it: %d samples, %d idle, %d own of 50; without: %d, %d, %d", with.all, with.idle,
            with.own, without.all, without.idle, without.own);
}
