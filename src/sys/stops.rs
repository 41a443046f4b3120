//! What it costs a program to be stopped by the kernel in code that is probed, measured on ourselves.

use std::arch::naked_asm;

use super::Timestamp;
use nix::time::{ClockId, clock_gettime};
use procfs::process::{MMPermissions, Process};

/// Code of ours that can be probed. It takes two numbers, as functions of an allocator do, and does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    code: extern "C" fn(u64, u64) -> u64,
}

/// Begins with an instruction that the kernel acts out itself.
pub const ACTED_OUT: Stop = Stop { code: acted_out };
/// Begins with one that it executes in a step of its own.
pub const STEPPED: Stop = Stop { code: stepped };

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn acted_out(_: u64, _: u64) -> u64 {
    naked_asm!("push rbx", "pop rbx", "xor eax, eax", "ret")
}

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn stepped(_: u64, _: u64) -> u64 {
    naked_asm!("xor eax, eax", "ret")
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn acted_out(_: u64, _: u64) -> u64 {
    naked_asm!("nop", "mov x0, #0", "ret")
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn stepped(_: u64, _: u64) -> u64 {
    naked_asm!("mov x0, #0", "ret")
}

impl Stop {
    /// Where it lies in our program's file, in bytes; `None` if that cannot be told.
    #[must_use]
    pub fn offset(self) -> Option<u64> {
        let address = self.code as usize as u64;
        let maps = Process::myself().ok()?.maps().ok()?;
        let map = maps.into_iter().find(|map| {
            (map.address.0..map.address.1).contains(&address) && map.perms.contains(MMPermissions::EXECUTE)
        })?;
        Some(address - map.address.0 + map.offset)
    }

    /// CPU nanoseconds of a call with two zeros: the least of some rounds, for others may disturb one.
    #[must_use]
    pub fn cost(self) -> u64 {
        const ROUNDS: usize = 5;
        const CALLS: u64 = 100;
        let round = || {
            let before = thread_time();
            (0..CALLS).for_each(|_| {
                std::hint::black_box((self.code)(0, 0));
            });
            thread_time().nanoseconds_since(before) / CALLS
        };
        (0..ROUNDS).map(|_| round()).min().unwrap_or(0)
    }
}

fn thread_time() -> Timestamp {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    Timestamp(time.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64))
}
