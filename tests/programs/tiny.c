// Truth: main > loop > saver > tiny. saver and tiny are almost nothing but prologue and epilogue, so samples fall on every
// instruction of those; wherever one falls, the callers above it are the same.
#include "burn.h"

FRAME uint64_t tiny(uint64_t x) {
    NO_TAIL_CALL();
    return x * 3;
}

// Saves every register that a function must save, pushed one by one.
FRAME uint64_t saver(uint64_t x) {
#if defined(__x86_64__)
    __asm__ volatile("" ::: "rbx", "r12", "r13", "r14", "r15");
#elif defined(__aarch64__)
    __asm__ volatile("" ::: "x19", "x20", "x21", "x22", "x23", "x24");
#endif
    uint64_t y = tiny(x);
    NO_TAIL_CALL();
    return y + 1;
}

FRAME uint64_t loop(uint64_t times) {
    uint64_t x = 0;
    for (uint64_t i = 0; i < times; i++) x += saver(i);
    return x;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += loop(TURN / 4);
    return sum == 42;
}
