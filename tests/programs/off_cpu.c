// Threads that wait in known ways. Each tells for how long it was away from a CPU, by its own clocks.
//
// off_cpu MILLISECONDS FOLDER THREAD…
//
// They leave their CPUs so seldom that nothing of it has to be left to chance.
#define _GNU_SOURCE
#include "clocks.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

static long length_ns;
static const char *folder;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t all;
static int to_pong[2], to_ping[2];

static void sleep_ns(long ns)
{
    struct timespec t = { ns / 1000000000L, ns % 1000000000L };
    nanosleep(&t, 0);
}

#define UNTIL_END for (long end = now(CLOCK_MONOTONIC) + length_ns; now(CLOCK_MONOTONIC) < end;)

// A function that is measured from its beginning to its end.
#define MEASURED(name)                                                                                            \
    static long name##_away, name##_whole;                                                                        \
    static inline void name##_body(void);                                                                         \
    static __attribute__((noinline)) void name(void)                                                              \
    {                                                                                                             \
        struct span span = begin_span();                                                                          \
        name##_body();                                                                                            \
        span = end_span(span);                                                                                    \
        __atomic_add_fetch(&name##_away, away(span), __ATOMIC_SEQ_CST);                                           \
        __atomic_add_fetch(&name##_whole, span.wall, __ATOMIC_SEQ_CST);                                           \
    }                                                                                                             \
    static inline void name##_body(void)

MEASURED(nap)
{
    UNTIL_END sleep_ns(3000000);
}

MEASURED(hold)
{
    UNTIL_END {
        pthread_mutex_lock(&mutex);
        sleep_ns(20000000);
        pthread_mutex_unlock(&mutex);
        sleep_ns(1000000);
    }
}

MEASURED(want)
{
    UNTIL_END {
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        sleep_ns(1000000);
    }
}

MEASURED(ping)
{
    char byte = 1;
    UNTIL_END {
        if (write(to_pong[1], &byte, 1) != 1 || read(to_ping[0], &byte, 1) != 1) abort();
        sleep_ns(4000000);
    }
    close(to_pong[1]);
}

MEASURED(pong)
{
    char byte;
    while (read(to_pong[0], &byte, 1) == 1)
        if (write(to_ping[1], &byte, 1) != 1) break;
}

MEASURED(disk)
{
    char path[4096], *block;
    snprintf(path, sizeof path, "%s/blocks", folder);
    if (posix_memalign((void **)&block, 4096, 1 << 20)) abort();
    memset(block, 1, 1 << 20);
    UNTIL_END {
        int file = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        if (write(file, block, 1 << 20) != 1 << 20 || fsync(file)) abort();
        close(file);
        sleep_ns(5000000);
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

MEASURED(hog_a)
{
    UNTIL_END;
}

MEASURED(hog_b)
{
    UNTIL_END;
}

// Who is started last may find the others waiting for the lock of the address space: they begin once all are there.
#define THREAD(name, before)                                                                                      \
    static void *run_##name(void *nothing)                                                                        \
    {                                                                                                             \
        pthread_setname_np(pthread_self(), #name);                                                                \
        before;                                                                                                   \
        pthread_barrier_wait(&all);                                                                               \
        name();                                                                                                   \
        return nothing;                                                                                           \
    }
THREAD(nap, ) THREAD(hold, ) THREAD(want, ) THREAD(ping, ) THREAD(pong, ) THREAD(disk, )
THREAD(hog_a, share()) THREAD(hog_b, share())

#define ROW(name) { #name, run_##name, &name##_away, &name##_whole }
static const struct {
    const char *name;
    void *(*run)(void *);
    const long *away, *whole;
} rows[] = { ROW(nap), ROW(hold), ROW(want), ROW(ping), ROW(pong), ROW(disk), ROW(hog_a), ROW(hog_b) };
enum { ROWS = sizeof rows / sizeof *rows };

static int row_of(const char *name)
{
    for (int at = 0; at < ROWS; at++) if (!strcmp(rows[at].name, name)) return at;
    abort();
}

int main(int count, char **arguments)
{
    enum { MOST = 16 };
    pthread_t threads[MOST];
    int chosen = count - 3;
    if (chosen < 1 || chosen > MOST || pipe(to_pong) || pipe(to_ping)) return 1;
    length_ns = atol(arguments[1]) * 1000000L;
    folder = arguments[2];
    begin_span(); // the clocks' pages are there from now on
    long before = stolen();
    pthread_barrier_init(&all, 0, chosen);
    for (int at = 0; at < chosen; at++) pthread_create(&threads[at], 0, rows[row_of(arguments[at + 3])].run, 0);
    for (int at = 0; at < chosen; at++) pthread_join(threads[at], 0);
    for (int at = 0; at < ROWS; at++)
        if (*rows[at].whole) printf("%s %ld\n%s.whole %ld\n", rows[at].name, *rows[at].away, rows[at].name, *rows[at].whole);
    printf("stolen %ld\n", stolen() - before);
    return 0;
}
