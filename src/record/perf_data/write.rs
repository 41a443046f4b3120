//! Writes perf.data, record by record, to a file or a pipe, or keeps the newest records in memory.
//!
//! ```text
//! file: header | ids | attrs | records … | feature table | features      pipe: header | attrs and features as records | records …
//! ```
//!
//! The header of a file says how many bytes of records it has. It is made true by every [`Writer::flush`], which also ends a round, so
//! what is left of a recording that was killed is a file of its own right. The features that are known before the end follow the records
//! at all times; what readers cannot do without (the names of events, how records are compressed) is told by records as well.
//!
//! All events have one layout: identifier, instruction, task, time, CPU, period, callchain, and with it all records have the same
//! trailer. That is what every reader takes, those too that look for a record's event by its position.

mod features;
mod flight;
mod host;
mod records;
mod sink;
mod tracing;

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::format::{Feature, user_record};
use crate::ids::{BuildId, Pid, Tid, Timestamp};
use crate::record::{EventIndex, MapRecord, TaskRecord, UserRegisters};
use crate::sys::perf_event::abi;
use features::Facts;
pub use flight::Keep;
pub use host::KernelClock;
use records::{Builder, Trailer};
use sink::Sink;
pub use tracing::tracing_data;

/// One kind of event, as its attr tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// What readers call it.
    pub name: String,
    /// `perf_event_attr.type`.
    pub kind: u32,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// `perf_event_attr.config1` and `config2`.
    pub more: [u64; 2],
    /// Samples a second, or occurrences a sample.
    pub rate: SpecRate,
    /// Whether user code is sampled.
    pub user: bool,
    /// Whether the kernel is sampled.
    pub kernel: bool,
    /// The group that it was asked for in, if any: events of one group are shown side by side.
    pub group: Option<u32>,
    /// Whether it is a tracepoint, `SYSTEM:NAME`, whose samples hold its fields.
    pub tracepoint: bool,
}

/// How often an event is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecRate {
    /// So many samples a second.
    Frequency(u64),
    /// One sample for so many occurrences.
    Period(u64),
}

/// What a file is to be like.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// The events; a sample's [`EventIndex`] counts them.
    pub events: Vec<EventSpec>,
    /// The command line, word by word.
    pub arguments: Vec<String>,
    /// Whether later tasks of the target were followed.
    pub inherit: bool,
    /// Whether samples hold registers and a copy of the stack instead of the walked user stack: which registers
    /// (`PERF_REG_*` bits), and the most bytes of the copy.
    pub raw_stacks: Option<(u64, u32)>,
    /// Whether samples tell their cgroup.
    pub cgroups: bool,
    /// The level of zstd, if records are to be compressed.
    pub compression: Option<i32>,
    /// The clock that times are told by.
    pub clock: KernelClock,
    /// Whether build IDs are written into a section of their own.
    pub build_ids: bool,
    /// What tells the fields of the tracepoints apart, where there are any ([`tracing_data`]).
    pub tracing: Option<Arc<[u8]>>,
}

/// Where and when a record was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The time.
    pub time: Timestamp,
    /// The CPU.
    pub cpu: u32,
}

/// A sample as it is written, without its callchain.
#[derive(Clone, Copy, Debug)]
pub struct SampleFields<'a> {
    /// Which event.
    pub event: EventIndex,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// When and where.
    pub stamp: Stamp,
    /// What it stands for, in the event's unit.
    pub period: u64,
    /// Whether the CPU ran user code.
    pub user_mode: bool,
    /// The instruction.
    pub ip: u64,
    /// The fields of a tracepoint.
    pub fields: &'a [u8],
    /// The user registers and the top of the user stack, for files with raw stacks.
    pub raw_stack: Option<(UserRegisters<'a>, &'a [u8])>,
    /// The cgroup, for files that tell it; 0 where it is not known.
    pub cgroup: u64,
}

/// A file that a process ran code of.
#[derive(Clone, Debug)]
pub struct Binary {
    /// Its path as the process saw it.
    pub name: String,
    /// Its build ID.
    pub build_id: BuildId,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// Samples in it.
    pub samples: u64,
}

/// A file or pipe that is being written.
pub struct Writer {
    options: WriteOptions,
    sink: Sink,
    facts: Facts,
    samples: u64,
    first: Option<Timestamp>,
    last: Timestamp,
}

impl Writer {
    /// Begins a file: its header, and what was true before the first record.
    ///
    /// # Errors
    /// What writing answers.
    pub fn to_file(file: File, options: WriteOptions) -> io::Result<Writer> {
        let attrs = features::attrs(&options);
        let (mut sink, facts) = (Sink::file(file, &attrs, options.compression)?, Facts::gather());
        // Readers refuse a file with tracepoints that does not say what their fields are, and miss the others.
        sink.keep(facts.known_at_start(&options));
        Writer::begin(sink, facts, options)
    }

    /// Begins a stream, in which nothing can be corrected later.
    ///
    /// # Errors
    /// What writing answers.
    pub fn to_pipe(pipe: Box<dyn io::Write>, options: WriteOptions) -> io::Result<Writer> {
        let mut sink = Sink::pipe(pipe, options.compression)?;
        let facts = Facts::gather();
        for (id, attr) in (1..).zip(features::attrs(&options)) {
            Builder::begin(sink.room(), user_record::HEADER_ATTR, 0).bytes(&attr).u64(id).end();
        }
        let features = facts.known_at_start(&options).into_iter();
        // What tells of tracepoints has a record of its own kind.
        for (feature, bytes) in features.filter(|(feature, _)| *feature != Feature::TracingData) {
            let record = Builder::begin(sink.room(), user_record::HEADER_FEATURE, 0);
            record.u64(u64::from(feature as u8)).bytes(&bytes).end();
        }
        if let Some(tracing) = &options.tracing {
            tracing::record(sink.room(), tracing);
        }
        Writer::begin(sink, facts, options)
    }

    /// Keeps the newest records in memory, until another writer [takes them over](Writer::take_over).
    ///
    /// # Errors
    /// None that can be expected.
    pub fn to_memory(keep: Keep, options: WriteOptions) -> io::Result<Writer> {
        let sink = Sink::memory(keep)?;
        Ok(Writer { options, sink, facts: Facts::gather(), samples: 0, first: None, last: Timestamp::default() })
    }

    /// Writes what another one of the same events has kept in memory, which is empty then. Answers how many samples it had to drop.
    ///
    /// # Errors
    /// What writing answers.
    pub fn take_over(&mut self, kept: &mut Writer) -> io::Result<u64> {
        kept.flush()?;
        let dropped = kept.sink.flight().map_or(0, |flight| {
            flight.drain(&mut |records| {
                flight::whole(records).filter_map(records::sample_time).for_each(|time| self.count(time));
                self.sink.room().extend_from_slice(records);
                self.sink.pass();
            })
        });
        Ok(dropped)
    }

    /// From the first to the last sample.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.last.since(self.first.unwrap_or(self.last))
    }

    fn count(&mut self, time: Timestamp) {
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = self.last.max(time);
        self.samples += 1;
    }

    fn begin(mut sink: Sink, facts: Facts, options: WriteOptions) -> io::Result<Writer> {
        sink.tell_compression();
        for (id, event) in (1..).zip(&options.events) {
            // The names in EVENT_DESC come too late for a file that is killed.
            const NAME: u64 = 2;
            let record = Builder::begin(sink.room(), user_record::EVENT_UPDATE, 0);
            record.u64(NAME).u64(id).string(event.name.as_bytes()).end();
        }
        let mut writer = Writer { options, sink, facts, samples: 0, first: None, last: Timestamp::default() };
        writer.kernel_maps();
        writer.flush()?;
        Ok(writer)
    }

    /// The kernel and its modules, without which no address of theirs has a name.
    fn kernel_maps(&mut self) {
        let kernel = Trailer { pid: -1, tid: 0, stamp: Stamp::default(), id: 1 };
        for map in self.facts.kernel_maps() {
            let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_MMAP, records::KERNEL);
            let record = record.u32(u32::MAX).u32(0).u64(map.start).u64(map.size).u64(map.offset);
            record.string(map.name.as_bytes()).trailer(kernel).end();
        }
    }

    /// Bytes that lie in the file, or went into the pipe, and those that wait to.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sink.bytes()
    }

    /// A sample with its callchain: [context marks](abi::PERF_CONTEXT_USER), instructions and return addresses, leaf first.
    pub fn sample(&mut self, sample: &SampleFields<'_>, chain: impl Iterator<Item = u64>) {
        let time = self.options.clock.of(sample.stamp.time);
        self.count(time);
        let misc = if sample.user_mode { records::USER } else { records::KERNEL };
        let id = u64::from(sample.event.0) + 1;
        let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_SAMPLE, misc);
        let record = record.u64(id).u64(sample.ip).u32(sample.pid.0 as u32).u32(sample.tid.0 as u32);
        let record = record.u64(time.0).u64(sample.stamp.cpu.into()).u64(sample.period);
        let raw = self.options.raw_stacks.map(|(mask, _)| (mask, sample.raw_stack));
        let record = match raw {
            // The reader unwinds what is raw; the user part would stand there twice.
            Some((_, Some(_))) => record.counted(chain.take_while(|&word| word != records::CONTEXT_USER)),
            _ => record.counted(chain),
        };
        let is_tracepoint = self.options.events.get(sample.event.0 as usize).is_some_and(|event| event.tracepoint);
        let record = if is_tracepoint { record.raw(sample.fields) } else { record };
        let record = match raw {
            Some((mask, Some((registers, stack)))) => record.registers(mask, &registers).stack(stack),
            Some((_, None)) => record.u64(0).u64(0),
            None => record,
        };
        let record = if self.options.cgroups { record.u64(sample.cgroup) } else { record };
        record.end();
        self.sink.pass();
    }

    /// A cgroup that is there already: its number, and its path below the root of the hierarchy.
    pub fn cgroup(&mut self, id: u64, path: &Path, stamp: Stamp) {
        let trailer = self.trailer(0, 0, stamp);
        let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_CGROUP, 0);
        record.u64(id).string(path.as_os_str().as_encoded_bytes()).trailer(trailer).end();
        self.sink.pass();
    }

    /// A record of the kernel as it lies in the ring, with a trailer of task, time and identifier: all but samples and those whose body
    /// names an event.
    pub fn pass_on(&mut self, bytes: &[u8], cpu: u32) {
        let Some((head, body, mut trailer)) = records::take_apart(bytes) else { return };
        trailer.stamp = Stamp { time: self.options.clock.of(trailer.stamp.time), cpu };
        Builder::begin(self.sink.room(), head.0, head.1).bytes(body).trailer(trailer).end();
        self.sink.pass();
    }

    /// The kernel had no room for so many records of an event.
    pub fn lost(&mut self, event: Option<EventIndex>, lost: u64, stamp: Stamp) {
        let (id, trailer) = (event.map_or(1, |event| u64::from(event.0) + 1), self.trailer(0, 0, stamp));
        Builder::begin(self.sink.room(), abi::PERF_RECORD_LOST, 0).u64(id).u64(lost).trailer(trailer).end();
        self.sink.pass();
    }

    /// How many samples of an event the kernel says it dropped in all.
    pub fn lost_samples(&mut self, event: EventIndex, lost: u64, stamp: Stamp) {
        let trailer = Trailer { id: u64::from(event.0) + 1, ..self.trailer(0, 0, stamp) };
        Builder::begin(self.sink.room(), abi::PERF_RECORD_LOST_SAMPLES, 0).u64(lost).trailer(trailer).end();
        self.sink.pass();
    }

    /// A thread that runs already, with its name.
    pub fn thread(&mut self, task: TaskRecord, comm: &[u8], stamp: Stamp) {
        let trailer = self.trailer(task.pid.0, task.tid.0, stamp);
        let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_FORK, records::FOUND);
        let record = record.u32(task.pid.0 as u32).u32(task.parent.0 as u32);
        let record = record.u32(task.tid.0 as u32).u32(task.parent_tid.0 as u32).u64(trailer.stamp.time.0);
        record.trailer(trailer).end();
        let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_COMM, 0);
        record.u32(task.pid.0 as u32).u32(task.tid.0 as u32).string(comm).trailer(trailer).end();
        self.sink.pass();
    }

    /// What a process that runs already has mapped: to execute, or only as `data`.
    pub fn map(&mut self, map: &MapRecord<'_>, data: bool, stamp: Stamp) {
        let (extra, exec) = if data { (records::DATA, 0) } else { (0, libc::PROT_EXEC as u32) };
        let trailer = self.trailer(map.pid.0, map.pid.0, stamp);
        let (misc, identity) = records::identity(&map.identity);
        let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_MMAP2, records::USER | misc | extra);
        let record = record.u32(map.pid.0 as u32).u32(map.pid.0 as u32).u64(map.start.0).u64(map.size).u64(map.offset);
        let record = record.bytes(&identity).u32(libc::PROT_READ as u32 | exec);
        let record = record.u32(libc::MAP_PRIVATE as u32);
        record.string(map.name.as_bytes()).trailer(trailer).end();
        self.sink.pass();
    }

    /// The namespaces of a process that runs already: device and inode of each, in the order of `PERF_NR_NAMESPACES`.
    pub fn namespaces(&mut self, pid: Pid, links: &[(u64, u64)], stamp: Stamp) {
        let trailer = self.trailer(pid.0, pid.0, stamp);
        let record = Builder::begin(self.sink.room(), abi::PERF_RECORD_NAMESPACES, 0);
        let record = record.u32(pid.0 as u32).u32(pid.0 as u32).u64(links.len() as u64);
        links.iter().fold(record, |record, &(device, inode)| record.u64(device).u64(inode)).trailer(trailer).end();
        self.sink.pass();
    }

    /// All that ran already has been told.
    pub fn told_present(&mut self) {
        Builder::begin(self.sink.room(), user_record::FINISHED_INIT, 0).end();
        self.sink.pass();
    }

    fn trailer(&self, pid: i32, tid: i32, stamp: Stamp) -> Trailer {
        // What was so from the beginning on has no time.
        let time = if stamp.time == Timestamp::default() { stamp.time } else { self.options.clock.of(stamp.time) };
        Trailer { pid, tid, stamp: Stamp { time, ..stamp }, id: 1 }
    }

    /// Ends a round: no record that follows is older than those of the round before. Brings everything to the file.
    ///
    /// # Errors
    /// What writing answered, now or since the last call. The file then ends with its last whole record.
    pub fn flush(&mut self) -> io::Result<()> {
        Builder::begin(self.sink.room(), user_record::FINISHED_ROUND, 0).end();
        if let Some(first) = self.first {
            self.sink.keep_also(Feature::SampleTime, features::sample_time(first, self.last));
        }
        self.sink.sync()
    }

    /// Ends the file: its features, and with them the build IDs of what was run.
    ///
    /// # Errors
    /// What writing answered. What lies in the file can be read nevertheless.
    pub fn finish(mut self, binaries: &[Binary]) -> io::Result<Written> {
        let binaries: &[Binary] = if self.options.build_ids { binaries } else { &[] };
        let span = self.first.map(|first| (first, self.last));
        if self.sink.is_pipe() {
            for record in self.facts.build_ids(binaries, user_record::HEADER_BUILD_ID) {
                self.sink.room().extend_from_slice(&record);
            }
            self.flush()?;
        } else {
            self.flush()?;
            let ratio = self.sink.ratio();
            self.sink.features(self.facts.known_at_end(&self.options, binaries, span, ratio))?;
        }
        Ok(Written { bytes: self.sink.bytes(), samples: self.samples })
    }
}

/// The callchain of a stack: the kernel's part as the kernel wrote it, then the user's, each behind its mark.
pub fn callchain<'a>(kernel: &'a [u64], user: impl Iterator<Item = u64> + 'a) -> impl Iterator<Item = u64> + 'a {
    let mark = |mark: u64, present: bool| present.then_some(mark).into_iter();
    let mut user = user.peekable();
    let in_user = user.peek().is_some();
    let of_kernel = mark(records::CONTEXT_KERNEL, !kernel.is_empty()).chain(kernel.iter().copied());
    of_kernel.chain(mark(records::CONTEXT_USER, in_user)).chain(user)
}
