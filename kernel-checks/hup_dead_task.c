// Fact: once the task of an event has ended, poll() on its fd reports POLLHUP, at once and for ever: a poll loop that keeps the fd
// turns without a pause. It tells a profiler that its target is gone; then the fd has to leave the set.
// Source: kernel/events/core.c, perf_poll ("if (is_event_hup(event)) return events" with EPOLLHUP); Linux 3.19.
#include "check.h"

#define FACT "poll: an event of a dead task reports POLLHUP for ever"

int main(void) {
    pid_t child = fork_child();
    if (child == 0) {
        pause();
        _exit(0);
    }
    struct perf_event_attr attr = cpu_clock(100, PERF_SAMPLE_TID);
    int fd = perf_open(&attr, child, -1, -1, 0);
    if (fd < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_map(fd, 1);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int alive = poll(&wait, 1, 10);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    int first = poll(&wait, 1, 1000), first_events = wait.revents, second = poll(&wait, 1, 1000);
    verdict(alive == 0 && first == 1 && second == 1 && (first_events & POLLHUP) && (wait.revents & POLLHUP), FACT,
            "alive: %d ready; dead: %d ready, revents %#x, then %d ready, revents %#x", alive, first, (unsigned)first_events, second,
            (unsigned)wait.revents);
}
