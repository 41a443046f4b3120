// For how long a thread was away from a CPU within a function, by its own clocks.
//
// A function that is measured begins with begin_span and ends with end_span. The two clocks cannot be read at once, and a thread may lose
// its CPU in between: they are read in such an order that this counts as part of the function, where it is.
//
// The CPU's clock leaves out what a hypervisor takes while a thread has the CPU, and no clock of a thread tells that; `stolen` tells it of
// all CPUs.
#pragma once
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static inline __attribute__((always_inline)) long now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

struct span {
    long wall, cpu;
};

static inline __attribute__((always_inline)) struct span begin_span(void)
{
    struct span span;
    span.wall = now(CLOCK_MONOTONIC);
    span.cpu = now(CLOCK_THREAD_CPUTIME_ID);
    return span;
}

static inline __attribute__((always_inline)) struct span end_span(struct span begin)
{
    struct span span;
    span.cpu = now(CLOCK_THREAD_CPUTIME_ID) - begin.cpu;
    span.wall = now(CLOCK_MONOTONIC) - begin.wall;
    return span;
}

static inline __attribute__((always_inline)) long away(struct span span) { return span.wall - span.cpu; }

// Nanoseconds that a hypervisor took of all CPUs since they run.
static inline long stolen(void)
{
    long ticks = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (file && fscanf(file, "cpu %*d %*d %*d %*d %*d %*d %*d %ld", &ticks) != 1) ticks = 0;
    if (file) fclose(file);
    return ticks * (1000000000L / sysconf(_SC_CLK_TCK));
}

// Lets no other program take the CPU, for threads that need it for moments only: they could not tell that from what they wait for.
static inline void go_first(void)
{
    struct sched_param first = { 1 };
    if (sched_setscheduler(0, SCHED_FIFO, &first)) setpriority(PRIO_PROCESS, 0, -20);
}
