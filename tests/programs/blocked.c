// Threads that wait for what never comes, and a main thread that waits for them.
//
// blocked [THREADS]
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int ends[2];

static __attribute__((noinline)) long blocked_for_ever(void)
{
    char byte;
    return read(ends[0], &byte, 1) + 1;
}

static void *run(void *nothing) { return (void *)(blocked_for_ever() + (long)nothing); }

int main(int count, char **arguments)
{
    pthread_t thread;
    if (pipe(ends)) return 1;
    for (int left = count > 1 ? atoi(arguments[1]) : 1; left > 0; left--)
        if (pthread_create(&thread, 0, run, 0)) return 1;
    usleep(10000);
    puts("ready");
    fflush(stdout);
    pthread_join(thread, 0);
    return 0;
}
