//! A recording of `perf record` by the same street as live records: its records go to the collector, and what that counts becomes a
//! profile. Nothing is looked up among the processes of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::screen::Screen;
use crate::capture::{CallGraph, Event, Rate, Terms};
use crate::collect::{Collector, Frame, Journaled, Span, Window};
use crate::health::{Count, Health};
use crate::ids::{Pid, Timestamp, Unit};
use crate::process::Archive;
use crate::profile::{self, Profile};
use crate::record::perf_data::{Attr, Header, PerfData, PerfDataError};
use crate::record::{Flow, MapRecord, Record, Sample};
use crate::symbol::{KernelSymbols, Options, Symbol, Symbolizer};
use crate::sys;
use crate::sys::perf_event::abi;

/// Files from here on are read under a progress bar.
const LARGE: u64 = 16 << 20;
/// Records after which what is over is forgotten, and the bar moves.
const STEP: u64 = 1 << 14;
/// Samples that are told one by one before the next are read.
const CHUNK: usize = 1 << 13;
/// Times from here on are no times: perf puts samples there that it adds up itself, and wants behind all others.
const NO_TIME: u64 = 0xffff_ffff << 32;

/// A part of a recording's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeRange {
    /// Nanoseconds on the clock of the recording; open at either end.
    Between(Option<u64>, Option<u64>),
    /// From a share to another (0 to 1) of the time between the first and the last sample.
    Shares(f64, f64),
}

/// How a recording is read.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// A folder that stands for the root of the machine that was recorded.
    pub symfs: Option<PathBuf>,
    /// The kernel's symbols; without it those of this kernel, if it is the recorded one.
    pub kernel: Option<KernelSymbols>,
    /// Whether calls that were inlined are left out.
    pub no_inline: bool,
    /// Whether files and lines are left out.
    pub no_lines: bool,
    /// Whether each sample keeps its time in the profile.
    pub times: bool,
    /// Only samples of this time.
    pub time: Option<TimeRange>,
}

/// Why a recording gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error(transparent)]
    File(#[from] PerfDataError),
    /// A part of its time was asked for, and its samples have none.
    #[error("the samples of {path} have no times; a part of its time cannot be chosen (record with -T)")]
    NoTimes {
        /// The file.
        path: String,
    },
}

/// A part of a recording, sample by sample.
pub struct Chunk<'a> {
    /// The events of the recording.
    pub events: &'a [Event],
    /// What the samples refer to.
    pub window: &'a Window,
    /// The samples in the order of time.
    pub samples: &'a [Journaled],
    /// The functions of each frame, innermost first.
    pub names: &'a FxHashMap<Frame, Arc<[Symbol]>>,
}

/// A recording that is open.
pub struct Replay<'a> {
    data: PerfData,
    path: PathBuf,
    options: ReplayOptions,
    screen: &'a Screen,
    events: Vec<Event>,
    /// From where to where samples are taken.
    bounds: (u64, u64),
    counting: Counting,
}

/// What grows while records are read.
struct Counting {
    collector: Collector,
    health: Health,
    /// Whether registers and stacks in the file are of this kind of machine.
    native: bool,
    first: Option<Timestamp>,
    last: Timestamp,
    branches: u64,
    main_process: Option<Pid>,
    kernel_reference: Option<(Arc<str>, u64)>,
}

impl<'a> Replay<'a> {
    /// Opens a recording and reads its header; `-` is the standard input.
    ///
    /// # Errors
    /// [`ReplayError`] if it is none, or has no times where they are needed.
    pub fn open(path: &Path, options: ReplayOptions, screen: &'a Screen) -> Result<Replay<'a>, ReplayError> {
        sys::survive_truncated_files();
        let data = PerfData::open(path)?;
        let header = data.header();
        let bounds = bounds(path, header, options.time)?;
        let events: Vec<Event> = header.attrs.iter().map(event).collect();
        let mut collector = Collector::of_recording(&events, graph(&header.attrs), archive(path, header, &options));
        if options.times {
            collector.keep_times();
        }
        let counting = Counting {
            collector,
            health: Health::default(),
            native: header.arch.as_deref().is_none_or(|arch| arch == std::env::consts::ARCH),
            first: None,
            last: Timestamp(0),
            branches: 0,
            main_process: None,
            kernel_reference: None,
        };
        Ok(Replay { data, path: path.into(), options, screen, events, bounds, counting })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.data.header()
    }

    /// Counts all samples.
    ///
    /// # Errors
    /// [`ReplayError`] if reading fails.
    pub fn profile(mut self) -> Result<Profile, ReplayError> {
        self.read(&mut |_, _| {})?;
        let mut symbolizer = self.symbolizer();
        let window = self.seal();
        self.warn(&window, &mut symbolizer);
        let mut naming = |done, total| self.screen.naming(done, total);
        let profile = profile::build(window, &mut symbolizer, &mut naming);
        self.screen.clear();
        Ok(profile)
    }

    /// Passes all samples to `visit`, some thousand at a time. It answers whether it wants more.
    ///
    /// # Errors
    /// [`ReplayError`] if reading fails.
    pub fn samples(mut self, visit: &mut dyn FnMut(&Chunk<'_>) -> bool) -> Result<(), ReplayError> {
        self.counting.collector.keep_journal();
        let mut teller =
            Teller { events: self.events.clone(), symbolizer: None, options: self.symbol_options(), visit, more: true };
        self.read(&mut |counting, last| {
            if teller.more && (last || counting.collector.journaled() >= CHUNK) {
                teller.tell(counting);
            }
        })?;
        let mut symbolizer = teller.symbolizer.unwrap_or_else(|| Symbolizer::new(Options::default()));
        let window = self.seal();
        self.warn(&window, &mut symbolizer);
        self.screen.clear();
        Ok(())
    }

    /// Reads all records. `after` is called behind each, and once with `true` at the end.
    fn read(&mut self, after: &mut dyn FnMut(&mut Counting, bool)) -> Result<(), ReplayError> {
        let Replay { data, screen, bounds, counting, .. } = self;
        let total = data.size().filter(|&size| size >= LARGE);
        let mut records = 0_u64;
        data.read(&mut |record, read| {
            counting.take(record, *bounds);
            records += 1;
            if records.is_multiple_of(STEP) {
                counting.collector.sweep();
                total.iter().for_each(|&total| screen.reading(read, total));
            }
            after(counting, false);
        })?;
        after(counting, true);
        let counts = data.counts();
        counting.health.add(Count::RecordsBad, counts.bad);
        counting.health.add(Count::RecordsUnordered, counts.late);
        self.screen.clear();
        Ok(())
    }

    fn seal(&mut self) -> Window {
        let header = self.data.header();
        let comments = comments(header, &self.remarks(), self.counting.branches);
        let Counting { collector, health, first, last, main_process, .. } = &mut self.counting;
        let began = first.unwrap_or_default();
        let duration = last.since(began);
        let written =
            || fs::metadata(&self.path).and_then(|file| file.modified()).unwrap_or_else(|_| SystemTime::now());
        let start = match header.clock {
            Some(clock) => civil(clock.wall, clock.time, began.0),
            None => written().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        let span = Span { start, began, duration, main_process: *main_process, comments };
        collector.seal(span, &self.events, None, std::mem::take(health))
    }

    /// What is wrong with the file itself.
    fn remarks(&self) -> Vec<String> {
        let counts = self.data.counts();
        let path = self.path.display();
        let mut remarks = Vec::new();
        if counts.unterminated {
            remarks.push(format!("{path} was not closed (its writer was killed?): shown is what is whole"));
        } else if counts.cut {
            remarks.push(format!("{path} is cut short: shown is what is whole"));
        }
        if counts.damaged {
            remarks.push(format!("{path} is damaged: what lies behind the damage cannot be read"));
        }
        if counts.bad > 0 {
            remarks.push(format!("{} records of {path} are not as its header says, and are left out", counts.bad));
        }
        if counts.late > 0 {
            remarks.push(format!("{} records of {path} came too late to be put in order", counts.late));
        }
        remarks
    }

    fn warn(&self, window: &Window, symbolizer: &mut Symbolizer) {
        self.screen.clear();
        self.remarks().iter().for_each(|remark| self.screen.say(remark));
        if super::record::kernel_names_hidden(window, symbolizer) {
            let release = self.header().release.as_deref().unwrap_or("another kernel");
            let line = format!(
                "the kernel's functions have no names: recorded under {release}, whose symbols are not here (--kallsyms FILE, --vmlinux FILE)"
            );
            self.screen.say(&line);
        }
    }

    fn symbol_options(&self) -> Options {
        let own = || own_kernel(self.header());
        let nothing = || KernelSymbols::Kallsyms(PathBuf::new());
        let kernel = self.options.kernel.clone();
        let kernel = kernel.or_else(|| own().then(|| Options::default().kernel)).unwrap_or_else(nothing);
        Options {
            kernel,
            debug_directories: debug_directories(self.options.symfs.as_deref()),
            inlined: !self.options.no_inline,
            lines: !self.options.no_lines,
            ..Options::default()
        }
    }

    fn symbolizer(&self) -> Symbolizer {
        let kernel_reference = self.counting.kernel_reference.clone();
        Symbolizer::new(Options { kernel_reference, ..self.symbol_options() })
    }
}

/// Tells samples one by one.
struct Teller<'a> {
    events: Vec<Event>,
    options: Options,
    /// Made when it is first needed: the kernel's place is known by then.
    symbolizer: Option<Symbolizer>,
    visit: &'a mut dyn FnMut(&Chunk<'_>) -> bool,
    more: bool,
}

impl Teller<'_> {
    fn tell(&mut self, counting: &mut Counting) {
        let samples = counting.collector.take_journal();
        let span = Span {
            start: SystemTime::UNIX_EPOCH,
            began: Timestamp(0),
            duration: Duration::ZERO,
            main_process: None,
            comments: Vec::new(),
        };
        let window = counting.collector.seal(span, &self.events, None, Health::default());
        let options = Options { kernel_reference: counting.kernel_reference.clone(), ..self.options.clone() };
        let symbolizer = self.symbolizer.get_or_insert_with(|| Symbolizer::new(options));
        let names = profile::name_frames(&window, symbolizer);
        self.more = (self.visit)(&Chunk { events: &self.events, window: &window, samples: &samples, names: &names });
    }
}

impl Counting {
    fn take(&mut self, record: &Record<'_>, bounds: (u64, u64)) {
        match record {
            Record::Sample(sample) => return self.sample(sample, bounds),
            Record::Map(map) if map.pid.0 < 0 => self.find_kernel(map),
            // The program that perf executed.
            Record::Comm { pid, exec: true, .. } if self.main_process.is_none() => self.main_process = Some(*pid),
            _ => {}
        }
        self.pass(record);
    }

    fn sample(&mut self, sample: &Sample<'_>, (from, to): (u64, u64)) {
        let time = sample.time.0;
        if time < from || time > to {
            return;
        }
        if time > 0 && time < NO_TIME {
            self.first = Some(self.first.map_or(sample.time, |first| first.min(sample.time)));
            self.last = self.last.max(sample.time);
        }
        self.branches = self.branches.saturating_add(u64::from(!sample.branches.is_empty()));
        let mut sample = sample.clone();
        if !self.native {
            (sample.registers, sample.stack) = (None, &[]);
        }
        self.pass(&Record::Sample(sample));
    }

    /// The rings are a file, which waits.
    fn pass(&mut self, record: &Record<'_>) {
        self.collector.load(false, &mut self.health);
        while self.collector.record(record, &mut self.health) == Flow::Pause {
            self.collector.load(false, &mut self.health);
        }
    }

    /// The kernel's own mapping is named after the symbol whose address its offset is.
    fn find_kernel(&mut self, map: &MapRecord<'_>) {
        let name = map.name.to_string_lossy();
        if let Some(symbol) = name.strip_prefix("[kernel.kallsyms]").filter(|symbol| !symbol.is_empty()) {
            self.kernel_reference = Some((symbol.into(), map.offset));
        }
    }
}

/// An event by its attr.
fn event(attr: &Attr) -> Event {
    let preset = Event::preset(attr.kind, attr.config);
    let named = |name: &str| attr.name.contains(name);
    let bpf_output = attr.kind == abi::PERF_TYPE_SOFTWARE && attr.config == u64::from(abi::PERF_COUNT_SW_BPF_OUTPUT);
    let name = match (&preset, attr.name.is_empty()) {
        (_, false) => attr.name.clone(),
        (Some(preset), true) => preset.name.clone(),
        (None, true) => format!("type-{}-config-{:#x}", attr.kind, attr.config),
    };
    let plain = name.split(['/', ':']).next().filter(|_| preset.is_some()).unwrap_or(&name);
    let word = |name: &str| name.trim_matches('/').replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let (value_name, unit) = if named("offcpu") || named("off-cpu") || named("off_cpu") || bpf_output {
        ("off_cpu".into(), Unit::Nanoseconds)
    } else {
        preset.map_or_else(|| (word(plain), Unit::Count), |preset| (preset.value_name, preset.unit))
    };
    let rate = if attr.by_frequency { Rate::Frequency(attr.rate) } else { Rate::Period(attr.rate) };
    Event {
        name,
        value_name,
        unit,
        kind: attr.kind,
        config: attr.config,
        rate,
        user: !attr.exclude_user,
        kernel: !attr.exclude_kernel,
        probe: None,
        uprobe: None,
        terms: Terms::default(),
    }
}

/// Stacks are unwound if one event copied them.
fn graph(attrs: &[Attr]) -> CallGraph {
    let copies =
        |attr: &Attr| attr.layout.has(abi::PERF_SAMPLE_REGS_USER) && attr.layout.has(abi::PERF_SAMPLE_STACK_USER);
    if attrs.iter().any(copies) { CallGraph::Auto } else { CallGraph::FramePointer }
}

fn debug_directories(symfs: Option<&Path>) -> Vec<PathBuf> {
    let own = Options::default().debug_directories;
    let below = |path: &PathBuf| symfs.map(|root| root.join(path.strip_prefix("/").unwrap_or(path)));
    own.iter().filter_map(below).chain(own.clone()).collect()
}

fn archive(path: &Path, header: &Header, options: &ReplayOptions) -> Archive {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Archive {
        symfs: options.symfs.clone(),
        caches: home.map(|home| home.join(".debug")).into_iter().collect(),
        debug_directories: debug_directories(options.symfs.as_deref()),
        build_ids: header.images.iter().map(|image| (image.name.clone(), image.build_id.clone())).collect(),
        written: fs::metadata(path).and_then(|file| file.modified()).ok(),
        own_kernel: own_kernel(header),
    }
}

/// Whether a recording was made under the kernel that runs here: by its release, and by its build ID where that is known.
fn own_kernel(header: &Header) -> bool {
    let release = nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned()).ok();
    let recorded = header.images.iter().find(|image| image.name.starts_with("[kernel.kallsyms]"));
    let notes = fs::read("/sys/kernel/notes").unwrap_or_default();
    // The id is the last part of its note; a whole one does not occur by chance.
    let same = recorded
        .is_none_or(|kernel| notes.windows(kernel.build_id.bytes().len()).any(|id| id == kernel.build_id.bytes()));
    header.release.as_ref().zip(release.as_ref()).is_none_or(|(recorded, here)| recorded == here) && same
}

fn civil(wall: u64, then: u64, time: u64) -> SystemTime {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_nanos(wall);
    let moved = |by: u64| Duration::from_nanos(by);
    let moment = if time >= then { wall.checked_add(moved(time - then)) } else { wall.checked_sub(moved(then - time)) };
    moment.unwrap_or(wall)
}

fn comments(header: &Header, remarks: &[String], branches: u64) -> Vec<String> {
    let mut comments = Vec::new();
    if let Some(version) = &header.version {
        comments.push(format!("recorded by perf {version}"));
    }
    if !header.command.is_empty() {
        comments.push(format!("{}{}", profile::COMMAND, header.command.join(" ")));
    }
    let host = [&header.hostname, &header.release, &header.arch];
    let host: Vec<&str> = host.into_iter().flatten().map(String::as_str).collect();
    if !host.is_empty() {
        comments.push(format!("host: {}", host.join(" ")));
    }
    comments.extend(header.cpus.map(|(_, online)| profile::cpus_comment(online)));
    if branches > 0 {
        comments.push(format!("{branches} samples came with branch stacks, which rprof script -F brstack prints"));
    }
    comments.extend(remarks.iter().cloned());
    comments
}

/// The times from and to which samples are taken, in nanoseconds.
fn bounds(path: &Path, header: &Header, range: Option<TimeRange>) -> Result<(u64, u64), ReplayError> {
    let without = || ReplayError::NoTimes { path: path.display().to_string() };
    let timed = header.attrs.iter().all(|attr| attr.layout.has(abi::PERF_SAMPLE_TIME));
    match range {
        None => Ok((0, u64::MAX)),
        Some(_) if !timed => Err(without()),
        Some(TimeRange::Between(from, to)) => Ok((from.unwrap_or(0), to.unwrap_or(u64::MAX))),
        Some(TimeRange::Shares(from, to)) => {
            let told = header.sample_time.filter(|(first, last)| first < last && last.0 < NO_TIME);
            let (first, last) = told.map_or_else(|| scan(path), Ok)?;
            let at = |share: f64| first.0 + (last.since(first).as_nanos() as f64 * share) as u64;
            Ok((at(from), if to >= 1.0 { u64::MAX } else { at(to) }))
        }
    }
}

/// The times of the first and the last sample, by reading all.
fn scan(path: &Path) -> Result<(Timestamp, Timestamp), ReplayError> {
    let without = || ReplayError::NoTimes { path: path.display().to_string() };
    // The standard input can be read but once.
    if path == Path::new("-") {
        return Err(without());
    }
    let mut span: Option<(Timestamp, Timestamp)> = None;
    PerfData::open(path)?.read(&mut |record, _| {
        if let Record::Sample(Sample { time, .. }) = record
            && (1..NO_TIME).contains(&time.0)
        {
            let (first, last) = span.unwrap_or((*time, *time));
            span = Some((first.min(*time), last.max(*time)));
        }
    })?;
    span.ok_or_else(without)
}
