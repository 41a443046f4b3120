// Threads that wait in known ways. Each tells for how long it was away from a CPU, by its own clocks.
//
// off_cpu MILLISECONDS FOLDER
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long length_ns;
static const char *folder;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int to_pong[2], to_ping[2];

static long now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static long away(void) { return now(CLOCK_MONOTONIC) - now(CLOCK_THREAD_CPUTIME_ID); }

static void sleep_ns(long ns)
{
    struct timespec t = { ns / 1000000000L, ns % 1000000000L };
    nanosleep(&t, 0);
}

#define UNTIL_END for (long end = now(CLOCK_MONOTONIC) + length_ns; now(CLOCK_MONOTONIC) < end;)

static __attribute__((noinline)) void nap(void)
{
    UNTIL_END sleep_ns(3000000);
}

static __attribute__((noinline)) void hold(void)
{
    UNTIL_END {
        pthread_mutex_lock(&mutex);
        sleep_ns(20000000);
        pthread_mutex_unlock(&mutex);
        sleep_ns(1000000);
    }
}

static __attribute__((noinline)) void want(void)
{
    UNTIL_END {
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        sched_yield();
    }
}

static __attribute__((noinline)) void ping(void)
{
    char byte = 1;
    UNTIL_END if (write(to_pong[1], &byte, 1) != 1 || read(to_ping[0], &byte, 1) != 1) abort();
    close(to_pong[1]);
}

static __attribute__((noinline)) void pong(void)
{
    char byte;
    while (read(to_pong[0], &byte, 1) == 1)
        if (write(to_ping[1], &byte, 1) != 1) break;
}

static __attribute__((noinline)) void disk(void)
{
    char path[4096], *block;
    snprintf(path, sizeof path, "%s/blocks", folder);
    if (posix_memalign((void **)&block, 4096, 1 << 20)) abort();
    memset(block, 1, 1 << 20);
    UNTIL_END {
        int file = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        if (write(file, block, 1 << 20) != 1 << 20 || fsync(file)) abort();
        close(file);
    }
}

// Both on one CPU: each gets half of it.
static void share(void)
{
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
}

static __attribute__((noinline)) void hog_a(void)
{
    UNTIL_END;
}

static __attribute__((noinline)) void hog_b(void)
{
    UNTIL_END;
}

#define THREAD(name, before)                                                                                      \
    static void *run_##name(void *nothing)                                                                        \
    {                                                                                                             \
        pthread_setname_np(pthread_self(), #name);                                                                \
        before;                                                                                                   \
        long begin = away(), born = now(CLOCK_MONOTONIC);                                                         \
        name();                                                                                                   \
        printf(#name " %ld\n" #name ".whole %ld\n", away() - begin, now(CLOCK_MONOTONIC) - born);                 \
        return nothing;                                                                                           \
    }
THREAD(nap, ) THREAD(hold, ) THREAD(want, ) THREAD(ping, ) THREAD(pong, ) THREAD(disk, )
THREAD(hog_a, share()) THREAD(hog_b, share())

int main(int count, char **arguments)
{
    if (count < 3 || pipe(to_pong) || pipe(to_ping)) return 1;
    length_ns = atol(arguments[1]) * 1000000L;
    folder = arguments[2];
    void *(*runs[])(void *) = { run_nap, run_hold, run_want, run_want, run_ping, run_pong, run_disk, run_hog_a, run_hog_b };
    enum { THREADS = sizeof runs / sizeof *runs };
    pthread_t threads[THREADS];
    for (int at = 0; at < THREADS; at++) pthread_create(&threads[at], 0, runs[at], 0);
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], 0);
    return 0;
}
