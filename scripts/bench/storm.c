// A host that gives a profiler much to follow: 2,000 threads that wake now and then, and processes that are forked and execute a program as
// fast as they come. Runs until it is killed, with all that it started.
//   storm [PARALLEL]   so many processes at a time (2)
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void *wake(void *number) {
    for (unsigned long i = (unsigned long)number;; i++) {
        for (volatile int work = 0; work < 20000; work++) {}
        usleep(500000 + i % 97 * 1000);
    }
    return NULL;
}

static void start_one(void) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("true", "true", (char *)NULL);
        _exit(1);
    }
}

int main(int argc, char **argv) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (unsigned long i = 0; i < 2000; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, wake, (void *)i)) perror("pthread_create");
    }
    for (int parallel = argc > 1 ? atoi(argv[1]) : 2; parallel > 0; parallel--) start_one();
    for (long started = 0; waitpid(-1, NULL, 0) > 0; started++) {
        start_one();
        if (started % 1000 == 999) {
            printf("%ld processes\n", started + 1);
            fflush(stdout);
        }
    }
}
