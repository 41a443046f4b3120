// Truth, with -O2 -g: main > outer, into which one, two<int>, three, four and five are inlined, in this order of calls. Five is the
// innermost function of nearly all samples; every line that burns carries the comment "hot".
#include "burn.h"

#define INLINE static inline __attribute__((always_inline))

INLINE uint64_t five(uint64_t x) {
    for (uint64_t i = 0; i < TURN; i++) {
        x = x * 6364136223846793005u + 1; // hot
        __asm__ volatile("" : "+r"(x));   // hot
    }
    return x;
}

INLINE uint64_t four(uint64_t x) { return five(x) + 4; }
INLINE uint64_t three(uint64_t x) { return four(x) + 3; }
template <typename T> INLINE T two(T x) { return (T)three((uint64_t)x) + 2; }
INLINE uint64_t one(uint64_t x) { return (uint64_t)two<int>((int)x) + 1; }

FRAME uint64_t outer(uint64_t x) { return one(x); }

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += outer(sum);
    return sum == 42;
}
