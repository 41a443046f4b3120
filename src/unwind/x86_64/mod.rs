//! AMD64.

mod code;
mod plt;
mod registers;

pub(super) use plt::{plt_entries, plt_rule};
pub use registers::Registers;

use super::arch::{Abi, Arch, RegisterFile};

/// AMD64.
#[derive(Clone, Copy, Debug)]
pub struct X86_64;

pub(super) static ABI: Abi = X86_64::ABI;

impl Arch for X86_64 {
    type Registers = Registers;

    const ABI: Abi = Abi {
        fp: 6,
        sp: 7,
        ra: 16,
        pc: 16,
        link_register: false,
        address_bits: u64::MAX,
        signal_frame: code::SIGNAL_FRAME,
        sigreturn: code::SIGRETURN,
        fp_tells_sp: true,
        frameless: code::frameless,
        first: code::first,
        trampolines: code::TRAMPOLINES,
    };

    fn file(registers: &Registers) -> RegisterFile {
        let mut file = [0; 33];
        file[..16].copy_from_slice(&registers.gpr);
        file[16] = registers.rip;
        file
    }
}
