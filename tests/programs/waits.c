// Truth: threads that wait for what does not come, each named after the function of its own that it waits in, in_read > read and so on,
// and one that spins (in_spin > spin_leaf). A wait that comes back all the same prints "back NAME ERROR" (0 for none) and begins again.
// SIGRTMIN+3 counts (a handler on the first thread, in pause): with each that is handled, "signals NUMBER" is printed.
//   waits SECONDS [MORE]    ends after so many seconds (0: never); MORE further threads in nanosleep
#include "burn.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t for_condition = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t begun;
static volatile sig_atomic_t signals;

static int never(void) {
    int ends[2];
    return pipe(ends) ? -1 : ends[0];
}

FRAME long in_mutex(void) { return pthread_mutex_lock(&held); }

FRAME long in_condition(void) {
    struct timespec late = {clock_ns(CLOCK_REALTIME) / 1000000000u + 100000, 0};
    pthread_mutex_lock(&for_condition);
    long result = pthread_cond_timedwait(&condition, &for_condition, &late);
    pthread_mutex_unlock(&for_condition);
    return result;
}

FRAME long in_semaphore(void) {
    sem_t none;
    sem_init(&none, 0, 0);
    return sem_wait(&none);
}

FRAME long in_read(void) {
    char byte;
    return read(never(), &byte, 1);
}

FRAME long in_nanosleep(void) {
    struct timespec long_time = {100000, 0};
    return nanosleep(&long_time, NULL);
}

FRAME long in_poll(void) {
    struct pollfd pipe = {never(), POLLIN, 0};
    return poll(&pipe, 1, 100000000);
}

FRAME long in_select(void) {
    fd_set pipes;
    int fd = never();
    FD_ZERO(&pipes);
    FD_SET(fd, &pipes);
    return select(fd + 1, &pipes, NULL, NULL, NULL);
}

FRAME long in_epoll(void) {
    struct epoll_event event;
    return epoll_wait(epoll_create1(0), &event, 1, -1);
}

FRAME long in_recv(void) {
    char byte;
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    return recv(ends[0], &byte, 1, 0);
}

FRAME long in_recv_timeout(void) {
    char byte;
    int ends[2];
    struct timeval long_time = {100000, 0};
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof long_time);
    return recv(ends[0], &byte, 1, 0);
}

FRAME long in_waitpid(void) {
    static pid_t child;
    if (!child && !(child = fork())) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) pause();
    }
    return waitpid(child, NULL, 0);
}

FRAME long in_sigwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    return sigwaitinfo(&set, NULL);
}

FRAME long in_msgrcv(void) {
    struct { long type; char text[8]; } message;
    int queue = msgget(IPC_PRIVATE, 0600);
    long result = msgrcv(queue, &message, sizeof message.text, 0, 0);
    int error = errno;
    msgctl(queue, IPC_RMID, NULL);
    errno = error;
    return result;
}

FRAME long in_semop(void) {
    int set = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf take = {0, -1, 0};
    long result = semop(set, &take, 1);
    int error = errno;
    semctl(set, 0, IPC_RMID);
    errno = error;
    return result;
}

FRAME long in_inotify(void) {
    char events[256];
    return read(inotify_init(), events, sizeof events);
}

FRAME uint64_t spin_leaf(uint64_t rounds) { return spin(rounds); }

FRAME long in_spin(void) {
    for (uint64_t sum = 0;;) sum += spin_leaf(TURN);
}

static const struct waiter {
    const char *name;
    long (*wait)(void);
} waiters[] = {
    {"in_mutex", in_mutex},     {"in_condition", in_condition}, {"in_semaphore", in_semaphore},
    {"in_read", in_read},       {"in_nanosleep", in_nanosleep}, {"in_poll", in_poll},
    {"in_select", in_select},   {"in_epoll", in_epoll},         {"in_recv", in_recv},
    {"in_recv_timeout", in_recv_timeout}, {"in_waitpid", in_waitpid}, {"in_sigwait", in_sigwait},
    {"in_msgrcv", in_msgrcv},   {"in_semop", in_semop},         {"in_inotify", in_inotify},
    {"in_spin", in_spin},
};
enum { WAITERS = sizeof waiters / sizeof *waiters };

FRAME void *waiter(void *of) {
    const struct waiter *self = of;
    pthread_setname_np(pthread_self(), self->name);
    pthread_barrier_wait(&begun);
    for (;;) {
        long result = self->wait();
        printf("back %s %d\n", self->name, result < 0 ? errno : (int)result);
        fflush(stdout);
    }
}

static void count(int signal) {
    (void)signal;
    signals++;
}

int main(int argc, char **argv) {
    long more = argument(argc, argv, 2, 0);
    pthread_t thread;
    pthread_attr_t small;
    sigset_t counted;
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGRTMIN + 3, &action, NULL);
    sigemptyset(&counted);
    sigaddset(&counted, SIGRTMIN + 3);
    // Handled by the first thread alone, and only while it pauses.
    pthread_sigmask(SIG_BLOCK, &counted, NULL);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    pthread_barrier_init(&begun, NULL, (unsigned)(WAITERS + more + 1));
    pthread_mutex_lock(&held);
    for (int i = 0; i < WAITERS; i++) pthread_create(&thread, &small, waiter, (void *)&waiters[i]);
    static const struct waiter sleeper = {"more", in_nanosleep};
    for (long i = 0; i < more; i++) pthread_create(&thread, &small, waiter, (void *)&sleeper);
    pthread_barrier_wait(&begun);
    if (seconds_of(argc, argv) > 0) alarm((unsigned)seconds_of(argc, argv));
    ready();
    sigset_t none;
    sigemptyset(&none);
    for (;;) {
        sigsuspend(&none);
        printf("signals %d\n", (int)signals);
        fflush(stdout);
    }
}
