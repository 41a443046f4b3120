// Truth: a process and, with an argument, a thread without any C library or unwind information, as musl's own code is: every sample has
// the stack `_start` > `work` > `leaf`, or `start_thread` > `work` > `leaf`, and ends at the root.
#include <stdint.h>

#if defined(__x86_64__)
__asm__(
    ".text\n.globl _start, start_thread\n"
    "_start: xor %ebp, %ebp; mov %rsp, %rdi; and $-16, %rsp; call begin; hlt\n"
    // clone(flags, stack): the thread calls `work`, and ends.
    ".balign 64\nstart_thread: mov $56, %eax; xor %edx, %edx; xor %r10d, %r10d; xor %r8d, %r8d; syscall; test %eax, %eax; jnz 1f\n"
    "xor %ebp, %ebp; call work; mov %eax, %edi; xor %eax, %eax; mov $60, %al; syscall; hlt\n"
    "1: ret\n");
#define CALL(number, a, b, c) \
    ({ long answer; __asm__ volatile("syscall" : "=a"(answer) : "0"((long)(number)), "D"((long)(a)), "S"((long)(b)), "d"((long)(c)) : "rcx", "r11", "memory"); answer; })
enum { WRITE = 1, EXIT_GROUP = 231, CLOCK_GETTIME = 228 };
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl _start, start_thread\n"
    "_start: mov x29, #0; mov x30, #0; mov x0, sp; and sp, x0, #-16; bl begin; udf #0\n"
    ".balign 64\nstart_thread: mov x8, #220; mov x2, #0; mov x3, #0; mov x4, #0; svc #0; cbnz x0, 1f\n"
    "mov x29, #0; bl work; mov x8, #93; svc #0\n"
    "1: ret\n");
#define CALL(number, a, b, c) \
    ({ register long x0 __asm__("x0") = (long)(a); register long x1 __asm__("x1") = (long)(b); \
       register long x2 __asm__("x2") = (long)(c); register long x8 __asm__("x8") = (long)(number); \
       __asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory"); x0; })
enum { WRITE = 64, EXIT_GROUP = 94, CLOCK_GETTIME = 113 };
#endif

long start_thread(long flags, char *stack);

static char stack[64 << 10] __attribute__((aligned(16)));
static volatile int done;

__attribute__((noinline)) static uint64_t leaf(void) {
    uint64_t x = 88172645463325252;
    for (int turn = 0; turn < 2000000; turn++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

__attribute__((noinline)) int work(void) {
    long now[2], end[2];
    uint64_t sum = 0;
    // The thread's own CPU time.
    CALL(CLOCK_GETTIME, 3, end, 0);
    do {
        sum += leaf();
        CALL(CLOCK_GETTIME, 3, now, 0);
    } while ((now[0] - end[0]) * 1000000000 + now[1] - end[1] < 300000000);
    done = 1;
    return sum == 42;
}

__attribute__((noinline, noreturn)) void begin(long *words) {
    CALL(WRITE, 1, "ready\n", 6);
    // CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD, CLONE_SYSVSEM
    if (words[0] > 1) {
        start_thread(0x50f00, stack + sizeof stack);
        // The thread has all the samples.
        while (!done) CALL(WRITE == 1 ? 35 : 101, ((long[]){0, 1000000}), 0, 0);
    } else {
        work();
    }
    CALL(EXIT_GROUP, 0, 0, 0);
    __builtin_unreachable();
}
