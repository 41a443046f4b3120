//! The samples of a recording on their way into perf.data: one file, or one after the other.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::screen::Screen;
use crate::capture::{self, CallGraph, Event, Live, Probe, Rate};
use crate::collect::{Collector, TimeAway};
use crate::ids::{Pid, Timestamp};
use crate::process::{Extent, Present, describe};
use crate::record::perf_data::write::{
    self, Binary, EventSpec, Keep, KernelClock, SampleFields, SpecRate, Stamp, WriteOptions, Writer, Written, callchain,
};
use crate::record::{Raw, Record, Sample};
use crate::sys::output::{self, Stream};
use crate::sys::perf_event::abi;

/// What is written of a recording.
#[derive(Clone, Debug, Default)]
pub struct PerfData {
    /// The file; `None` for a stream to the standard output.
    pub path: Option<PathBuf>,
    /// The command line, word by word.
    pub arguments: Vec<String>,
    /// Whether samples hold registers and the copied stack instead of the walked one.
    pub raw_stacks: bool,
    /// Whether stacks have the kernel's part, and the user's.
    pub parts: (bool, bool),
    /// The level of zstd, if records are compressed.
    pub compression: Option<i32>,
    /// The clock of the times.
    pub clock: KernelClock,
    /// Whether build IDs are gathered.
    pub build_ids: bool,
    /// When another file is begun.
    pub switch: Switch,
    /// Of several files, how many are kept.
    pub max_files: Option<usize>,
    /// Bytes after which the recording ends.
    pub max_size: Option<u64>,
    /// Whether the file's name ends with the time of its end.
    pub timestamp_name: bool,
    /// If only the newest records are to be kept, and written when somebody asks for them, and at the end: how many.
    pub keep: Option<Keep>,
}

impl PerfData {
    /// What we were called as: scripts that call us perf look for that name in what is said.
    fn program(&self) -> &'static str {
        let called = self.arguments.first().map(Path::new).and_then(Path::file_name);
        if called.is_some_and(|name| name == "perf") { "perf" } else { "rprof" }
    }
}

/// When another file is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// Never.
    #[default]
    Never,
    /// When SIGUSR2 comes.
    Signal,
    /// When a file has so many bytes.
    Size(u64),
    /// After so long.
    Time(Duration),
}

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}{}", remedy(.source))]
pub struct PerfDataError {
    path: String,
    source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "; what was recorded until then is in it",
        _ => "",
    }
}

/// Takes records and walked samples, and writes them.
pub(super) struct Recorder {
    data: PerfData,
    spec: WriteOptions,
    writer: Option<Writer>,
    /// The file that is written, to see whether it still has its name in the end.
    file: Option<fs::File>,
    /// A command whose program is not executed yet.
    waiting: Option<Pid>,
    /// When the present file was begun.
    began: Instant,
    /// The files of a recording with several, those that are there still.
    kept: VecDeque<PathBuf>,
    rounds: u64,
    total: Written,
    /// What each event has lost in files before.
    lost: Vec<u64>,
}

impl Recorder {
    /// Begins the first file.
    pub(super) fn begin(
        data: &PerfData,
        live: &Live,
        inherit: bool,
        waiting: Option<Pid>,
    ) -> Result<Recorder, PerfDataError> {
        let raw_stacks = data.raw_stacks && matches!(live.graph(), CallGraph::Auto | CallGraph::Dwarf { .. });
        let tracing = tracing(live);
        let spec = WriteOptions {
            events: live.events().iter().map(|event| spec(event, tracing.is_some())).collect(),
            arguments: data.arguments.clone(),
            inherit,
            raw_stacks: raw_stacks.then_some((capture::REGISTERS, capture::MAX_STACK_BYTES)),
            cgroups: live.also().cgroups,
            compression: data.compression,
            clock: data.clock,
            build_ids: data.build_ids,
            tracing,
        };
        let mut recorder = Recorder {
            data: data.clone(),
            writer: None,
            file: None,
            waiting,
            began: Instant::now(),
            kept: VecDeque::new(),
            rounds: 0,
            total: Written::default(),
            lost: vec![0; spec.events.len()],
            spec,
        };
        recorder.open()?;
        Ok(recorder)
    }

    fn open(&mut self) -> Result<(), PerfDataError> {
        self.began = Instant::now();
        self.writer = Some(match self.data.keep {
            Some(keep) => Writer::to_memory(keep, self.spec.clone()).map_err(|source| self.error(source))?,
            None => self.create()?,
        });
        Ok(())
    }

    fn create(&mut self) -> Result<Writer, PerfDataError> {
        let path = self.data.path.as_deref().unwrap_or(Path::new("-"));
        let writer = match Stream::at(path).map_err(|source| self.error(source))? {
            Some(stream) => Writer::to_pipe(Box::new(stream), self.spec.clone()),
            None => output::create_recording(path).and_then(|file| {
                self.file = Some(file.try_clone()?);
                Writer::to_file(file, self.spec.clone())
            }),
        };
        writer.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> PerfDataError {
        let path = self.data.path.as_ref().map_or("the standard output".into(), |path| path.display().to_string());
        PerfDataError { path, source }
    }

    /// A record that the collector has taken in.
    pub(super) fn take(&mut self, record: &Record<'_>, raw: Raw<'_>, collector: &mut Collector) {
        let stamp = Stamp { time: raw.time(), cpu: raw.cpu };
        self.tell_present(&collector.take_present(), stamp);
        let Some(writer) = &mut self.writer else { return };
        match record {
            // It is told when it ends.
            Record::Sample(sample) if sample.begin.is_some() => {}
            Record::Sample(sample) => {
                let walked = collector.walked();
                let (kernel, user) = self.data.parts;
                let kernel = if kernel { walked.kernel } else { &[] };
                writer.sample(&fields(sample, stamp), callchain(kernel, walked.user().filter(|_| user)));
            }
            Record::Lost { event, lost } => writer.lost(*event, *lost, stamp),
            // Samples that were lost are told from their events' counts; the body of the others names an event by the kernel's number.
            Record::LostSamples { .. } | Record::Throttle { .. } | Record::Finish(_) | Record::HeapChange(_) => {}
            Record::Comm { pid, exec: true, .. } => {
                self.waiting.take_if(|waiting| waiting == pid);
                writer.pass_on(raw.bytes, raw.cpu);
            }
            Record::Map(_) | Record::Comm { .. } | Record::Fork(_) | Record::Exit(_) | Record::Other(_) => {
                writer.pass_on(raw.bytes, raw.cpu);
            }
        }
    }

    /// Processes that were found running.
    pub(super) fn tell_present(&mut self, pids: &[Pid], stamp: Stamp) {
        let Some(writer) = &mut self.writer else { return };
        for &pid in pids {
            let extent = match self.waiting {
                Some(waiting) if waiting == pid => Extent::Threads,
                _ if self.spec.raw_stacks.is_some() => Extent::Files,
                _ => Extent::Code,
            };
            describe(pid, extent, &mut |present| match present {
                Present::Thread(task, comm) => writer.thread(task, comm.as_encoded_bytes(), stamp),
                Present::Namespaces(links) => writer.namespaces(pid, links, stamp),
                Present::Map(map) => writer.map(&map, false, stamp),
                Present::DataMap(map) => writer.map(&map, true, stamp),
            });
        }
    }

    /// All that ran before has been told, but the cgroups that are there.
    pub(super) fn told_present(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        if self.spec.cgroups {
            capture::cgroups().iter().for_each(|(id, path)| writer.cgroup(*id, path, Stamp::default()));
        }
        writer.told_present();
    }

    /// Times away from CPUs.
    pub(super) fn tell_away(&mut self, times: &[TimeAway]) {
        let Some(writer) = &mut self.writer else { return };
        for time in times {
            let sample = SampleFields {
                event: time.event,
                pid: time.pid,
                tid: time.tid,
                stamp: Stamp { time: time.back, cpu: time.cpu },
                period: time.nanoseconds,
                user_mode: time.kernel.is_empty(),
                ip: time.kernel.first().or(time.user.first()).copied().unwrap_or(0),
                fields: &[],
                raw_stack: None,
                cgroup: 0,
            };
            let (kernel, user) = self.data.parts;
            let kernel: &[u64] = if kernel { &time.kernel } else { &[] };
            writer.sample(&sample, callchain(kernel, time.user.iter().copied().filter(|_| user)));
        }
    }

    /// Brings all to the disk.
    pub(super) fn flush(&mut self) -> Result<(), PerfDataError> {
        self.rounds += 1;
        match self.writer.as_mut().map_or(Ok(()), Writer::flush) {
            Ok(()) => Ok(()),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Bytes of all files.
    fn bytes(&self) -> u64 {
        self.total.bytes + self.writer.as_ref().map_or(0, Writer::bytes)
    }

    /// What is said once the files are as large as they may become, in perf's words.
    pub(super) fn full(&self) -> Option<String> {
        let full = self.data.max_size.is_some_and(|most| self.bytes() >= most);
        let (program, kilobytes) = (self.data.program(), self.bytes() >> 10);
        full.then(|| format!("[ {program} record: perf size limit reached ({kilobytes} KB), stopping session ]"))
    }

    /// Whether a file, or all of them, are as large as they may become.
    pub(super) fn reached_a_size(&self) -> bool {
        let switch = matches!(self.data.switch, Switch::Size(_)) && self.wants_switch(false);
        switch || self.data.max_size.is_some_and(|most| self.bytes() >= most)
    }

    /// Whether another file is to be begun.
    pub(super) fn wants_switch(&self, asked: bool) -> bool {
        match self.data.switch {
            // What is kept is asked for; a file without end is not.
            Switch::Never => asked && self.data.keep.is_some(),
            Switch::Signal => asked,
            Switch::Size(bytes) => asked || self.writer.as_ref().is_some_and(|writer| writer.bytes() >= bytes),
            Switch::Time(time) => asked || self.began.elapsed() >= time,
        }
    }

    /// Ends the file and begins the next, which tells what runs now.
    pub(super) fn switch(
        &mut self,
        collector: &Collector,
        lost: Option<&[u64]>,
        at: Timestamp,
        screen: &Screen,
    ) -> Result<(), PerfDataError> {
        self.end_file(collector, lost, at, screen, false)?;
        self.began = Instant::now();
        if self.writer.is_none() {
            self.open()?;
            self.tell_present(&collector.pids(), Stamp::default());
            self.told_present();
        }
        Ok(())
    }

    /// Ends the last file, and answers what to say of all: how often was written, bytes, samples, and the file's name.
    pub(super) fn finish(
        mut self,
        collector: &Collector,
        lost: Option<&[u64]>,
        at: Timestamp,
        screen: &Screen,
    ) -> Result<Closing, PerfDataError> {
        let name = self.end_file(collector, lost, at, screen, true)?;
        let program = self.data.program();
        Ok(Closing { rounds: self.rounds, written: self.total, name, program })
    }

    fn end_file(
        &mut self,
        collector: &Collector,
        lost: Option<&[u64]>,
        at: Timestamp,
        screen: &Screen,
        last: bool,
    ) -> Result<Option<PathBuf>, PerfDataError> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let mut writer = if self.data.keep.is_some() { self.write_kept(writer, screen)? } else { writer };
        let events = (0..).map(crate::record::EventIndex).zip(lost.unwrap_or_default().iter().zip(&mut self.lost));
        for (event, (&lost, told)) in events {
            if lost > *told {
                writer.lost_samples(event, lost - *told, Stamp { time: at, cpu: 0 });
            }
            *told = lost.max(*told);
        }
        let binaries: Vec<Binary> = collector.binaries().filter_map(binary).collect();
        let written = writer.finish(&binaries).map_err(|source| self.error(source))?;
        if let (Some(file), Some(path)) = (self.file.take(), &self.data.path) {
            output::check_named(&file, path).map_err(|source| self.error(source))?;
        }
        self.total.bytes += written.bytes;
        self.total.samples += written.samples;
        self.name_by_time(screen, last)
    }

    /// Writes into a file what was kept in memory, where it goes on being kept.
    fn write_kept(&mut self, mut kept: Writer, screen: &Screen) -> Result<Writer, PerfDataError> {
        let mut file = self.create()?;
        let dropped = file.take_over(&mut kept).map_err(|source| self.error(source))?;
        let seconds = file.span().as_secs_f64();
        screen.say(&format!("writing the last {seconds:.1} s; {dropped} older samples were dropped"));
        self.writer = Some(kept);
        Ok(file)
    }

    /// Gives a file the time of its end, where that is asked for, and where it is not the last one.
    fn name_by_time(&mut self, screen: &Screen, last: bool) -> Result<Option<PathBuf>, PerfDataError> {
        let Some(path) = self.data.path.clone() else { return Ok(None) };
        if self.data.switch == Switch::Never && !self.data.timestamp_name && last {
            return Ok(Some(path));
        }
        let now = jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now());
        let time = format!("{}{:02}", now.strftime("%Y%m%d%H%M%S"), now.subsec_nanosecond() / 10_000_000);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{time}"));
        let name = PathBuf::from(name);
        fs::rename(&path, &name).map_err(|source| self.error(source))?;
        screen.say_plainly(&format!("[ {} record: Dump {} ]", self.data.program(), name.display()));
        self.kept.push_back(name.clone());
        while self.data.max_files.is_some_and(|most| self.kept.len() > most) {
            // One that somebody else took away is gone all the same.
            self.kept.pop_front().map(fs::remove_file);
        }
        Ok(Some(name))
    }
}

/// What is said at the end.
pub(super) struct Closing {
    pub(super) rounds: u64,
    pub(super) written: Written,
    pub(super) name: Option<PathBuf>,
    /// What we were called as.
    program: &'static str,
}

impl Closing {
    /// perf's lines, with the name that we were called by.
    pub(super) fn lines(&self) -> [String; 2] {
        let name = self.name.as_ref().map_or("-".into(), |name| name.display().to_string());
        let megabytes = self.written.bytes as f64 / f64::from(1 << 20);
        let samples = self.written.samples;
        [
            format!("[ {} record: Woken up {} times to write data ]", self.program, self.rounds),
            format!("[ {} record: Captured and wrote {megabytes:.3} MB {name} ({samples} samples) ]", self.program),
        ]
    }
}

fn binary(info: &crate::process::ImageInfo) -> Option<Binary> {
    Some(Binary { name: info.name.to_string(), build_id: info.build_id.clone()? })
}

/// What tells the fields of the tracepoints; nothing where there are none, or tracefs may not be read.
fn tracing(live: &Live) -> Option<Arc<[u8]>> {
    let mut tracepoints =
        live.events().iter().filter(|event| event.is_tracepoint()).map(|event| &*event.name).peekable();
    tracepoints.peek()?;
    let tracefs = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(Path::new);
    let tracefs = tracefs.into_iter().find(|root| root.join("events").exists())?;
    write::tracing_data(tracefs, tracepoints).ok().map(Into::into)
}

/// How an event is told: by what every reader knows. Those that stand for something else (times away from CPUs, probes, and tracepoints, whose
/// attrs readers take for an error without the description of their fields) are software events with a name.
fn spec(event: &Event, fields: bool) -> EventSpec {
    let software = |config: u32| (abi::PERF_TYPE_SOFTWARE, u64::from(config));
    let (kind, config) = match event.probe {
        // As perf tells it.
        Some(Probe::OffCpu | Probe::Alloc | Probe::InUse) => software(abi::PERF_COUNT_SW_BPF_OUTPUT),
        Some(Probe::Lock | Probe::Wall) => software(abi::PERF_COUNT_SW_CPU_CLOCK),
        None if (event.is_tracepoint() && !fields) || event.uprobe.is_some() => software(abi::PERF_COUNT_SW_BPF_OUTPUT),
        None => (event.kind, event.config),
    };
    let name = match event.probe {
        Some(Probe::OffCpu) => "offcpu-time".to_owned(),
        _ => event.name.clone(),
    };
    let rate = match (event.probe, event.rate) {
        (Some(Probe::OffCpu | Probe::Lock), _) => SpecRate::Period(1),
        (_, Rate::Frequency(hertz)) => SpecRate::Frequency(hertz),
        (_, Rate::Period(period)) => SpecRate::Period(period),
    };
    EventSpec {
        name,
        kind,
        config,
        more: event.terms.config,
        rate,
        user: event.user,
        kernel: event.kernel,
        group: event.terms.group,
        tracepoint: event.is_tracepoint() && fields,
    }
}

fn fields<'a>(sample: &Sample<'a>, stamp: Stamp) -> SampleFields<'a> {
    SampleFields {
        event: sample.event,
        pid: sample.pid,
        tid: sample.tid,
        stamp,
        period: sample.period,
        user_mode: sample.user_mode,
        ip: sample.ip,
        fields: sample.raw,
        raw_stack: sample.registers.map(|registers| (registers, sample.stack)),
        cgroup: sample.cgroup.unwrap_or(0),
    }
}
