// Truth: main > enter > jit_outer > jit_leaf; the latter two are code with frame pointers but without unwind information in
// anonymous memory, as a JIT compiler makes it, named only by /tmp/perf-PID.map. x86-64 only. Build with
// -fno-omit-frame-pointer to let the chain of frame pointers reach main. With a second argument the memory is that of a memfd with
// this name, as .NET and V8 have it.
#include "burn.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern const char jit_code[], jit_leaf_code[], jit_end[];

// jit_outer(rounds): calls the function behind it, so the code may lie anywhere.
__asm__(".section .rodata\n"
        ".globl jit_code, jit_leaf_code, jit_end\n"
        "jit_code:\n"
        "    pushq %rbp\n"
        "    movq %rsp, %rbp\n"
        "    call jit_leaf_code\n"
        "    popq %rbp\n"
        "    ret\n"
        "    .balign 16\n"
        "jit_leaf_code:\n"
        "    pushq %rbp\n"
        "    movq %rsp, %rbp\n"
        "    xorl %eax, %eax\n"
        "1:  imulq $7, %rax, %rax\n"
        "    incq %rax\n"
        "    decq %rdi\n"
        "    jnz 1b\n"
        "    popq %rbp\n"
        "    ret\n"
        "jit_end:\n"
        ".text\n");

typedef uint64_t (*code_t)(uint64_t);

FRAME uint64_t enter(code_t code, uint64_t rounds) {
    uint64_t x = code(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

static void write_map(const char *code, char *path, size_t room) {
    size_t outer = (size_t)(jit_leaf_code - jit_code);
    snprintf(path, room, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(path, "w");
    if (!map) exit(2);
    fprintf(map, "%lx %lx jit_outer\n", (unsigned long)code, (unsigned long)outer);
    fprintf(map, "%lx %lx jit_leaf\n", (unsigned long)code + outer, (unsigned long)(jit_end - jit_leaf_code));
    fclose(map);
}

int main(int argc, char **argv) {
    char path[64];
    int pool = argc > 2 ? memfd_create(argv[2], 0) : -1;
    if (pool >= 0 && ftruncate(pool, 4096) != 0) return 2;
    int kind = pool >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, kind, pool, 0);
    if (code == MAP_FAILED) return 2;
    memcpy(code, jit_code, (size_t)(jit_end - jit_code));
    write_map(code, path, sizeof path);
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += enter((code_t)code, TURN);
    unlink(path);
    return sum == 42;
}
