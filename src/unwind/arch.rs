//! What differs between instruction sets: register numbers, the kernel's signal frame, and what code betrays of its frame.

/// The registers by DWARF number; the program counter has the number [`Abi::pc`].
pub type RegisterFile = [u64; 33];

use super::trampoline::Trampoline;

/// Numbers of registers are DWARF's.
pub struct Abi {
    /// The frame pointer.
    pub fp: u16,
    /// The stack pointer.
    pub sp: u16,
    /// The column of the return address.
    pub ra: u16,
    /// Where [`RegisterFile`] keeps the program counter.
    pub pc: usize,
    /// Whether a function is entered with its return address in a register (the column `ra`) and not on the stack.
    pub link_register: bool,
    /// Bits of a code pointer that are the address; the others may hold its signature.
    pub address_bits: u64,
    /// Bytes from the stack pointer to each register of [`RegisterFile`] in the kernel's signal frame; 0 for none.
    pub signal_frame: [u16; 33],
    /// The code that returns from a signal handler.
    pub sigreturn: &'static [u8],
    /// Whether a function that keeps a frame pointer keeps it right below its caller's frame, so that the caller's stack
    /// pointer follows from it.
    pub fp_tells_sp: bool,
    /// Where the return address is in a function that was interrupted in its first or last instructions: given the code
    /// before and from the program counter.
    pub frameless: fn(before: &[u8], code: &[u8]) -> Option<Frameless>,
    /// Which stack a function is the first of, if the code that it returns to shows it: given the code from the return address on.
    pub first: fn(code: &[u8]) -> Option<First>,
    /// Code that is made at run time and always the same.
    pub(super) trampolines: &'static [Trampoline],
}

/// What a stack belongs to whose first function was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A thread: where its first function returns to, the thread ends.
    Thread,
    /// A fiber: where its first function returns to, another context is resumed, or the process ends.
    Fiber,
}

/// A function that has no frame yet, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frameless {
    /// So many words lie on the stack, the last of them the return address.
    Words(u8),
    /// The return address is in the link register.
    LinkRegister,
}

/// An instruction set.
pub trait Arch {
    /// The user registers of a sample.
    type Registers;
    /// Its numbers.
    const ABI: Abi;
    /// The registers by DWARF number.
    fn file(registers: &Self::Registers) -> RegisterFile;
}
