//! Opening events, and draining their rings.
//!
//! On every CPU lie two rings: a small one for what happens to processes, so that a flood of samples never costs us a mapping,
//! and a large one for samples. Each belongs to an event that never happens (the anchor), so that sampling events can be closed
//! and opened anew with a larger copy of the stack while the rings stay.

mod open;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustc_hash::FxHashSet;

use super::alloc::{Alloc, AllocTotals};
use super::attr::{AlsoRecords, CallGraph, Features, MAX_STACK_BYTES};
use super::error::CaptureError;
use super::event::{Event, Probe};
use super::off_cpu::{LeftOut, OffCpu};
use super::target::{self, Scope, Target};
use crate::health::{Count, Health};
use crate::ids::{Tid, Timestamp};
use crate::record::{Decoder, EventIndex, Flow, Merge, Placed, Raw, Record, RecordRing};
use crate::sys;
use crate::sys::perf_event::EventFd;

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
    /// Whether the kernel is asked for the build ID of each file that is mapped. While anybody asks, kernels set the bit that
    /// announces one in the records of all listeners, and some versions of perf die of that: so not for long. Without it, files
    /// are told apart by their inodes, which are not given to others while we hold them open.
    pub build_ids: bool,
    /// Records beside those that tell of stacks.
    pub also: AlsoRecords,
    /// Times away from a CPU that are shorter are left out.
    pub shortest_off_cpu: Duration,
    /// Whether it is told who woke threads.
    pub wakers: bool,
    /// The program that the command executes, for probes of its allocator.
    pub program: Option<PathBuf>,
    /// Vary the period of clocks from CPU to CPU and from one opening to the next, so that no program that does something at
    /// regular intervals runs in step with its samples.
    pub jitter: bool,
}

/// How events are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One a CPU, for all tasks; records of others than the target's are passed over.
    PerCpu,
    /// One a task and CPU: all that is allowed without privileges, and slow where tasks switch often.
    PerTask,
}

/// A sampling event.
struct Sampler {
    fd: EventFd,
    cpu: u32,
    event: EventIndex,
    /// The one task that it samples; `None` if others' samples go into it as well.
    task: Option<Tid>,
}

/// CPUs that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuChange {
    /// On line now.
    pub came: BTreeSet<u32>,
    /// Off line now.
    pub went: BTreeSet<u32>,
}

impl CpuChange {
    /// Whether all are as they were.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.came.is_empty() && self.went.is_empty()
    }
}

/// An event that owns a ring of a CPU, or sends into one.
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
    /// Tasks that came and went since, of those whose probes the kernel does not pass on by itself.
    newcomers: Vec<Tid>,
    gone: FxHashSet<Tid>,
    /// Whether sampling has been started.
    on: bool,
    cgroups: Vec<File>,
    /// Kept open for their records.
    sideband: Vec<Anchor>,
    anchors: Vec<Anchor>,
    samplers: Vec<Sampler>,
    rings: Vec<RecordRing>,
    merge: Merge,
    decoder: Decoder,
    scope: Scope,
    /// The programs that tell of times away from CPUs, if that was asked for.
    off_cpu: Option<OffCpu>,
    /// The programs that tell of allocations, if that was asked for.
    alloc: Option<Alloc>,
    /// How often each event is sampled, in proportion to what was asked for.
    scales: Vec<f64>,
    /// Samples of each event, wanted or not.
    taken: Vec<u64>,
    /// The ids of events that were closed lately: their last records may still be in the rings.
    closed: Vec<u64>,
    /// Of events that were closed, by event.
    lost: Vec<u64>,
    notes: Vec<String>,
}

impl Live {
    /// Opens the sampling events anew, with copies of so many bytes of each stack, and starts them.
    ///
    /// # Errors
    /// As [`Live::open`]; those that run go on as they are.
    pub fn set_stack_bytes(&mut self, bytes: u32) -> Result<(), CaptureError> {
        let before = std::mem::replace(&mut self.stack_bytes, bytes);
        self.reopen().inspect_err(|_| self.stack_bytes = before)
    }

    /// Samples each event so many times as often as was asked for. (An ioctl would change the rate of a running clock, but not the period
    /// that its samples tell, so the events are opened anew.)
    ///
    /// # Errors
    /// As [`Live::open`]; those that run go on as they are.
    pub fn set_scales(&mut self, scales: &[f64]) -> Result<(), CaptureError> {
        let before = std::mem::replace(&mut self.scales, scales.to_vec());
        if let Err(error) = self.reopen() {
            self.scales = before;
            return Err(error);
        }
        let (away, alloc) = (self.scale_of(Probe::is_away), self.scale_of(Probe::is_alloc));
        if let Some(off_cpu) = &mut self.off_cpu {
            off_cpu.set_scale(away);
        }
        if let Some(programs) = &mut self.alloc {
            programs.set_scale(alloc);
        }
        Ok(())
    }

    /// Of the first of the events that share programs of ours: what these tell is sampled as one of its.
    fn scale_of(&self, shares: fn(Probe) -> bool) -> f64 {
        let first = self.settings.events.iter().position(|event| event.probe.is_some_and(shares));
        first.map_or(1.0, |at| self.scales[at])
    }

    /// How often each event is sampled, in proportion to what was asked for.
    #[must_use]
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// How many samples of each event the kernel took, wanted or not.
    #[must_use]
    pub fn taken(&self) -> &[u64] {
        &self.taken
    }

    /// Opens the sampling events anew and starts them. What was counted of the old ones is kept.
    ///
    /// # Errors
    /// As [`Live::open`]; those that run go on as they are.
    pub fn reopen(&mut self) -> Result<(), CaptureError> {
        if self.sharing == Sharing::PerTask {
            // What came since was sampled as heirs of those that are closed now.
            self.tids = self.scope.tasks();
        }
        let old = std::mem::take(&mut self.samplers);
        let cpus: Vec<u32> = self.anchors.iter().map(|anchor| anchor.cpu).collect();
        let opened = cpus.into_iter().try_for_each(|cpu| self.open_samplers(cpu));
        if opened.is_err() {
            self.samplers = old;
            return opened;
        }
        self.retire(old);
        self.enable().map_err(|source| CaptureError::Open { name: "sampling events".into(), source })
    }

    /// Closes sampling events.
    fn retire(&mut self, samplers: Vec<Sampler>) {
        self.lost = self.losses_of(&samplers);
        // What the events before these left in the rings has been read by now.
        let before = std::mem::replace(&mut self.closed, samplers.iter().map(|sampler| sampler.fd.id()).collect());
        before.into_iter().for_each(|id| self.decoder.remove(id));
    }

    /// Opens events on CPUs that came on line since, and closes those on CPUs that went. Answers which.
    ///
    /// # Errors
    /// As [`Live::open`].
    pub fn follow_cpus(&mut self) -> Result<CpuChange, CaptureError> {
        let now: BTreeSet<u32> = self.online_of_asked()?;
        let before: BTreeSet<u32> = self.anchors.iter().map(|anchor| anchor.cpu).collect();
        let change = CpuChange { came: &now - &before, went: &before - &now };
        if self.sharing == Sharing::PerCpu && !change.is_empty() {
            for &cpu in &change.went {
                self.close_cpu(cpu);
            }
            change.came.iter().try_for_each(|&cpu| self.open_cpu(cpu))?;
        }
        Ok(change)
    }

    /// An event on a CPU that is gone stays silent for ever; what lay in its rings has been drained.
    fn close_cpu(&mut self, cpu: u32) {
        let (gone, stay) = std::mem::take(&mut self.samplers).into_iter().partition(|sampler| sampler.cpu == cpu);
        self.samplers = stay;
        self.retire(gone);
        self.anchors.retain(|anchor| anchor.cpu != cpu);
        self.sideband.retain(|event| event.cpu != cpu);
        self.rings.retain(|ring| ring.cpu() != cpu);
    }

    /// A CPU that came on line while the others run.
    fn open_cpu(&mut self, cpu: u32) -> Result<(), CaptureError> {
        self.open_cpus(&[cpu])?;
        let of_cpu = |events: &mut dyn Iterator<Item = (u32, &EventFd)>| {
            events.filter(|(at, _)| *at == cpu).try_for_each(|(_, fd)| fd.enable())
        };
        let process_records = of_cpu(&mut self.sideband.iter().map(|event| (event.cpu, &event.fd)));
        let samples = of_cpu(&mut self.samplers.iter().map(|sampler| (sampler.cpu, &sampler.fd)));
        process_records
            .and(samples)
            .map_err(|source| CaptureError::Open { name: format!("events on CPU {cpu}"), source })
    }

    /// How many CPUs are watched.
    #[must_use]
    pub fn cpu_count(&self) -> usize {
        self.anchors.len()
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

    /// What is captured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The events, as they were opened.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.settings.events
    }

    /// Records beside those that tell of stacks.
    #[must_use]
    pub fn also(&self) -> AlsoRecords {
        self.settings.also
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
    pub fn watch_processes(&mut self) -> io::Result<()> {
        self.sideband.iter().try_for_each(|event| event.fd.enable())?;
        self.watch_allocators();
        Ok(())
    }

    /// Probes the allocators of what runs; those of what comes later are probed as records tell of them.
    fn watch_allocators(&mut self) {
        let Some(alloc) = &mut self.alloc else { return };
        match (&self.settings.target, &self.settings.program) {
            (Target::Command(pid), Some(program)) => alloc.watch_program(*pid, program),
            (Target::Command(pid), None) => alloc.watch([*pid]),
            (Target::Processes(pids), _) => alloc.watch(pids.iter().copied()),
            (Target::Threads(tids), _) => alloc.watch(tids.iter().filter_map(|&tid| target::process_of(tid))),
            (Target::Cgroups(names), _) => {
                let tids = names.iter().flat_map(|name| target::threads_of_cgroup(name));
                alloc.watch(tids.filter_map(target::process_of));
            }
            (Target::Selected(selector), _) => alloc.watch(selector.running()),
            (Target::System, _) => alloc.watch(target::all_processes()),
        }
        alloc.note_if_none();
        self.notes.extend(alloc.take_notes());
    }

    /// Ends them: on a host that starts processes by the thousand a second they cost more than samples do.
    pub fn ignore_processes(&self) {
        for event in &self.sideband {
            let _ = event.fd.disable();
        }
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
    pub fn enable(&mut self) -> io::Result<()> {
        self.on = true;
        self.samplers.iter().try_for_each(|sampler| sampler.fd.enable())
    }

    /// Starts or stops the events of a name, or all; answers whether there are any.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn turn(&mut self, on: bool, name: Option<&str>) -> io::Result<bool> {
        self.on = if name.is_none() { on } else { self.on };
        let named = |sampler: &&Sampler| {
            let event = self.settings.events.get(sampler.event.0 as usize);
            name.is_none_or(|name| event.is_some_and(|event| event.name == name))
        };
        let mut any = false;
        for sampler in self.samplers.iter().filter(named) {
            any = true;
            if on { sampler.fd.enable()? } else { sampler.fd.disable()? }
        }
        Ok(any)
    }

    /// Ends sampling; what lies in the rings stays.
    pub fn disable(&mut self) {
        self.on = false;
        for sampler in &self.samplers {
            // An event whose task has ended is disabled already.
            let _ = sampler.fd.disable();
        }
        if let Some(alloc) = &mut self.alloc {
            alloc.leave();
        }
    }

    /// Waits until a ring is a quarter full or one of `others` is readable, at most so long.
    pub fn wait(&mut self, others: &[BorrowedFd<'_>], timeout: Duration) {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
        // Opened on tasks, those of the second kind come by the thousand and share a ring that nothing floods.
        let sideband = if self.sharing == Sharing::PerCpu { self.sideband.as_mut_slice() } else { &mut [] };
        let mut owners: Vec<&mut Anchor> =
            self.anchors.iter_mut().chain(sideband).filter(|anchor| !anchor.hung_up).collect();
        let own = owners.iter().map(|anchor| anchor.fd.as_fd());
        let mut fds: Vec<PollFd<'_>> =
            own.chain(others.iter().copied()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if poll(&mut fds, timeout).is_err() {
            return;
        }
        let hang_ups = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        let hung_up: Vec<bool> = fds.iter().map(hang_ups).collect();
        // An event whose task has ended, or whose CPU is off line, would be ready for ever.
        for (anchor, gone) in owners.iter_mut().zip(hung_up) {
            anchor.hung_up = gone;
        }
    }

    /// Up to when records are surely complete.
    #[must_use]
    pub fn settled() -> Timestamp {
        Timestamp(sys::now().0.saturating_sub(Merge::MARGIN))
    }

    /// Passes every record until a point in time to `visit`, oldest first; the caller asks for no more than what is
    /// [settled](Live::settled), but at the end.
    ///
    /// Samples of others than the target are passed over unread, and counted.
    pub fn drain(
        &mut self,
        until: Timestamp,
        health: &mut Health,
        mut visit: impl FnMut(&Record<'_>, Raw<'_>, &mut Health) -> Flow,
    ) {
        let follows = self.follows_with_probes();
        let (decoder, scope, alloc, taken) = (&self.decoder, &mut self.scope, &mut self.alloc, &mut self.taken);
        let (newcomers, gone) = (&mut self.newcomers, &mut self.gone);
        self.merge.drain(&mut self.rings, until, |raw| {
            let bytes = raw.bytes;
            decoder.sampled(bytes).into_iter().for_each(|event| taken[event.0 as usize] += 1);
            let unwanted = Decoder::sample_task(bytes).is_some_and(|(pid, tid)| !scope.wants_sample(pid, tid));
            if unwanted && !decoder.is_of_another(bytes) {
                health.add(Count::SamplesSkipped, 1);
                return Flow::Continue;
            }
            match decoder.decode(bytes) {
                Ok(Record::Other(_)) if raw.task().is_none_or(|(pid, tid)| !scope.wants_sample(pid, tid)) => {
                    Flow::Continue
                }
                Ok(record) => {
                    // An exit ends what was wanted, a fork begins it.
                    let before = wants(scope, &record);
                    scope.follow(&record);
                    if !before && !wants(scope, &record) {
                        return Flow::Continue;
                    }
                    if let Some(alloc) = alloc {
                        alloc.follow(&record);
                    }
                    match record {
                        Record::Fork(task) if follows => newcomers.push(task.tid),
                        Record::Exit(task) if follows => drop(gone.insert(task.tid)),
                        _ => {}
                    }
                    visit(&record, raw, health)
                }
                Err(_) => {
                    health.add(Count::RecordsBad, 1);
                    Flow::Continue
                }
            }
        });
        health.add(Count::RecordsUnordered, self.merge.take_unordered());
        if let Some(alloc) = &mut self.alloc {
            alloc.look();
            self.notes.extend(alloc.take_notes());
        }
        self.follow_with_probes();
        self.look_after_probes();
    }

    /// What the lot left out of the target's threads since the last census; nothing if it was not asked when threads are away. Of
    /// those that are, the ends are told from now on.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn census(&mut self) -> io::Result<Vec<LeftOut>> {
        let Some(off_cpu) = &mut self.off_cpu else { return Ok(Vec::new()) };
        let mut left_out = off_cpu.census()?;
        let members = self.cgroup_threads();
        left_out.retain(|task| {
            self.scope.wants_sample(task.pid, task.tid) && members.as_ref().is_none_or(|tids| tids.contains(&task.tid))
        });
        Ok(left_out)
    }

    /// What allocators were called for since sampling began, and what it cost to look; nothing if nobody asked.
    #[must_use]
    pub fn alloc_totals(&self) -> Option<AllocTotals> {
        self.alloc.as_ref().map(Alloc::totals)
    }

    /// Forgets allocations that were freed by the end of their process.
    pub fn forget_allocations(&mut self, places: &[Placed]) {
        if let Some(alloc) = &mut self.alloc {
            alloc.forget(places);
        }
    }

    /// The threads of the target's cgroups and of those below, if it has some.
    fn cgroup_threads(&self) -> Option<FxHashSet<Tid>> {
        let Target::Cgroups(names) = &self.settings.target else { return None };
        Some(names.iter().flat_map(|name| target::threads_of_cgroup(name)).collect())
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
        self.scope.is_over()
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
}

/// Whether a record tells of the target.
fn wants(scope: &Scope, record: &Record<'_>) -> bool {
    match record {
        Record::Map(map) => scope.wants_process(map.pid),
        Record::Comm { pid, .. } => scope.wants_process(*pid),
        Record::Fork(task) | Record::Exit(task) => scope.wants_process(task.pid),
        Record::Sample(_)
        | Record::Finish(_)
        | Record::HeapChange(_)
        | Record::Lost { .. }
        | Record::LostSamples { .. }
        | Record::Throttle { .. }
        | Record::Other(_) => true,
    }
}
