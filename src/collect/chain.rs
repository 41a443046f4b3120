//! The stack of one sample: the kernel's part as the kernel wrote it, the user part as it is walked.

use super::stack::{Frame, Marker, StackId, StackTree};
use super::window::ProcessIndex;
use crate::capture::{CallGraph, MAX_STACK_BYTES};
use crate::health::{Count, Health};
use crate::ids::{Address, KernelAddress};
use crate::process::Process;
use crate::record::Sample;
use crate::sys::{self, perf_event::abi};
use crate::unwind::{Arch, End, Evidence, Reach, ReadMemory, StackCopy, Unwinder, UserFrame, Why};

#[cfg(target_arch = "aarch64")]
use crate::unwind::aarch64::{Aarch64 as Host, Registers};
#[cfg(target_arch = "x86_64")]
use crate::unwind::x86_64::{Registers, X86_64 as Host};

/// One stack while it is put together; kept, so that no sample has to allocate.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) kernel: Vec<u64>,
    pub(super) user: Vec<u64>,
    pub(super) registers: Vec<u64>,
    pub(super) frames: Vec<UserFrame>,
    /// The stack pointer of the sample.
    pub(super) stack_start: Option<Address>,
    /// Whether stacks come from a file, which may hold what the kernel's walk found alone.
    pub(super) recorded: bool,
}

impl Chain {
    /// Takes the kernel's callchain apart: `PERF_CONTEXT_*` marks, very large numbers, stand before each part.
    pub(super) fn read(&mut self, sample: &Sample<'_>) {
        const KERNEL: u64 = abi::PERF_CONTEXT_KERNEL;
        const USER: u64 = abi::PERF_CONTEXT_USER;
        const FIRST_MARK: u64 = abi::PERF_CONTEXT_MAX;
        self.kernel.clear();
        self.user.clear();
        self.frames.clear();
        let mut part = if sample.user_mode { USER } else { KERNEL };
        for word in sample.callchain.iter() {
            match (word, part) {
                (FIRST_MARK.., _) => part = word,
                (_, KERNEL) => self.kernel.push(word),
                (_, USER) => self.user.push(word),
                _ => {}
            }
        }
        if sample.callchain.is_empty() {
            let leaf = if sample.user_mode { &mut self.user } else { &mut self.kernel };
            leaf.push(sample.ip);
        }
    }

    /// Finds the user part of the stack. Answers what stands in the root's place, if the root was not reached; by frame
    /// pointer alone nobody can tell.
    pub(super) fn walk(
        &mut self,
        sample: &Sample<'_>,
        graph: CallGraph,
        unwinder: &mut Unwinder,
        process: &Process,
        health: &mut Health,
    ) -> Option<Marker> {
        self.stack_start = None;
        self.registers.clear();
        self.registers.extend(sample.registers.iter().flat_map(|registers| registers.values.iter()));
        let native = sample.registers.filter(|registers| !registers.compat);
        let Some(registers) = native.and_then(|native| Registers::from_perf(native.mask, &self.registers)) else {
            self.by_kernel(unwinder, process);
            let unwinds = matches!(graph, CallGraph::Auto | CallGraph::Dwarf { .. });
            let walked_before = self.recorded && self.frames.len() > 1;
            let missing = unwinds && !walked_before && (sample.user_mode || sample.registers.is_some());
            health.add(Count::StacksNoRegisters, u64::from(missing));
            return missing.then_some(Marker::NoRegisters);
        };
        let stack = StackCopy { start: stack_pointer(&registers), bytes: sample.stack };
        self.stack_start = Some(stack.start);
        let tid = sample.tid;
        let read = |from: Address, buffer: &mut [u8]| sys::read_memory(tid, from, buffer);
        let memory = if self.recorded { None } else { Some(&read as ReadMemory<'_>) };
        let evidence = Evidence { stack, chain: &self.user, memory };
        let end = unwinder.unwind::<Host>(process.space(), &registers, &evidence, &mut self.frames, health);
        if !matches!(end, End::Root | End::Fiber) && !sample.user_mode && self.is_within_exec(process) {
            self.frames.clear();
            return None;
        }
        health.add(end.count(), 1);
        marker(end)
    }

    /// How many bytes a copy of the stack would need to hold the caller of the last frame, if the present one does not and a larger one
    /// would: the return address that is missing lies where the largest copy would reach, and the thread's memory has the address of
    /// code there still. (A frame pointer that is none may lead anywhere.) A copy that is not full ended at a page that is not there.
    pub(super) fn needed(&self, sample: &Sample<'_>, process: &Process, reach: Reach) -> Option<u64> {
        let slot = reach.missing?;
        let start = self.stack_start?;
        let bytes = slot.0.wrapping_add(8).wrapping_sub(start.0);
        if self.recorded || !sample.stack_full || bytes > u64::from(MAX_STACK_BYTES) {
            return None;
        }
        let mut word = [0; 8];
        let read = sys::read_memory(sample.tid, slot, &mut word) == word.len();
        let caller = u64::from_le_bytes(word) & Host::ABI.address_bits;
        (read && process.space().find(Address(caller.wrapping_sub(1))).is_some()).then_some(bytes)
    }

    /// Whether the task is in the kernel, in the middle of `execve`: its registers are still those of the program before, and lead
    /// nowhere in the new one, which has not run yet.
    fn is_within_exec(&self, process: &Process) -> bool {
        matches!(self.frames[..], [leaf] if process.space().find(leaf.address).is_none())
    }

    /// The user part as the kernel walked it: an instruction, then return addresses. The kernel ends its walk by whatever the
    /// frame pointer held, so what is no code is left away; but a recording may not tell of all code.
    fn by_kernel(&mut self, unwinder: &Unwinder, process: &Process) {
        let space = process.space();
        if self.recorded {
            let frames = calls(&self.user).map(Address);
            self.frames.extend(frames.map(|address| UserFrame { address, place: space.place(address) }));
        } else {
            unwinder.believe(space, &self.user, &mut self.frames);
        }
    }

    /// Adds the stack to the tree, from the root to the leaf; where it is kept `by_address`, user frames are what they are in the process.
    pub(super) fn push(
        &self,
        stacks: &mut StackTree,
        process: ProcessIndex,
        marker: Option<Marker>,
        by_address: bool,
    ) -> StackId {
        let user = self.frames.iter().rev().map(|frame| match frame.place {
            Some(place) if !by_address => Frame::Image(place),
            _ => Frame::Anonymous(process, frame.address),
        });
        let kernel = calls(&self.kernel).rev().map(|address| Frame::Kernel(KernelAddress(address)));
        stacks.push(process, marker.map(Frame::Marker).into_iter().chain(user).chain(kernel))
    }
}

/// An instruction and the return addresses behind it, as addresses within the instructions that they belong to.
fn calls(chain: &[u64]) -> impl DoubleEndedIterator<Item = u64> + '_ {
    chain.iter().enumerate().map(|(at, &address)| address.wrapping_sub(u64::from(at > 0)))
}

fn marker(end: End) -> Option<Marker> {
    match end {
        End::Root | End::Fiber => None,
        End::Truncated(Why::Truncated) => Some(Marker::Truncated),
        End::Truncated(Why::NoUnwindInfo) => Some(Marker::NoUnwindInfo),
        End::Truncated(Why::Broken) => Some(Marker::Broken),
        End::Truncated(Why::TooDeep) => Some(Marker::TooDeep),
    }
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(registers: &Registers) -> Address {
    Address(registers.gpr[7])
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(registers: &Registers) -> Address {
    Address(registers.sp)
}
