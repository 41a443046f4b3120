// Fact: with PERF_FLAG_PID_CGROUP, an fd of a cgroup folder in place of the PID and one CPU, an event counts only tasks of that cgroup;
// with cgroup v2 its descendants too. On a machine with the perf_event controller on v1 only that hierarchy's folders are taken.
// Source: perf_event_open(2), PERF_FLAG_PID_CGROUP; kernel/events/core.c, perf_cgroup_connect.
#include "check.h"

#define FACT "PERF_FLAG_PID_CGROUP: samples of one cgroup alone"

static const char *roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/perf_event"};
static char folder[128];

static void join(const char *where) {
    char path[192];
    snprintf(path, sizeof path, "%s/cgroup.procs", where);
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%d\n", getpid());
    fclose(file);
}

// Makes a cgroup that perf takes; its fd, or -1.
static int make(int cpu, int *fd) {
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        snprintf(folder, sizeof folder, "%s/rprof-check-%d", roots[i], getpid());
        char procs[192];
        snprintf(procs, sizeof procs, "%s/cgroup.procs", roots[i]);
        if (access(procs, F_OK) || mkdir(folder, 0755)) continue;
        int directory = open(folder, O_RDONLY | O_DIRECTORY);
        struct perf_event_attr attr = cpu_clock(1000, PERF_SAMPLE_TID);
        *fd = perf_open(&attr, directory, cpu, -1, PERF_FLAG_PID_CGROUP);
        if (*fd >= 0) return (int)i;
        rmdir(folder);
    }
    return -1;
}

int main(void) {
    int cpu = sched_getcpu(), fd;
    bind_to(cpu);
    int root = make(cpu, &fd);
    if (root < 0) cannot(FACT, "no cgroup that perf takes can be made", "a cgroup's tasks are listed and picked by their IDs");
    ring_t *ring = ring_map(fd, 64);
    pid_t child = fork_child();
    if (child == 0) {
        join(folder);
        burn_ms(60);
        _exit(0);
    }
    burn_ms(60);
    waitpid(child, NULL, 0);
    disable(fd);
    int inside = 0, outside = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SAMPLE) continue;
        int of_child = (uint32_t)body(record)[0] == (uint32_t)child;
        inside += of_child;
        outside += !of_child;
    }
    rmdir(folder);
    verdict(inside > 10 && !outside, FACT, "under %s: %d samples of the task inside, %d of others", roots[root], inside, outside);
}
