//! Opening events: on CPUs where that is allowed, else on tasks; with what this kernel knows; in rings that may be locked.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use super::{Anchor, Live, Sampler, Settings, Sharing};
use crate::capture::alloc::Alloc;
use crate::capture::attr::{self, AlsoRecords, CallGraph, Features, MAX_STACK_BYTES};
use crate::capture::error::CaptureError;
use crate::capture::event::{Event, Probe, Rate};
use crate::capture::namespace;
use crate::capture::off_cpu::OffCpu;
use crate::capture::target::{self, Scope, Target};
use crate::capture::uprobe::Uprobe;
use crate::ids::Tid;
use crate::record::{Decoder, EventIndex, Layout, Merge, Part, RecordRing};
use crate::sys;
use crate::sys::perf_event::{EventFd, Watch, abi};
use crate::sys::ring::Ring;

/// The share by which the period of a clock is varied, up and down.
const JITTER: f64 = 0.1;

impl Live {
    /// Opens the events, not yet counting.
    ///
    /// # Errors
    /// [`CaptureError`], with what to do about it.
    pub fn open(settings: Settings) -> Result<Live, CaptureError> {
        sys::raise_file_limit();
        let mut live = Live::prepare(settings)?;
        if matches!(live.settings.target, Target::System) && !namespace::in_first_pid_namespace() {
            live.notes.push("in a PID namespace: only the processes in it are recorded".into());
        }
        if live.stops_others() {
            live.share_per_task();
            live.note_unmet_probes();
            live.notes.push("opening events per task: a probe would else stop everybody who runs that code".into());
        }
        match live.open_everything() {
            Err(CaptureError::NotAllowed { .. }) if live.can_open_per_task() => {
                live.notes.push(
                    "opening events per task (no CAP_PERFMON): a target that switches often is slowed, and some of its samples are missed".into(),
                );
                live.share_per_task();
                live.open_per_task()?;
            }
            other => other?,
        }
        Ok(live)
    }

    fn share_per_task(&mut self) {
        self.sharing = Sharing::PerTask;
        if self.settings.graph == CallGraph::Auto {
            // It cannot be changed later.
            self.stack_bytes = 32 << 10;
        }
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
            // Of departures there may be a million a second, which would fill the rings with large copies: it grows where it has to.
            CallGraph::Auto if settings.events.iter().any(|event| event.probe.is_some_and(Probe::is_away)) => 16 << 10,
            // Shrinks where less is enough (docs/stacks.md).
            _ => MAX_STACK_BYTES,
        };
        let mut live = Live {
            features: Features { lost: true, build_id: true },
            sharing: Sharing::PerCpu,
            stack_bytes,
            ring_bytes: 0,
            tids: Vec::new(),
            newcomers: Vec::new(),
            gone: FxHashSet::default(),
            on: false,
            cgroups,
            sideband: Vec::new(),
            anchors: Vec::new(),
            samplers: Vec::new(),
            rings: Vec::new(),
            merge: Merge::default(),
            decoder: Decoder::default(),
            off_cpu: None,
            alloc: None,
            scope: Scope::new(&settings.target, settings.inherit),
            scales: vec![1.0; settings.events.len()],
            taken: vec![0; settings.events.len()],
            closed: Vec::new(),
            lost: vec![0; settings.events.len()],
            notes: Vec::new(),
            settings,
        };
        live.clamp_frequency();
        live.size_rings();
        Ok(live)
    }

    /// Whether events on CPUs would slow others than the target, who pay for probes that they run into.
    fn stops_others(&self) -> bool {
        self.can_open_per_task() && self.settings.events.iter().any(|event| event.uprobe.is_some())
    }

    fn note_unmet_probes(&mut self) {
        if let Target::Processes(pids) = &self.settings.target {
            let probes = self.settings.events.iter().filter_map(|event| event.uprobe.as_ref());
            self.notes.extend(probes.filter_map(|uprobe| uprobe.unmet(pids)));
        }
    }

    /// Tells of files of probes that were replaced, and takes the probes out of those that were written to.
    pub(super) fn look_after_probes(&mut self) {
        let probes = self.settings.events.iter().filter_map(|event| event.uprobe.as_ref());
        let notes: Vec<String> = probes.filter_map(Uprobe::changed).collect();
        self.take_out(|live, sampler| live.uprobe_of(sampler).is_some_and(Uprobe::overwritten));
        for note in notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    fn uprobe_of(&self, sampler: &Sampler) -> Option<&Uprobe> {
        self.settings.events.get(sampler.event.0 as usize)?.uprobe.as_ref()
    }

    /// Closes those sampling events.
    fn take_out(&mut self, which: impl Fn(&Live, &Sampler) -> bool) {
        if !self.settings.events.iter().any(|event| event.uprobe.is_some()) {
            return;
        }
        let (out, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.samplers).into_iter().partition(|sampler| which(self, sampler));
        self.samplers = stay;
        if !out.is_empty() {
            self.retire(out);
        }
    }

    /// Whether new tasks have to be given the probes of those that they come from. The kernel gives them other events by itself, but to
    /// copy a probe it would look for its file's name in the memory of the task, and fail the clone(2) that finds none there.
    pub(super) fn follows_with_probes(&self) -> bool {
        self.sharing == Sharing::PerTask
            && self.settings.inherit
            && !matches!(self.settings.target, Target::Threads(_))
            && self.settings.events.iter().any(|event| event.uprobe.is_some())
    }

    /// Probes what came since, and forgets what went.
    pub(super) fn follow_with_probes(&mut self) {
        let (came, gone) = (std::mem::take(&mut self.newcomers), std::mem::take(&mut self.gone));
        if !gone.is_empty() {
            self.take_out(|live, sampler| {
                live.uprobe_of(sampler).is_some() && sampler.task.is_some_and(|task| gone.contains(&task))
            });
        }
        let cpus: Vec<u32> = self.anchors.iter().map(|anchor| anchor.cpu).collect();
        // Events that were opened anew meanwhile took them along.
        let probes = self.samplers.iter().filter(|sampler| self.uprobe_of(sampler).is_some());
        let known: FxHashSet<Tid> = probes.filter_map(|sampler| sampler.task).collect();
        for tid in came.into_iter().filter(|tid| !gone.contains(tid) && !known.contains(tid)) {
            if let Err(error) = cpus.iter().try_for_each(|&cpu| self.probe_task(tid, cpu)) {
                let note = format!("a thread that started meanwhile cannot be probed: {error}");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
        }
    }

    /// Opens the probes on a task, and starts them.
    fn probe_task(&mut self, tid: Tid, cpu: u32) -> Result<(), CaptureError> {
        for index in 0..self.settings.events.len() {
            if self.settings.events[index].uprobe.is_some() {
                let before = self.samplers.len();
                self.open_sampler(index, cpu, &[tid])?;
                let on = self.on || self.enables_on_exec();
                let new = self.samplers[before..].iter().filter(|_| on);
                let started = new.into_iter().try_for_each(|sampler| sampler.fd.enable());
                started.map_err(|error| self.explain(error, &self.settings.events[index].name))?;
            }
        }
        Ok(())
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
        let share = ALL_TOGETHER / self.cpus().map_or(1, |cpus| cpus.len().max(1) as u64);
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
        const LEAST_OF_AUTO: u32 = 16 << 10;
        if self.settings.graph == CallGraph::Auto {
            self.stack_bytes = self.stack_bytes.min(self.most_stack_bytes().max(LEAST_OF_AUTO));
        }
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
        self.load_probes()?;
        self.open_rings()
    }

    /// Loads the programs that some events take.
    fn load_probes(&mut self) -> Result<(), CaptureError> {
        let asks = |of: fn(Probe) -> bool| self.settings.events.iter().any(|event| event.probe.is_some_and(of));
        let (away, alloc) = (asks(Probe::is_away), asks(Probe::is_alloc));
        if away {
            let off_cpu = OffCpu::load(&self.settings, &self.cgroups)?;
            self.notes.extend(off_cpu.notes().iter().cloned());
            self.off_cpu = Some(off_cpu);
        }
        if alloc {
            let everybody = matches!(self.settings.target, Target::System);
            self.alloc = Some(Alloc::load(&self.settings.events, everybody)?);
        }
        Ok(())
    }

    /// A task of ours alone needs no privilege to be watched, but the kernel may.
    fn open_per_task(&mut self) -> Result<(), CaptureError> {
        self.load_probes()?;
        self.choose_features()?;
        if self.choose_events().is_err() {
            if let Some(event) = self.settings.events.iter().find(|event| !event.user || event.is_of_kernel()) {
                let (name, paranoid) = (event.name.clone(), sysctl("perf_event_paranoid"));
                return Err(CaptureError::KernelNotAllowed { name, paranoid });
            }
            self.settings.events.iter_mut().for_each(|event| event.kernel = false);
            self.choose_events()?;
            self.notes.push(format!(
                "only user code is sampled: perf_event_paranoid is {} (sysctl kernel.perf_event_paranoid=1 allows the kernel too)",
                sysctl("perf_event_paranoid")
            ));
        }
        self.open_rings()
    }

    /// Leaves away what this kernel does not know, or does not tell who has no privilege.
    fn choose_features(&mut self) -> Result<(), CaptureError> {
        let chosen = self.choose_known_features();
        if matches!(chosen, Err(CaptureError::NotAllowed { .. })) && std::mem::take(&mut self.settings.also.namespaces)
        {
            return self.choose_known_features();
        }
        chosen
    }

    fn choose_known_features(&mut self) -> Result<(), CaptureError> {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        for (lost, build_id) in all.into_iter().filter(|(_, build_id)| self.settings.build_ids || !build_id) {
            self.features = Features { lost, build_id };
            match self.probe(&attr::sideband(self.features, self.settings.also)) {
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
            match self.probe(&self.sampling_attr(at).0) {
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

    /// How an event is opened now, and how its samples are laid out.
    fn sampling_attr(&self, at: usize) -> (abi::perf_event_attr, Layout) {
        let watermark = (self.ring_bytes / 4) as u32;
        let rate = self.rate_of(at);
        let event = Event { rate, ..self.settings.events[at].clone() };
        let mut attr = attr::sampling(&event, self.settings.graph, self.stack_bytes, self.features, watermark);
        if self.settings.also.fields && event.is_tracepoint() {
            attr.sample_type |= u64::from(abi::PERF_SAMPLE_RAW);
        }
        if self.settings.also.cgroups {
            attr.sample_type |= u64::from(abi::PERF_SAMPLE_CGROUP);
        }
        limit_stack(&mut attr, &event);
        attr.set_pinned(event.terms.pinned.into());
        attr.set_exclusive(event.terms.exclusive.into());
        if event.uprobe.is_none() {
            self.inherit(&mut attr);
        }
        attr.set_enable_on_exec(self.enables_on_exec().into());
        // In the large ring: there are as many of these as of samples.
        let first = self.settings.events.iter().find(|event| event.is_counted());
        attr.set_context_switch(
            (self.settings.also.switches && first.is_some_and(|first| first.name == event.name)).into(),
        );
        (attr, attr::layout(&attr, rate, None))
    }

    /// How often an event is sampled now. The kernel varies the period of counters by itself, that of clocks it keeps.
    fn rate_of(&self, at: usize) -> Rate {
        let (event, scale) = (&self.settings.events[at], self.scales[at]);
        match event.rate {
            Rate::Frequency(hertz) if self.settings.jitter && event.is_clock() => {
                let jitter = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
                Rate::Period((1e9 / (hertz as f64 * scale) * jitter) as u64)
            }
            rate => rate.scaled(scale),
        }
    }

    fn inherit(&self, attr: &mut abi::perf_event_attr) {
        let follows = self.settings.inherit && !matches!(self.settings.target, Target::Threads(_));
        attr.set_inherit((self.sharing == Sharing::PerTask && follows).into());
    }

    /// The CPUs to watch of those that are on line now.
    pub(super) fn online_of_asked(&self) -> Result<BTreeSet<u32>, CaptureError> {
        let online = online_cpus()?;
        Ok(match &self.settings.cpus {
            Some(asked) => asked & &online,
            None => online,
        })
    }

    /// The CPUs to watch.
    fn cpus(&self) -> Result<Vec<u32>, CaptureError> {
        let online = online_cpus()?;
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
        let wanted = self.ring_bytes;
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
        if self.ring_bytes < wanted {
            self.notes.push(format!(
                "rings of {} KB instead of {} KB, all that may be locked: more is lost on a busy host (CAP_IPC_LOCK, or sysctl kernel.perf_event_mlock_kb)",
                self.ring_bytes >> 10,
                wanted >> 10
            ));
        }
        let before = self.stack_bytes;
        self.fit_stack_to_ring();
        if before == self.stack_bytes {
            return Ok(());
        }
        self.samplers.clear();
        cpus.iter().try_for_each(|&cpu| self.open_samplers(cpu))
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
            (_, Sharing::PerCpu) | (Target::System | Target::Cgroups(_) | Target::Selected(_), _) => Vec::new(),
            (Target::Processes(pids), _) => pids.iter().flat_map(|&pid| target::threads(pid)).collect(),
            (Target::Command(pid), _) => vec![Tid(pid.0)],
            (Target::Threads(tids), _) => tids.clone(),
        }
    }

    pub(super) fn open_cpus(&mut self, cpus: &[u32]) -> Result<(), CaptureError> {
        cpus.iter().try_for_each(|&cpu| {
            self.open_sideband(cpu)?;
            self.open_anchor(cpu)?;
            self.open_samplers(cpu)
        })
    }

    /// What the events of a CPU are opened on; of tasks, on these.
    fn watches(&self, tids: &[Tid]) -> Vec<Watch<'_>> {
        match self.sharing {
            Sharing::PerTask => tids.iter().map(|&tid| Watch::Task(tid)).collect(),
            Sharing::PerCpu if self.cgroups.is_empty() => vec![Watch::Cpu],
            Sharing::PerCpu => self.cgroups.iter().map(|folder| Watch::Cgroup(folder.as_fd())).collect(),
        }
    }

    /// Opens an event on everything that is watched, of tasks on these; those that have ended since are left away.
    fn open_on_all(
        &self,
        attr: &abi::perf_event_attr,
        cpu: u32,
        tids: &[Tid],
        name: &str,
    ) -> Result<Vec<(EventFd, Option<Tid>)>, CaptureError> {
        let mut opened = Vec::new();
        for watch in self.watches(tids) {
            let task = if let Watch::Task(tid) = watch { Some(tid) } else { None };
            match EventFd::open(attr, watch, Some(cpu)) {
                Ok(fd) => opened.push((fd, task)),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(self.explain(error, name)),
            }
        }
        Ok(opened)
    }

    fn open_sideband(&mut self, cpu: u32) -> Result<(), CaptureError> {
        // A host that starts processes by the thousand a second writes megabytes of these, whatever the rate of samples.
        const LEAST: u64 = 256 << 10;
        let bytes = (self.ring_bytes / 8).max(LEAST.min(self.ring_bytes));
        let mut attr = attr::sideband(self.features, self.settings.also);
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = (bytes / 2) as u32;
        self.inherit(&mut attr);
        let events = self.open_on_all(&attr, cpu, &self.tids, "dummy")?;
        let events: Vec<EventFd> = events.into_iter().map(|(fd, _)| fd).collect();
        let Some(owner) = events.first() else { return Ok(()) };
        let ring = map_ring(owner, bytes)?;
        redirect(events.iter().skip(1), owner)?;
        self.rings.push(RecordRing::new(ring, cpu));
        self.sideband.extend(events.into_iter().map(|fd| Anchor { fd, cpu, hung_up: false }));
        Ok(())
    }

    fn open_anchor(&mut self, cpu: u32) -> Result<(), CaptureError> {
        let mut attr = attr::sideband(self.features, AlsoRecords::default());
        for off in [abi::perf_event_attr::set_mmap, abi::perf_event_attr::set_mmap2, abi::perf_event_attr::set_task] {
            off(&mut attr, 0);
        }
        attr.set_comm(0);
        attr.set_comm_exec(0);
        attr.set_build_id(0);
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = (self.ring_bytes / 4) as u32;
        self.inherit(&mut attr);
        let opened = self.watches(&self.tids).into_iter().find_map(|watch| EventFd::open(&attr, watch, Some(cpu)).ok());
        let Some(fd) = opened else { return Ok(()) };
        self.rings.push(RecordRing::new(map_ring(&fd, self.ring_bytes)?, cpu));
        self.anchors.push(Anchor { fd, cpu, hung_up: false });
        Ok(())
    }

    pub(super) fn open_samplers(&mut self, cpu: u32) -> Result<(), CaptureError> {
        let tids = std::mem::take(&mut self.tids);
        let counted = |at: &usize| self.settings.events[*at].is_counted();
        let counted: Vec<usize> = (0..self.settings.events.len()).filter(counted).collect();
        let opened = counted.into_iter().try_for_each(|index| self.open_sampler(index, cpu, &tids));
        self.tids = tids;
        opened.and_then(|()| self.open_probes(cpu))
    }

    /// Opens one of the events on a CPU, of tasks on these.
    fn open_sampler(&mut self, index: usize, cpu: u32, tids: &[Tid]) -> Result<(), CaptureError> {
        let event = &self.settings.events[index];
        if event.uprobe.as_ref().is_some_and(Uprobe::overwritten) {
            return Ok(());
        }
        let (attr, layout) = self.sampling_attr(index);
        let opened = self.open_on_all(&attr, cpu, tids, &event.name)?;
        let Some(anchor) = self.anchors.iter().find(|anchor| anchor.cpu == cpu) else { return Ok(()) };
        redirect(opened.iter().map(|(fd, _)| fd), &anchor.fd)?;
        filter(opened.iter().map(|(fd, _)| fd), event)?;
        let event = EventIndex(index as u32);
        for (fd, task) in opened {
            self.decoder.add(fd.id(), event, layout);
            self.samplers.push(Sampler { fd, cpu, event, task });
        }
        Ok(())
    }

    /// Opens the events into which our programs write on a CPU, each two for the first of the events that take them.
    fn open_probes(&mut self, cpu: u32) -> Result<(), CaptureError> {
        if self.off_cpu.is_some()
            && let Some([begins, ends]) = self.open_outputs(cpu, Probe::is_away, [Part::Begin, Part::Finish])?
            && let Some(off_cpu) = &self.off_cpu
        {
            let connected = off_cpu.connect(cpu, &begins.fd, &ends.fd);
            connected.map_err(|source| CaptureError::Open { name: "off-cpu".into(), source })?;
            self.samplers.extend([begins, ends]);
        }
        if self.alloc.is_some()
            && let Some([allocations, changes]) =
                self.open_outputs(cpu, Probe::is_alloc, [Part::Allocation, Part::HeapChange])?
            && let Some(alloc) = &self.alloc
        {
            let connected = alloc.connect(cpu, &allocations.fd, &changes.fd);
            connected.map_err(|source| CaptureError::Open { name: "alloc".into(), source })?;
            self.samplers.extend([allocations, changes]);
        }
        Ok(())
    }

    fn open_outputs(
        &mut self,
        cpu: u32,
        of: fn(Probe) -> bool,
        parts: [Part; 2],
    ) -> Result<Option<[Sampler; 2]>, CaptureError> {
        let Some(anchor) = self.anchors.iter().find(|anchor| anchor.cpu == cpu) else { return Ok(None) };
        let probed = (0..).zip(&self.settings.events).find(|(_, event)| event.probe.is_some_and(of));
        let Some((index, event)) = probed else { return Ok(None) };
        let watermark = (self.ring_bytes / 4) as u32;
        let open = |part| -> Result<_, CaptureError> {
            let mut attr = attr::probe(part, event, self.settings.graph, self.stack_bytes, self.features, watermark);
            limit_stack(&mut attr, event);
            let fd = EventFd::open(&attr, Watch::Cpu, Some(cpu)).map_err(|error| self.explain(error, &event.name))?;
            let layout = attr::layout(&attr, Rate::Period(1), Some(part));
            redirect([&fd].into_iter(), &anchor.fd)?;
            Ok((Sampler { fd, cpu, event: EventIndex(index), task: None }, layout))
        };
        let [(first, first_layout), (second, second_layout)] = [open(parts[0])?, open(parts[1])?];
        self.decoder.add(first.fd.id(), first.event, first_layout);
        self.decoder.add(second.fd.id(), second.event, second_layout);
        Ok(Some([first, second]))
    }

    fn whom(&self) -> &'static str {
        match self.settings.target {
            Target::System => "record the whole system",
            Target::Processes(_) => "record these processes (they may be another user's)",
            Target::Threads(_) => "record these threads (they may be another user's)",
            Target::Command(_) => "record a command",
            Target::Cgroups(_) => "record a cgroup",
            Target::Selected(_) => "record processes by what they are, which takes events on CPUs",
        }
    }

    fn explain(&self, error: io::Error, name: &str) -> CaptureError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EACCES | Errno::EPERM) => {
                let hint = if namespace::has_own_users() {
                    "\n  (a user namespace: not even its root has the privilege; use rprof from the host, or nsenter without -U)"
                } else {
                    ""
                };
                CaptureError::NotAllowed { what: self.whom(), hint, paranoid: sysctl("perf_event_paranoid") }
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

fn online_cpus() -> Result<BTreeSet<u32>, CaptureError> {
    target::online_cpus().map_err(|error| CaptureError::Cpus(error.to_string()))
}

fn map_ring(owner: &EventFd, bytes: u64) -> Result<Ring, CaptureError> {
    let pages = (bytes / sys::page_size()).max(8) as usize;
    Ring::map(owner, pages).map_err(CaptureError::Rings)
}

fn redirect<'a>(mut events: impl Iterator<Item = &'a EventFd>, owner: &EventFd) -> Result<(), CaptureError> {
    events.try_for_each(|event| event.set_output(owner)).map_err(CaptureError::Rings)
}

/// Lets the kernel follow no more frames than were asked for. A limit above its own, which it refuses, is none.
fn limit_stack(attr: &mut abi::perf_event_attr, event: &Event) {
    let Some(most) = event.terms.max_stack else { return };
    let own = sysctl("perf_event_max_stack").parse().unwrap_or(u16::MAX);
    attr.sample_max_stack = if most < own { most } else { 0 };
}

/// Lets a tracepoint be sampled only where its fields are as its filter says.
fn filter<'a>(mut events: impl Iterator<Item = &'a EventFd>, event: &Event) -> Result<(), CaptureError> {
    let Some(filter) = &event.terms.filter else { return Ok(()) };
    let refused = |source| CaptureError::Filter { name: event.name.clone(), filter: filter.clone(), source };
    let text = CString::new(filter.as_str()).map_err(|error| refused(error.into()))?;
    events.try_for_each(|fd| fd.set_filter(&text)).map_err(refused)
}

fn sysctl(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/kernel/{name}"))
        .map_or_else(|_| "unknown".into(), |value| value.trim().into())
}
