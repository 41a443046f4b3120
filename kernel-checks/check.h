// What the kernel checks share: opening events, reading a ring, and the one line of the verdict.
//
// A check is a program of its own that depends on nothing of rprof: when a kernel behaves differently, it says so in one line.
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Prints the verdict and ends the check: "pass <fact> — kernel <release>: <what was seen>".
static __attribute__((noreturn, format(printf, 3, 4))) void verdict(int pass, const char *fact, const char *seen, ...) {
    struct utsname kernel;
    va_list arguments;
    uname(&kernel);
    printf("%s %s — kernel %s: ", pass ? "pass" : "fail", fact, kernel.release);
    va_start(arguments, seen);
    vprintf(seen, arguments);
    va_end(arguments);
    putchar('\n');
    exit(!pass);
}

// A fact that this kernel, machine or privilege cannot show and that rprof has another way for: passes, and says what is missing.
#define cannot(fact, why, instead) verdict(1, fact, "not shown: %s (%s); instead %s", why, strerror(errno), instead)

static inline int perf_open_exactly(struct perf_event_attr *attr, pid_t pid, int cpu, int output, unsigned long flags) {
    return (int)syscall(SYS_perf_event_open, attr, pid, cpu, output, flags | PERF_FLAG_FD_CLOEXEC);
}

// Leaves the kernel out where it may not be watched, as rprof does: an ordinary user can run most checks too.
static inline int perf_open(struct perf_event_attr *attr, pid_t pid, int cpu, int output, unsigned long flags) {
    int fd = perf_open_exactly(attr, pid, cpu, output, flags);
    if (fd >= 0 || errno != EACCES || attr->exclude_kernel) return fd;
    attr->exclude_kernel = 1;
    return perf_open_exactly(attr, pid, cpu, output, flags);
}

// A child that does not outlive its check.
static inline pid_t fork_child(void) {
    pid_t child = fork();
    if (child == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

// The event that rprof falls back to where no PMU is: a timer that counts while its task or CPU runs.
static inline struct perf_event_attr cpu_clock(uint64_t hertz, uint64_t sample_type) {
    struct perf_event_attr attr = {.size = sizeof attr,
                                   .type = PERF_TYPE_SOFTWARE,
                                   .config = PERF_COUNT_SW_CPU_CLOCK,
                                   .sample_freq = hertz,
                                   .freq = 1,
                                   .sample_type = sample_type};
    return attr;
}

// An event that never counts, opened for the records about tasks that come with it. Those carry TID and TIME in their trailer.
static inline struct perf_event_attr sideband(void) {
    struct perf_event_attr attr = {.size = sizeof attr,
                                   .type = PERF_TYPE_SOFTWARE,
                                   .config = PERF_COUNT_SW_DUMMY,
                                   .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
                                   .sample_id_all = 1};
    return attr;
}

typedef struct {
    struct perf_event_mmap_page *page;
    unsigned char *data;
    uint64_t size;
    int wrapped; // records that were joined from the end and the start of the buffer
    unsigned char joined[65536];
} ring_t;

static inline ring_t *ring_try_map(int fd, unsigned pages) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ring_t *ring = calloc(1, sizeof *ring);
    ring->page = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring->page == MAP_FAILED) return NULL;
    ring->data = (unsigned char *)ring->page + page;
    ring->size = pages * page;
    return ring;
}

static inline ring_t *ring_map(int fd, unsigned pages) {
    ring_t *ring = ring_try_map(fd, pages);
    if (!ring) verdict(0, "a ring", "%u pages cannot be mapped: %s", pages, strerror(errno));
    return ring;
}

// The next record, or NULL. It is valid until the next call, which gives its room back to the kernel.
static inline struct perf_event_header *ring_next(ring_t *ring) {
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE), tail = ring->page->data_tail;
    if (head == tail) return NULL;
    uint64_t at = tail % ring->size;
    uint16_t size = ((struct perf_event_header *)(ring->data + at))->size; // records are aligned to 8: a header never wraps
    if (size == 0) return NULL;
    uint64_t first = size < ring->size - at ? size : ring->size - at;
    memcpy(ring->joined, ring->data + at, first);
    memcpy(ring->joined + first, ring->data, size - first);
    ring->wrapped += first < size;
    __atomic_store_n(&ring->page->data_tail, tail + size, __ATOMIC_RELEASE);
    return (struct perf_event_header *)ring->joined;
}

// The fields of a record behind its header, as 64-bit words.
static inline uint64_t *body(struct perf_event_header *record) { return (uint64_t *)(record + 1); }

// The last words of a record: its sample_id trailer when sample_id_all is set.
static inline uint64_t *trailer(struct perf_event_header *record, int words) {
    return (uint64_t *)((char *)record + record->size) - words;
}

static inline uint64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Burns CPU time of the calling thread in user space.
static inline void burn_ms(uint64_t ms) {
    for (uint64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + ms * 1000000; now_ns(CLOCK_THREAD_CPUTIME_ID) < end;)
        for (volatile int i = 0; i < 100000; i++) {}
}

static inline void bind_to(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static inline int cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

static inline void enable(int fd) { ioctl(fd, PERF_EVENT_IOC_ENABLE, 0); }
static inline void disable(int fd) { ioctl(fd, PERF_EVENT_IOC_DISABLE, 0); }

#endif
