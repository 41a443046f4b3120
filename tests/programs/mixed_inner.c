// The other half of mixed_outer.c.
#include "burn.h"

uint64_t inner(uint64_t rounds);

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t middle(uint64_t rounds) {
    uint64_t x = inner(rounds);
    NO_TAIL_CALL();
    return x + 3;
}
