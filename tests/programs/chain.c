// Truth: every sample of CPU time has the stack main > a > b > leaf.
#include "burn.h"

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t b(uint64_t rounds) {
    uint64_t x = leaf(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

FRAME uint64_t a(uint64_t rounds) {
    uint64_t x = b(rounds);
    NO_TAIL_CALL();
    return x + 2;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    // Long enough that looking at the clock, a system call, does not count.
    while (!passed(end)) sum += a(10 * TURN);
    return sum == 42;
}
