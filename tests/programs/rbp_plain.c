// Truth: main > a > plain > leaf, while plain holds a number in the frame-pointer register over its call: whoever follows
// frame pointers here follows garbage. Build with -fomit-frame-pointer.
#include "burn.h"

#if defined(__x86_64__)
#define FRAME_POINTER "rbp"
#elif defined(__aarch64__)
#define FRAME_POINTER "x29"
#endif

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t plain(uint64_t rounds) {
    register uint64_t number __asm__(FRAME_POINTER) = rounds ^ 0x5aa5;
    __asm__ volatile("" : "+r"(number));
    uint64_t x = leaf(rounds);
    __asm__ volatile("" : "+r"(number));
    return x + number;
}

FRAME uint64_t a(uint64_t rounds) {
    uint64_t x = plain(rounds);
    NO_TAIL_CALL();
    return x + 2;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += a(TURN);
    return sum == 42;
}
