// Truth: start_thread > worker > worker_hot > spin. The first thread has ended by the time that the program is ready: /proc/PID/maps, exe
// and root tell nothing any more.
#include "burn.h"
#include <pthread.h>
#include <unistd.h>

static pthread_t first;
static double seconds;

FRAME uint64_t worker_hot(uint64_t rounds) { return spin(rounds); }

FRAME void *worker(void *nothing) {
    (void)nothing;
    pthread_join(first, NULL);
    while (access("/proc/self/exe", F_OK) == 0) usleep(1000);
    deadline_t end = deadline_in(seconds);
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += worker_hot(10 * TURN);
    exit(sum == 42);
}

int main(int argc, char **argv) {
    pthread_t thread;
    first = pthread_self();
    seconds = seconds_of(argc, argv);
    if (pthread_create(&thread, NULL, worker, NULL)) return 2;
    pthread_exit(NULL);
}
