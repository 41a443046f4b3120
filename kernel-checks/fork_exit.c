// Fact: with attr.task a new task gives PERF_RECORD_FORK {pid, ppid, tid, ptid, time} and its end PERF_RECORD_EXIT of the same
// layout; a thread has pid == ppid there, a process has not. FORK comes before any other record of the new task.
// Source: perf_event_open(2), PERF_RECORD_FORK; kernel/events/core.c, perf_event_task_output.
#include "check.h"
#include <pthread.h>

#define FACT "FORK and EXIT tell threads from processes and enclose a task's records"

static void *thread(void *unused) { return unused; }

int main(void) {
    struct perf_event_attr attr = sideband();
    attr.task = attr.comm = 1;
    attr.inherit = 1;
    int cpu = sched_getcpu();
    bind_to(cpu);
    int fd = perf_open(&attr, 0, cpu, -1, 0); // an inherited event can be mapped only for one CPU
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    pthread_t other;
    pthread_create(&other, NULL, thread, NULL);
    pthread_join(other, NULL);
    pid_t child = fork_child();
    if (child == 0) {
        prctl(PR_SET_NAME, "renamed");
        _exit(0);
    }
    waitpid(child, NULL, 0);
    uint32_t me = (uint32_t)getpid();
    int threads = 0, processes = 0, exits = 0, early = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        uint32_t *ids = (uint32_t *)body(record); // pid ppid tid ptid
        if (record->type == PERF_RECORD_FORK) {
            threads += ids[0] == me && ids[1] == me && ids[2] != me && ids[3] == me;
            processes += ids[0] == (uint32_t)child && ids[1] == me && ids[2] == (uint32_t)child;
        }
        exits += record->type == PERF_RECORD_EXIT && ids[2] != me;
        early += record->type == PERF_RECORD_COMM && ids[0] == (uint32_t)child && !processes;
    }
    verdict(threads == 1 && processes == 1 && exits == 2 && !early, FACT, "%d thread, %d process, %d exits, %d records before FORK",
            threads, processes, exits, early);
}
