// Fact: without a hardware PMU (most virtual machines) the cycles event fails with ENOENT, whatever the privileges: the sign to fall
// back to cpu-clock, and not to be taken for a missing permission.
// Source: kernel/events/core.c, perf_init_event (no PMU takes the event: ENOENT).
#include "check.h"

#define FACT "cycles: opens with a PMU, is ENOENT without"

int main(void) {
    struct perf_event_attr attr = {.size = sizeof attr, .type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_CPU_CYCLES, .exclude_kernel = 1};
    attr.sample_period = 1000000;
    int fd = perf_open_exactly(&attr, 0, -1, -1, 0), error = fd < 0 ? errno : 0;
    int pmu = !access("/sys/bus/event_source/devices/cpu", F_OK) || !access("/sys/bus/event_source/devices/cpu_core", F_OK);
    // A PMU that cannot interrupt answers EOPNOTSUPP to sampling, which is met in the same way.
    verdict(pmu ? error == 0 || error == EOPNOTSUPP : error == ENOENT || error == 0, FACT, "a PMU is %s in sysfs, cycles: %s",
            pmu ? "listed" : "not listed", fd < 0 ? strerror(error) : "open");
}
