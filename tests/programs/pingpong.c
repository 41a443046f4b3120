// Truth: two tasks pass a byte to and fro over two pipes for the given wall seconds, main > ping and main (or a thread) > pong;
// prints "iterations NUMBER" and "switches NUMBER" (voluntary ones, of both). Second argument: "threads" or "processes".
// Both are bound to one CPU, so that each turn is two switches.
#include "burn.h"
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int there[2], back[2];

FRAME void *pong(void *unused) {
    char byte;
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
    return unused;
}

FRAME uint64_t ping(deadline_t end) {
    uint64_t iterations = 0;
    char byte = 0;
    for (; !passed(end); iterations++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) break;
    }
    return iterations;
}

static void bind_to_this_cpu(void) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static long switches(int who) {
    struct rusage usage;
    getrusage(who, &usage);
    return usage.ru_nvcsw;
}

int main(int argc, char **argv) {
    int processes = argc > 2 && !strcmp(argv[2], "processes");
    pthread_t thread;
    pid_t child = -1;
    if (pipe(there) || pipe(back)) return 2;
    bind_to_this_cpu();
    if (processes && (child = fork()) == 0) {
        close(there[1]);
        pong(NULL);
        _exit(0);
    }
    if (!processes) pthread_create(&thread, NULL, pong, NULL);
    ready();
    uint64_t iterations = ping(deadline_on(CLOCK_MONOTONIC, seconds_of(argc, argv)));
    close(there[1]);
    if (processes) waitpid(child, NULL, 0);
    else pthread_join(thread, NULL);
    printf("iterations %lu\nswitches %ld\n", iterations, switches(RUSAGE_SELF) + switches(RUSAGE_CHILDREN));
    return 0;
}
