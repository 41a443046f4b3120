// Truth: main > enter > the trampoline > work > spin. The trampoline is CPython's (Objects/asm_trampoline.S), in anonymous memory and
// named by /tmp/perf-PID.map as CPython does it. It keeps no frame pointer, and its caller has something else in that register: an
// address further up the stack. x86-64 only. With `odd` as second argument its code is another one, of which nobody knows the frame.
#include "burn.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// As the evaluation loop is called: the function to call is the fourth argument.
typedef uint64_t (*evaluate_t)(uint64_t, uint64_t, uint64_t);
typedef uint64_t (*trampoline_t)(uint64_t, uint64_t, uint64_t, evaluate_t);

static const unsigned char known[] = {0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3};
static const unsigned char odd[] = {0x48, 0x83, 0xec, 0x18, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x18, 0xc3};

FRAME uint64_t work(uint64_t rounds, uint64_t b, uint64_t c) { return spin(rounds) + b + c; }

FRAME uint64_t enter(trampoline_t trampoline, const char *elsewhere) {
    __asm__ volatile("mov %0, %%rbp" ::"r"(elsewhere) : "rbp");
    uint64_t x = trampoline(500 * TURN, 2, 3, work);
    NO_TAIL_CALL();
    return x + 1;
}

int main(int argc, char **argv) {
    // What the register points to lies behind the copied part of the stack.
    volatile char above[40960];
    for (size_t at = 0; at < sizeof above; at += 512) above[at] = 0;
    int is_odd = argc > 2 && strcmp(argv[2], "odd") == 0;
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 2;
    memcpy(code + 32, is_odd ? odd : known, sizeof known);
    if (mprotect(code, 4096, PROT_READ | PROT_EXEC) != 0) return 2;
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(path, "w");
    if (!map) return 2;
    fprintf(map, "%lx %lx py::work:/app/work.py\n", (unsigned long)(code + 32), (unsigned long)sizeof known);
    fclose(map);
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    // Long enough that what main itself does does not count: its stacks alone are longer than a small copy.
    while (!passed(end)) sum += enter((trampoline_t)(code + 32), (const char *)above + 32768);
    unlink(path);
    return sum == 42;
}
