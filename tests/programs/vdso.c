// Truth: main > ask > clock_gettime (libc) > the vDSO's own function, which lies in no file.
#include "burn.h"

FRAME uint64_t ask(uint64_t times) {
    uint64_t x = 0;
    for (uint64_t i = 0; i < times; i++) x += clock_ns(CLOCK_MONOTONIC);
    return x;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += ask(10000);
    return sum == 42;
}
