// Allocates and frees at one place, and keeps every hundredth block at another, until it ends by a signal or after argv[1] blocks;
// a word behind it, one child per twenty thousand blocks does the same once.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile sink;

__attribute__((noinline)) static void churn(void)
{
    sink = malloc(2000);
    free(sink);
}

__attribute__((noinline)) static void hoard(void) { sink = malloc(3000); }

__attribute__((noinline)) static void of_child(void) { sink = malloc(1 << 20); }

int main(int argc, char **argv)
{
    long most = argc > 1 ? atol(argv[1]) : 0, children = argc > 2;
    puts("ready");
    fflush(stdout);
    for (long i = 1; !most || i <= most; i++) {
        churn();
        if (i % 100 == 0)
            hoard();
        if (i % 1000 == 0) {
            usleep(1000);
            if (children && i % 20000 == 0 && fork() == 0) {
                usleep(300000);
                for (int at = 0; at < 4; at++)
                    of_child();
                _exit(0);
            }
        }
    }
    while (children && wait(0) > 0)
        ;
    return 0;
}
