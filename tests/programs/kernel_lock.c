// Threads that append to one file, which the kernel lets one do at a time: a lock of the kernel's that sleeps.
//
// kernel_lock MILLISECONDS FOLDER
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char block[1 << 20];
static double end;
static int file;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static __attribute__((noinline)) void *append(void *nothing)
{
    while (now() < end) {
        if (write(file, block, sizeof block) != sizeof block) abort();
        if (lseek(file, 0, SEEK_END) > 64 << 20 && ftruncate(file, 0)) abort();
    }
    return nothing;
}

int main(int count, char **arguments)
{
    if (count < 3) return 1;
    char path[4096];
    snprintf(path, sizeof path, "%s/appended", arguments[2]);
    file = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (file < 0) return 1;
    end = now() + atol(arguments[1]) * 1e-3;
    pthread_t threads[4];
    for (int at = 0; at < 4; at++) pthread_create(&threads[at], 0, append, 0);
    for (int at = 0; at < 4; at++) pthread_join(threads[at], 0);
    return 0;
}
