//! What our programs in the kernel tell: times away from CPUs, and what is allocated.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Collector;
use crate::capture::{Probe, in_first_pid_namespace};
use crate::collect::counts::Counts;
use crate::collect::heap;
use crate::collect::off_cpu::{self, Charge, Open, PartKey};
use crate::collect::pass_on::{self, TimeAway};
use crate::collect::stack::StackId;
use crate::collect::window::{SampleKey, Tally, ThreadIndex};
use crate::health::{Count, Health};
use crate::ids::Timestamp;
use crate::record::{Allocation, Begin, EventIndex, Finish, KernelTid, Placed, Sample, State};

impl Collector {
    /// The times away from CPUs that have ended since the last call, oldest first, where samples are handed on. Those that still last
    /// are among them if the recording is `over` at a point.
    pub fn take_times_away(&mut self, over: Option<Timestamp>, health: &mut Health) -> Vec<TimeAway> {
        let charges = over.map(|end| self.intervals.charge_until(end)).unwrap_or_default();
        charges.iter().for_each(|charge| self.charge(charge, over.unwrap_or_default()));
        let mut times = Vec::new();
        let (placed, unplaced) = self.intervals.take_placed();
        health.add(Count::OffCpuUnplaced, unplaced);
        for away in placed {
            let tallies = away.tallies().into_iter().flatten();
            tallies.for_each(|(key, tally)| self.tell_away(&key, tally, &mut times));
        }
        if over.is_some() {
            self.count_all_away(health);
        }
        let counts = std::mem::take(&mut self.counts);
        for open in self.intervals.values_mut() {
            (open.thread, open.stack) = self.counts.adopt(&counts, open.thread, open.stack);
        }
        times.iter().for_each(|time| self.count_passed_on(time.event));
        times.sort_by_key(|time| time.back);
        times
    }

    fn tell_away(&self, key: &PartKey, tally: Tally, times: &mut Vec<TimeAway>) {
        let Some(thread) = self.counts.threads.get(key.sample.thread.0 as usize) else { return };
        let (kernel, user) = pass_on::addresses(self.counts.stacks.frames(key.sample.stack));
        times.extend(self.told_of(key.lock).map(|event| TimeAway {
            event: EventIndex(event),
            pid: thread.pid,
            tid: thread.tid,
            back: key.sample.time,
            cpu: key.cpu.unwrap_or(0),
            nanoseconds: tally.weight,
            kernel: kernel.clone(),
            user: user.clone(),
        }));
    }

    /// Tells of times away from a CPU only if they are at least so long, and by whom threads were woken if that is asked for.
    pub fn choose_intervals(&mut self, shortest: Duration, wakers: bool) {
        self.intervals.shortest = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX);
        self.wakers = wakers;
    }

    /// A census found every interval that was open at an instant.
    pub fn counted_at(&mut self, instant: Timestamp) {
        self.intervals.counted_at(instant);
    }

    /// A thread was away for so many nanoseconds more than is told of it by samples.
    pub fn leave_out(&mut self, task: KernelTid, nanoseconds: i64) {
        self.intervals.leave_out(task, nanoseconds);
    }

    /// A thread had a CPU for so many nanoseconds.
    pub fn run(&mut self, task: KernelTid, nanoseconds: u64) {
        self.intervals.run(task, nanoseconds);
    }

    /// Whether some threads' time away from CPUs is known by lot only, since the last census.
    #[must_use]
    pub fn is_thinned(&self) -> bool {
        self.intervals.is_thinned()
    }

    pub(super) fn begin_interval(&mut self, begin: &Begin, thread: ThreadIndex, stack: StackId, health: &mut Health) {
        let open = Open {
            thread,
            stack,
            out: begin.out,
            charged: begin.out.max(self.began),
            state: begin.state,
            lock: begin.lock,
            stride: begin.stride.into(),
            cpu: self.cpu,
        };
        let missed = self.intervals.begin(begin.task, open, begin.found);
        health.add(Count::IntervalsMissed, missed as u64);
    }

    /// An end without a beginning is of a thread that nobody asked for, or the ring had no room for its beginning and counted that.
    pub(super) fn finish(&mut self, finish: &Finish) {
        let charges = self.intervals.finish(finish).unwrap_or_default();
        charges.iter().for_each(|charge| self.charge(charge, finish.back));
    }

    /// Takes a part of an interval that ended at a point, or goes on there, into what is known of its thread.
    pub(super) fn charge(&mut self, charge: &Charge, back: Timestamp) {
        let waker = charge.waker.as_deref().filter(|_| self.wakers).map(|name| self.counts.waker(name));
        let (thread, stack) = (charge.thread, charge.stack);
        // Handed on, an interval is one, whatever the thread waited for in its parts.
        let (time, state) = if self.passes_on { (back, None) } else { (self.kept(charge.from), Some(charge.state)) };
        let sample = SampleKey { event: 0, thread, stack, time, state, waker };
        let key = PartKey { sample, lock: charge.lock, cpu: self.passes_on.then_some(charge.cpu) };
        self.intervals.away(charge.task).add(key, charge);
    }

    /// The events that tell of times away from CPUs, or of those that are waits for locks.
    fn told_of(&self, lock: bool) -> impl Iterator<Item = u32> + use<'_> {
        let tells = move |probe: &Option<Probe>| match probe {
            None => false,
            Some(Probe::Alloc | Probe::InUse) => false,
            Some(Probe::Lock) => lock,
            Some(Probe::OffCpu | Probe::Wall) => true,
        };
        (0..).zip(&self.probes).filter(move |(_, probe)| tells(probe)).map(|(event, _)| event)
    }

    /// Counts time away for every event that tells of it.
    fn count_away(&mut self, key: SampleKey, lock: bool, tally: Tally) {
        for event in self.told_of(lock).collect::<Vec<_>>() {
            self.counts.add(SampleKey { event, ..key }, tally);
        }
    }

    /// The event of a kind, if it was asked for.
    fn event_of(&self, kind: Probe) -> Option<u32> {
        (0..).zip(&self.probes).find(|(_, probe)| **probe == Some(kind)).map(|(event, _)| event)
    }

    pub(super) fn allocate(
        &mut self,
        allocation: &Allocation,
        sample: &Sample<'_>,
        thread: ThreadIndex,
        stack: StackId,
    ) {
        let tally = heap::weight(allocation);
        if let Some(event) = self.event_of(Probe::Alloc) {
            let key = SampleKey { event, thread, stack, time: self.kept(sample.time), state: None, waker: None };
            self.counts.add(key, tally);
        }
        if self.event_of(Probe::InUse).is_some() {
            self.heap.add(sample.pid, allocation, thread, stack, tally);
        }
    }

    /// Counts what is in use now.
    pub(super) fn count_in_use(&mut self) {
        let Some(event) = self.event_of(Probe::InUse) else { return };
        for held in self.heap.in_use() {
            let (thread, stack, time) = (held.thread, held.stack, Timestamp::default());
            self.counts.add(SampleKey { event, thread, stack, time, state: None, waker: None }, held.tally);
        }
    }

    /// Where allocations lay that were freed by the end of their process, since the last answer.
    pub fn take_gone(&mut self) -> Vec<Placed> {
        self.heap.take_gone()
    }

    /// What samples say of a thread on its CPUs is taken as shares of the time that it had them, where that is known exactly.
    pub(super) fn scale_running(&mut self, health: &mut Health) {
        let Some(event) = self.event_of(Probe::Wall) else { return };
        let Counts { samples, threads, .. } = &mut self.counts;
        // Outside of the kernel's own PID namespace threads have other numbers here, and none is found (docs/containers.md).
        if !in_first_pid_namespace() {
            return;
        }
        let task_of = |key: &SampleKey| Some(KernelTid(threads.get(key.thread.0 as usize)?.tid.0 as u64));
        let runs = |key: &SampleKey| key.event == event && key.state == Some(State::Running);
        let mut sampled: FxHashMap<KernelTid, u64> = FxHashMap::default();
        for (key, tally) in samples.iter().filter(|(key, _)| runs(key)) {
            if let Some(task) = task_of(key) {
                *sampled.entry(task).or_default() += tally.weight;
            }
        }
        let ran: FxHashMap<KernelTid, u64> = self.intervals.runs().collect();
        let unplaced = ran.iter().filter(|(task, _)| !sampled.contains_key(task)).map(|(_, nanoseconds)| nanoseconds);
        health.add(Count::WallUnplaced, unplaced.sum());
        for (key, tally) in samples.iter_mut().filter(|(key, _)| runs(key)) {
            let exact = task_of(key).and_then(|task| Some((*ran.get(&task)?, *sampled.get(&task)?)));
            if let Some((ran, sampled)) = exact {
                tally.weight = off_cpu::share(tally.weight, ran, sampled);
            }
        }
    }

    /// Counts what is known of all threads.
    pub(super) fn count_all_away(&mut self, health: &mut Health) {
        for away in self.intervals.take_away() {
            match away.tallies() {
                Ok(tallies) => tallies.for_each(|(key, tally)| self.count_away(key.sample, key.lock, tally)),
                Err(nanoseconds) => health.add(Count::OffCpuUnplaced, nanoseconds),
            }
        }
    }
}

/// How the remark begins that tells what part of the departures has stacks.
pub const OFF_CPU_STACKS: &str = "off-CPU stacks: ";

/// What part of the departures from CPUs the stacks stand for, if it is not all.
pub(super) fn shares_comment((departures, taken): (u64, u64)) -> Option<String> {
    let part = || format!("{OFF_CPU_STACKS}{taken} of {departures} departures, by lot; values stand for all");
    (departures > taken).then(part)
}
