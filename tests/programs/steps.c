// A program with some functions of known parts, for comparisons. SLOW makes one of them dearer: -DSLOW=2 by the double. RENAMED moves the
// work of one function to another of a new name below the same caller.
//
// Each step's length varies from round to round, as that of real requests does. Rounds of one length fall into step with the clock that
// samples them, at another phase in each run.
//
//     steps SECONDS     works for so many seconds of CPU time, however busy the machine is, and prints how many rounds it made
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef SLOW
#define SLOW 1
#endif
#define STEP(name, amount) \
    __attribute__((noinline)) static void name(void) { \
        long times = (amount) / 2 + (long)((sink >> 33) % (amount)); \
        for (long i = 0; i < times; i++) \
            sink = sink * 6364136223846793005UL + (unsigned long)i; \
    }

static volatile unsigned long sink;

STEP(parse, 2200)
STEP(render, 1800)
STEP(compress, 1500)
STEP(hash, 600L * SLOW)
STEP(sort, 1200)
STEP(copy, 900)
#ifdef RENAMED
STEP(send_all, 800)
#define SEND send_all
#else
STEP(send_each, 800)
#define SEND send_each
#endif

__attribute__((noinline)) static void request(void) {
    parse();
    hash();
    sort();
    __asm__ volatile("");
}

__attribute__((noinline)) static void reply(void) {
    render();
    compress();
    copy();
    SEND();
    __asm__ volatile("");
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    struct timespec start, now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    puts("ready");
    fflush(stdout);
    long rounds = 0;
    do {
        for (int i = 0; i < 20; i++, rounds++) {
            request();
            reply();
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
    printf("%ld\n", rounds);
}
