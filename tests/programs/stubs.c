// Single-steps two calls through the procedure linkage table, each made twice (the first of each may bind it), and prints where each
// step was. x86-64 only; link with the object made of stubs_library.c.
//   main ADDRESS                where main lies
//   step ADDRESS STACKPOINTER   before an instruction of this program
//   callee STACKPOINTER NAME    at the first instruction of a function of the library
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <ucontext.h>

int tick(int);
int tock(int);
int main(void);

#define MOST 4096
static struct {
    uintptr_t ip, sp;
} steps[MOST];
static int count;
static uintptr_t functions[2];
static const char *const names[2] = {"tick", "tock"};
// A function whose address is taken has its stub in .plt.got.
int (*volatile pointer)(int) = tock;

static int is_here(uintptr_t ip) { return ip - (uintptr_t)main + 0x10000 < 0x20000; }

static void on_step(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t ip = (uintptr_t)registers[REG_RIP];
    if ((is_here(ip) || ip == functions[0] || ip == functions[1]) && count < MOST) {
        steps[count].ip = ip;
        steps[count++].sp = (uintptr_t)registers[REG_RSP];
    }
}

#define STEP_ON() __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc")
#define STEP_OFF() __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc")

int main(void) {
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    for (int at = 0; at < 2; at++) functions[at] = (uintptr_t)dlsym(RTLD_DEFAULT, names[at]);
    int sum = pointer(0);
    for (int round = 0; round < 2; round++) {
        STEP_ON();
        sum += tick(round);
        sum += tock(round);
        STEP_OFF();
    }
    printf("main %lx\n", (unsigned long)(uintptr_t)main);
    for (int at = 0; at < count; at++) {
        int callee = steps[at].ip == functions[0] ? 0 : steps[at].ip == functions[1] ? 1 : -1;
        if (callee >= 0)
            printf("callee %lx %s\n", (unsigned long)steps[at].sp, names[callee]);
        else
            printf("step %lx %lx\n", (unsigned long)steps[at].ip, (unsigned long)steps[at].sp);
    }
    return sum == 42;
}
