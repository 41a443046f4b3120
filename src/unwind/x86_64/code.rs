//! What instructions betray, and the kernel's signal frame.

use crate::unwind::arch::{First, Frameless};
use crate::unwind::rule::{Kind, Rule};
use crate::unwind::trampoline::Trampoline;

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

/// `_Py_trampoline_func_start` of CPython: 3.12 and 3.13, and with a frame pointer later. An `endbr64` may stand before it.
pub(super) const TRAMPOLINES: &[Trampoline] = &[
    Trampoline {
        // sub $8, %rsp; call *%rcx; add $8, %rsp; ret
        code: &[0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3],
        rules: &[(0, by_stack(1, 0)), (4, by_stack(2, 0)), (10, by_stack(1, 0))],
    },
    Trampoline {
        // push %rbp; mov %rsp, %rbp; call *%rcx; pop %rbp; ret
        code: &[0x55, 0x48, 0x89, 0xe5, 0xff, 0xd1, 0x5d, 0xc3],
        rules: &[(0, by_stack(1, 0)), (1, by_stack(2, -2)), (7, by_stack(1, 0))],
    },
];

/// The return address and the saved frame pointer so many words from the stack pointer and the canonical frame address.
const fn by_stack(cfa: i16, fp: i16) -> Rule {
    Rule { kind: Kind::StackPointer, cfa, fp, ra: -1 }
}

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const PUSH_RBP: &[u8] = &[0x55];
const MOV_RSP_RBP: [&[u8]; 2] = [&[0x48, 0x89, 0xe5], &[0x48, 0x8b, 0xec]];
const RETURNS: [&[u8]; 3] = [&[0xc3], &[0xf3, 0xc3], &[0xc2]];

/// `mov %rbx, %rsp; mov (%rsp), %rdi; test %rdi, %rdi`: `__start_context` of glibc, to which functions return that `makecontext`
/// starts; musl has no `makecontext`.
const START_CONTEXT: &[u8] = &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff];
/// `xor %rdi, %rdi; call _exit; hlt`: `finish` of Boost.Context's `make_fcontext`; the call's target lies between.
const FINISH: [&[u8]; 2] = [&[0x48, 0x31, 0xff, 0xe8], &[0xf4]];
/// `mov $60, %al` or `mov $60, %eax`, and `syscall`: the thread's end, behind the call of its first function in `clone`.
const EXIT: [&[u8]; 2] = [&[0xb0, 0x3c, 0x0f, 0x05], &[0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05]];
/// Bytes that move the function's answer into place before that: `mov %eax, %edi; xor %eax, %eax` of musl.
const BEFORE_EXIT: usize = 5;

/// What the code behind a call says of a stack whose first function was called there.
pub(super) fn first(code: &[u8]) -> Option<First> {
    let code = code.strip_prefix(ENDBR64).unwrap_or(code);
    let exits = |at: usize| code.get(at..).is_some_and(|code| EXIT.iter().any(|exit| code.starts_with(exit)));
    if (0..=BEFORE_EXIT).any(exits) {
        return Some(First::Thread);
    }
    let finishes = code.starts_with(FINISH[0]) && code.get(8..).is_some_and(|code| code.starts_with(FINISH[1]));
    (finishes || code.starts_with(START_CONTEXT)).then_some(First::Fiber)
}

/// Before `push %rbp` and at a return the return address is on top; between `push %rbp` and `mov %rsp, %rbp` it is second.
pub(super) fn frameless(before: &[u8], code: &[u8]) -> Option<Frameless> {
    let starts = |with: &&[u8]| code.starts_with(with);
    if starts(&PUSH_RBP) || starts(&ENDBR64) || RETURNS.iter().any(starts) {
        return Some(Frameless::Words(1));
    }
    (before.ends_with(PUSH_RBP) && MOV_RSP_RBP.iter().any(starts)).then_some(Frameless::Words(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_function_of_a_stack_is_known_by_what_it_returns_to() {
        // clone of musl 1.2.3, clone3 of glibc 2.36, __start_context of glibc 2.36, make_fcontext of Boost 1.74.
        let musl = [0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05, 0xf4];
        let glibc = [0x48, 0x89, 0xc7, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05];
        let context = [0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff, 0x74, 0x08];
        let boost = [0x48, 0x31, 0xff, 0xe8, 0x10, 0xff, 0xff, 0xff, 0xf4];
        assert_eq!([first(&musl), first(&glibc)], [Some(First::Thread); 2]);
        assert_eq!([first(&context), first(&boost)], [Some(First::Fiber); 2]);
        assert_eq!(first(&[ENDBR64, &context].concat()), Some(First::Fiber));
        assert_eq!(first(&[0x48, 0x31, 0xff, 0xe8, 0x10, 0xff, 0xff, 0xff, 0xc3]), None);
        assert_eq!(first(&[0xc3; 16]), None);
    }
}
