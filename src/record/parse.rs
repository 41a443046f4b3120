//! Bytes to records: the one place that knows the order of the `PERF_SAMPLE_*` fields.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustc_hash::FxHashMap;

use super::probe::{Allocation, Begin, Finish, HeapChange, Part};
use super::{EventIndex, Identity, MapRecord, Record, Sample, TaskRecord, UserRegisters, Words};
use crate::ids::{Address, BuildId, Pid, Tid, Timestamp};
use crate::sys::perf_event::abi;

/// A record that is not as its type and its event's attr say.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// Shorter than its fields.
    #[error("record of type {kind} ends within its fields")]
    Short {
        /// `PERF_RECORD_*`.
        kind: u32,
    },
    /// A sample of an event that nobody opened.
    #[error("sample of an unknown event, id {id}")]
    UnknownId {
        /// The id.
        id: u64,
    },
}

/// How an event's samples are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `perf_event_attr.sample_type`. [`Layout::COMMON`] is always part of it.
    pub sample_type: u64,
    /// `perf_event_attr.sample_regs_user`.
    pub registers: u64,
    /// What its raw data holds, if a BPF program of ours writes it.
    pub part: Option<Part>,
}

impl Layout {
    /// What every event of ours has, so that any record tells its event, task and time before its kind is known.
    pub const COMMON: u64 = abi::PERF_SAMPLE_IDENTIFIER as u64
        | abi::PERF_SAMPLE_IP as u64
        | abi::PERF_SAMPLE_TID as u64
        | abi::PERF_SAMPLE_TIME as u64;

    fn has(&self, bit: abi::perf_event_sample_format) -> bool {
        self.sample_type & u64::from(bit) != 0
    }
}

/// Bytes of the header.
const HEADER: usize = 8;
/// Where the common fields of a sample lie, behind the header: id, ip, pid and tid, time.
const SAMPLE_TID: usize = HEADER + 16;
const SAMPLE_TIME: usize = HEADER + 24;
/// Bytes of the trailer of every other record (`sample_id_all`): pid and tid, time, id.
const TRAILER: usize = 24;

/// Reads records of the events that it was told of.
#[derive(Debug, Default)]
pub struct Decoder {
    ids: FxHashMap<u64, (EventIndex, Layout)>,
}

impl Decoder {
    /// Tells of an event's id, as the kernel gave it.
    pub fn add(&mut self, id: u64, event: EventIndex, layout: Layout) {
        self.ids.insert(id, (event, layout));
    }

    /// Forgets an event: its last record has been read.
    pub fn remove(&mut self, id: u64) {
        self.ids.remove(&id);
    }

    /// The time of a record, whatever its kind; `None` if it is too short to have one.
    #[must_use]
    pub fn time(bytes: &[u8]) -> Option<Timestamp> {
        let at = match kind(bytes)? {
            abi::PERF_RECORD_SAMPLE => SAMPLE_TIME,
            _ => bytes.len().checked_sub(TRAILER).filter(|&at| at >= HEADER)? + 8,
        };
        word(bytes, at).map(Timestamp)
    }

    /// Process and thread of a sample, without reading anything else of it; `None` for other records.
    #[must_use]
    pub fn sample_task(bytes: &[u8]) -> Option<(Pid, Tid)> {
        (kind(bytes)? == abi::PERF_RECORD_SAMPLE).then_some(())?;
        let both = word(bytes, SAMPLE_TID)?.to_ne_bytes();
        let (pid, tid) = both.split_at(4);
        Some((Pid(i32::from_ne_bytes(pid.try_into().ok()?)), Tid(i32::from_ne_bytes(tid.try_into().ok()?))))
    }

    /// Whether a record tells of another task than of the one that ran.
    #[must_use]
    pub fn is_of_another(&self, bytes: &[u8]) -> bool {
        let of = word(bytes, HEADER).and_then(|id| self.ids.get(&id));
        of.is_some_and(|(_, layout)| layout.part == Some(Part::Finish))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] if it is not as its event's attr says.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let kind = kind(bytes).unwrap_or(0);
        let short = RecordError::Short { kind };
        if kind == abi::PERF_RECORD_SAMPLE {
            return self.sample(bytes);
        }
        let misc = bytes.get(4..6).map_or(0, |misc| u32::from(u16::from_ne_bytes([misc[0], misc[1]])));
        let body = bytes.len().checked_sub(TRAILER).and_then(|end| bytes.get(HEADER..end));
        let mut fields = Fields(body.ok_or(short)?);
        let event =
            word(bytes, bytes.len().saturating_sub(8)).and_then(|id| self.ids.get(&id)).map(|&(event, _)| event);
        let record = match kind {
            abi::PERF_RECORD_MMAP2 => fields.map2(misc),
            abi::PERF_RECORD_COMM => fields.comm(misc & abi::PERF_RECORD_MISC_COMM_EXEC != 0),
            abi::PERF_RECORD_FORK => fields.task().map(Record::Fork),
            abi::PERF_RECORD_EXIT => fields.task().map(Record::Exit),
            abi::PERF_RECORD_LOST => fields.lost(|id| self.ids.get(&id).map(|&(event, _)| event)),
            abi::PERF_RECORD_THROTTLE => Some(Record::Throttle { event }),
            other => Some(Record::Other(other)),
        };
        record.ok_or(short)
    }

    /// In the order of the man page; fields that we never ask for are not among ours.
    fn sample<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let short = RecordError::Short { kind: abi::PERF_RECORD_SAMPLE };
        let mut fields = Fields(bytes.get(HEADER..).ok_or(short)?);
        let id = fields.u64().unwrap_or(0);
        let &(event, layout) = self.ids.get(&id).ok_or(RecordError::UnknownId { id })?;
        let misc = u32::from(bytes[4]) & abi::PERF_RECORD_MISC_CPUMODE_MASK;
        let user_mode = misc == abi::PERF_RECORD_MISC_USER;
        let sample = fields.sample(event, layout, user_mode);
        match layout.part {
            Some(Part::Finish) => sample.and_then(|(_, raw)| Finish::read(raw)).map(Record::Finish),
            Some(Part::HeapChange) => sample.and_then(|(_, raw)| HeapChange::read(raw)).map(Record::HeapChange),
            Some(Part::Begin) => sample
                .and_then(|(sample, raw)| Some(Record::Sample(Sample { begin: Some(Begin::read(raw)?), ..sample }))),
            Some(Part::Allocation) => sample.and_then(|(sample, raw)| {
                Some(Record::Sample(Sample { allocation: Some(Allocation::read(raw)?), ..sample }))
            }),
            None => sample.map(|(sample, _)| Record::Sample(sample)),
        }
        .ok_or(short)
    }
}

fn kind(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|kind| u32::from_ne_bytes(*kind))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))
}

/// What is left of a record's fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
    }

    fn words(&mut self, count: u64) -> Option<Words<'a>> {
        let len = usize::try_from(count).ok()?.checked_mul(8)?;
        self.bytes(len).map(Words::new)
    }

    fn pid(&mut self) -> Option<Pid> {
        self.u32().map(|pid| Pid(pid as i32))
    }

    fn tid(&mut self) -> Option<Tid> {
        self.u32().map(|tid| Tid(tid as i32))
    }

    /// A string up to its NUL; the rest is padding.
    fn string(&mut self) -> &'a OsStr {
        let rest = std::mem::take(&mut self.0);
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        OsStr::from_bytes(&rest[..end])
    }

    /// Behind the id. The raw data comes beside the sample.
    fn sample(&mut self, event: EventIndex, layout: Layout, user_mode: bool) -> Option<(Sample<'a>, &'a [u8])> {
        let ip = self.u64()?;
        let (pid, tid) = (self.pid()?, self.tid()?);
        let time = Timestamp(self.u64()?);
        for skipped in [abi::PERF_SAMPLE_ADDR, abi::PERF_SAMPLE_ID, abi::PERF_SAMPLE_STREAM_ID, abi::PERF_SAMPLE_CPU] {
            if layout.has(skipped) {
                self.u64()?;
            }
        }
        let period = if layout.has(abi::PERF_SAMPLE_PERIOD) { self.u64()? } else { 1 };
        let callchain = self.counted(layout.has(abi::PERF_SAMPLE_CALLCHAIN))?;
        let raw = if layout.has(abi::PERF_SAMPLE_RAW) {
            let size = self.u32()?;
            self.bytes(size as usize)?
        } else {
            &[]
        };
        let registers = if layout.has(abi::PERF_SAMPLE_REGS_USER) { self.registers(layout.registers)? } else { None };
        let (stack, stack_full) =
            if layout.has(abi::PERF_SAMPLE_STACK_USER) { self.stack()? } else { (&[][..], false) };
        let sample = Sample {
            event,
            pid,
            tid,
            time,
            period,
            user_mode,
            ip,
            callchain,
            registers,
            stack,
            stack_full,
            begin: None,
            allocation: None,
        };
        Some((sample, raw))
    }

    fn counted(&mut self, present: bool) -> Option<Words<'a>> {
        if !present {
            return Some(Words::default());
        }
        let count = self.u64()?;
        self.words(count)
    }

    /// `{ u64 abi; u64 regs[weight(mask)]; }`, without the registers where there is no ABI (kernel threads, exiting tasks).
    fn registers(&mut self, mask: u64) -> Option<Option<UserRegisters<'a>>> {
        let abi = self.u64()?;
        if abi == u64::from(abi::PERF_SAMPLE_REGS_ABI_NONE) {
            return Some(None);
        }
        let values = self.words(u64::from(mask.count_ones()))?;
        Some(Some(UserRegisters { compat: abi == u64::from(abi::PERF_SAMPLE_REGS_ABI_32), mask, values }))
    }

    /// `{ u64 size; char data[size]; u64 dyn_size; }`, where a size of 0 has no more fields and `dyn_size` bytes are real.
    fn stack(&mut self) -> Option<(&'a [u8], bool)> {
        let size = usize::try_from(self.u64()?).ok()?;
        if size == 0 {
            return Some((&[], false));
        }
        let room = self.bytes(size)?;
        let real = usize::try_from(self.u64()?).ok()?.min(size);
        Some((&room[..real], real == size))
    }

    /// `{ u32 pid, tid; u64 addr, len, pgoff; union { u32 maj, min; u64 ino, ino_generation; / u8 build_id_size, …; u8 build_id[20] }; u32 prot, flags; char filename[]; }`
    fn map2(&mut self, misc: u32) -> Option<Record<'a>> {
        let (pid, _tid) = (self.pid()?, self.tid()?);
        let (start, size, offset) = (Address(self.u64()?), self.u64()?, self.u64()?);
        let identity = if misc & abi::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 { self.build_id()? } else { self.inode()? };
        self.bytes(8)?;
        Some(Record::Map(MapRecord { pid, start, size, offset, identity, name: self.string() }))
    }

    fn build_id(&mut self) -> Option<Identity> {
        let (head, bytes) = self.bytes(24)?.split_at(4);
        let id = bytes.get(..usize::from(head[0])).and_then(BuildId::new);
        Some(id.map_or(Identity::Unknown, Identity::BuildId))
    }

    fn inode(&mut self) -> Option<Identity> {
        let (major, minor) = (self.u32()?, self.u32()?);
        let (inode, _generation) = (self.u64()?, self.u64()?);
        Some(if inode == 0 { Identity::Unknown } else { Identity::Inode { major, minor, inode } })
    }

    fn comm(&mut self, exec: bool) -> Option<Record<'a>> {
        Some(Record::Comm { pid: self.pid()?, tid: self.tid()?, comm: self.string(), exec })
    }

    /// `{ u32 pid, ppid; u32 tid, ptid; u64 time; }`
    fn task(&mut self) -> Option<TaskRecord> {
        let (pid, parent) = (self.pid()?, self.pid()?);
        Some(TaskRecord { pid, tid: self.tid()?, parent, parent_tid: self.tid()? })
    }

    fn lost(&mut self, event_of: impl Fn(u64) -> Option<EventIndex>) -> Option<Record<'a>> {
        let id = self.u64()?;
        Some(Record::Lost { event: event_of(id), lost: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAYOUT: Layout = Layout {
        sample_type: Layout::COMMON
            | abi::PERF_SAMPLE_PERIOD as u64
            | abi::PERF_SAMPLE_CALLCHAIN as u64
            | abi::PERF_SAMPLE_REGS_USER as u64
            | abi::PERF_SAMPLE_STACK_USER as u64,
        registers: 0b11,
        part: None,
    };

    fn decoder() -> Decoder {
        let mut decoder = Decoder::default();
        decoder.add(7, EventIndex(0), LAYOUT);
        decoder
    }

    fn record(kind: u32, misc: u16, words: &[u64]) -> Vec<u8> {
        let size = 8 + 8 * words.len() as u16;
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&misc.to_ne_bytes());
        bytes.extend_from_slice(&size.to_ne_bytes());
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn a_sample_gives_all_its_fields() {
        let task = 42 | 43 << 32;
        let words = [7, 0x1234, task, 99, 10_000, 2, 0xa, 0xb, 2, 0x11, 0x22, 16, 0x5555, 0x6666, 8];
        let bytes = record(abi::PERF_RECORD_SAMPLE, 2, &words);
        assert_eq!(Decoder::time(&bytes), Some(Timestamp(99)));
        assert_eq!(Decoder::sample_task(&bytes), Some((Pid(42), Tid(43))));
        let decoder = decoder();
        let Ok(Record::Sample(sample)) = decoder.decode(&bytes) else { panic!("not a sample") };
        assert_eq!((sample.pid, sample.tid, sample.period, sample.ip), (Pid(42), Tid(43), 10_000, 0x1234));
        assert_eq!(sample.callchain.iter().collect::<Vec<_>>(), [0xa, 0xb]);
        assert_eq!(sample.registers.unwrap().values.iter().collect::<Vec<_>>(), [0x11, 0x22]);
        assert_eq!((sample.stack, sample.stack_full, sample.user_mode), (&0x5555_u64.to_ne_bytes()[..], false, true));
    }

    #[test]
    fn a_sample_of_an_exiting_task_has_no_registers() {
        let bytes = record(abi::PERF_RECORD_SAMPLE, 1, &[7, 0, 0, 99, 1, 0, 0, 0]);
        let decoder = decoder();
        let Ok(Record::Sample(sample)) = decoder.decode(&bytes) else { panic!("not a sample") };
        assert!(sample.registers.is_none() && sample.stack.is_empty());
    }

    #[test]
    fn records_of_unknown_events_are_told_apart() {
        let bytes = record(abi::PERF_RECORD_SAMPLE, 1, &[8, 0, 0, 99, 1, 0]);
        assert_eq!(decoder().decode(&bytes).unwrap_err(), RecordError::UnknownId { id: 8 });
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0_u32..20, misc: u16, words in proptest::collection::vec(0_u64..64, 0..40), cut in 0_usize..64) {
            let mut words = words;
            if let Some(first) = words.first_mut() {
                *first = 7;
            }
            let mut bytes = record(kind, misc, &words);
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = Decoder::time(&bytes);
            let _ = Decoder::sample_task(&bytes);
            let _ = decoder().decode(&bytes).map(|_| ());
        }
    }
}
