//! What our BPF programs say in the raw data of samples: the times that threads spend away from a CPU, and what they allocate.

use crate::ids::{Address, Pid, Timestamp};

/// What a thread does, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It runs.
    Running,
    /// Blocked, in a wait that a signal would end: for a lock, a socket, a timer.
    Interruptible,
    /// Blocked, in a wait that no signal ends: for a disk, mostly.
    Uninterruptible,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// It could have gone on, but another took its CPU.
    Preempted,
    /// Woken, and waiting for a CPU.
    Runnable,
}

/// `LOCK` of `capture/bpf/off_cpu.bpf.c`.
const LOCK: u32 = 1 << 31;
/// `TASK_*` of the kernel's `include/linux/sched.h`.
const TASK_INTERRUPTIBLE: u32 = 0x1;
const TASK_UNINTERRUPTIBLE: u32 = 0x2;
const TASK_STOPPED_OR_TRACED: u32 = 0xc;

impl State {
    /// The state of a thread that left its CPU with these bits set.
    #[must_use]
    pub fn from_kernel(bits: u32) -> State {
        match bits & !LOCK {
            0 => State::Preempted,
            bits if bits & TASK_STOPPED_OR_TRACED != 0 => State::Stopped,
            bits if bits & TASK_UNINTERRUPTIBLE != 0 => State::Uninterruptible,
            bits if bits & TASK_INTERRUPTIBLE != 0 => State::Interruptible,
            // Parked or frozen.
            _ => State::Stopped,
        }
    }

    /// The value of the label `state`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Interruptible => "interruptible",
            State::Uninterruptible => "uninterruptible",
            State::Stopped => "stopped",
            State::Preempted => "preempted",
            State::Runnable => "runnable",
        }
    }
}

/// A thread's number in the kernel's own PID namespace, which may be another than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelTid(pub u64);

/// A thread left its CPU (`struct begin` of `capture/bpf/off_cpu.bpf.c`). The sample that carries it holds its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The thread.
    pub task: KernelTid,
    /// When.
    pub out: Timestamp,
    /// How many departures it stands for.
    pub stride: u32,
    /// Why.
    pub state: State,
    /// Whether it waits for a lock, of its program or of the kernel; known only where that is asked for.
    pub lock: bool,
    /// Whether it was found to be away by a census, so that the end of a time away before may still lie in a ring.
    pub found: bool,
}

/// A thread whose departure was told is back on a CPU, or one that ends tells what was left out of it (`struct end`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The thread.
    pub task: KernelTid,
    /// When it left; 0 of one that ends.
    pub out: Timestamp,
    /// When it was woken, if it was.
    pub woken: Option<Timestamp>,
    /// When it was back.
    pub back: Timestamp,
    /// Who woke it: the process and the thread's name. An interrupt wakes in the name of whom it met.
    pub waker: Option<(Pid, String)>,
    /// Its times away whose beginnings were not told and that have ended since this was last told, in nanoseconds. Told twice by
    /// chance, they are negative the next time.
    pub left_out: i64,
    /// Of a thread that ends, and where it is asked for: nanoseconds that it had a CPU and that were not told before.
    pub ran: u64,
}

/// An allocation that was sampled (`struct allocation` of `capture/bpf/alloc.bpf.c`). The sample that carries it holds its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// A number of its own.
    pub id: u64,
    /// The process.
    pub process: KernelTid,
    /// Bytes that were asked for.
    pub size: u64,
    /// Bytes between two samples, on average: one of n bytes was sampled with a chance of 1 - exp(-n / period).
    pub period: u64,
}

/// Where an allocation lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// The process.
    pub process: KernelTid,
    /// Its first byte.
    pub address: Address,
}

/// What became of an allocation that was sampled (`struct change`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapChange {
    /// The allocation.
    pub id: u64,
    /// The process.
    pub process: KernelTid,
    /// Where it lies now; `None` once it is freed.
    pub placed: Option<Placed>,
}

/// What an event's samples carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Begin`].
    Begin,
    /// [`Finish`].
    Finish,
    /// [`Allocation`].
    Allocation,
    /// [`HeapChange`].
    HeapChange,
}

impl Allocation {
    /// Reads the raw data; `None` if it is too short.
    pub(super) fn read(raw: &[u8]) -> Option<Allocation> {
        let mut words = words(raw);
        let (id, process) = (words.next()?, KernelTid(words.next()?));
        Some(Allocation { id, process, size: words.next()?, period: words.next()?.max(1) })
    }
}

impl HeapChange {
    /// Reads the raw data; `None` if it is too short.
    pub(super) fn read(raw: &[u8]) -> Option<HeapChange> {
        let mut words = words(raw);
        let (id, process, address) = (words.next()?, KernelTid(words.next()?), Address(words.next()?));
        Some(HeapChange { id, process, placed: (address.0 > 0).then_some(Placed { process, address }) })
    }
}

impl Begin {
    /// A departure, with the bits of its state.
    #[must_use]
    pub fn new(task: KernelTid, out: Timestamp, stride: u32, state: u32) -> Begin {
        Begin { task, out, stride, state: State::from_kernel(state), lock: state & LOCK != 0, found: false }
    }

    /// Reads the raw data; `None` if it is too short.
    pub(super) fn read(raw: &[u8]) -> Option<Begin> {
        let mut words = words(raw);
        let (task, out) = (KernelTid(words.next()?), Timestamp(words.next()?));
        let last = words.next()?;
        Some(Begin::new(task, out, last as u32, (last >> 32) as u32))
    }
}

impl Finish {
    /// Reads the raw data; `None` if it is too short.
    pub(super) fn read(raw: &[u8]) -> Option<Finish> {
        let mut numbers = words(raw);
        let mut next = || numbers.next();
        let (task, out, woken, back, waker) =
            (KernelTid(next()?), Timestamp(next()?), next()?, Timestamp(next()?), next()?);
        let comm = raw.get(40..56)?.split(|&byte| byte == 0).next()?;
        let waker = || (Pid(waker as i32), String::from_utf8_lossy(comm).into_owned());
        let left_out = raw.get(56..)?.first_chunk().map(|word| i64::from_ne_bytes(*word))?;
        let ran = raw.get(64..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))?;
        let waker = (woken > 0).then(waker);
        Some(Finish { task, out, woken: (woken > 0).then_some(Timestamp(woken)), back, waker, left_out, ran })
    }
}

fn words(raw: &[u8]) -> impl Iterator<Item = u64> + '_ {
    raw.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
}
