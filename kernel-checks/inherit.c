// Fact: an event on a task with attr.inherit follows the threads and processes that the task makes later; the samples of all land in
// the one ring. Such an event can be mapped only if it is for one CPU (cpu >= 0), otherwise mmap gives EINVAL.
// Source: perf_event_open(2), inherit; kernel/events/core.c, perf_mmap ("if (event->cpu == -1 && event->attr.inherit)").
#include "check.h"
#include <pthread.h>

#define FACT "inherit: one event per CPU follows later threads and processes"

static pid_t thread_id;

static void *thread(void *unused) {
    thread_id = gettid();
    burn_ms(50);
    return unused;
}

int main(void) {
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TID);
    attr.inherit = 1;
    int cpu = sched_getcpu();
    bind_to(cpu);
    int any_cpu = perf_open(&attr, 0, -1, -1, 0);
    int refused = any_cpu < 0 || (!ring_try_map(any_cpu, 8) && errno == EINVAL);
    close(any_cpu);
    int fd = perf_open(&attr, 0, cpu, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    pthread_t other;
    pthread_create(&other, NULL, thread, NULL);
    pthread_join(other, NULL);
    pid_t child = fork_child();
    if (child == 0) {
        burn_ms(50);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    int of_thread = 0, of_child = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SAMPLE) continue;
        uint32_t *ids = (uint32_t *)body(record);
        of_thread += ids[1] == (uint32_t)thread_id;
        of_child += ids[0] == (uint32_t)child;
    }
    verdict(of_thread > 10 && of_child > 10 && refused, FACT, "50 ms each at 1000 Hz: %d samples of the thread, %d of the child; cpu -1 %s",
            of_thread, of_child, refused ? "cannot be mapped" : "can be mapped too");
}
