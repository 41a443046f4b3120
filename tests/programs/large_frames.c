// Truth: main > wide × N (20) > leaf with 8 KB in each frame of wide: 160 KB of stack, more than the largest copy (65,528 bytes).
// Every page of a frame is written, for the kernel copies a stack only up to a page that is not there; with -DSPARSE one is not.
#include "burn.h"

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t wide(long depth) {
    volatile char frame[8192];
    frame[0] = (char)depth;
#ifndef SPARSE
    for (int at = 0; at < 8192; at += 1024) frame[at] = (char)depth;
#endif
    uint64_t x = depth > 1 ? wide(depth - 1) : leaf(TURN);
    NO_TAIL_CALL();
    return x + (uint64_t)frame[0];
}

int main(int argc, char **argv) {
    long depth = argument(argc, argv, 2, 20);
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += wide(depth);
    return sum == 42;
}
