// Truth: two threads (std::thread, named by none) run crunch > crunch_leaf and sift > sift_leaf, half of the CPU time each.
#include "burn.h"
#include <thread>

FRAME static uint64_t crunch_leaf(uint64_t rounds) { return spin(rounds); }
FRAME static uint64_t sift_leaf(uint64_t rounds) { return spin(rounds) + 1; }

template <typename F> static inline void until(double seconds, F &&turn) {
    deadline_t end = deadline_in(seconds);
    uint64_t sum = 0;
    while (!passed(end)) sum += turn(TURN);
    if (sum == 42) puts("unlikely");
}

FRAME static void crunch(double seconds) { until(seconds, crunch_leaf); NO_TAIL_CALL(); }
FRAME static void sift(double seconds) { until(seconds, sift_leaf); NO_TAIL_CALL(); }

int main(int argc, char **argv) {
    double seconds = seconds_of(argc, argv) / 2;
    std::thread first(crunch, seconds), second(sift, seconds);
    ready();
    first.join();
    second.join();
    return 0;
}
