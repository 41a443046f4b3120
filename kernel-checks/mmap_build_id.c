// Fact: with attr.build_id an MMAP2 record of an ELF file carries its build ID in place of device and inode, and says so by the
// misc bit 0x4000 (PERF_RECORD_MISC_MMAP_BUILD_ID); without it, or for a file without an ID, it carries device and inode.
// The bit of an event without attr.build_id is not looked at: mmap_build_id_bit tells why.
// Source: perf_event_open(2), PERF_RECORD_MMAP2; commit 88a16a130933 (Linux 5.12). Older kernels: the file's own note is read.
#include "check.h"

#define FACT "MMAP2: build ID with attr.build_id, inode without"

// Maps the C library's file for execution and returns the MMAP2 record of it.
static struct perf_event_header *map_and_look(int with_build_id, ring_t **ring) {
    struct perf_event_attr attr = sideband();
    attr.mmap = attr.mmap2 = 1;
    attr.build_id = (unsigned)with_build_id;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) return NULL;
    *ring = ring_map(fd, 8);
    int file = open("/proc/self/exe", O_RDONLY);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    munmap(code, 4096);
    disable(fd);
    for (struct perf_event_header *record; (record = ring_next(*ring));)
        if (record->type == PERF_RECORD_MMAP2) return record;
    return NULL;
}

int main(void) {
    ring_t *ring;
    struct stat file;
    stat("/proc/self/exe", &file);
    struct perf_event_header *with = map_and_look(1, &ring);
    if (!with) cannot(FACT, "attr.build_id is newer", "build IDs are read from the files");
    // pid tid | addr | len | pgoff | build_id_size u8, 3 unused, 20 bytes
    unsigned id_size = ((unsigned char *)&body(with)[4])[0], with_misc = with->misc;
    struct perf_event_header *without = map_and_look(0, &ring);
    // … | maj min | ino | ino_generation
    uint64_t inode = without ? body(without)[5] : 0;
    int right = (with_misc & 0x4000) && id_size == 20 && without && inode == file.st_ino;
    verdict(right, FACT, "with: misc %#x, ID of %u bytes; without: misc %#x, inode %lu (file's: %lu)", with_misc, id_size,
            without ? without->misc : 0, inode, file.st_ino);
}
