// A shared object for plugin_host.c, memfd.c and plt.c.
#include "burn.h"

FRAME uint64_t plugin_leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t plugin_work(uint64_t rounds) {
    uint64_t x = plugin_leaf(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

// Does next to nothing, so that the way to it through the PLT takes a good share of a caller's time.
FRAME uint64_t plugin_tiny(uint64_t x) { return x + 1; }
