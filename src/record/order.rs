//! Records of many rings in the order of their times.
//!
//! Within a ring, times ascend but for interrupts that nest. Across rings they are merged here: a record may be passed on once no
//! ring can still get an older one. A record gets its time before its place in the ring, so one that is `MARGIN` old has
//! surely been written, and the caller passes on only what is older than that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Decoder;
use crate::ids::{Pid, Tid, Timestamp};
use crate::sys::perf_event::abi;
use crate::sys::ring::Ring;

/// What to do behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Pass it and go on.
    Continue,
    /// Leave it and everything behind it in the rings until the next drain.
    Pause,
}

/// A record as it lies in its ring.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// All of it, header and trailer included.
    pub bytes: &'a [u8],
    /// The CPU that wrote it.
    pub cpu: u32,
}

impl Raw<'_> {
    /// When it was written; the beginning of time if it does not tell.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Decoder::time(self.bytes).unwrap_or_default()
    }
}

impl Raw<'_> {
    /// The process and thread that ran, of a record that is no sample.
    #[must_use]
    pub fn task(&self) -> Option<(Pid, Tid)> {
        let at = self.bytes.len().checked_sub(TRAILER)?;
        let half = |at: usize| self.bytes.get(at..)?.first_chunk().map(|word| i32::from_ne_bytes(*word));
        Some((Pid(half(at)?), Tid(half(at + 4)?)))
    }

    /// Whether it tells of a mapping that is not executable.
    #[must_use]
    pub fn is_data_map(&self) -> bool {
        let misc = self.bytes.get(4..6).map_or(0, |misc| u16::from_ne_bytes([misc[0], misc[1]]));
        let kind = self.bytes.first_chunk().map(|kind| u32::from_ne_bytes(*kind));
        kind == Some(abi::PERF_RECORD_MMAP2) && u32::from(misc) & abi::PERF_RECORD_MISC_MMAP_DATA != 0
    }
}

/// Bytes of what a record that is no sample ends with: process and thread, time, identifier.
const TRAILER: usize = 24;

/// A ring of a CPU's records.
pub struct RecordRing {
    ring: Ring,
    cpu: u32,
}

impl RecordRing {
    /// Records of this ring.
    #[must_use]
    pub fn new(ring: Ring, cpu: u32) -> RecordRing {
        RecordRing { ring, cpu }
    }

    /// The CPU that writes to it.
    #[must_use]
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// The ring itself.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The time of the next record; one too short to have a time counts as the oldest.
    fn next_time(&mut self) -> Option<Timestamp> {
        self.ring.peek().map(|bytes| Decoder::time(bytes).unwrap_or_default())
    }
}

/// A merge of rings. Between drains it keeps nothing but buffers.
#[derive(Default)]
pub struct Merge {
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The time of the youngest record that was passed on.
    youngest: Timestamp,
    unordered: u64,
}

impl Merge {
    /// How long after its time a record is surely in its ring. In between lies a handful of instructions with interrupts off, but a
    /// virtual CPU may be taken away within them.
    pub const MARGIN: u64 = 10_000_000;

    /// Records since the last call that came behind a younger one.
    pub fn take_unordered(&mut self) -> u64 {
        std::mem::take(&mut self.unordered)
    }

    /// Passes the records of all rings that are not younger than `until` to `visit`, oldest first.
    pub fn drain(&mut self, rings: &mut [RecordRing], until: Timestamp, mut visit: impl FnMut(Raw<'_>) -> Flow) {
        self.next.clear();
        for (at, ring) in rings.iter_mut().enumerate() {
            ring.ring.refresh();
            self.next.extend(ring.next_time().map(|time| Reverse((time, at))));
        }
        while let Some(Reverse((time, at))) = self.next.pop() {
            if time > until {
                break;
            }
            let ring = &mut rings[at];
            let cpu = ring.cpu;
            let Some(bytes) = ring.ring.peek() else { continue };
            let size = bytes.len();
            if visit(Raw { bytes, cpu }) == Flow::Pause {
                break;
            }
            self.unordered += u64::from(time < self.youngest);
            self.youngest = self.youngest.max(time);
            ring.ring.pass(size);
            ring.ring.release();
            self.next.extend(ring.next_time().map(|time| Reverse((time, at))));
        }
    }
}
