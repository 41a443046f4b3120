// Truth: main > a > realigned > leaf. realigned has locals aligned to 64 bytes, an array of variable size and an argument on the
// stack: gcc addresses the caller's frame by a register of its own (DRAP: r10, then a slot below rbp), and the CFA is a
// DWARF expression, DW_OP_breg6 (rbp) -8; DW_OP_deref.
#include "burn.h"

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t realigned(uint64_t rounds, unsigned size, int p3, int p4, int p5, int p6, uint64_t on_stack) {
    volatile uint64_t aligned[8] __attribute__((aligned(64)));
    volatile char array[size];
    array[0] = (char)(p3 + p4 + p5 + p6);
    aligned[0] = on_stack;
    uint64_t x = leaf(rounds);
    NO_TAIL_CALL();
    return x + aligned[0] + on_stack + (uint64_t)array[0];
}

FRAME uint64_t a(uint64_t rounds, unsigned turn) {
    uint64_t x = realigned(rounds, 16 + turn % 512, 3, 4, 5, 6, rounds);
    NO_TAIL_CALL();
    return x + 2;
}

int main(int argc, char **argv) {
    volatile uint64_t aligned[4] __attribute__((aligned(32))) = {0};
    deadline_t end = deadline_in(seconds_of(argc, argv));
    ready();
    for (unsigned turn = 0; !passed(end); turn++) aligned[turn % 4] += a(TURN, turn);
    return aligned[0] == 42;
}
