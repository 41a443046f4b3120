// Truth: main calls one, two, three and four, whose shares of the CPU time are 10, 20, 30 and 40 %.
#include "burn.h"

FRAME uint64_t one(uint64_t rounds) { return spin(rounds) + 1; }
FRAME uint64_t two(uint64_t rounds) { return spin(2 * rounds) + 2; }
FRAME uint64_t three(uint64_t rounds) { return spin(3 * rounds) + 3; }
FRAME uint64_t four(uint64_t rounds) { return spin(4 * rounds) + 4; }

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += one(TURN / 4) + two(TURN / 4) + three(TURN / 4) + four(TURN / 4);
    return sum == 42;
}
