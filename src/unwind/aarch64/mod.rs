//! ARM 64-bit.

mod code;
mod plt;
mod registers;

pub(super) use plt::{plt_entries, plt_rule};
pub use registers::Registers;

use super::arch::{Abi, Arch, RegisterFile};

/// ARM 64-bit.
#[derive(Clone, Copy, Debug)]
pub struct Aarch64;

pub(super) static ABI: Abi = Aarch64::ABI;

impl Arch for Aarch64 {
    type Registers = Registers;

    const ABI: Abi = Abi {
        fp: 29,
        sp: 31,
        ra: 30,
        pc: 32,
        link_register: true,
        // Above them a signed return address holds its signature (PAC).
        address_bits: (1 << 48) - 1,
        signal_frame: code::SIGNAL_FRAME,
        sigreturn: code::SIGRETURN,
        fp_tells_sp: false,
        frameless: code::frameless,
        first: code::first,
        trampolines: code::TRAMPOLINES,
    };

    fn file(registers: &Registers) -> RegisterFile {
        let mut file = [0; 33];
        file[..31].copy_from_slice(&registers.x);
        file[31] = registers.sp;
        file[32] = registers.pc;
        file
    }
}
