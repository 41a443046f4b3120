//! Goroutines that their thread has left for its first stack.
//!
//! `mcall` and `morestack` clear the frame pointer, since the goroutine may go on on another thread; so nothing in the sample leads from
//! the scheduler to the goroutine that called it. The runtime keeps what it needs to go on with the goroutine in its `struct g`
//! (`runtime/runtime2.go`). That is read from the process after the sample. The runtime clears it when the goroutine goes on, so that what is
//! read is where a goroutine waits that does not run. It may have run in between; so the call in front of the saved address has
//! to be of `mcall` or `morestack`, as the sample's was, and of the same purpose. A goroutine that waits in several places by turns can
//! still be told in another one of them.

use super::arch::{Arch, RegisterFile};
use super::cross::{READ, ReadMemory};
use super::go::Left;
use super::stack::{StackCopy, UserFrame};
use super::walk::Unwinder;
use crate::health::{Count, Health};
use crate::ids::{Address, Place, Rva};
use crate::process::AddressSpace;

/// What `mcall` calls, and who lets it: a goroutine that yielded does not wait in `gopark`.
const PURPOSES: [(&str, &str); 8] = [
    ("runtime.park_m", "runtime.gopark"),
    ("runtime.gosched_m", "runtime.Gosched"),
    ("runtime.goyield_m", "runtime.goyield"),
    ("runtime.gopreempt_m", "runtime.asyncPreempt2"),
    ("runtime.preemptPark", "runtime.asyncPreempt2"),
    ("runtime.asyncPreempt2.func1", "runtime.asyncPreempt2"),
    ("runtime.exitsyscall0", "runtime.exitsyscall"),
    ("runtime.exitsyscallNoP", "runtime.exitsyscall"),
];

/// Words of `struct g` up to behind its `sched`, and of `struct m` up to behind its `curg`, in any version.
const G_WORDS: usize = 16;
const M_WORDS: usize = 56;

/// The word of `struct g` that points to its `struct m`. In front of it lie `stack.lo`, `stack.hi` and four words more.
const M_OF_G: usize = 6;

/// The register that holds the running `struct g`, by DWARF number.
const G_REGISTER: usize = 14;

/// `g.sched` of a goroutine that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Saved {
    sp: u64,
    pc: u64,
    /// The end of its stack.
    end: u64,
}

impl Saved {
    /// `sched` is found by its field `g`, which points to the goroutine itself.
    fn read(memory: ReadMemory<'_>, goroutine: u64) -> Option<Saved> {
        let g: [u64; G_WORDS] = words(memory, goroutine)?;
        let sched = (M_OF_G + 1..G_WORDS - 2).find(|&at| g[at + 2] == goroutine)?;
        let saved = Saved { sp: g[sched], pc: g[sched + 1], end: g[1] };
        (g[0] <= saved.sp && saved.sp < saved.end).then_some(saved)
    }
}

/// Words of the process's memory.
fn words<const N: usize>(memory: ReadMemory<'_>, address: u64) -> Option<[u64; N]> {
    let mut bytes = vec![0; 8 * N];
    let read = memory(Address(address), &mut bytes) == bytes.len();
    let mut words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(*word.first_chunk()?)));
    read.then(|| std::array::from_fn(|_| words.next().unwrap_or(0)))
}

/// The goroutine of the thread whose first stack is that of `g0` and holds `sp`: `m.curg`, which lies behind `m.gsignal`.
fn current(memory: ReadMemory<'_>, g0: u64, sp: u64) -> Option<u64> {
    let [low, high, .., m] = words::<{ M_OF_G + 1 }>(memory, g0)?;
    let fields: [u64; M_WORDS] = words(memory, m)?;
    if !(low..high).contains(&sp) || fields[0] != g0 {
        return None;
    }
    let is_of_m = |&&g: &&u64| {
        let plausible = g != g0 && g != m && g > 4096 && g.is_multiple_of(8);
        plausible && words::<{ M_OF_G + 1 }>(memory, g).is_some_and(|words| words[M_OF_G] == m)
    };
    fields.iter().filter(is_of_m).nth(1).copied()
}

impl Unwinder {
    /// Goes on with the goroutine whose thread left it in the last frame, if there is one and its memory tells where it is. `sp` is the
    /// last frame's stack pointer, `file` the registers of the sample.
    pub(super) fn goroutine<A: Arch>(
        &mut self,
        space: &AddressSpace,
        (memory, stack): (ReadMemory<'_>, StackCopy<'_>),
        (sp, file): (u64, &RegisterFile),
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> Option<()> {
        let left = frames.last()?.place.and_then(|place| self.left(place))?;
        if A::ABI.link_register || frames.len() < 2 {
            return None;
        }
        let goroutine = match left {
            // The argument's slot.
            Left::Mcall => stack.read(sp).ok()?,
            Left::Morestack => current(memory, file[G_REGISTER], sp)?,
        };
        let saved = Saved::read(memory, goroutine)?;
        let called = space.place(Address(saved.pc.wrapping_sub(1))).and_then(|place| self.called(place))?;
        if called != left {
            return None;
        }
        let mut bytes = vec![0; READ.min(usize::try_from(saved.end - saved.sp).unwrap_or(READ))];
        let length = memory(Address(saved.sp), &mut bytes);
        let stack = StackCopy { start: Address(saved.sp), bytes: bytes.get(..length)? };
        // A function that needs a larger stack begins anew.
        let exact = left == Left::Morestack;
        let mut file: RegisterFile = [0; 33];
        file[A::ABI.pc] = saved.pc.wrapping_sub(u64::from(!exact));
        file[usize::from(A::ABI.sp)] = saved.sp;
        let walked = frames.len();
        let whole = self.follow::<A>(space, &file, exact, stack, frames, health).is_ok();
        let same = left == Left::Morestack || self.is_purpose(frames.get(walked - 2), frames.get(walked));
        if whole && same && Saved::read(memory, goroutine) == Some(saved) {
            health.add(Count::FramesReadLate, 1);
        } else {
            frames.truncate(walked);
        }
        Some(())
    }

    /// Whether a function is what `mcall` calls for a caller.
    fn is_purpose(&self, called: Option<&UserFrame>, caller: Option<&UserFrame>) -> bool {
        let name = |frame: Option<&UserFrame>| {
            let place = frame?.place?;
            let table = self.cfi(place)?.go()?;
            table.name(&table.find(place.rva)?)
        };
        name(called).zip(name(caller)).is_some_and(|names| PURPOSES.contains(&names))
    }

    /// How the function at a place leaves a goroutine, if it does.
    fn left(&self, place: Place) -> Option<Left> {
        self.cfi(place)?.go()?.left(place.rva)
    }

    /// Which function that leaves a goroutine the call that ends behind a place is of.
    fn called(&self, place: Place) -> Option<Left> {
        const CALL: u8 = 0xe8;
        let cfi = self.cfi(place)?;
        let end = place.rva.0.checked_add(1)?;
        let (&[CALL, a, b, c, d], _) = cfi.code_around(Rva(end), 5, 0) else { return None };
        let target = end.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into());
        cfi.go()?.left(Rva(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goroutine_that_runs_has_nothing_saved() {
        let memory = |sp: u64| {
            move |from: Address, buffer: &mut [u8]| {
                let mut g = [0_u64; G_WORDS];
                (g[0], g[1], g[8], g[9], g[10]) = (0x7000, 0x8000, sp, 0x40_1234, from.0);
                let bytes: Vec<u8> = g.iter().flat_map(|word| word.to_le_bytes()).collect();
                buffer.copy_from_slice(&bytes[..buffer.len()]);
                buffer.len()
            }
        };
        let saved = Saved { sp: 0x7f00, pc: 0x40_1234, end: 0x8000 };
        assert_eq!(Saved::read(&memory(0x7f00), 0xc000_0000), Some(saved));
        assert_eq!(Saved::read(&memory(0), 0xc000_0000), None);
    }
}
