// Truth: main > catcher > thrower, which throws at each turn: the CPU time lies in _Unwind_RaiseException and below, called from
// thrower, and in the search for the handler.
#include "burn.h"
#include <stdexcept>

FRAME static uint64_t thrower(uint64_t x) {
    if (x != UINT64_MAX) throw std::runtime_error("thrown");
    return x;
}

FRAME static uint64_t catcher(uint64_t times) {
    uint64_t caught = 0;
    for (uint64_t i = 0; i < times; i++) {
        try {
            caught += thrower(i);
        } catch (const std::runtime_error &error) {
            caught += error.what()[0] == 't';
        }
    }
    return caught;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += catcher(100);
    printf("caught %lu\n", sum);
    return 0;
}
