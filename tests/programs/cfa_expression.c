// Truth: main > a > expression > leaf, where the CFA of expression is a DWARF expression: it aligns rsp to 64 bytes by a distance
// that nothing but the word at rsp tells, DW_CFA_def_cfa_expression (DW_OP_breg7 (rsp) 0; DW_OP_deref). x86-64 only.
#include "burn.h"

uint64_t expression(uint64_t rounds);

FRAME uint64_t leaf(uint64_t rounds) { return spin(rounds); }

__asm__(".text\n"
        ".globl expression\n"
        ".type expression, @function\n"
        "expression:\n"
        "    .cfi_startproc\n"
        "    pushq %rbx\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset %rbx, -16\n"
        "    leaq 16(%rsp), %rbx\n"
        "    .cfi_def_cfa %rbx, 0\n"
        "    subq $64, %rsp\n"
        "    andq $-64, %rsp\n"
        "    movq %rbx, (%rsp)\n"
        "    .cfi_escape 0x0f, 3, 0x77, 0x00, 0x06\n"
        "    call leaf\n"
        "    .cfi_def_cfa %rbx, 0\n"
        "    leaq -16(%rbx), %rsp\n"
        "    .cfi_def_cfa %rsp, 16\n"
        "    popq %rbx\n"
        "    .cfi_def_cfa_offset 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size expression, . - expression\n");

FRAME uint64_t a(uint64_t rounds) {
    uint64_t x = expression(rounds);
    NO_TAIL_CALL();
    return x + 2;
}

int main(int argc, char **argv) {
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += a(TURN);
    return sum == 42;
}
