//! What the kernel said, typed: records, and the order of their times.

mod counters;
mod order;
mod parse;
pub mod perf_data;
mod probe;
mod swap;

pub use counters::Counters;
pub use order::{Flow, Merge, Raw, RecordRing};
pub use parse::{Decoder, Layout, RecordError};
pub use probe::{Allocation, Begin, Finish, HeapChange, KernelTid, Part, Placed, State};

use std::ffi::OsStr;

use crate::ids::{Address, BuildId, Pid, Tid, Timestamp};

/// Which event of a session a record belongs to: an index into the session's list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventIndex(pub u32);

/// A record, with whatever it borrows from the ring (`perf_event_open(2)`, `PERF_RECORD_*`).
#[derive(Debug)]
pub enum Record<'a> {
    /// An event happened.
    Sample(Sample<'a>),
    /// A process mapped a file or memory that is executable (`MMAP`, `MMAP2`).
    Map(MapRecord<'a>),
    /// A thread got a name, by exec or by itself.
    Comm {
        /// Its process.
        pid: Pid,
        /// The thread.
        tid: Tid,
        /// The name, at most 15 bytes.
        comm: &'a OsStr,
        /// Whether it is an exec, which replaces the address space.
        exec: bool,
    },
    /// A thread or a process began.
    Fork(TaskRecord),
    /// A thread ended.
    Exit(TaskRecord),
    /// The kernel had no room for records.
    Lost {
        /// The event, where it is known.
        event: Option<EventIndex>,
        /// How many.
        lost: u64,
    },
    /// The kernel had no room for so many samples of an event, told at its end: some of them by [`Record::Lost`] before.
    LostSamples {
        /// The event, where it is known.
        event: Option<EventIndex>,
        /// How many.
        lost: u64,
    },
    /// An event came so often that the kernel stopped it until the next tick.
    Throttle {
        /// The event, where it is known.
        event: Option<EventIndex>,
    },
    /// A thread came back to a CPU; of this event's [`Begin`].
    Finish(Finish),
    /// Something became of an [`Allocation`].
    HeapChange(HeapChange),
    /// A kind of record that nobody asked for.
    Other(u32),
}

/// An event happened, at this place.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// Which event.
    pub event: EventIndex,
    /// The process; -1 or 0 where there is none (idle, or a task that is gone).
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// When; 0 where a file does not tell.
    pub time: Timestamp,
    /// The CPU, where it was asked for.
    pub cpu: Option<u32>,
    /// How much the sample stands for, in the event's unit.
    pub period: u64,
    /// Whether the CPU ran user code (`PERF_RECORD_MISC_USER`).
    pub user_mode: bool,
    /// The instruction.
    pub ip: u64,
    /// The counters of its group, where they were asked for.
    pub counters: Counters<'a>,
    /// Callchain as the kernel walked it, with `PERF_CONTEXT_*` marks between its parts.
    pub callchain: Words<'a>,
    /// User registers, where the task had any.
    pub registers: Option<UserRegisters<'a>>,
    /// The top of the user stack, from the stack pointer upwards; empty where none was copied.
    pub stack: &'a [u8],
    /// Whether the copy filled the whole room for it, so that the stack may go on.
    pub stack_full: bool,
    /// Branches that the CPU took last, the newest first, of three words each: from where, to where, and
    /// `struct perf_branch_entry`'s bits.
    pub branches: Words<'a>,
    /// If it was taken because a thread left its CPU: what is known of that.
    pub begin: Option<Begin>,
    /// If it is of an allocation: which.
    pub allocation: Option<Allocation>,
    /// The raw data: of a tracepoint, its fields, as its format file tells.
    pub raw: &'a [u8],
    /// The number of the task's cgroup, where it was asked for.
    pub cgroup: Option<u64>,
}

/// User registers of a sample (`PERF_SAMPLE_REGS_USER`).
#[derive(Clone, Copy, Debug)]
pub struct UserRegisters<'a> {
    /// Whether the task ran in 32-bit mode.
    pub compat: bool,
    /// Which registers were asked for: bit n is `PERF_REG_*` n.
    pub mask: u64,
    /// Their values, by ascending bit.
    pub values: Words<'a>,
}

/// Unaligned 64-bit words in a record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Words of these bytes; an incomplete last one is left away.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Words<'a> {
        Words(bytes)
    }

    /// The words in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.0.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / 8
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A process mapped something executable.
#[derive(Debug)]
pub struct MapRecord<'a> {
    /// The process; -1 for the kernel and its modules.
    pub pid: Pid,
    /// First address.
    pub start: Address,
    /// Bytes.
    pub size: u64,
    /// Offset in the file of the first byte.
    pub offset: u64,
    /// What tells the file from others.
    pub identity: Identity,
    /// The path as the process sees it, or a name as in `/proc/PID/maps`.
    pub name: &'a OsStr,
}

/// What tells a file from others, whatever its name is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The build ID of its ELF notes.
    BuildId(BuildId),
    /// Where it is stored.
    Inode {
        /// Major number of the device.
        major: u32,
        /// Minor number of the device.
        minor: u32,
        /// The inode.
        inode: u64,
    },
    /// Nothing is known but the name.
    Unknown,
}

/// A thread or process that began or ended.
#[derive(Clone, Copy, Debug)]
pub struct TaskRecord {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The process that started it.
    pub parent: Pid,
    /// The thread that started it.
    pub parent_tid: Tid,
}
