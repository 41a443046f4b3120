// Truth: until the CPU seconds of all its children reach the first argument, main forks a child at a time, each of which burns
// 5 ms in main > child_work > child_leaf and ends. With a second argument "exec" each child becomes a new image of this file
// first (a process named "forks" again, with main > exec_work > child_leaf). Prints "children NUMBER".
#include "burn.h"
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 0.005

FRAME uint64_t child_leaf(uint64_t rounds) { return spin(rounds); }

static uint64_t burn_child(void) {
    deadline_t end = deadline_in(CHILD_SECONDS);
    uint64_t x = 0;
    while (!passed(end)) x += child_leaf(TURN);
    return x;
}

FRAME uint64_t child_work(void) { return burn_child() + 1; }
FRAME uint64_t exec_work(void) { return burn_child() + 2; }

static double seconds_of_children(void) {
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "child")) return exec_work() == 42;
    int exec = argc > 2 && !strcmp(argv[2], "exec");
    double seconds = seconds_of(argc, argv);
    long children = 0;
    ready();
    for (; seconds == 0 || seconds_of_children() < seconds; children++) {
        pid_t child = fork();
        if (child == 0 && exec) execl("/proc/self/exe", "forks", "child", NULL);
        if (child == 0) _exit(child_work() == 42);
        waitpid(child, NULL, 0);
    }
    printf("children %ld\n", children);
    return 0;
}
