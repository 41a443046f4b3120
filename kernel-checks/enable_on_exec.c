// Fact: an event with disabled and enable_on_exec starts at the exec of its task: nothing of the profiler's own child before it is
// sampled, and nothing of the command is missed.
// Source: perf_event_open(2), enable_on_exec; kernel/events/core.c, perf_event_enable_on_exec.
#include "check.h"

#define FACT "enable_on_exec: samples begin at the exec"

int main(int argc, char **argv) {
    if (argc > 1) {
        burn_ms(50);
        return 0;
    }
    int go[2];
    if (pipe(go)) return 2;
    pid_t child = fork_child();
    if (child == 0) {
        char byte;
        if (read(go[0], &byte, 1) != 1) _exit(1);
        burn_ms(50);
        execl("/proc/self/exe", argv[0], "burn", NULL);
    }
    struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TID);
    attr.disabled = attr.enable_on_exec = attr.comm = attr.comm_exec = 1;
    int fd = perf_open(&attr, child, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    if (write(go[1], "", 1) != 1) return 2;
    waitpid(child, NULL, 0);
    int samples = 0, before_comm = 0, comm = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        comm += record->type == PERF_RECORD_COMM;
        samples += record->type == PERF_RECORD_SAMPLE;
        before_comm += record->type == PERF_RECORD_SAMPLE && !comm;
    }
    // exec itself runs on for some microseconds between enabling and the COMM record.
    verdict(samples > 10 && before_comm <= 1 && comm, FACT, "50 ms before and 50 ms after it at 1000 Hz: %d samples, %d before COMM",
            samples, before_comm);
}
