//! The record loop: each record changes the processes or adds a sample to the window.

mod told;

pub use told::OFF_CPU_STACKS;

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::{FxHashMap, FxHashSet};

use super::chain::Chain;
use super::counts::Counts;
use super::heap::Heap;
use super::loader::{Loaded, Loader};
use super::off_cpu::Intervals;
use super::pass_on::Walked;
use super::pressure::{CopySize, Pressure};
use super::stack::{Frame, Marker, StackId};
use super::window::{EventInfo, Loss, ProcessIndex, SampleKey, Tally, ThreadIndex, Window};
use crate::capture::{CallGraph, Event, Probe, Rate};
use crate::health::{Count, Health};
use crate::ids::{ImageId, Pid, Timestamp, Unit};
use crate::process::{Archive, ImageInfo, Jitdump, ProcessInfo, Processes};
use crate::record::{EventIndex, Flow, KernelTid, Record, Sample, State};
use crate::unwind::{Cfi, MadeCode, Unwinder};

/// How long samples wait in the rings for the images of their process to be opened. Opening takes well below a millisecond, unless
/// the disk is asleep.
const PATIENCE: Duration = Duration::from_millis(500);

/// Counts stacks until it is asked for the window.
pub struct Collector {
    processes: Processes,
    unwinder: Unwinder,
    loader: Loader,
    cfi: FxHashMap<ImageId, Arc<Cfi>>,
    counts: Counts,
    chain: Chain,
    graph: CallGraph,
    pressure: Pressure,
    weight: u64,
    /// Since when a sample waits for images.
    waiting: Option<Instant>,
    patient: bool,
    patience: Duration,
    /// What was dropped of each event.
    losses: Vec<Losses>,
    /// Whether the time of each sample is kept.
    times: bool,
    /// Whether samples are handed on instead of being counted.
    passes_on: bool,
    /// How many samples of each event were handed on.
    passed_on: Vec<u64>,
    /// The CPU of the record that is being taken in.
    cpu: u32,
    follows_processes: bool,
    /// What beside samples each event takes.
    probes: Vec<Option<Probe>>,
    intervals: Intervals,
    heap: Heap,
    /// Since when this window counts.
    began: Timestamp,
    wakers: bool,
    /// Each sample by itself, if that is asked for.
    journal: Option<Vec<Journaled>>,
}

/// One sample, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Journaled {
    /// An index into the window's events.
    pub event: u32,
    /// The thread.
    pub thread: ThreadIndex,
    /// The stack, kernel part at the leaf.
    pub stack: StackId,
    /// When; 0 where a recording does not tell.
    pub time: Timestamp,
    /// The CPU, where a recording tells it.
    pub cpu: Option<u32>,
    /// How much it stands for, in the event's unit.
    pub period: u64,
    /// The branches that the CPU took last, as [`Sample::branches`] has them.
    pub branches: Box<[[u64; 3]]>,
}

/// What was dropped of an event since the beginning, and how much of it earlier windows told.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    /// By records.
    recorded: Loss,
    /// By records of what the kernel counted.
    exact: u64,
    told: Loss,
}

impl Losses {
    /// What was dropped since the last window. A record of it comes later than the count, so sums are compared, not windows.
    fn seal(&mut self, lost: Option<&[u64]>, event: usize) -> Loss {
        let exact = lost.and_then(|lost| lost.get(event)).copied().unwrap_or(0);
        let lost = self.recorded.lost.max(exact).max(self.exact).max(self.told.lost);
        let all = Loss { lost, throttled: self.recorded.throttled };
        let told = std::mem::replace(&mut self.told, all);
        Loss { lost: all.lost - told.lost, throttled: all.throttled - told.throttled }
    }
}

impl Collector {
    /// A collector of these events whose stacks are found like this, and its loader.
    #[must_use]
    pub fn new(events: &[Event], graph: CallGraph) -> Collector {
        Collector {
            processes: Processes::new(),
            unwinder: Unwinder::new(),
            loader: Loader::start(),
            cfi: FxHashMap::default(),
            counts: Counts::default(),
            chain: Chain::default(),
            graph,
            pressure: Pressure::default(),
            weight: 0,
            waiting: None,
            patient: true,
            patience: PATIENCE,
            losses: vec![Losses::default(); events.len()],
            times: false,
            passes_on: false,
            passed_on: vec![0; events.len()],
            cpu: 0,
            follows_processes: true,
            probes: events.iter().map(|event| event.probe).collect(),
            intervals: Intervals::default(),
            heap: Heap::default(),
            began: Timestamp::default(),
            wakers: false,
            journal: None,
        }
    }

    /// A collector of what was recorded earlier or elsewhere: processes are known by its records alone, and their files are found as
    /// `archive` says.
    #[must_use]
    pub fn of_recording(events: &[Event], graph: CallGraph, archive: Archive) -> Collector {
        let processes = Processes::recorded(archive);
        let chain = Chain { recorded: true, ..Chain::default() };
        Collector { processes, chain, patience: Duration::from_secs(60), ..Collector::new(events, graph) }
    }

    /// Keeps each sample by itself too, until [`Collector::take_journal`].
    pub fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// How many samples the journal holds.
    #[must_use]
    pub fn journaled(&self) -> usize {
        self.journal.as_ref().map_or(0, Vec::len)
    }

    /// The samples since the last call, whose stacks and threads are those of the window that grows.
    pub fn take_journal(&mut self) -> Vec<Journaled> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Keeps the time of each sample, so that none are added up.
    pub fn keep_times(&mut self) {
        self.times = true;
    }

    /// Counts nothing from now on: who records takes each sample's stack from [`Collector::walked`], times away from CPUs from
    /// [`Collector::take_times_away`], and what ran already from [`Collector::take_present`]. What is kept does not grow with the length
    /// of the recording.
    pub fn pass_on(&mut self) {
        self.passes_on = true;
        self.processes.remember_present();
    }

    /// The stack of the sample that was taken in last.
    #[must_use]
    pub fn walked(&self) -> Walked<'_> {
        Walked { kernel: &self.chain.kernel, frames: &self.chain.frames }
    }

    /// Processes that were found running since the last call, instead of by records.
    pub fn take_present(&mut self) -> Vec<Pid> {
        self.processes.take_present()
    }

    /// Tells which CPU the next record is of.
    pub fn on_cpu(&mut self, cpu: u32) {
        self.cpu = cpu;
    }

    /// All processes that are known.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        self.processes.pids()
    }

    /// The files that processes ran code of and that have a build ID, as far as they are open by now.
    pub fn binaries(&self) -> impl Iterator<Item = &ImageInfo> {
        self.processes.images().infos().filter(|info| info.build_id.is_some())
    }

    /// Counts from a point in time on: what was away then is charged from there.
    pub fn begin(&mut self, at: Timestamp) {
        self.began = at;
        self.intervals.values_mut().for_each(|open| open.charged = open.charged.max(at));
    }

    /// Lets samples wait so long for the images of their process, where they do not come from a ring that fills meanwhile.
    pub fn wait_for_images(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Takes processes into account that ran before the first record.
    pub fn know(&mut self, pids: &[Pid]) {
        pids.iter().for_each(|&pid| self.processes.read(pid));
        self.send_requests();
    }

    /// Takes all processes into account that ran before the first record.
    pub fn know_all(&mut self) {
        self.processes.read_all();
        self.send_requests();
    }

    /// Whether a sample waits for images to be opened.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes in what the loader has done. While a sample waits, waits for it a little, unless the rings are `crowded`.
    pub fn load(&mut self, crowded: bool, health: &mut Health) {
        if let Some(since) = self.waiting {
            self.patient = !crowded && since.elapsed() < self.patience;
            if self.patient
                && let Some(loaded) = self.loader.wait(Duration::from_millis(5))
            {
                self.loaded(loaded, health);
            }
        }
        while let Some(loaded) = self.loader.take() {
            self.loaded(loaded, health);
        }
        health.add(Count::LoaderPanics, self.loader.take_panics());
        health.add(Count::ProcessesHidden, self.processes.take_hidden());
        for id in self.unwinder.take_wanted() {
            if let Some(cfi) = self.cfi.get(&id) {
                self.loader.compile(id, cfi.clone());
            }
        }
    }

    /// Forgets processes that have ended. Their samples must have been passed on.
    pub fn sweep(&mut self) {
        self.processes.sweep();
        if !self.follows_processes {
            self.miss_records();
        }
    }

    /// Whether records tell what happens to processes. If not, each is read anew when it is sampled.
    #[must_use]
    pub fn follows_processes(&self) -> bool {
        self.follows_processes
    }

    /// Tells whether records of processes come from now on.
    pub fn follow_processes(&mut self, follow: bool) {
        self.follows_processes = follow;
        self.miss_records();
    }

    /// What was known of processes may no longer be true.
    fn miss_records(&mut self) {
        self.processes.follow(&Record::Lost { event: None, lost: 0 });
    }

    /// How many bytes of each stack to copy from now on, if other than the `present` ones; `most` is the largest possible.
    pub fn copy_size(&mut self, present: u32, most: u32) -> Option<CopySize> {
        self.pressure.advice(present, most)
    }

    /// Weight of the first event's samples so far.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Takes a record. [`Flow::Pause`] if it is a sample whose process has images that are still being opened.
    pub fn record(&mut self, record: &Record<'_>, health: &mut Health) -> Flow {
        match record {
            Record::Sample(sample) => return self.sample(sample, health),
            Record::Lost { event, lost } => {
                health.add(Count::RecordsLost, *lost);
                if let Some(loss) = event.and_then(|event| self.losses.get_mut(event.0 as usize)) {
                    loss.recorded.lost = loss.recorded.lost.saturating_add(*lost);
                }
            }
            Record::Throttle { event } => {
                health.add(Count::Throttled, 1);
                if let Some(loss) = event.and_then(|event| self.losses.get_mut(event.0 as usize)) {
                    loss.recorded.throttled += 1;
                }
            }
            Record::Finish(finish) => self.finish(finish),
            Record::HeapChange(change) => self.heap.change(change),
            // On the host, where alone a thread that has ended may leave an interval behind, its number is the kernel's.
            Record::Exit(task) => {
                self.intervals.forget(KernelTid(task.tid.0 as u64));
                if task.pid.0 == task.tid.0 {
                    self.heap.end(task.pid);
                    self.unwinder.remove_code(task.pid);
                }
            }
            Record::Comm { pid, exec: true, .. } => {
                self.heap.end(*pid);
                self.unwinder.remove_code(*pid);
            }
            Record::LostSamples { event, lost } => {
                if let Some(loss) = event.and_then(|event| self.losses.get_mut(event.0 as usize)) {
                    loss.exact = loss.exact.saturating_add(*lost);
                }
            }
            Record::Map(_) | Record::Comm { .. } | Record::Fork(_) | Record::Other(_) => {}
        }
        self.processes.follow(record);
        self.send_requests();
        Flow::Continue
    }

    /// Seals the window and begins the next one. `lost` is what the kernel says it dropped of each event until now. It leaves out
    /// what inherited events of a task's children lost, and records may be lost themselves: the larger number is true.
    #[must_use]
    pub fn seal(&mut self, span: Span, events: &[Event], lost: Option<&[u64]>, health: Health) -> Window {
        let end = span.began.after(span.duration);
        let charges = self.intervals.charge_until(end);
        charges.iter().for_each(|charge| self.charge(charge, end));
        let mut health = health;
        self.scale_running(&mut health);
        self.count_all_away(&mut health);
        self.count_in_use();
        let events = events.iter().enumerate().map(|(at, event)| EventInfo {
            passed_on: std::mem::take(&mut self.passed_on[at]),
            ..event_info(event, self.losses[at].seal(lost, at))
        });
        let events = events.collect();
        let mut comments = span.comments;
        comments.extend(told::shares_comment(self.intervals.take_shares()));
        let counts = std::mem::take(&mut self.counts);
        self.began = end;
        // Who is still away takes its stack into the next window.
        for open in self.intervals.values_mut() {
            (open.thread, open.stack) = self.counts.adopt(&counts, open.thread, open.stack);
        }
        for held in self.heap.turn() {
            (held.thread, held.stack) = self.counts.adopt(&counts, held.thread, held.stack);
        }
        let frames = counts.stacks.distinct_frames().iter();
        let images = frames.filter_map(|frame| self.processes.images().info(frame.image()?));
        Window {
            start: span.start,
            began: span.began,
            duration: span.duration,
            events,
            samples: counts.samples,
            images: images.map(|info| (info.id, info.clone())).collect(),
            stacks: counts.stacks,
            threads: counts.threads,
            processes: counts.processes,
            wakers: counts.wakers,
            main_process: span.main_process,
            comments,
            health,
        }
    }

    fn send_requests(&mut self) {
        let requests = self.processes.take_requests();
        if !requests.is_empty() {
            self.loader.open(requests);
        }
    }

    fn loaded(&mut self, loaded: Loaded, health: &mut Health) {
        match loaded {
            Loaded::Opened { id, image, cfi, denied, go_unusable } => {
                health.add(Count::ImagesDenied, denied.into());
                health.add(Count::ImagesBadGo, go_unusable.into());
                health.add(if image.is_some() { Count::ImagesOpened } else { Count::ImagesFailed }, 1);
                if image.is_some() {
                    self.unwinder.add_image(id, cfi.clone());
                }
                if let Some(cfi) = cfi {
                    self.cfi.insert(id, cfi);
                }
                self.processes.opened(id, image);
            }
            Loaded::PerfMap { process, file } => self.found_perf_map(&process, file),
            Loaded::Jitdump { process, jitdump, code } => self.read_jitdump(&process, jitdump, code),
            Loaded::NotCompiled => {}
            Loaded::Compiled { id, table, damaged } => {
                health.add(Count::ImagesBadCfi, u64::from(damaged > 0));
                self.cfi.remove(&id);
                self.unwinder.add_table(id, table);
            }
        }
    }

    /// The process keeps it for later windows; the one that grows has a row of its own.
    fn found_perf_map(&mut self, process: &ProcessInfo, file: Option<Arc<File>>) {
        if let Some(&ProcessIndex(row)) = self.counts.process_index.get(&process.key)
            && let Some(info) = self.counts.processes.get_mut(row as usize)
            && file.is_some()
        {
            info.perf_map.clone_from(&file);
        }
        self.processes.found_perf_map(process, file);
    }

    fn read_jitdump(&mut self, process: &ProcessInfo, jitdump: Jitdump, code: Vec<MadeCode>) {
        if let Some(&ProcessIndex(row)) = self.counts.process_index.get(&process.key)
            && let Some(info) = self.counts.processes.get_mut(row as usize)
        {
            info.jitdump.clone_from(&jitdump.file);
        }
        let changed = !code.is_empty();
        if changed {
            self.unwinder.add_code(process.pid, code);
        }
        self.processes.read_jitdump(process, jitdump, changed);
    }

    /// Closes the images that no process has mapped and no frame of this window lies in. Answers which: the symbolizer need not
    /// remember them any longer than windows that were sealed before.
    pub fn forget_images(&mut self) -> Vec<ImageId> {
        let frames: FxHashSet<ImageId> = self.counts.stacks.distinct_frames().iter().filter_map(Frame::image).collect();
        let forgotten = self.processes.forget_images(&|id| frames.contains(&id));
        for &id in &forgotten {
            self.unwinder.remove_image(id);
            self.cfi.remove(&id);
        }
        forgotten
    }

    fn sample(&mut self, sample: &Sample<'_>, health: &mut Health) -> Flow {
        let process = self.processes.of_sample(sample.pid);
        if let Some((process, jitdump)) = process.seek_jitdump() {
            self.loader.read_jitdump(process, jitdump);
        }
        if !process.is_ready() {
            if self.patient {
                self.waiting.get_or_insert_with(Instant::now);
                self.send_requests();
                return Flow::Pause;
            }
            health.add(Count::StacksEarly, 1);
            process.give_up_waiting();
        }
        self.waiting = None;
        self.patient = true;
        self.chain.read(sample);
        let marker = self.chain.walk(sample, self.graph, &mut self.unwinder, process, health);
        let in_user_code = u64::from(!self.chain.frames.is_empty());
        health.add(Count::SamplesUser, in_user_code);
        if in_user_code > 0 && !sample.stack.is_empty() {
            let reach = self.unwinder.reach();
            let cut = marker == Some(Marker::Truncated);
            let needed = if cut { self.chain.needed(sample, process, reach) } else { None };
            self.pressure.count(needed.unwrap_or(reach.bytes), needed.is_some());
        }
        if self.chain.frames.iter().any(|frame| frame.place.is_none())
            && let Some(process) = process.seek_perf_map()
        {
            self.loader.open_perf_map(process);
        }
        if !self.passes_on || sample.begin.is_some() {
            let thread = self.counts.thread(process, sample.tid);
            let owner = self.counts.threads[thread.0 as usize].process;
            let stack = self.chain.push(&mut self.counts.stacks, owner, marker, self.passes_on);
            self.take_in(sample, thread, stack, health);
        } else {
            self.count_passed_on(sample.event);
        }
        let is_plain = sample.begin.is_none() && sample.allocation.is_none();
        self.weight = self.weight.saturating_add(if is_plain && sample.event.0 == 0 { sample.period } else { 0 });
        health.add(Count::Samples, 1);
        self.send_requests();
        Flow::Continue
    }

    /// Counts a sample or an allocation, or begins an interval with it.
    fn take_in(&mut self, sample: &Sample<'_>, thread: ThreadIndex, stack: StackId, health: &mut Health) {
        if let Some(begin) = &sample.begin {
            return self.begin_interval(begin, thread, stack, health);
        }
        if let Some(allocation) = &sample.allocation {
            return self.allocate(allocation, sample, thread, stack);
        }
        let wall = self.probes.get(sample.event.0 as usize) == Some(&Some(Probe::Wall));
        let key = SampleKey {
            event: sample.event.0,
            thread,
            stack,
            time: self.kept(sample.time),
            state: wall.then_some(State::Running),
            waker: None,
        };
        self.counts.add(key, Tally { samples: 1, weight: sample.period });
        if let Some(journal) = &mut self.journal {
            let &Sample { time, cpu, period, .. } = sample;
            let words: Vec<u64> = sample.branches.iter().collect();
            let branches = words.as_chunks().0.into();
            journal.push(Journaled { event: key.event, thread, stack, time, cpu, period, branches });
        }
    }

    fn count_passed_on(&mut self, event: EventIndex) {
        if let Some(samples) = self.passed_on.get_mut(event.0 as usize) {
            *samples += 1;
        }
    }

    /// The time by which a sample is told from others.
    fn kept(&self, time: Timestamp) -> Timestamp {
        if self.times { time } else { Timestamp::default() }
    }
}

/// The frame of a window: when, whose, and what to say of it.
pub struct Span {
    /// When it began.
    pub start: SystemTime,
    /// The same point on the clock of the records.
    pub began: Timestamp,
    /// How long it lasted.
    pub duration: Duration,
    /// The command, or the first PID that was asked for.
    pub main_process: Option<Pid>,
    /// Lines for people.
    pub comments: Vec<String>,
}

fn event_info(event: &Event, loss: Loss) -> EventInfo {
    let (frequency, period) = match event.rate {
        Rate::Frequency(hertz) => {
            (hertz, if event.unit == Unit::Nanoseconds { 1_000_000_000 / hertz.max(1) } else { 0 })
        }
        Rate::Period(period) => (0, period),
    };
    EventInfo {
        name: event.name.clone(),
        value_name: event.value_name.clone(),
        count_name: event.count_name(),
        unit: event.unit,
        period,
        frequency,
        loss,
        passed_on: 0,
        apart: event.probe.is_some(),
    }
}
