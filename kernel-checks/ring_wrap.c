// Fact: data_head and data_tail only ever grow; an offset into the buffer is their value modulo data_size; the buffer begins at
// data_offset, one page behind the control page; a record may wrap at its end, but a record's header (8 bytes) cannot.
// Source: perf_event_open(2), "MMAP layout"; kernel/events/ring_buffer.c, __perf_output_begin.
#include "check.h"

#define FACT "ring: records wrap at the buffer's end, head and tail do not"

int main(void) {
    // 40 bytes do not divide a page: sooner or later a record wraps.
    struct perf_event_attr attr = cpu_clock(5000, PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_PERIOD);
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(fd, 1);
    struct perf_event_mmap_page *page = ring->page;
    int bad = 0, samples = 0;
    for (int turn = 0; turn < 300 && ring->wrapped < 2; turn++) {
        burn_ms(5);
        for (struct perf_event_header *record; (record = ring_next(ring)); samples++)
            bad += record->type != PERF_RECORD_SAMPLE || record->size != 40 || (uint32_t)body(record)[1] != (uint32_t)getpid();
    }
    uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    int layout = page->data_offset == page_size && page->data_size == page_size && page->data_head > page->data_size;
    verdict(layout && ring->wrapped && !bad, FACT, "%d samples, %d wrapped, %d bad; head %llu, size %llu, offset %llu", samples,
            ring->wrapped, bad, page->data_head, page->data_size, page->data_offset);
}
