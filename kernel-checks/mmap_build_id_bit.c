// Fact: the misc bit of build IDs can be trusted only on an event that has attr.build_id itself. When any other event on the machine has
// it, an MMAP2 record with device and inode may carry the bit too: the kernel sets it in a header that all events share and does not
// take it back. On an event with attr.build_id it is right: set for a file with an ID, not set for one without.
// Source: kernel/events/core.c, perf_event_mmap_output (restores header.size and header.type, but not header.misc).
#include "check.h"

#define FACT "MMAP2: the build-ID bit is right on events with attr.build_id"

static int open_sideband(pid_t pid, int cpu, int with_build_id) {
    struct perf_event_attr attr = sideband();
    attr.mmap = attr.mmap2 = 1;
    attr.build_id = (unsigned)with_build_id;
    return perf_open(&attr, pid, cpu, -1, 0);
}

// Maps a file for execution and says whether its record carries the bit; -1 if no record came.
static int bit_of(const char *path, ring_t *ring) {
    int file = open(path, O_RDONLY), bit = -1;
    munmap(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0), 4096);
    close(file);
    for (struct perf_event_header *record; (record = ring_next(ring));)
        if (record->type == PERF_RECORD_MMAP2) bit = (record->misc & 0x4000) != 0;
    return bit;
}

int main(void) {
    int cpu = sched_getcpu();
    bind_to(cpu);
    int with = open_sideband(0, cpu, 1);
    if (with < 0) cannot(FACT, "attr.build_id is newer", "build IDs are read from the files");
    int without = open_sideband(0, cpu, 0);
    int other = open_sideband(-1, cpu, 1); // someone else's profiler; without the privilege for it nothing is disturbed
    if (other >= 0) ring_map(other, 8);
    ring_t *with_ring = ring_map(with, 8), *without_ring = ring_map(without, 8);
    int program = bit_of("/proc/self/exe", with_ring), text = bit_of("/etc/passwd", with_ring);
    bit_of("/proc/self/exe", without_ring);
    int disturbed = bit_of("/proc/self/exe", without_ring);
    verdict(program == 1 && text == 0, FACT, "with attr.build_id: %d for a program, %d for a text; without, beside another's: %d", program,
            text, disturbed);
}
