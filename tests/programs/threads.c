// Truth: N threads (second argument; 4) named worker-0, worker-1 …, each start_thread > worker > worker_leaf for the given CPU
// seconds; each prints "cpu_ns worker-I NUMBER". main only waits.
#include "burn.h"
#include <pthread.h>

static double seconds;

FRAME uint64_t worker_leaf(uint64_t rounds) { return spin(rounds); }

FRAME void *worker(void *number) {
    char name[16];
    uint64_t sum = 0;
    snprintf(name, sizeof name, "worker-%ld", (long)number);
    pthread_setname_np(pthread_self(), name);
    deadline_t end = deadline_in(seconds);
    while (!passed(end)) sum += worker_leaf(TURN);
    printf("cpu_ns %s %lu\n", name, clock_ns(CLOCK_THREAD_CPUTIME_ID));
    return (void *)sum;
}

int main(int argc, char **argv) {
    long count = argument(argc, argv, 2, 4);
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    seconds = seconds_of(argc, argv);
    for (long i = 0; i < count; i++) pthread_create(&threads[i], NULL, worker, (void *)i);
    ready();
    for (long i = 0; i < count; i++) pthread_join(threads[i], NULL);
    return 0;
}
