//! Records that are kept in memory until somebody wants them: the newest, and of the older ones what the newest are read by.
//!
//! ```text
//! records → chunk, chunk, chunk … → the oldest, once there are too many → processes: names, mappings, namespaces; samples are gone
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::records::{self, Builder};
use crate::record::perf_data::format::user_record;
use crate::sys::perf_event::abi;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At most so many bytes of records.
    pub bytes: usize,
    /// At most those that are not older.
    pub time: Option<Duration>,
}

/// Bytes and time after which records are a chunk: what is dropped at once.
const CHUNK: usize = 256 << 10;
const CHUNK_TIME: Duration = Duration::from_millis(900);
/// Mappings of a process that are remembered. What maps code for ever (a JIT) would take all memory.
const MOST_MAPS: usize = 1 << 14;

/// The newest records, and what was before them.
pub(super) struct Flight {
    keep: Keep,
    chunks: VecDeque<Chunk>,
    /// Bytes of all chunks.
    bytes: usize,
    before: Before,
    dropped: u64,
}

struct Chunk {
    records: Vec<u8>,
    /// When its first records came, and its last.
    first: Instant,
    last: Instant,
}

impl Flight {
    pub(super) fn new(keep: Keep) -> Flight {
        Flight { keep, chunks: VecDeque::new(), bytes: 0, before: Before::default(), dropped: 0 }
    }

    /// Takes whole records, and drops the oldest ones that there is no room for.
    pub(super) fn push(&mut self, records: &[u8]) {
        self.bytes += records.len();
        let now = Instant::now();
        let open = |chunk: &&mut Chunk| chunk.records.len() < CHUNK && now - chunk.first < CHUNK_TIME;
        match self.chunks.back_mut().filter(open) {
            Some(chunk) => {
                chunk.records.extend_from_slice(records);
                chunk.last = now;
            }
            None => self.chunks.push_back(Chunk { records: records.to_vec(), first: now, last: now }),
        }
        while self.is_too_much()
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.bytes -= chunk.records.len();
            self.dropped += self.before.take(&chunk.records);
        }
    }

    fn is_too_much(&self) -> bool {
        let old = |time: Duration| self.chunks.front().is_some_and(|chunk| chunk.last.elapsed() > time);
        self.chunks.len() > 1 && (self.bytes > self.keep.bytes || self.keep.time.is_some_and(old))
    }

    /// Passes on what there is, oldest first: what the first of the newest records are read by, then those. They are the past from then on.
    /// Answers how many samples were dropped since the last time.
    pub(super) fn drain(&mut self, pass: &mut dyn FnMut(&[u8])) -> u64 {
        pass(&self.before.records());
        for chunk in self.chunks.drain(..) {
            pass(&chunk.records);
            self.before.take(&chunk.records);
        }
        self.bytes = 0;
        std::mem::take(&mut self.dropped)
    }
}

/// The processes as they were when the oldest record was made that is still there.
#[derive(Default)]
struct Before {
    processes: BTreeMap<u32, Process>,
}

/// Records that tell of a process.
#[derive(Clone, Default)]
struct Process {
    /// The name of each thread.
    threads: BTreeMap<u32, Vec<u8>>,
    namespaces: Option<Vec<u8>>,
    /// In the order of their making.
    maps: Vec<Vec<u8>>,
}

impl Before {
    /// Takes over what records tell of processes; answers how many samples are among them.
    fn take(&mut self, records: &[u8]) -> u64 {
        let mut samples = 0;
        for record in whole(records) {
            match kind(record) {
                abi::PERF_RECORD_SAMPLE => samples += 1,
                abi::PERF_RECORD_COMM => self.name(record),
                abi::PERF_RECORD_MMAP | abi::PERF_RECORD_MMAP2 => self.map(record),
                abi::PERF_RECORD_NAMESPACES => self.process(record).namespaces = Some(record.to_vec()),
                abi::PERF_RECORD_FORK => self.fork(record),
                abi::PERF_RECORD_EXIT => self.exit(record),
                _ => {}
            }
        }
        samples
    }

    fn process(&mut self, record: &[u8]) -> &mut Process {
        self.processes.entry(half(record, PID)).or_default()
    }

    fn name(&mut self, record: &[u8]) {
        let tid = half(record, TID);
        let process = self.process(record);
        if misc(record) & COMM_EXEC != 0 {
            // Another program, in one thread.
            process.threads.clear();
            process.maps.clear();
        }
        process.threads.insert(tid, record.to_vec());
    }

    fn map(&mut self, record: &[u8]) {
        let maps = &mut self.process(record).maps;
        let (start, end) = span(record);
        maps.retain(|other| {
            let (first, last) = span(other);
            first < start || last > end
        });
        if maps.len() >= MOST_MAPS {
            maps.remove(0);
        }
        maps.push(record.to_vec());
    }

    /// `{ u32 pid, ppid; u32 tid, ptid; u64 time; }`
    fn fork(&mut self, record: &[u8]) {
        if misc(record) & records::FOUND != 0 {
            return;
        }
        let (pid, parent, tid, parent_tid) =
            (half(record, PID), half(record, TID), half(record, TID + 4), half(record, TID + 8));
        let Some(parent) = self.processes.get(&parent) else { return };
        let name = parent.threads.get(&parent_tid).map(|name| renumbered(name, pid, tid));
        if pid == half(record, TID) {
            self.processes.entry(pid).or_default().threads.extend(name.map(|name| (tid, name)));
            return;
        }
        let of_child = |record: &Vec<u8>| renumbered(record, pid, tid);
        let child = Process {
            threads: name.map(|name| (tid, name)).into_iter().collect(),
            namespaces: parent.namespaces.as_ref().map(of_child),
            maps: parent.maps.iter().map(of_child).collect(),
        };
        self.processes.insert(pid, child);
    }

    fn exit(&mut self, record: &[u8]) {
        let pid = half(record, PID);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let tid = half(record, TID + 4);
        let known = process.threads.remove(&tid).is_some();
        if (known || tid == pid) && process.threads.is_empty() {
            self.processes.remove(&pid);
        }
    }

    /// All of it, with the end of a round: what follows is newer.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for process in self.processes.values() {
            process.threads.values().for_each(|name| records.extend_from_slice(name));
            process.namespaces.iter().for_each(|namespaces| records.extend_from_slice(namespaces));
            process.maps.iter().for_each(|map| records.extend_from_slice(map));
        }
        Builder::begin(&mut records, user_record::FINISHED_INIT, 0).end();
        Builder::begin(&mut records, user_record::FINISHED_ROUND, 0).end();
        records
    }
}

const COMM_EXEC: u16 = abi::PERF_RECORD_MISC_COMM_EXEC as u16;

/// Where the numbers of process and thread lie in the records that begin with them.
const PID: usize = 8;
const TID: usize = 12;

/// A record of another thread. What ends it tells who made it, and stays.
fn renumbered(record: &[u8], pid: u32, tid: u32) -> Vec<u8> {
    let mut record = record.to_vec();
    let of = if kind(&record) == abi::PERF_RECORD_COMM { tid } else { pid };
    record[PID..PID + 4].copy_from_slice(&pid.to_ne_bytes());
    record[TID..TID + 4].copy_from_slice(&of.to_ne_bytes());
    // It is no exec of this one.
    if kind(&record) == abi::PERF_RECORD_COMM {
        let misc = misc(&record) & !COMM_EXEC;
        record[4..6].copy_from_slice(&misc.to_ne_bytes());
    }
    record
}

/// First address of a mapping, and the one behind its last.
fn span(record: &[u8]) -> (u64, u64) {
    let word =
        |at: usize| record.get(at..).and_then(|word| word.first_chunk()).map_or(0, |word| u64::from_ne_bytes(*word));
    (word(16), word(16).saturating_add(word(24)))
}

fn kind(record: &[u8]) -> u32 {
    half(record, 0)
}

fn misc(record: &[u8]) -> u16 {
    record.get(4..).and_then(|misc| misc.first_chunk()).map_or(0, |misc| u16::from_ne_bytes(*misc))
}

/// 32 bits; 0 where the record is too short, as none of ours is.
fn half(record: &[u8], at: usize) -> u32 {
    record.get(at..).and_then(|word| word.first_chunk()).map_or(0, |word| u32::from_ne_bytes(*word))
}

/// Records one by one.
pub(super) fn whole(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let size = usize::from(u16::from_ne_bytes([*records.get(6)?, *records.get(7)?]));
        let (record, rest) = records.split_at_checked(size).filter(|_| size >= 8)?;
        records = rest;
        Some(record)
    })
}
