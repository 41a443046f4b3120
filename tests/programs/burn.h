// What the C and C++ programs share. Every program takes the CPU seconds to burn as its first argument (0: until it is
// killed), prints "ready" once its named functions run, and what it knows about itself, a line each, before it ends.
#ifndef BURN_H
#define BURN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// A function with a frame of its own: neither inlined nor cloned nor folded with one of the same body.
#ifdef __clang__
#define FRAME __attribute__((noinline, used))
#else
#define FRAME __attribute__((noinline, noclone, no_icf, used))
#endif

// Between a call and the return, this keeps the call from becoming a jump, which would take its caller off the stack.
#define NO_TAIL_CALL() __asm__ volatile("" ::: "memory")

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Work that the compiler can neither drop nor replace by a formula; about 1 ns a round.
static inline __attribute__((always_inline)) uint64_t spin(uint64_t rounds) {
    uint64_t x = rounds;
    for (uint64_t i = 0; i < rounds; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

// One turn of a program's loop lasts about 100 us, so that reading the clock in between stays far below one sample in a thousand.
#define TURN 100000u

typedef struct {
    clockid_t clock;
    uint64_t end;
} deadline_t;

static inline deadline_t deadline_on(clockid_t clock, double seconds) {
    uint64_t ns = (uint64_t)(seconds * 1e9);
    deadline_t deadline = {clock, ns ? clock_ns(clock) + ns : UINT64_MAX};
    return deadline;
}

// Counts the CPU time of the calling thread.
static inline deadline_t deadline_in(double seconds) { return deadline_on(CLOCK_THREAD_CPUTIME_ID, seconds); }

static inline int passed(deadline_t deadline) { return clock_ns(deadline.clock) >= deadline.end; }

static inline double seconds_of(int argc, char **argv) { return argc > 1 ? atof(argv[1]) : 1.0; }

static inline long argument(int argc, char **argv, int index, long otherwise) {
    return argc > index ? atol(argv[index]) : otherwise;
}

static inline void ready(void) {
    puts("ready");
    fflush(stdout);
}

#endif
