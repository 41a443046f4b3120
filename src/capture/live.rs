//! Opening events, and draining their rings.
//!
//! On every CPU lie two rings: a small one for what happens to processes, so that a flood of samples never costs us a mapping,
//! and a large one for samples. Each belongs to an event that never happens (the anchor), so that sampling events can be closed
//! and opened anew with a larger copy of the stack while the rings stay.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::attr::{self, CallGraph, Features, MAX_STACK_BYTES};
use super::event::{Event, Rate};
use super::target::{self, Scope, Target};
use crate::health::{Count, Health};
use crate::ids::{Tid, Timestamp};
use crate::record::{Decoder, EventIndex, Flow, Merge, Record, RecordRing};
use crate::sys;
use crate::sys::perf_event::{EventFd, Watch, abi};
use crate::sys::ring::Ring;

/// What to capture.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The events.
    pub events: Vec<Event>,
    /// How stacks are found.
    pub graph: CallGraph,
    /// Whom to profile.
    pub target: Target,
    /// Only on these CPUs.
    pub cpus: Option<BTreeSet<u32>>,
    /// Whether later threads and forks of the target belong to it.
    pub inherit: bool,
    /// Bytes of a CPU's ring; chosen by rate and size of samples where `None`.
    pub ring_bytes: Option<u64>,
    /// Enable a command's events at its exec.
    pub enable_on_exec: bool,
}

/// How events are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One a CPU, for all tasks; records of others than the target's are passed over.
    PerCpu,
    /// One a task and CPU: all that is allowed without privileges, and slow where tasks switch often.
    PerTask,
}

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The kernel refuses.
    #[error(
        "not allowed to {what}: perf_event_paranoid is {paranoid}\n  run as root, or give the program the privilege: setcap cap_perfmon,cap_sys_ptrace+ep $(which rprof)\n  or open it to everyone: sysctl kernel.perf_event_paranoid=-1"
    )]
    NotAllowed {
        /// What was refused.
        what: &'static str,
        /// The sysctl.
        paranoid: String,
    },
    /// The machine has no such event.
    #[error(
        "event '{name}' is not supported on this machine (no hardware counters: a virtual machine without a PMU?); try -e cpu-clock"
    )]
    NoSuchEvent {
        /// The event.
        name: String,
    },
    /// The kernel does not open it.
    #[error("cannot open event '{name}': {source}")]
    Open {
        /// The event.
        name: String,
        /// Its answer.
        source: io::Error,
    },
    /// Too many files.
    #[error(
        "too many events: {needed} files are needed and {limit} allowed; raise it (ulimit -n {needed}), or run with CAP_PERFMON, which needs one a CPU"
    )]
    Files {
        /// How many would be needed.
        needed: usize,
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// No memory may be locked for rings.
    #[error(
        "cannot map ring buffers: {0}; raise the limit (sysctl kernel.perf_event_mlock_kb=2048, or ulimit -l unlimited) or ask for less with -m"
    )]
    Rings(io::Error),
    /// No task to profile.
    #[error("no such process or thread: all of the target's have ended")]
    Gone,
    /// A cgroup that is not there.
    #[error("cannot open the cgroup: {0}")]
    Cgroup(io::Error),
    /// The list of CPUs is not readable, or none of those asked for is online.
    #[error("no CPU to profile: {0}")]
    Cpus(String),
}

/// A sampling event.
struct Sampler {
    fd: EventFd,
    event: EventIndex,
}

/// An event that owns the sample ring of a CPU.
struct Anchor {
    fd: EventFd,
    cpu: u32,
    hung_up: bool,
}

/// Open events and their rings.
pub struct Live {
    settings: Settings,
    features: Features,
    sharing: Sharing,
    stack_bytes: u32,
    ring_bytes: u64,
    tids: Vec<Tid>,
    cgroups: Vec<File>,
    /// Kept open for their records.
    sideband: Vec<EventFd>,
    anchors: Vec<Anchor>,
    samplers: Vec<Sampler>,
    rings: Vec<RecordRing>,
    merge: Merge,
    decoder: Decoder,
    scope: Scope,
    /// Of events that were closed, by event.
    lost: Vec<u64>,
    notes: Vec<String>,
}

impl Live {
    /// Opens the events, not yet counting.
    ///
    /// # Errors
    /// [`CaptureError`], with what to do about it.
    pub fn open(settings: Settings) -> Result<Live, CaptureError> {
        sys::raise_file_limit();
        let mut live = Live::prepare(settings)?;
        match live.open_everything() {
            Err(CaptureError::NotAllowed { .. }) if live.can_open_per_task() => {
                live.notes.push(
                    "opening events per task (no CAP_PERFMON): a target that switches often is slowed, and some of its samples are missed".into(),
                );
                live.sharing = Sharing::PerTask;
                live.open_per_task()?;
            }
            other => other?,
        }
        Ok(live)
    }

    fn prepare(settings: Settings) -> Result<Live, CaptureError> {
        let cgroups = match &settings.target {
            Target::Cgroups(names) => names
                .iter()
                .map(|name| target::open_cgroup(name))
                .collect::<Result<_, _>>()
                .map_err(CaptureError::Cgroup)?,
            _ => Vec::new(),
        };
        let stack_bytes = match settings.graph {
            CallGraph::Dwarf { stack_bytes } => stack_bytes,
            // Enough for most programs (docs/stacks.md); grows where it is not.
            _ => 16 << 10,
        };
        let mut live = Live {
            features: Features { lost: true, build_id: true },
            sharing: Sharing::PerCpu,
            stack_bytes,
            ring_bytes: 0,
            tids: Vec::new(),
            cgroups,
            sideband: Vec::new(),
            anchors: Vec::new(),
            samplers: Vec::new(),
            rings: Vec::new(),
            merge: Merge::default(),
            decoder: Decoder::default(),
            scope: Scope::new(&settings.target, settings.inherit),
            lost: vec![0; settings.events.len()],
            notes: Vec::new(),
            settings,
        };
        live.clamp_frequency();
        live.size_rings();
        Ok(live)
    }

    /// Whether the target is made of tasks that events can be opened on one by one.
    fn can_open_per_task(&self) -> bool {
        matches!(self.settings.target, Target::Processes(_) | Target::Command(_) | Target::Threads(_))
    }

    /// The kernel refuses a frequency above its limit; perf lowers it and says so, and so do we.
    fn clamp_frequency(&mut self) {
        let limit = sysctl("perf_event_max_sample_rate").parse().unwrap_or(u64::MAX);
        let mut clamped = false;
        for event in &mut self.settings.events {
            if let Rate::Frequency(hertz) = &mut event.rate {
                clamped |= *hertz > limit && *hertz != u64::MAX;
                *hertz = (*hertz).min(limit);
            }
        }
        if clamped {
            self.notes.push(format!(
                "frequency lowered to the kernel's limit of {limit} Hz (sysctl kernel.perf_event_max_sample_rate)"
            ));
        }
    }

    /// Rings hold half a second of the largest samples, within bounds: a drain comes every 100 ms, or when a quarter is full,
    /// but a busy host lets us wait.
    fn size_rings(&mut self) {
        const LEAST: u64 = 512 << 10;
        const MOST: u64 = 16 << 20;
        const ALL_TOGETHER: u64 = 256 << 20;
        let grown = if self.settings.graph == CallGraph::Auto { MAX_STACK_BYTES } else { self.stack_bytes };
        let record = attr::largest_record(self.settings.graph, grown);
        let rate: u64 = self
            .settings
            .events
            .iter()
            .map(|event| if let Rate::Frequency(hertz) = event.rate { hertz } else { 1000 })
            .sum();
        let share = ALL_TOGETHER / std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        let wanted = record.saturating_mul(rate / 2).clamp(LEAST, MOST).min(share.max(LEAST));
        let asked = self.settings.ring_bytes.unwrap_or(wanted);
        self.ring_bytes = asked.max(sys::page_size()).next_power_of_two();
        if self.settings.ring_bytes.is_some() && self.ring_bytes != asked {
            self.notes.push(format!("ring size rounded up to {} KB (a power of two)", self.ring_bytes >> 10));
        }
        self.fit_stack_to_ring();
    }

    /// A sample larger than the ring would never arrive: the copy is cut so that at least four fit.
    fn fit_stack_to_ring(&mut self) {
        let fixed = attr::largest_record(self.settings.graph, 0);
        let room = (self.ring_bytes / 4).saturating_sub(fixed).min(u64::from(MAX_STACK_BYTES)) as u32 & !7;
        if matches!(self.settings.graph, CallGraph::Dwarf { .. } | CallGraph::Auto) && room < self.stack_bytes {
            self.stack_bytes = room.max(512);
            self.notes.push(format!(
                "rings of {} KB: only {} bytes of each stack are copied",
                self.ring_bytes >> 10,
                self.stack_bytes
            ));
        }
    }

    fn open_everything(&mut self) -> Result<(), CaptureError> {
        self.cpus()?;
        self.choose_features()?;
        self.choose_events()?;
        self.open_rings()
    }

    /// A task of ours alone needs no privilege to be watched, but the kernel may.
    fn open_per_task(&mut self) -> Result<(), CaptureError> {
        self.choose_features()?;
        if self.choose_events().is_err() {
            self.settings.events.iter_mut().for_each(|event| event.kernel = false);
            self.choose_events()?;
            self.notes.push(format!(
                "only user code is sampled: perf_event_paranoid is {} (sysctl kernel.perf_event_paranoid=1 allows the kernel too)",
                sysctl("perf_event_paranoid")
            ));
        }
        self.open_rings()
    }

    /// Leaves away what this kernel does not know.
    fn choose_features(&mut self) -> Result<(), CaptureError> {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        for (lost, build_id) in all {
            self.features = Features { lost, build_id };
            match self.probe(&attr::sideband(self.features)) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(self.explain(error, "dummy")),
                Ok(()) => return Ok(()),
            }
        }
        Err(CaptureError::Open { name: "dummy".into(), source: io::Error::from_raw_os_error(libc::EINVAL) })
    }

    /// Tries each event once, and puts the clock in the place of cycles where there is no counter.
    fn choose_events(&mut self) -> Result<(), CaptureError> {
        for at in 0..self.settings.events.len() {
            let event = &self.settings.events[at];
            let missing = [libc::ENOENT, libc::EOPNOTSUPP, libc::ENODEV];
            match self.probe(&self.sampling_attr(event)) {
                Ok(()) => {}
                Err(error) if error.raw_os_error().is_some_and(|code| missing.contains(&code)) => {
                    if !event.is_cycles() {
                        return Err(CaptureError::NoSuchEvent { name: event.name.clone() });
                    }
                    let clock = event.fallback();
                    self.notes
                        .push(format!("no hardware counter for '{}' here: sampling by '{}'", event.name, clock.name));
                    self.settings.events[at] = clock;
                }
                Err(error) => return Err(self.explain(error, &event.name)),
            }
        }
        Ok(())
    }

    /// Opens and closes an event on what the target is opened on.
    fn probe(&self, attr: &abi::perf_event_attr) -> io::Result<()> {
        let watch = match (self.sharing, self.cgroups.first()) {
            (Sharing::PerTask, _) => Watch::Task(Tid(0)),
            (Sharing::PerCpu, Some(folder)) => Watch::Cgroup(folder.as_fd()),
            (Sharing::PerCpu, None) => Watch::Cpu,
        };
        let cpu = self.cpus().ok().and_then(|cpus| cpus.first().copied());
        EventFd::open(attr, watch, cpu).map(|_| ())
    }

    fn sampling_attr(&self, event: &Event) -> abi::perf_event_attr {
        let watermark = (self.ring_bytes / 4) as u32;
        let mut attr = attr::sampling(event, self.settings.graph, self.stack_bytes, self.features, watermark);
        self.inherit(&mut attr);
        attr.set_enable_on_exec(self.enables_on_exec().into());
        attr
    }

    fn inherit(&self, attr: &mut abi::perf_event_attr) {
        let follows = self.settings.inherit && !matches!(self.settings.target, Target::Threads(_));
        attr.set_inherit((self.sharing == Sharing::PerTask && follows).into());
    }

    /// The CPUs to watch.
    fn cpus(&self) -> Result<Vec<u32>, CaptureError> {
        let online = target::online_cpus().map_err(|error| CaptureError::Cpus(error.to_string()))?;
        let Some(asked) = &self.settings.cpus else { return Ok(online.into_iter().collect()) };
        if let Some(missing) = asked.difference(&online).next() {
            return Err(CaptureError::Cpus(format!("CPU {missing} is not online")));
        }
        Ok(asked.iter().copied().collect())
    }

    /// Opens everything, with smaller rings where so much memory may not be locked.
    fn open_rings(&mut self) -> Result<(), CaptureError> {
        let cpus = self.cpus()?;
        let least = 8 * sys::page_size();
        loop {
            self.close();
            self.tids = self.tasks();
            match self.open_cpus(&cpus) {
                Err(CaptureError::Rings(_)) if self.ring_bytes > least => self.ring_bytes /= 2,
                other => {
                    other?;
                    break;
                }
            }
        }
        if self.samplers.is_empty() {
            return Err(CaptureError::Gone);
        }
        let before = self.stack_bytes;
        self.fit_stack_to_ring();
        if before == self.stack_bytes { Ok(()) } else { self.set_stack_bytes(self.stack_bytes) }
    }

    fn close(&mut self) {
        self.rings.clear();
        self.sideband.clear();
        self.anchors.clear();
        self.samplers.clear();
        self.decoder = Decoder::default();
    }

    /// The tasks to open events on.
    fn tasks(&self) -> Vec<Tid> {
        match (&self.settings.target, self.sharing) {
            (_, Sharing::PerCpu) | (Target::System | Target::Cgroups(_), _) => Vec::new(),
            (Target::Processes(pids), _) => pids.iter().flat_map(|&pid| target::threads(pid)).collect(),
            (Target::Command(pid), _) => vec![Tid(pid.0)],
            (Target::Threads(tids), _) => tids.clone(),
        }
    }

    fn open_cpus(&mut self, cpus: &[u32]) -> Result<(), CaptureError> {
        cpus.iter().try_for_each(|&cpu| {
            self.open_sideband(cpu)?;
            self.open_anchor(cpu)?;
            self.open_samplers(cpu)
        })
    }

    /// What the events of a CPU are opened on.
    fn watches(&self) -> Vec<Watch<'_>> {
        match self.sharing {
            Sharing::PerTask => self.tids.iter().map(|&tid| Watch::Task(tid)).collect(),
            Sharing::PerCpu if self.cgroups.is_empty() => vec![Watch::Cpu],
            Sharing::PerCpu => self.cgroups.iter().map(|folder| Watch::Cgroup(folder.as_fd())).collect(),
        }
    }

    /// Opens an event on everything that is watched; tasks that have ended since are left away.
    fn open_on_all(&self, attr: &abi::perf_event_attr, cpu: u32, name: &str) -> Result<Vec<EventFd>, CaptureError> {
        let mut opened = Vec::new();
        for watch in self.watches() {
            match EventFd::open(attr, watch, Some(cpu)) {
                Ok(fd) => opened.push(fd),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(self.explain(error, name)),
            }
        }
        Ok(opened)
    }

    fn open_sideband(&mut self, cpu: u32) -> Result<(), CaptureError> {
        let mut attr = attr::sideband(self.features);
        self.inherit(&mut attr);
        let mut events = self.open_on_all(&attr, cpu, "dummy")?;
        let Some(owner) = events.first() else { return Ok(()) };
        let ring = map_ring(owner, self.ring_bytes / 8)?;
        redirect(events.iter().skip(1), owner)?;
        self.rings.push(RecordRing::new(ring));
        self.sideband.append(&mut events);
        Ok(())
    }

    fn open_anchor(&mut self, cpu: u32) -> Result<(), CaptureError> {
        let mut attr = attr::sideband(self.features);
        for off in [abi::perf_event_attr::set_mmap, abi::perf_event_attr::set_mmap2, abi::perf_event_attr::set_task] {
            off(&mut attr, 0);
        }
        attr.set_comm(0);
        attr.set_comm_exec(0);
        attr.set_build_id(0);
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = (self.ring_bytes / 4) as u32;
        self.inherit(&mut attr);
        let opened = self.watches().into_iter().find_map(|watch| EventFd::open(&attr, watch, Some(cpu)).ok());
        let Some(fd) = opened else { return Ok(()) };
        self.rings.push(RecordRing::new(map_ring(&fd, self.ring_bytes)?));
        self.anchors.push(Anchor { fd, cpu, hung_up: false });
        Ok(())
    }

    fn open_samplers(&mut self, cpu: u32) -> Result<(), CaptureError> {
        for (index, event) in self.settings.events.iter().enumerate() {
            let attr = self.sampling_attr(event);
            let opened = self.open_on_all(&attr, cpu, &event.name)?;
            let Some(anchor) = self.anchors.iter().find(|anchor| anchor.cpu == cpu) else { continue };
            redirect(opened.iter(), &anchor.fd)?;
            let event = EventIndex(index as u32);
            for fd in opened {
                self.decoder.add(fd.id(), event, attr::layout(&attr));
                self.samplers.push(Sampler { fd, event });
            }
        }
        Ok(())
    }

    /// Opens the sampling events anew, with copies of so many bytes of each stack. What was counted of the old ones is kept.
    ///
    /// # Errors
    /// As [`Live::open`].
    pub fn set_stack_bytes(&mut self, bytes: u32) -> Result<(), CaptureError> {
        self.stack_bytes = bytes;
        let old = std::mem::take(&mut self.samplers);
        self.lost = self.losses_of(&old);
        let cpus: Vec<u32> = self.anchors.iter().map(|anchor| anchor.cpu).collect();
        cpus.into_iter().try_for_each(|cpu| self.open_samplers(cpu))
    }

    /// Bytes of each stack that are copied now.
    #[must_use]
    pub fn stack_bytes(&self) -> u32 {
        self.stack_bytes
    }

    /// The largest copy that the rings have room for.
    #[must_use]
    pub fn most_stack_bytes(&self) -> u32 {
        (self.ring_bytes / 16).min(u64::from(MAX_STACK_BYTES)) as u32 & !7
    }

    /// The events, as they were opened.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.settings.events
    }

    /// How stacks are found.
    #[must_use]
    pub fn graph(&self) -> CallGraph {
        self.settings.graph
    }

    /// How events were opened.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// What the user should know: fallbacks and limits that were met while opening.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of a CPU's ring for samples.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// Starts the records of what happens to processes.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn watch_processes(&self) -> io::Result<()> {
        self.sideband.iter().try_for_each(EventFd::enable)
    }

    /// Whether the kernel starts sampling by itself, at the command's exec.
    #[must_use]
    pub fn enables_on_exec(&self) -> bool {
        let command = matches!(self.settings.target, Target::Command(_));
        command && self.sharing == Sharing::PerTask && self.settings.enable_on_exec
    }

    /// Starts sampling.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn enable(&self) -> io::Result<()> {
        self.samplers.iter().try_for_each(|sampler| sampler.fd.enable())
    }

    /// Ends sampling; what lies in the rings stays.
    pub fn disable(&self) {
        for sampler in &self.samplers {
            // An event whose task has ended is disabled already.
            let _ = sampler.fd.disable();
        }
    }

    /// Waits until a ring is a quarter full or one of `others` is readable, at most so long.
    pub fn wait(&mut self, others: &[BorrowedFd<'_>], timeout: Duration) {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
        let mut fds: Vec<PollFd<'_>> = self
            .anchors
            .iter()
            .filter(|anchor| !anchor.hung_up)
            .map(|anchor| PollFd::new(anchor.fd.as_fd(), PollFlags::POLLIN))
            .collect();
        let anchors = fds.len();
        fds.extend(others.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        if poll(&mut fds, timeout).is_err() {
            return;
        }
        // An anchor whose task has ended would be ready for ever.
        let hung_up: Vec<bool> = fds[..anchors]
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
            .collect();
        for (anchor, gone) in self.anchors.iter_mut().filter(|anchor| !anchor.hung_up).zip(hung_up) {
            anchor.hung_up = gone;
        }
    }

    /// Passes every record that is surely complete to `visit`, oldest first; `everything` at the end.
    ///
    /// Samples of others than the target are passed over unread, and counted.
    pub fn drain(
        &mut self,
        everything: bool,
        health: &mut Health,
        mut visit: impl FnMut(&Record<'_>, &mut Health) -> Flow,
    ) {
        let now = sys::now();
        let until = if everything { Timestamp(u64::MAX) } else { Timestamp(now.0.saturating_sub(Merge::MARGIN)) };
        let (decoder, scope) = (&self.decoder, &mut self.scope);
        self.merge.drain(&mut self.rings, until, |bytes| {
            if Decoder::sample_task(bytes).is_some_and(|(pid, tid)| !scope.wants_sample(pid, tid)) {
                health.add(Count::SamplesSkipped, 1);
                return Flow::Continue;
            }
            match decoder.decode(bytes) {
                Ok(record) => {
                    scope.follow(&record);
                    if wants(scope, &record) { visit(&record, health) } else { Flow::Continue }
                }
                Err(_) => {
                    health.add(Count::RecordsBad, 1);
                    Flow::Continue
                }
            }
        });
        health.add(Count::RecordsUnordered, self.merge.take_unordered());
    }

    /// How full the fullest ring was at the last drain, from 0 to 1.
    #[must_use]
    pub fn fullness(&self) -> f64 {
        let rings = self.rings.iter().map(|ring| ring.ring().filled() as f64 / ring.ring().size() as f64);
        rings.fold(0.0, f64::max)
    }

    /// Whether the target has ended.
    #[must_use]
    pub fn is_over(&mut self) -> bool {
        let all_gone = self.sharing == Sharing::PerTask && self.anchors.iter().all(|anchor| anchor.hung_up);
        (all_gone && !self.anchors.is_empty()) || self.scope.is_over()
    }

    /// Samples that the kernel dropped, by event; `None` where this kernel does not count them.
    #[must_use]
    pub fn losses(&self) -> Option<Vec<u64>> {
        self.features.lost.then(|| self.losses_of(&self.samplers))
    }

    fn losses_of(&self, samplers: &[Sampler]) -> Vec<u64> {
        let mut lost = self.lost.clone();
        for sampler in samplers {
            lost[sampler.event.0 as usize] += sampler.fd.lost().ok().flatten().unwrap_or(0);
        }
        lost
    }

    fn whom(&self) -> &'static str {
        match self.settings.target {
            Target::System => "record the whole system",
            Target::Processes(_) => "record these processes (they may be another user's)",
            Target::Threads(_) => "record these threads (they may be another user's)",
            Target::Command(_) => "record a command",
            Target::Cgroups(_) => "record a cgroup",
        }
    }

    fn explain(&self, error: io::Error, name: &str) -> CaptureError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EACCES | Errno::EPERM) => {
                CaptureError::NotAllowed { what: self.whom(), paranoid: sysctl("perf_event_paranoid") }
            }
            Some(Errno::EMFILE | Errno::ENFILE) => CaptureError::Files {
                needed: (self.settings.events.len() + 2)
                    * self.tids.len().max(1)
                    * self.cpus().map_or(1, |cpus| cpus.len())
                    + 64,
                limit: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
                    .map_or(0, |(soft, _)| soft),
            },
            Some(Errno::ESRCH) => CaptureError::Gone,
            _ => CaptureError::Open { name: name.into(), source: error },
        }
    }
}

/// Whether a record tells of the target.
fn wants(scope: &Scope, record: &Record<'_>) -> bool {
    match record {
        Record::Map(map) => scope.wants_process(map.pid),
        Record::Comm { pid, .. } => scope.wants_process(*pid),
        Record::Fork(task) | Record::Exit(task) => scope.wants_process(task.pid),
        Record::Sample(_) | Record::Lost { .. } | Record::Throttle { .. } | Record::Other(_) => true,
    }
}

fn map_ring(owner: &EventFd, bytes: u64) -> Result<Ring, CaptureError> {
    let pages = (bytes / sys::page_size()).max(8) as usize;
    Ring::map(owner, pages).map_err(CaptureError::Rings)
}

fn redirect<'a>(mut events: impl Iterator<Item = &'a EventFd>, owner: &EventFd) -> Result<(), CaptureError> {
    events.try_for_each(|event| event.set_output(owner)).map_err(CaptureError::Rings)
}

fn sysctl(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/kernel/{name}"))
        .map_or_else(|_| "unknown".into(), |value| value.trim().into())
}
