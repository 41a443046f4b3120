//! The registers of a sample.

/// The user registers of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The next instruction.
    pub rip: u64,
    /// The general registers in DWARF's order: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 … r15.
    pub gpr: [u64; 16],
}

/// `enum perf_event_x86_regs`: where the kernel numbers each of DWARF's registers, and rip.
const PERF: [u32; 16] = [0, 3, 2, 1, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const PERF_IP: u32 = 8;

impl Registers {
    /// `perf_event_attr.sample_regs_user` for all that a walk may need.
    pub const PERF_MASK: u64 = 0x00ff_01ff;

    /// The registers of `PERF_SAMPLE_REGS_USER`: a value for each bit of `mask`, from the lowest. A register that was not
    /// sampled is 0. `None` without the program counter or the stack pointer.
    #[must_use]
    pub fn from_perf(mask: u64, values: &[u64]) -> Option<Registers> {
        let value = |register: u32| {
            let sampled = mask >> register & 1 == 1;
            let index = (mask & ((1 << register) - 1)).count_ones() as usize;
            sampled.then(|| values.get(index).copied()).flatten()
        };
        value(PERF[7])?;
        Some(Registers { rip: value(PERF_IP)?, gpr: PERF.map(|register| value(register).unwrap_or(0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_order_becomes_dwarf_order() {
        let values: Vec<u64> = (100..120).collect();
        let registers = Registers::from_perf(0xff_0fff, &values).unwrap();
        assert_eq!(registers.rip, 108);
        assert_eq!(registers.gpr[..8], [100, 103, 102, 101, 104, 105, 106, 107]);
        assert_eq!(registers.gpr[8..], [112, 113, 114, 115, 116, 117, 118, 119]);
        assert_eq!(Registers::from_perf(0xff, &values), None);
        assert_eq!(Registers::from_perf(0x1ff, &values[..8]), None);
    }
}
