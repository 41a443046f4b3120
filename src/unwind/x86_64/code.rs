//! What instructions betray, and the kernel's signal frame.

use crate::unwind::arch::Frameless;

/// `struct rt_sigframe` as the handler's return leaves it: a `struct ucontext` at the stack pointer, its `sigcontext` 40
/// bytes in (r8 … r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip), here by DWARF number.
pub(super) const SIGNAL_FRAME: [u16; 33] = {
    let mut offsets = [0; 33];
    let head: [u16; 17] = [144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96, 168];
    let mut register = 0;
    while register < head.len() {
        offsets[register] = head[register];
        register += 1;
    }
    offsets
};

/// `mov $15, %rax; syscall`: the restorer of every C library and of Go.
pub(super) const SIGRETURN: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const PUSH_RBP: &[u8] = &[0x55];
const MOV_RSP_RBP: [&[u8]; 2] = [&[0x48, 0x89, 0xe5], &[0x48, 0x8b, 0xec]];
const RETURNS: [&[u8]; 3] = [&[0xc3], &[0xf3, 0xc3], &[0xc2]];

/// Before `push %rbp` and at a return the return address is on top; between `push %rbp` and `mov %rsp, %rbp` it is second.
pub(super) fn frameless(before: &[u8], code: &[u8]) -> Option<Frameless> {
    let starts = |with: &&[u8]| code.starts_with(with);
    if starts(&PUSH_RBP) || starts(&ENDBR64) || RETURNS.iter().any(starts) {
        return Some(Frameless::Words(1));
    }
    (before.ends_with(PUSH_RBP) && MOV_RSP_RBP.iter().any(starts)).then_some(Frameless::Words(2))
}
