//! Bytes to records: the one place that knows the order of the `PERF_SAMPLE_*` fields.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustc_hash::FxHashMap;

use super::counters::{self, Counters};
use super::probe::{Allocation, Begin, Finish, HeapChange, Part};
use super::swap::Swap;
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

/// How an event's records are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// `perf_event_attr.sample_type`. [`Layout::COMMON`] is part of it in the events that we open, but not in all files.
    pub sample_type: u64,
    /// `perf_event_attr.read_format`.
    pub read_format: u64,
    /// `perf_event_attr.branch_sample_type`.
    pub branches: u64,
    /// `perf_event_attr.sample_regs_user`.
    pub registers: u64,
    /// `perf_event_attr.sample_regs_intr`.
    pub interrupted_registers: u64,
    /// `perf_event_attr.sample_id_all`: whether all other records end with a part of a sample's fields.
    pub trailers: bool,
    /// `perf_event_attr.sample_period`, for which a sample stands that does not tell; 0, as 1, where it is not fixed.
    pub period: u64,
    /// What its raw data holds, if a BPF program of ours writes it.
    pub part: Option<Part>,
}

impl Layout {
    /// What every event of ours has, so that any record tells its event, task and time before its kind is known.
    pub const COMMON: u64 = abi::PERF_SAMPLE_IDENTIFIER as u64
        | abi::PERF_SAMPLE_IP as u64
        | abi::PERF_SAMPLE_TID as u64
        | abi::PERF_SAMPLE_TIME as u64;

    /// Whether samples have a field (`PERF_SAMPLE_*`).
    #[must_use]
    pub fn has(&self, bit: abi::perf_event_sample_format) -> bool {
        self.sample_type & u64::from(bit) != 0
    }

    /// Which word of a sample, behind its header, is a field, if it is one of those that always have the same place.
    fn word_of(&self, field: abi::perf_event_sample_format) -> Option<usize> {
        const FIRST: [abi::perf_event_sample_format; 6] = [
            abi::PERF_SAMPLE_IDENTIFIER,
            abi::PERF_SAMPLE_IP,
            abi::PERF_SAMPLE_TID,
            abi::PERF_SAMPLE_TIME,
            abi::PERF_SAMPLE_ADDR,
            abi::PERF_SAMPLE_ID,
        ];
        let before = FIRST.iter().take_while(|&&other| other != field).filter(|&&other| self.has(other)).count();
        self.has(field).then_some(before)
    }

    /// Which word of another record, counted from its end, is a field; 1 is the last word.
    fn word_from_end(&self, field: abi::perf_event_sample_format) -> Option<usize> {
        let behind = TRAILER_FIELDS.iter().rev().take_while(|&&other| other != field);
        (self.trailers && self.has(field)).then(|| 1 + behind.filter(|&&other| self.has(other)).count())
    }

    /// Bytes behind the fields of every record but a sample.
    fn trailer(&self) -> usize {
        if self.trailers { 8 * TRAILER_FIELDS.iter().filter(|&&field| self.has(field)).count() } else { 0 }
    }
}

/// What other records than samples end with (`sample_id_all`), a word each.
pub(super) const TRAILER_FIELDS: [abi::perf_event_sample_format; 6] = [
    abi::PERF_SAMPLE_TID,
    abi::PERF_SAMPLE_TIME,
    abi::PERF_SAMPLE_ID,
    abi::PERF_SAMPLE_STREAM_ID,
    abi::PERF_SAMPLE_CPU,
    abi::PERF_SAMPLE_IDENTIFIER,
];
/// `PERF_SAMPLE_WEIGHT` or `PERF_SAMPLE_WEIGHT_STRUCT`: a word either way.
pub(super) const WEIGHT: u32 = abi::PERF_SAMPLE_WEIGHT | abi::PERF_SAMPLE_WEIGHT_STRUCT;

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
    /// Of the first event of a file: where the fields lie that all its events have in the same place, and whose a record is that
    /// names none.
    first: Option<(EventIndex, Layout)>,
    /// Whether there is no other.
    alone: bool,
}

impl Decoder {
    /// Tells of an event's id, as the kernel gave it.
    pub fn add(&mut self, id: u64, event: EventIndex, layout: Layout) {
        self.ids.insert(id, (event, layout));
    }

    /// Tells of an event of a file, whose records may name their event elsewhere than ours do, or not at all if there is but one.
    pub fn add_of_file(&mut self, ids: &[u64], event: EventIndex, layout: Layout) {
        self.alone = self.first.is_none();
        self.first.get_or_insert((event, layout));
        ids.iter().for_each(|&id| self.add(id, event, layout));
    }

    /// The event of an id, where one was told of.
    #[must_use]
    pub fn event_of(&self, id: u64) -> Option<EventIndex> {
        self.ids.get(&id).map(|&(event, _)| event)
    }

    /// The layout of a record of a file; `None` for a sample of an unknown event.
    fn of_file(&self, bytes: &[u8]) -> Option<(EventIndex, Layout)> {
        let (_, first) = self.first?;
        let [identifier, id] = [abi::PERF_SAMPLE_IDENTIFIER, abi::PERF_SAMPLE_ID];
        let is_sample = kind(bytes)? == abi::PERF_RECORD_SAMPLE;
        let at = if is_sample {
            first.word_of(identifier).or_else(|| first.word_of(id)).map(|at| HEADER + 8 * at)
        } else {
            let from_end = first.word_from_end(identifier).or_else(|| first.word_from_end(id));
            from_end.and_then(|words| bytes.len().checked_sub(8 * words)).filter(|&at| at >= HEADER)
        };
        let id = at.and_then(|at| word(bytes, at));
        let known = id.and_then(|id| self.ids.get(&id)).copied();
        // Records that perf made itself have the id 0.
        known.or_else(|| self.first.filter(|_| !is_sample || self.alone || id == Some(0)))
    }

    /// The time of a record of a file; `None` if it has none: then it is as good as any, and comes where it stands.
    #[must_use]
    pub fn time_of_file(&self, bytes: &[u8]) -> Option<Timestamp> {
        let (_, layout) = self.first?;
        let at = if kind(bytes)? == abi::PERF_RECORD_SAMPLE {
            HEADER + 8 * layout.word_of(abi::PERF_SAMPLE_TIME)?
        } else {
            bytes.len().checked_sub(8 * layout.word_from_end(abi::PERF_SAMPLE_TIME)?).filter(|&at| at >= HEADER)?
        };
        word(bytes, at).filter(|&time| time != 0 && time != u64::MAX).map(Timestamp)
    }

    /// Reads a record of a file.
    ///
    /// # Errors
    /// [`RecordError`] if it is not as its event's attr says.
    pub fn decode_of_file<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let kind = kind(bytes).unwrap_or(0);
        let short = RecordError::Short { kind };
        let found = self.of_file(bytes);
        if kind == abi::PERF_RECORD_SAMPLE {
            let (event, layout) = found.ok_or(RecordError::UnknownId { id: 0 })?;
            let mut fields = Fields(bytes.get(HEADER..).ok_or(short)?);
            let misc = misc(bytes) & abi::PERF_RECORD_MISC_CPUMODE_MASK;
            let (sample, _) = fields.sample(event, layout, misc == abi::PERF_RECORD_MISC_USER).ok_or(short)?;
            return Ok(Record::Sample(sample));
        }
        let trailer = found.map_or(0, |(_, layout)| layout.trailer());
        let body = bytes.len().checked_sub(trailer).and_then(|end| bytes.get(HEADER..end)).ok_or(short)?;
        self.other(kind, misc(bytes), body, found.map(|(event, _)| event)).ok_or(short)
    }

    /// Turns the bytes of a record of a file from the other byte order into ours. What cannot be told apart (raw data, copies of
    /// stacks, names) stays; so does a record that ends within its fields, from there on.
    pub fn swap_of_file(&self, bytes: &mut [u8]) {
        let mut fields = Swap { bytes, at: 0 };
        let _ = fields.header();
        let kind = kind(fields.bytes).unwrap_or(0);
        if kind == abi::PERF_RECORD_SAMPLE {
            // The id is read in our order to find the layout, and turned only then.
            let layout = self.first.map(|(_, first)| {
                let place = first.word_of(abi::PERF_SAMPLE_IDENTIFIER).or_else(|| first.word_of(abi::PERF_SAMPLE_ID));
                let id = place.and_then(|at| word(fields.bytes, HEADER + 8 * at)).map(u64::swap_bytes);
                id.and_then(|id| self.ids.get(&id)).map_or(first, |&(_, layout)| layout)
            });
            let _ = layout.and_then(|layout| fields.sample(layout));
            return;
        }
        let trailer = self.first.map_or(0, |(_, layout)| layout.trailer());
        let end = fields.bytes.len().saturating_sub(trailer).max(HEADER);
        let _ = fields.other(kind, end);
        fields.at = end;
        let _ = self.first.and_then(|(_, layout)| fields.trailer(layout));
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

    /// The event that a record is a sample of, if it is one that holds a stack.
    #[must_use]
    pub fn sampled(&self, bytes: &[u8]) -> Option<EventIndex> {
        (kind(bytes)? == abi::PERF_RECORD_SAMPLE).then_some(())?;
        let (event, layout) = self.ids.get(&word(bytes, HEADER)?)?;
        (!matches!(layout.part, Some(Part::Finish | Part::HeapChange))).then_some(*event)
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
        let body = bytes.len().checked_sub(TRAILER).and_then(|end| bytes.get(HEADER..end));
        let event =
            word(bytes, bytes.len().saturating_sub(8)).and_then(|id| self.ids.get(&id)).map(|&(event, _)| event);
        self.other(kind, misc(bytes), body.ok_or(short)?, event).ok_or(short)
    }

    /// A record that is no sample, of its fields without what all have in common. `event` is whose ring it was in.
    fn other<'a>(&self, kind: u32, misc: u32, body: &'a [u8], event: Option<EventIndex>) -> Option<Record<'a>> {
        let mut fields = Fields(body);
        match kind {
            // Data, which programs map as well as code.
            abi::PERF_RECORD_MMAP | abi::PERF_RECORD_MMAP2 if misc & abi::PERF_RECORD_MISC_MMAP_DATA != 0 => {
                Some(Record::Other(kind))
            }
            abi::PERF_RECORD_MMAP => fields.map(),
            abi::PERF_RECORD_MMAP2 => fields.map2(misc),
            abi::PERF_RECORD_COMM => fields.comm(misc & abi::PERF_RECORD_MISC_COMM_EXEC != 0),
            // What perf makes of tasks that ran already, whose names and mappings it tells next: nothing of the parent's is theirs.
            abi::PERF_RECORD_FORK if misc & abi::PERF_RECORD_MISC_FORK_EXEC != 0 => Some(Record::Other(kind)),
            abi::PERF_RECORD_FORK => fields.task().map(Record::Fork),
            abi::PERF_RECORD_EXIT => fields.task().map(Record::Exit),
            abi::PERF_RECORD_LOST => fields.lost(|id| self.event_of(id)),
            abi::PERF_RECORD_LOST_SAMPLES => fields.u64().map(|lost| Record::LostSamples { event, lost }),
            abi::PERF_RECORD_THROTTLE => Some(Record::Throttle { event }),
            other => Some(Record::Other(other)),
        }
    }

    fn sample<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let short = RecordError::Short { kind: abi::PERF_RECORD_SAMPLE };
        let mut fields = Fields(bytes.get(HEADER..).ok_or(short)?);
        let id = word(bytes, HEADER).unwrap_or(0);
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

pub(super) fn misc(bytes: &[u8]) -> u32 {
    bytes.get(4..6).map_or(0, |misc| u32::from(u16::from_ne_bytes([misc[0], misc[1]])))
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

    fn word_if(&mut self, layout: Layout, field: abi::perf_event_sample_format) -> Option<Option<u64>> {
        if layout.has(field) { self.u64().map(Some) } else { Some(None) }
    }

    /// In the order of the man page, up to the copy of the stack. The raw data comes beside the sample.
    fn sample(&mut self, event: EventIndex, layout: Layout, user_mode: bool) -> Option<(Sample<'a>, &'a [u8])> {
        self.word_if(layout, abi::PERF_SAMPLE_IDENTIFIER)?;
        let ip = self.word_if(layout, abi::PERF_SAMPLE_IP)?.unwrap_or(0);
        let (pid, tid) = if layout.has(abi::PERF_SAMPLE_TID) { (self.pid()?, self.tid()?) } else { (Pid(-1), Tid(-1)) };
        let time = Timestamp(self.word_if(layout, abi::PERF_SAMPLE_TIME)?.unwrap_or(0));
        for skipped in [abi::PERF_SAMPLE_ADDR, abi::PERF_SAMPLE_ID, abi::PERF_SAMPLE_STREAM_ID] {
            self.word_if(layout, skipped)?;
        }
        let cpu = if layout.has(abi::PERF_SAMPLE_CPU) { Some((self.u32()?, self.u32()?).0) } else { None };
        let period = self.word_if(layout, abi::PERF_SAMPLE_PERIOD)?.unwrap_or(layout.period.max(1));
        let counters =
            if layout.has(abi::PERF_SAMPLE_READ) { self.counters(layout.read_format)? } else { Counters::default() };
        let callchain = self.counted(layout.has(abi::PERF_SAMPLE_CALLCHAIN))?;
        let raw = if layout.has(abi::PERF_SAMPLE_RAW) {
            let size = self.u32()?;
            self.bytes(size as usize)?
        } else {
            &[]
        };
        let branches = if layout.has(abi::PERF_SAMPLE_BRANCH_STACK) {
            self.branch_stack(layout.branches)?
        } else {
            Words::default()
        };
        let registers = if layout.has(abi::PERF_SAMPLE_REGS_USER) { self.registers(layout.registers)? } else { None };
        let (stack, stack_full) =
            if layout.has(abi::PERF_SAMPLE_STACK_USER) { self.stack()? } else { (&[][..], false) };
        let cgroup = self.rest_of_sample(layout)?;
        let sample = Sample {
            event,
            pid,
            tid,
            time,
            cpu,
            period,
            user_mode,
            ip,
            counters,
            callchain,
            registers,
            stack,
            stack_full,
            branches,
            begin: None,
            allocation: None,
            raw,
            cgroup,
        };
        Some((sample, raw))
    }

    /// What lies behind the copy of the stack, of which only the cgroup is used: it must be there.
    fn rest_of_sample(&mut self, layout: Layout) -> Option<Option<u64>> {
        let words = [WEIGHT, abi::PERF_SAMPLE_DATA_SRC, abi::PERF_SAMPLE_TRANSACTION];
        self.skip_present(layout, &words)?;
        if layout.has(abi::PERF_SAMPLE_REGS_INTR) {
            self.registers(layout.interrupted_registers)?;
        }
        let mut cgroup = None;
        for field in LAST_WORDS {
            let word = self.word_if(layout, field)?;
            if field == abi::PERF_SAMPLE_CGROUP {
                cgroup = word;
            }
        }
        if layout.has(abi::PERF_SAMPLE_AUX) {
            let size = usize::try_from(self.u64()?).ok()?;
            self.bytes(size)?;
        }
        Some(cgroup)
    }

    fn skip_present(&mut self, layout: Layout, words: &[abi::perf_event_sample_format]) -> Option<()> {
        words.iter().try_for_each(|&word| self.word_if(layout, word).map(|_| ()))
    }

    fn counters(&mut self, format: u64) -> Option<Counters<'a>> {
        let count = if counters::is_group(format) { self.u64()? } else { 1 };
        self.words(counters::words(format, count)?).map(|words| Counters::new(format, words))
    }

    /// `{ u64 nr; [u64 hw_idx;] { u64 from, to, flags } lbr[nr]; [u64 counters[nr];] }`; answers the branches.
    fn branch_stack(&mut self, kinds: u64) -> Option<Words<'a>> {
        let count = self.u64()?;
        let mut fields = Fields(self.words(branch_words(kinds, count)?)?.0);
        if kinds & u64::from(abi::PERF_SAMPLE_BRANCH_HW_INDEX) != 0 {
            fields.u64()?;
        }
        fields.words(count.checked_mul(3)?)
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

    /// `{ u32 pid, tid; u64 addr, len, pgoff; char filename[]; }`
    fn map(&mut self) -> Option<Record<'a>> {
        let (pid, _tid) = (self.pid()?, self.tid()?);
        let (start, size, offset) = (Address(self.u64()?), self.u64()?, self.u64()?);
        let identity = Identity::Unknown;
        Some(Record::Map(MapRecord { pid, start, size, offset, identity, name: self.string() }))
    }

    /// `{ u32 pid, tid; u64 addr, len, pgoff; union { u32 maj, min; u64 ino, ino_generation; / u8 build_id_size, …; u8 build_id[20] }; u32 prot, flags; char filename[]; }`
    fn map2(&mut self, misc: u32) -> Option<Record<'a>> {
        let (pid, _tid) = (self.pid()?, self.tid()?);
        let (start, size, offset) = (Address(self.u64()?), self.u64()?, self.u64()?);
        let identity = if misc & abi::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 { self.build_id()? } else { self.inode()? };
        self.bytes(8)?;
        Some(Record::Map(MapRecord { pid, start, size, offset, identity, name: self.string() }))
    }

    /// A kernel that tells a mapping to several programs, one of which asked for build IDs, may set the flag for the others too:
    /// then the bytes are an inode's.
    fn build_id(&mut self) -> Option<Identity> {
        let mut inode = Fields(self.0);
        let (head, bytes) = self.bytes(24)?.split_at(4);
        let is_size = head[0] <= 20 && head[1..] == [0; 3];
        let empty_behind = || bytes.get(usize::from(head[0])..).is_some_and(|rest| rest.iter().all(|&byte| byte == 0));
        if !is_size || !empty_behind() {
            return inode.inode();
        }
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

/// The words behind the registers of what was interrupted. `PERF_SAMPLE_AUX` has an earlier bit, but comes last.
pub(super) const LAST_WORDS: [abi::perf_event_sample_format; 4] = [
    abi::PERF_SAMPLE_PHYS_ADDR,
    abi::PERF_SAMPLE_CGROUP,
    abi::PERF_SAMPLE_DATA_PAGE_SIZE,
    abi::PERF_SAMPLE_CODE_PAGE_SIZE,
];

/// The words of so many branches, behind their number.
pub(super) fn branch_words(kinds: u64, count: u64) -> Option<u64> {
    let has = |bit: u32| u64::from(kinds & u64::from(bit) != 0);
    let counters = has(abi::PERF_SAMPLE_BRANCH_COUNTERS);
    count.checked_mul(3 + counters)?.checked_add(has(abi::PERF_SAMPLE_BRANCH_HW_INDEX))
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
        trailers: true,
        read_format: 0,
        branches: 0,
        interrupted_registers: 0,
        period: 0,
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
