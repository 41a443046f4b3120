// Truth: main > caller > plugin_tiny; samples fall on the PLT entry of plugin_tiny too, and their caller is caller.
// Link with the object made of plugin.c, with -Wl,-z,lazy for the lazy PLT.
#include "burn.h"

uint64_t plugin_tiny(uint64_t x);

FRAME uint64_t caller(uint64_t rounds) {
    uint64_t x = 0;
    for (uint64_t i = 0; i < rounds; i++) x += plugin_tiny(i);
    return x;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += caller(TURN / 2);
    return sum == 42;
}
