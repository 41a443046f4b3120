// Allocates and frees a block at each of a million rounds a second or so, and keeps one of 4,096. Each second it prints its rounds per
// second of its own CPU time.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *volatile kept;
static volatile uint64_t sink;

static double seconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

__attribute__((noinline)) static void work(void)
{
    uint64_t x = 1;
    for (int i = 0; i < 900; i++)
        x = x * 6364136223846793005u + 1;
    sink = x;
}

__attribute__((noinline)) static void allocate(long round)
{
    void *volatile block = malloc(64 + round % 128);
    work();
    if (round % 4096)
        free(block);
    else
        kept = block;
}

int main(void)
{
    for (;;) {
        long rounds = 0;
        double cpu = seconds(CLOCK_THREAD_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
        while (rounds % 1024 || seconds(CLOCK_MONOTONIC) < wall + 1)
            allocate(rounds++);
        printf("%.0f\n", rounds / (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu));
        fflush(stdout);
    }
}
