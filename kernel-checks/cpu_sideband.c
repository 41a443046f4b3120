// Fact: a dummy software event on a CPU (pid -1) delivers COMM, MMAP2, FORK and EXIT of every task that runs there, whoever made it:
// one ring per CPU tells the life of all processes, with no event on any of them.
// Source: kernel/events/core.c, perf_iterate_sb; perf record -a opens the same ("dummy:HG").
#include "check.h"

#define FACT "a dummy event on a CPU sees the tasks of all processes"

int main(void) {
    struct perf_event_attr attr = sideband();
    attr.comm = attr.comm_exec = attr.mmap = attr.mmap2 = attr.task = 1;
    int cpu = sched_getcpu();
    int fd = perf_open(&attr, -1, cpu, -1, 0);
    if (fd < 0) cannot(FACT, "events on CPUs are not allowed", "each task gets events of its own");
    ring_t *ring = ring_map(fd, 64);
    bind_to(cpu);
    pid_t child = fork_child();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    int seen[PERF_RECORD_MAX] = {0};
    for (struct perf_event_header *record; (record = ring_next(ring));)
        if (record->type < PERF_RECORD_MAX && *(uint32_t *)body(record) == (uint32_t)child) seen[record->type]++;
    int *s = seen;
    verdict(s[PERF_RECORD_FORK] && s[PERF_RECORD_COMM] && s[PERF_RECORD_MMAP2] && s[PERF_RECORD_EXIT], FACT,
            "of another process: %d FORK, %d COMM, %d MMAP2, %d EXIT", s[PERF_RECORD_FORK], s[PERF_RECORD_COMM], s[PERF_RECORD_MMAP2],
            s[PERF_RECORD_EXIT]);
}
