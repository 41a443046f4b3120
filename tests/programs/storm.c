// Two threads on one CPU that hand a byte to and fro as fast as they can, and one that waits all the while.
//
// storm MILLISECONDS: prints for how long the two were away from their CPU, and how often they exchanged.
#define _GNU_SOURCE
#include "clocks.h"
#include <pthread.h>
#include <stdlib.h>

static long length_ns, total, times, waited;
static int there[2], back[2];

static __attribute__((noinline)) void exchange(int from, int to, int first)
{
    struct span begin = begin_span();
    char byte = 1;
    if (first && write(to, &byte, 1) != 1) abort();
    while (read(from, &byte, 1) == 1) {
        times++;
        if (first && now(CLOCK_MONOTONIC) - begin.wall > length_ns) break;
        if (write(to, &byte, 1) != 1) break;
    }
    close(to);
    __atomic_add_fetch(&total, away(end_span(begin)), __ATOMIC_SEQ_CST);
}

static void *run(void *first)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    exchange(first ? back[0] : there[0], first ? there[1] : back[1], first != 0);
    return 0;
}

static __attribute__((noinline)) void long_wait(void)
{
    struct span begin = begin_span();
    struct timespec t = { length_ns / 1000000000L, length_ns % 1000000000L };
    nanosleep(&t, 0);
    waited = away(end_span(begin));
}

static void *wait_long(void *nothing)
{
    long_wait();
    return nothing;
}

int main(int count, char **arguments)
{
    if (count < 2 || pipe(there) || pipe(back)) return 1;
    length_ns = atol(arguments[1]) * 1000000L;
    long before = stolen();
    pthread_t threads[3];
    pthread_create(&threads[0], 0, run, 0);
    pthread_create(&threads[1], 0, run, &total);
    pthread_create(&threads[2], 0, wait_long, 0);
    for (int at = 0; at < 3; at++) pthread_join(threads[at], 0);
    printf("away %ld\nwaited %ld\nexchanges %ld\nstolen %ld\n", total, waited, times, stolen() - before);
    return 0;
}
