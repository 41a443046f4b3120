//! The registers of a sample.

/// The user registers of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The next instruction.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// x0 … x30; x29 is the frame pointer and x30 the link register.
    pub x: [u64; 31],
}

/// `enum perf_event_arm_regs`: x0 … x30 come first.
const PERF_SP: u32 = 31;
const PERF_PC: u32 = 32;

impl Registers {
    /// `perf_event_attr.sample_regs_user` for all that a walk may need.
    pub const PERF_MASK: u64 = (1 << 33) - 1;

    /// The registers of `PERF_SAMPLE_REGS_USER`: a value for each bit of `mask`, from the lowest. A register that was not
    /// sampled is 0. `None` without the program counter or the stack pointer.
    #[must_use]
    pub fn from_perf(mask: u64, values: &[u64]) -> Option<Registers> {
        let value = |register: u32| {
            let sampled = mask >> register & 1 == 1;
            let index = (mask & ((1 << register) - 1)).count_ones() as usize;
            sampled.then(|| values.get(index).copied()).flatten()
        };
        let mut x = [0; 31];
        for (register, slot) in (0..).zip(&mut x) {
            *slot = value(register).unwrap_or(0);
        }
        Some(Registers { pc: value(PERF_PC)?, sp: value(PERF_SP)?, x })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_order_is_the_order_of_the_numbers() {
        let values: Vec<u64> = (100..133).collect();
        let registers = Registers::from_perf(Registers::PERF_MASK, &values).unwrap();
        assert_eq!((registers.pc, registers.sp, registers.x[30]), (132, 131, 130));
        assert_eq!(Registers::from_perf(0xff, &values), None);
    }
}
