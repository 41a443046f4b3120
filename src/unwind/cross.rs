//! Follows a stack over its changes of stacks.
//!
//! A thread can leave the stack that its sample copied: Go calls C and its own runtime on the thread's first stack, C calls Go on a
//! goroutine's, a signal handler runs on one of its own. The frame pointer of the function that changed stacks leads to its caller's
//! frame on the other one. What lies there is taken, in this order, from
//! - the sample's copy, where the walk comes back to it,
//! - the kernel's own walk: it followed the same frame pointer while it took the sample. C without frame pointers is missing there,
//! - the process's memory, read after the sample, where the kernel's walk tells of C on the other stack, or nothing. The thread has gone on
//!   meanwhile; so what is read is only believed if it agrees with the sample.

use super::arch::{Arch, RegisterFile};
use super::rule::Kind;
use super::splice::{append, position};
use super::stack::{End, StackCopy, UserFrame, Why};
use super::walk::{Bottom, Stop, Unwinder};
use crate::health::{Count, Health};
use crate::ids::Address;
use crate::process::AddressSpace;

/// Changes of stacks that are followed: a goroutine and C can call each other to and fro.
const MAX_CROSSINGS: usize = 16;

/// Bytes that are read of another stack. The C between two calls of Go's seldom has more.
pub(super) const READ: usize = 32 << 10;

/// Copies memory of the sampled process from an address upwards, as it is now. Answers how many bytes could be read.
pub type ReadMemory<'a> = &'a dyn Fn(Address, &mut [u8]) -> usize;

/// What is known of a stack.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The sample's copy.
    pub stack: StackCopy<'a>,
    /// The kernel's own walk through user code: the program counter, then return addresses as they are.
    pub chain: &'a [u64],
    /// The process's memory, where it still lives.
    pub memory: Option<ReadMemory<'a>>,
}

impl Unwinder {
    /// Appends the frames of a stack, leaf first, over all its changes of stacks, and tells how it ended. Counts as
    /// [`walk`](Unwinder::walk) does, and what came from elsewhere than the copy.
    pub fn unwind<A: Arch>(
        &mut self,
        space: &AddressSpace,
        registers: &A::Registers,
        evidence: &Evidence<'_>,
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> End {
        let file = A::file(registers);
        let first = self.follow::<A>(space, &file, true, evidence.stack, frames, health);
        // What is walked elsewhere says nothing of the copy.
        let reach = self.reach;
        let end = self.unwind_on::<A>(first, space, &file, evidence, frames, health);
        self.reach = reach;
        end
    }

    /// Goes on where the walk of the copied stack ended.
    fn unwind_on<A: Arch>(
        &mut self,
        first: Result<Bottom, Stop>,
        space: &AddressSpace,
        file: &RegisterFile,
        evidence: &Evidence<'_>,
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> End {
        let stop = match first {
            Ok(Bottom { end, sp }) => {
                let read = evidence.memory.map(|memory| (memory, evidence.stack));
                let read = read.filter(|_| end == End::Root);
                read.and_then(|read| self.goroutine::<A>(space, read, (sp, file), frames, health));
                return end;
            }
            Err(stop) => stop,
        };
        let mut crossing =
            Crossing { unwinder: self, space, evidence, start: file[usize::from(A::ABI.fp)], late: Vec::new() };
        let end = crossing.follow::<A>(stop, frames, health);
        if matches!(end, End::Root | End::Fiber) {
            end
        } else {
            self.splice(space, evidence.chain, frames, end, health)
        }
    }
}

/// A stack that goes on elsewhere.
struct Crossing<'a> {
    unwinder: &'a mut Unwinder,
    space: &'a AddressSpace,
    evidence: &'a Evidence<'a>,
    /// The sample's frame pointer.
    start: u64,
    /// What was read of another stack.
    late: Vec<u8>,
}

impl Crossing<'_> {
    fn follow<A: Arch>(&mut self, mut stop: Stop, frames: &mut Vec<UserFrame>, health: &mut Health) -> End {
        let copy = self.evidence.stack;
        let mut lowest = copy.start.0;
        for _ in 0..MAX_CROSSINGS {
            if !stop.tells_caller || stop.why != Why::Truncated {
                break;
            }
            let at = position(self.evidence.chain, self.start, copy, stop.fp);
            let next = if stop.fp > lowest && copy.read(stop.fp.wrapping_add(8)).is_ok() {
                self.resume::<A>(stop.fp, copy, frames, health)
            } else if let Some(at) = at.filter(|&at| !stop.switched || !self.enters_from_c(at)) {
                return self.by_kernel(at, stop, frames, health);
            } else if stop.switched {
                lowest = lowest.max(stop.sp);
                match self.read_late::<A>(at, stop.fp, frames, health) {
                    Some(next) => next,
                    None => return at.map_or(End::Truncated(stop.why), |at| self.by_kernel(at, stop, frames, health)),
                }
            } else {
                break;
            };
            match next {
                Ok(bottom) => return bottom.end,
                Err(again) => stop = again,
            }
        }
        End::Truncated(stop.why)
    }

    /// Whether the return address at a position of the kernel's walk is that of Go's entry from C.
    fn enters_from_c(&self, at: usize) -> bool {
        let place = self.evidence.chain.get(at).and_then(|address| self.space.place(Address(address.wrapping_sub(1))));
        place.is_some_and(|place| self.unwinder.enters_go(place))
    }

    /// Appends the rest of the kernel's walk.
    fn by_kernel(&mut self, at: usize, stop: Stop, frames: &mut Vec<UserFrame>, health: &mut Health) -> End {
        let rest = self.evidence.chain.get(at..).unwrap_or_default();
        append(self.unwinder, self.space, rest, frames);
        health.add(Count::FramesSpliced, 1);
        self.unwinder.end_at_last(self.space, frames).unwrap_or(End::Truncated(stop.why))
    }

    /// Goes on at the frame record at `fp`: the caller's frame pointer and the return address.
    fn resume<A: Arch>(
        &mut self,
        fp: u64,
        stack: StackCopy<'_>,
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> Result<Bottom, Stop> {
        let lost = |why| Stop { why, fp, sp: fp, tells_caller: false, switched: false };
        let ra = stack.read(fp.wrapping_add(8)).map_err(lost)? & A::ABI.address_bits;
        let mut file: RegisterFile = [0; 33];
        file[usize::from(A::ABI.fp)] = stack.read(fp).map_err(lost)?;
        file[usize::from(A::ABI.sp)] = fp.wrapping_add(16);
        file[A::ABI.pc] = ra.wrapping_sub(1);
        if self.space.find(Address(file[A::ABI.pc])).is_none() {
            return Err(lost(Why::Broken));
        }
        self.unwinder.follow::<A>(self.space, &file, false, stack, frames, health)
    }

    /// Walks what the process's memory holds now at `fp`. Answers `None`, and appends nothing, where that cannot be read or does not
    /// agree with the sample: with the return address that the kernel found there, and with where the other stack leads.
    fn read_late<A: Arch>(
        &mut self,
        at: Option<usize>,
        fp: u64,
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> Option<Result<Bottom, Stop>> {
        let mut late = std::mem::take(&mut self.late);
        late.resize(READ, 0);
        let length = self.evidence.memory?(Address(fp), &mut late);
        let stack = StackCopy { start: Address(fp), bytes: late.get(..length)? };
        let walked = frames.len();
        let found = at.and_then(|at| self.evidence.chain.get(at));
        let same = found.is_none_or(|&found| stack.read(fp.wrapping_add(8)) == Ok(found));
        let next = same.then(|| self.resume::<A>(fp, stack, frames, health));
        self.late = late;
        let leads_on = |next: &Result<Bottom, Stop>| {
            next.as_ref().map_or_else(|stop| stop.tells_caller && stop.switched, |_| true)
        };
        let next = next.filter(leads_on);
        if next.is_none() {
            frames.truncate(walked);
        } else {
            health.add(Count::FramesReadLate, 1);
        }
        next
    }
}

impl Unwinder {
    /// How a stack ended whose last frames were not walked: at a root, or nobody knows where.
    pub(super) fn end_at_last(&mut self, space: &AddressSpace, frames: &[UserFrame]) -> Option<End> {
        let line = self.look_up(space, frames.last()?.address.0)?;
        match line.rule.kind {
            Kind::Root => Some(End::Root),
            Kind::Fiber => Some(End::Fiber),
            _ => None,
        }
    }
}
