// Fact: the raw data of the tracepoint sched:sched_switch (PERF_SAMPLE_RAW: u32 size, then the record) holds prev_state, by which a
// sleep is told from a preemption: S (1) and D (2) are sleeps, 0x100 (R+, TASK_REPORT_MAX) is preempted, 0 is runnable. The places
// of the fields are read from the event's "format" file. The sample comes in the context of the task that leaves; one that has ended for good
// has no id any more, and leaves as -1 (perf_event_tid).
// Source: include/trace/events/sched.h, __trace_sched_switch_state; /sys/kernel/tracing/events/sched/sched_switch/format.
#include "check.h"

#define FACT "sched_switch: prev_state tells sleeping from preempted"
#define EVENT "/sys/kernel/tracing/events/sched/sched_switch/"

static int field_offset(const char *name) {
    char line[256], wanted[64];
    int offset = -1;
    FILE *file = fopen(EVENT "format", "r");
    snprintf(wanted, sizeof wanted, " %s;", name);
    while (file && offset < 0 && fgets(line, sizeof line, file))
        if (strstr(line, wanted)) sscanf(strstr(line, "offset:"), "offset:%d", &offset);
    if (file) fclose(file);
    return offset;
}

int main(void) {
    unsigned long long id = 0;
    FILE *file = fopen(EVENT "id", "r");
    if (!file && mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL) == 0) file = fopen(EVENT "id", "r");
    if (!file || fscanf(file, "%llu", &id) != 1) cannot(FACT, "no tracefs", "off-CPU time is taken from SWITCH records");
    int state_at = field_offset("prev_state"), prev_at = field_offset("prev_pid"), next_at = field_offset("next_pid");
    struct perf_event_attr attr = {.size = sizeof attr, .type = PERF_TYPE_TRACEPOINT, .config = id, .sample_period = 1};
    attr.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_RAW;
    int cpu = sched_getcpu();
    bind_to(cpu);
    int fd = perf_open(&attr, -1, cpu, -1, 0);
    if (fd < 0) cannot(FACT, "tracepoints are not allowed", "off-CPU time is taken from SWITCH records");
    ring_t *ring = ring_map(fd, 512);
    pid_t rival = fork_child();
    if (rival == 0) {
        burn_ms(60);
        _exit(0);
    }
    burn_ms(60);
    for (int i = 0; i < 20; i++) usleep(500);
    waitpid(rival, NULL, 0);
    disable(fd);
    int slept = 0, preempted = 0, foreign = 0, all = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SAMPLE) continue;
        char *raw = (char *)(body(record) + 1) + 4; // pid tid | u32 size | data
        uint32_t tid = (uint32_t)(body(record)[0] >> 32), prev = *(uint32_t *)(raw + prev_at);
        uint64_t state;
        memcpy(&state, raw + state_at, sizeof state);
        all++;
        foreign += prev != tid && tid != UINT32_MAX;
        if (prev != (uint32_t)getpid()) continue;
        slept += state == 1;
        preempted += state == 0x100 || state == 0;
    }
    verdict(all > 20 && slept >= 20 && preempted && !foreign, FACT,
            "prev_pid at %d, prev_state at %d, next_pid at %d; own switches: %d asleep, %d preempted; %d samples not of prev", prev_at,
            state_at, next_at, slept, preempted, foreign);
}
