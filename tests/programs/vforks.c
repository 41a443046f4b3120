// Truth: the first thread waits in vfork for a child that never ends nor executes anything, in uninterruptible sleep (state D), from
// in_vfork; a second thread, in_spin > spin_leaf, spins.
#include "burn.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

FRAME uint64_t spin_leaf(uint64_t rounds) { return spin(rounds); }

FRAME void *in_spin(void *nothing) {
    pthread_setname_np(pthread_self(), "in_spin");
    for (uint64_t sum = 0;;) sum += spin_leaf(TURN);
    return nothing;
}

FRAME int in_vfork(void) {
    pid_t child = vfork();
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) pause();
    }
    NO_TAIL_CALL();
    return child;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, in_spin, NULL);
    ready();
    return in_vfork();
}
