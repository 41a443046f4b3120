// Does work until it is killed, and prints a line for each second of it: how much work per second of its own CPU time (spin), or of
// wall time (pingpong), so that what a profiler costs a program can be read from its own clock.
//   work spin       a recursion 60 deep that computes
//   work pingpong   two threads on one CPU pass a byte to and fro
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int there[2], back[2];

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

__attribute__((noinline)) static uint64_t leaf(uint64_t x) {
    for (int i = 0; i < 20000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

__attribute__((noinline)) static uint64_t down(int depth) {
    uint64_t x = depth ? down(depth - 1) : leaf(depth);
    __asm__ volatile("" : "+r"(x));
    return x + depth;
}

static void spin(void) { down(60); }

static void *pong(void *unused) {
    char byte;
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
    return unused;
}

static void ping(void) {
    char byte = 0;
    for (int i = 0; i < 100; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) _exit(1);
}

int main(int argc, char **argv) {
    int switching = argc > 1 && !strcmp(argv[1], "pingpong");
    if (switching) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(0, &one);
        sched_setaffinity(0, sizeof one, &one);
        pthread_t thread;
        if (pipe(there) || pipe(back) || pthread_create(&thread, NULL, pong, NULL)) return 1;
    }
    clockid_t clock = switching ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        double start = seconds(clock), wall = seconds(CLOCK_MONOTONIC);
        uint64_t rounds = 0;
        for (; seconds(CLOCK_MONOTONIC) - wall < 1; rounds++) (switching ? ping : spin)();
        printf("%.1f\n", rounds * (switching ? 200 : 1) / (seconds(clock) - start));
    }
}
