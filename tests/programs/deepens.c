// Truth: main > wide × N > leaf with 4 KB in each frame of wide: N is 1 for the first half of the time, then 8.
#include "burn.h"

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t wide(long depth) {
    volatile char frame[4096];
    for (int at = 0; at < 4096; at += 1024) frame[at] = (char)depth;
    uint64_t x = depth > 1 ? wide(depth - 1) : leaf(TURN);
    NO_TAIL_CALL();
    return x + (uint64_t)frame[0];
}

int main(int argc, char **argv) {
    double seconds = seconds_of(argc, argv);
    uint64_t sum = 0;
    ready();
    deadline_t half = deadline_in(seconds / 2);
    while (!passed(half)) sum += wide(1);
    deadline_t end = deadline_in(seconds / 2);
    while (!passed(end)) sum += wide(8);
    return sum == 42;
}
