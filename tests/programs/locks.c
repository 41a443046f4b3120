// One thread holds a mutex for a long time again and again; eight want it. Each tells how long it waited, by its own clocks.
//
// locks MILLISECONDS
#define _GNU_SOURCE
#include "clocks.h"
#include <pthread.h>
#include <stdlib.h>

static long end;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void nap(long ns)
{
    struct timespec t = { 0, ns };
    nanosleep(&t, 0);
}

static __attribute__((noinline)) void *hold(void *nothing)
{
    while (now(CLOCK_MONOTONIC) < end) {
        pthread_mutex_lock(&mutex);
        nap(40000000);
        pthread_mutex_unlock(&mutex);
        nap(2000000);
    }
    return nothing;
}

static __attribute__((noinline)) long wait_for_it(void)
{
    long waited = 0;
    while (now(CLOCK_MONOTONIC) < end) {
        struct span begin = begin_span();
        pthread_mutex_lock(&mutex);
        waited += away(end_span(begin));
        pthread_mutex_unlock(&mutex);
        nap(1000000);
    }
    return waited;
}

static void *want(void *nothing)
{
    printf("wait_for_it %ld\n", wait_for_it());
    return nothing;
}

int main(int count, char **arguments)
{
    enum { WAITERS = 8 };
    pthread_t holder, waiters[WAITERS];
    go_first();
    end = now(CLOCK_MONOTONIC) + (count > 1 ? atol(arguments[1]) : 1000) * 1000000L;
    pthread_create(&holder, 0, hold, 0);
    for (int at = 0; at < WAITERS; at++) pthread_create(&waiters[at], 0, want, 0);
    for (int at = 0; at < WAITERS; at++) pthread_join(waiters[at], 0);
    pthread_join(holder, 0);
    return 0;
}
