// Truth, linked with mixed_inner.c: main > outer > middle > inner > leaf; outer and inner lie in this file, middle and leaf in
// the other. Compiled one with and one without frame pointers, a walk has to change its manner at each frame.
#include "burn.h"

uint64_t middle(uint64_t rounds);
uint64_t leaf(uint64_t rounds);

FRAME uint64_t inner(uint64_t rounds) {
    uint64_t x = leaf(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

FRAME uint64_t outer(uint64_t rounds) {
    uint64_t x = middle(rounds);
    NO_TAIL_CALL();
    return x + 2;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += outer(TURN);
    return sum == 42;
}
