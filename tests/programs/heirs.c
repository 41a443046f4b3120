// Calls a function, and lets a thread and a child, who wait a second first, call it thrice each. Fails if it cannot have them.
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int calls;

__attribute__((noinline)) static void site(void) { calls++; }

static void *thrice(void *unused)
{
    sleep(1);
    for (int i = 0; i < 3; i++)
        site();
    return unused;
}

int main(void)
{
    pthread_t thread;
    int status;
    site();
    if (pthread_create(&thread, 0, thrice, 0))
        return 1;
    pid_t child = fork();
    if (child < 0)
        return 2;
    if (child == 0) {
        thrice(0);
        _exit(0);
    }
    pthread_join(thread, 0);
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 3;
}
