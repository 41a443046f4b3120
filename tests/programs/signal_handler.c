// Truth: nearly all CPU time is main > interrupted > (signal frame) > handler > handler_leaf: a timer fires 0.2 ms after each end of
// its handler, which burns for some ms. "interrupted" may be interrupted at any instruction, the first and the last too.
// With a second argument "altstack" the handler runs on a stack of its own. Prints "signals NUMBER".
#include "burn.h"
#include <signal.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t signals;

FRAME uint64_t handler_leaf(uint64_t rounds) { return spin(rounds); }

// Fires once: a timer that repeats would leave a slow handler's program no time for anything else.
static void arm_timer(void) {
    struct itimerval once = {{0, 0}, {0, 200}};
    setitimer(ITIMER_REAL, &once, NULL);
}

FRAME void handler(int signal) {
    signals += handler_leaf(50 * TURN) != (uint64_t)signal;
    arm_timer();
    NO_TAIL_CALL();
}

FRAME uint64_t interrupted(uint64_t rounds) { return spin(rounds) + 1; }

static void install(int on_own_stack) {
    static char stack[65536];
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    if (on_own_stack) {
        sigaltstack(&own, NULL);
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGALRM, &action, NULL);
    arm_timer();
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    install(argc > 2 && !strcmp(argv[2], "altstack"));
    ready();
    while (!passed(end)) sum += interrupted(TURN);
    printf("signals %d\n", (int)signals);
    return sum == 42;
}
