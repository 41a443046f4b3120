// Truth: main > heavy and main > light share the CPU time as the program itself measured it (about 3 : 1); it prints
// "cpu_ns NAME NUMBER" for each.
#include "burn.h"

FRAME uint64_t heavy(uint64_t rounds) { return spin(rounds) + 1; }
FRAME uint64_t light(uint64_t rounds) { return spin(rounds) + 2; }

static uint64_t measured(uint64_t (*work)(uint64_t), uint64_t rounds, uint64_t *ns) {
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t x = work(rounds);
    *ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    return x;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0, heavy_ns = 0, light_ns = 0;
    ready();
    while (!passed(end)) {
        sum += measured(heavy, 3 * TURN, &heavy_ns);
        sum += measured(light, TURN, &light_ns);
    }
    printf("cpu_ns heavy %lu\ncpu_ns light %lu\n", heavy_ns, light_ns);
    return sum == 42;
}
