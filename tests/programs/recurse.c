// Truth: with the second argument N (60), main > down × N > leaf.
#include "burn.h"

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t down(long depth) {
    uint64_t x = depth > 1 ? down(depth - 1) : leaf(TURN);
    NO_TAIL_CALL();
    return x + (uint64_t)depth;
}

int main(int argc, char **argv) {
    long depth = argument(argc, argv, 2, 60);
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += down(depth);
    return sum == 42;
}
