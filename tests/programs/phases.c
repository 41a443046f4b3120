/* Two phases, so that ranges of time differ; a thread beside; a function that calls itself; and one whose name is a script.
   phases SECONDS */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TURNS 20000

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

#define SPIN(turns)                                                                                                                \
    for (int turn = 0; turn < (turns); turn++)                                                                                     \
        x = x * 1.0000001 + 0.5;

#define WORK(name)                                                                                                                 \
    __attribute__((noinline)) double name(double x) {                                                                              \
        SPIN(TURNS)                                                                                                                \
        return x;                                                                                                                  \
    }

WORK(early)
WORK(late)
WORK(steady)
WORK(beside)

double hostile(double x) __asm__("\"<img src=x onerror=hacked()></script><script>hacked()</script>\"");
WORK(hostile)

__attribute__((noinline)) double deep(double x, int depth) {
    SPIN(TURNS / 8)
    return depth == 0 ? x : deep(x, depth - 1) + 1;
}

static double seconds;

static void *aside(void *unused) {
    volatile double x = 1;
    for (double end = now() + seconds; now() < end;)
        x = beside(x);
    return unused;
}

int main(int count, char **arguments) {
    seconds = count > 1 ? atof(arguments[1]) : 2;
    pthread_t helper;
    pthread_create(&helper, NULL, aside, NULL);
    pthread_setname_np(helper, "helper");
    volatile double x = 1;
    double start = now();
    puts("ready");
    fflush(stdout);
    for (double at = start; at < start + seconds; at = now()) {
        x = at < start + seconds / 2 ? early(x) : late(x);
        x = steady(x);
        x = hostile(x);
        x = deep(x, 7);
    }
    pthread_join(helper, NULL);
    return x > 0 ? 0 : 1;
}
