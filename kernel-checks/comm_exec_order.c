// Fact: exec gives a COMM record with the misc bit 0x2000 (PERF_RECORD_MISC_COMM_EXEC, with attr.comm_exec), and it comes before
// the MMAP2 records of the new image: at that record the old address space can be thrown away.
// Source: perf_event_open(2); fs/exec.c, begin_new_exec calls __set_task_comm(…, true) before the loader maps.
#include "check.h"

#define FACT "exec: COMM with the exec bit, then the MMAP2 records of the new image"

int main(void) {
    struct perf_event_attr attr = sideband();
    attr.comm = attr.comm_exec = attr.mmap = attr.mmap2 = attr.task = 1;
    attr.enable_on_exec = attr.disabled = attr.inherit = 0;
    int go[2];
    if (pipe(go)) return 2;
    pid_t child = fork_child();
    if (child == 0) {
        char byte;
        if (read(go[0], &byte, 1) != 1) _exit(1);
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    int fd = perf_open(&attr, child, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 8);
    if (write(go[1], "", 1) != 1) return 2;
    waitpid(child, NULL, 0);
    int index = 0, exec_at = -1, first_map = -1, maps = 0;
    for (struct perf_event_header *record; (record = ring_next(ring)); index++) {
        if (record->type == PERF_RECORD_COMM && (record->misc & PERF_RECORD_MISC_COMM_EXEC)) exec_at = index;
        if (record->type != PERF_RECORD_MMAP2) continue;
        maps++;
        if (first_map < 0) first_map = index;
    }
    verdict(exec_at >= 0 && maps > 1 && exec_at < first_map, FACT, "COMM is record %d, the first of %d MMAP2 is record %d", exec_at,
            maps, first_map);
}
