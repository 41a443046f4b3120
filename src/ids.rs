//! The small types that every station passes on: whose address it is, is part of its type.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A process as the kernel numbers it in the PID namespace of the profiler (a thread group id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub i32);

/// A thread as the kernel numbers it in the PID namespace of the profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tid(pub i32);

/// A file of code (executable, shared object, vDSO) that at least one process has mapped; an index into the table of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub u32);

/// A virtual address in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address(pub u64);

/// An address in an image as its ELF file gives it (`p_vaddr`, `st_value`, `DW_AT_low_pc`): independent of where the image was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Rva(pub u64);

/// An address in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KernelAddress(pub u64);

/// A place in code that outlives the process that ran it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The image.
    pub image: ImageId,
    /// The address within it.
    pub rva: Rva,
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of every event (`perf_event_attr.clockid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from an earlier point to this one; zero if that one is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same in nanoseconds.
    #[must_use]
    pub fn nanoseconds_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The point so much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A point in civil time: nanoseconds since 1970-01-01 00:00 UTC. It may be set back; only [`Timestamp`] always ascends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixNanos(pub i64);

impl From<SystemTime> for UnixNanos {
    fn from(time: SystemTime) -> UnixNanos {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        UnixNanos(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => nanos(since),
            Err(before) => -nanos(before.duration()),
        })
    }
}

/// What the weight of an event's samples counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Nanoseconds of time.
    Nanoseconds,
    /// Bytes of memory.
    Bytes,
    /// Occurrences.
    Count,
}

/// The instruction sets whose stacks can be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// AMD64.
    X86_64,
    /// ARM 64-bit.
    Aarch64,
}

/// The bytes of an ELF `NT_GNU_BUILD_ID` note: 20 with SHA-1, at most 20 reach us by `PERF_RECORD_MMAP2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BuildId(Box<[u8]>);

impl BuildId {
    /// An id of these bytes; `None` for none, or for more than any linker writes (64).
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<BuildId> {
        (!bytes.is_empty() && bytes.len() <= 64).then(|| BuildId(bytes.into()))
    }

    /// The raw bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::LowerHex for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for Rva {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}
