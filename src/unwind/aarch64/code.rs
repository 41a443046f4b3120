//! What instructions betray, and the kernel's signal frame.

use crate::unwind::arch::{First, Frameless};
use crate::unwind::rule::{Kind, Rule};
use crate::unwind::trampoline::Trampoline;

/// `struct rt_sigframe` at the stack pointer: `siginfo` (128 bytes), then a `ucontext` whose `sigcontext` is 176 bytes in:
/// the fault address, x0 … x30, sp, pc.
///
/// The vDSO's own unwind information names the interrupted function's link register as the return address, and so
/// leaves out the interrupted function; this does not.
pub(super) const SIGNAL_FRAME: [u16; 33] = {
    let mut offsets = [0; 33];
    let mut register = 0;
    while register < offsets.len() {
        offsets[register] = 128 + 176 + 8 + 8 * register as u16;
        register += 1;
    }
    offsets
};

/// `mov x8, #139; svc #0`: `__kernel_rt_sigreturn` of the vDSO.
pub(super) const SIGRETURN: &[u8] = &[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];

/// `mov x8, #93; svc #0`: the thread's end, behind the call of its first function in `clone`.
const EXIT: &[u8] = &[0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];
/// `mov x0, x19`, and `cbnz x0` behind it: `__startcontext` of glibc, to which functions return that `makecontext` starts.
const START_CONTEXT: (u32, u32) = (0xaa13_03e0, 0xb500_0000);

/// What the code behind a call says of a stack whose first function was called there.
pub(super) fn first(code: &[u8]) -> Option<First> {
    if code.starts_with(EXIT) {
        return Some(First::Thread);
    }
    let instruction = |at: usize| code.get(at..)?.first_chunk().map(|&bytes| u32::from_le_bytes(bytes));
    let resumes = instruction(0)? == START_CONTEXT.0 && instruction(4)? & 0xff00_001f == START_CONTEXT.1;
    resumes.then_some(First::Fiber)
}

/// `_Py_trampoline_func_start` of CPython; what marks branch targets and signs pointers may stand around it.
pub(super) const TRAMPOLINES: &[Trampoline] = &[Trampoline {
    // stp x29, x30, [sp, #-16]!; mov x29, sp; blr x3; ldp x29, x30, [sp], #16
    code: &[0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0x60, 0x00, 0x3f, 0xd6, 0xfd, 0x7b, 0xc1, 0xa8],
    rules: &[
        (0, Rule { kind: Kind::LinkRegister, cfa: 0, fp: 0, ra: 0 }),
        (4, Rule { kind: Kind::StackPointer, cfa: 2, fp: -2, ra: -1 }),
    ],
}];

/// Before `stp x29, x30, [sp, #-n]!` and at a return the return address is in the link register.
pub(super) fn frameless(_before: &[u8], code: &[u8]) -> Option<Frameless> {
    let instruction = u32::from_le_bytes(*code.first_chunk()?);
    let stores_frame = instruction & 0xffc0_7fff == 0xa980_7bfd;
    let returns = matches!(instruction, 0xd65f_03c0 | 0xd65f_0bff | 0xd65f_0fff);
    let signs_or_marks = matches!(instruction, 0xd503_233f | 0xd503_237f | 0xd503_245f);
    (stores_frame || returns || signs_or_marks).then_some(Frameless::LinkRegister)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prologue_and_return_are_recognised() {
        let at = |instruction: u32| frameless(&[], &instruction.to_le_bytes());
        assert_eq!(at(0xa9be_7bfd), Some(Frameless::LinkRegister), "stp x29, x30, [sp, #-32]!");
        assert_eq!(at(0xd65f_03c0), Some(Frameless::LinkRegister), "ret");
        assert_eq!(at(0x9100_03fd), None, "mov x29, sp");
        assert_eq!(frameless(&[], &[0xc0]), None);
    }
}
