// Truth: main > enter > jit_outer > jit_leaf; the latter two are code in anonymous memory without frame pointers, of which only
// FOLDER/jit-PID.dump tells: names, lines (/app/code.jit, 10 and 20) and unwind information. What was there before had other names.
// Both argument and behaviour are as of a JIT compiler that perf can follow (jitdump-specification.txt). x86-64 only.
#include "burn.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern const char jit_code[], jit_leaf_code[], jit_end[];

__asm__(".section .rodata\n"
        ".globl jit_code, jit_leaf_code, jit_end\n"
        "jit_code:\n"
        "    subq $24, %rsp\n" // 4 bytes
        "    call jit_leaf_code\n"
        "    addq $24, %rsp\n" // ends at 13
        "    ret\n"
        "    .balign 16\n"
        "jit_leaf_code:\n"
        "    xorl %eax, %eax\n"
        "1:  imulq $7, %rax, %rax\n"
        "    incq %rax\n"
        "    decq %rdi\n"
        "    jnz 1b\n"
        "    ret\n"
        "jit_end:\n"
        ".text\n");

enum { LOAD = 0, LINES = 2, UNWINDING = 4 };

static char body[4096];
static size_t used;

static void bytes(const void *from, size_t size) {
    memcpy(body + used, from, size);
    used += size;
}
static void u32(uint32_t number) { bytes(&number, 4); }
static void u64(uint64_t number) { bytes(&number, 8); }

static void record(int file, uint32_t kind) {
    uint64_t time = clock_ns(CLOCK_MONOTONIC);
    uint32_t head[2] = {kind, (uint32_t)used + 16};
    if (write(file, head, 8) != 8 || write(file, &time, 8) != 8 || write(file, body, used) != (ssize_t)used) exit(3);
    used = 0;
}

static void load(int file, const char *code, size_t size, uint64_t index, const char *name) {
    u32((uint32_t)getpid());
    u32((uint32_t)getpid());
    u64((uint64_t)code);
    u64((uint64_t)code);
    u64(size);
    u64(index);
    bytes(name, strlen(name) + 1);
    bytes(code, size);
    record(file, LOAD);
}

static void line(int file, const char *code, uint32_t number) {
    u64((uint64_t)code);
    u64(1);
    u64((uint64_t)code);
    u32(number);
    u32(0);
    bytes("/app/code.jit", sizeof "/app/code.jit");
    record(file, LINES);
}

// The canonical frame address is rsp+8, and with a `frame` rsp+32 from byte 4 to byte 13.
static void unwinding(int file, size_t size, int frame) {
    static const unsigned char cie[] = {20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0};
    static const unsigned char rows[] = {0, 0x44, 0x0e, 32, 0x49, 0x0e, 8};
    static const unsigned char none[sizeof rows] = {0};
    uint64_t frame_size = sizeof cie + 24, index_size = 20;
    u64(frame_size + index_size);
    u64(index_size);
    u64(0);
    bytes(cie, sizeof cie);
    u32(20);
    u32(sizeof cie + 4);
    u32(-(uint32_t)((size + 7) / 8 * 8 + sizeof cie + 8));
    u32((uint32_t)size);
    bytes(frame ? rows : none, sizeof rows);
    bytes("\0", 1);
    char index[20] = {1, 0x1b, 3, 0x3b};
    bytes(index, sizeof index);
    record(file, UNWINDING);
}

typedef uint64_t (*code_t)(uint64_t);

FRAME uint64_t enter(code_t code, uint64_t rounds) {
    __asm__ volatile("mov $1, %%ebp" ::: "rbp");
    uint64_t x = code(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

int main(int argc, char **argv) {
    size_t outer = (size_t)(jit_leaf_code - jit_code), size = (size_t)(jit_end - jit_code);
    char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED || argc < 3) return 2;
    memcpy(code, jit_code, size);
    char path[4096];
    snprintf(path, sizeof path, "%s/jit-%d.dump", argv[2], getpid());
    int file = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (file < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED) return 2;
    u32(0x4a695444);
    u32(1);
    u32(40);
    u32(62);
    u32(0);
    u32((uint32_t)getpid());
    u64(clock_ns(CLOCK_MONOTONIC));
    u64(0);
    if (write(file, body, used) != (ssize_t)used) return 3;
    used = 0;
    load(file, code, size, 1, "stale");
    line(file, code, 10);
    unwinding(file, outer, 1);
    load(file, code, outer, 2, "jit_outer");
    line(file, code + outer, 20);
    unwinding(file, size - outer, 0);
    load(file, code + outer, size - outer, 3, "jit_leaf");
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += enter((code_t)code, 10 * TURN);
    return sum == 42;
}
