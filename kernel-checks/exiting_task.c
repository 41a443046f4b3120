// Fact: a task that is exiting has given up its memory: its last switch (prev_state Z or X) has no bytes of the stack (size 0 or
// dyn_size 0), and may have no registers (ABI 0). Such a sample must parse, and counts as "without registers", not as an error.
// Source: kernel/exit.c, do_exit calls exit_mm long before its last schedule; kernel/events/core.c, perf_sample_ustack_size.
#include "check.h"

#define FACT "exiting task: samples come without a stack"
#define EVENT "/sys/kernel/tracing/events/sched/sched_switch/id"

int main(void) {
    unsigned long long id = 0;
    FILE *file = fopen(EVENT, "r");
    if (!file && mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL) == 0) file = fopen(EVENT, "r");
    if (!file || fscanf(file, "%llu", &id) != 1) cannot(FACT, "no tracefs", "a sample without a stack is counted wherever it comes from");
    struct perf_event_attr attr = {.size = sizeof attr, .type = PERF_TYPE_TRACEPOINT, .config = id, .sample_period = 1};
    attr.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
    attr.sample_regs_user = 1;
    attr.sample_stack_user = 1024;
    int cpu = sched_getcpu();
    bind_to(cpu);
    int fd = perf_open(&attr, -1, cpu, -1, 0);
    if (fd < 0) cannot(FACT, "tracepoints are not allowed", "a sample without a stack is counted wherever it comes from");
    ring_t *ring = ring_map(fd, 256);
    pid_t child = fork_child();
    if (child == 0) {
        usleep(1000);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    disable(fd);
    uint64_t abi = 99, bytes = 99;
    int samples = 0, with_stack = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        uint64_t *words = body(record); // pid tid | abi | regs[abi ? 1 : 0] | size | bytes[size] | dyn_size (absent if size is 0)
        if (record->type != PERF_RECORD_SAMPLE || (uint32_t)words[0] != (uint32_t)child) continue;
        uint64_t *size = words + 2 + (words[1] ? 1 : 0);
        abi = words[1];
        bytes = *size ? size[1 + *size / 8] : 0;
        samples++;
        with_stack += bytes > 0;
    }
    verdict(samples >= 2 && with_stack >= 1 && bytes == 0, FACT, "%d switches of the child, %d with a stack; the last: ABI %lu, %lu bytes",
            samples, with_stack, abi, bytes);
}
