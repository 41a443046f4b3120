// Truth: main > a > variable > leaf; the frame of variable holds an array whose size is known only at run time, so that its
// CFA hangs on the frame pointer whatever the flags.
#include "burn.h"

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t variable(uint64_t rounds, unsigned size) {
    volatile char array[size];
    array[size - 1] = (char)rounds;
    uint64_t x = leaf(rounds);
    NO_TAIL_CALL();
    return x + (uint64_t)array[size - 1];
}

FRAME uint64_t a(uint64_t rounds, unsigned turn) {
    uint64_t x = variable(rounds, 16 + turn % 4096);
    NO_TAIL_CALL();
    return x + 2;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    for (unsigned turn = 0; !passed(end); turn++) sum += a(TURN, turn);
    return sum == 42;
}
