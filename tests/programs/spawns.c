// Truth: until it is killed, main starts a thread at a time, named "later", that burns 5 ms in start_thread > later > later_leaf, and
// then burns 5 ms itself in main > here > here_leaf.
#include "burn.h"
#include <pthread.h>

FRAME uint64_t later_leaf(uint64_t rounds) { return spin(rounds); }
FRAME uint64_t here_leaf(uint64_t rounds) { return spin(rounds) + 1; }

FRAME void *later(void *unused) {
    pthread_setname_np(pthread_self(), "later");
    return (void *)(later_leaf(50 * TURN) + (uint64_t)unused);
}

FRAME uint64_t here(void) {
    uint64_t x = here_leaf(50 * TURN);
    NO_TAIL_CALL();
    return x + 1;
}

int main(void) {
    pthread_t thread;
    uint64_t sum = 0;
    ready();
    while (sum != 42) {
        if (pthread_create(&thread, NULL, later, NULL)) return 2;
        pthread_join(thread, NULL);
        sum += here();
    }
    return 0;
}
