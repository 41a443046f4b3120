//! Times away from a CPU: intervals that begin with a stack, and end later.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use super::stack::StackId;
use super::window::{SampleKey, Tally, ThreadIndex};
use crate::ids::Timestamp;
use crate::record::{Finish, KernelTid, State};

/// An interval that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) thread: ThreadIndex,
    pub(super) stack: StackId,
    /// When it began.
    pub(super) out: Timestamp,
    /// Up to when it has been charged to windows.
    pub(super) charged: Timestamp,
    pub(super) state: State,
    /// Whether it is a wait for a lock.
    pub(super) lock: bool,
    /// How many departures it was drawn from.
    pub(super) stride: u64,
    /// The CPU that was left.
    pub(super) cpu: u32,
}

/// A part of an interval, all of which lies in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) task: KernelTid,
    pub(super) thread: ThreadIndex,
    pub(super) stack: StackId,
    pub(super) state: State,
    /// Whether the interval is a wait for a lock.
    pub(super) lock: bool,
    /// Who ended it by waking the thread, where that is known.
    pub(super) waker: Option<String>,
    /// When the part began.
    pub(super) from: Timestamp,
    /// The CPU that was left.
    pub(super) cpu: u32,
    pub(super) nanoseconds: u64,
    /// How many departures it stands for.
    pub(super) weight: u64,
}

/// What is known of a thread's times away within a window.
///
/// How long all of them were together is known exactly, so what the lot says of each stack is taken as its share of that: chance does
/// not change the thread's time, nor does it matter that those whose stack is taken last a little longer for it.
#[derive(Default)]
pub(super) struct Away {
    parts: FxHashMap<PartKey, Part>,
    /// Of all parts.
    whole: Part,
    /// Nanoseconds of the intervals whose stacks were not taken.
    left_out: i64,
    /// Nanoseconds that it had a CPU, where that is asked for.
    ran: u64,
    /// How often it was asked for what is known, and nothing was.
    rounds: u32,
}

/// How many rounds a thread of which nothing is heard stays known.
const REMEMBERED: u32 = 60;

/// What times away are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartKey {
    /// By what they are counted.
    pub(super) sample: SampleKey,
    /// Whether they are waits for locks.
    pub(super) lock: bool,
    /// The CPU that was left, where each is told by itself.
    pub(super) cpu: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    samples: u64,
    /// Nanoseconds of intervals that stand for themselves alone.
    certain: u64,
    /// Nanoseconds of those that were drawn by lot, and what they stand for.
    drawn: u64,
    estimate: u64,
}

impl Part {
    fn add(&mut self, charge: &Charge) {
        self.samples += charge.weight;
        if charge.weight > 1 {
            self.drawn += charge.nanoseconds;
            self.estimate = self.estimate.saturating_add(charge.nanoseconds.saturating_mul(charge.weight));
        } else {
            self.certain += charge.nanoseconds;
        }
    }
}

impl Away {
    /// One whose stack was taken.
    pub(super) fn add(&mut self, key: PartKey, charge: &Charge) {
        self.parts.entry(key).or_default().add(charge);
        self.whole.add(charge);
    }

    /// Whether the stack of any is known.
    fn is_placed(&self) -> bool {
        self.whole.estimate > 0 || self.whole.certain > 0
    }

    /// The tallies, which add up to what is known exactly; or the nanoseconds that no stack is known of.
    pub(super) fn tallies(self) -> Result<impl Iterator<Item = (PartKey, Tally)>, u64> {
        let placed = self.is_placed();
        let Away { parts, whole, left_out, ran: _, rounds: _ } = self;
        let left_out = u64::try_from(left_out).unwrap_or(0);
        if !placed {
            return Err(left_out);
        }
        // Where the lot fell on none, what a census found tells: a wait is found the more likely, the longer it is.
        let (of_drawn, of_certain) = if whole.estimate > 0 { (left_out, 0) } else { (0, left_out) };
        let tally = move |part: Part| Tally {
            samples: part.samples,
            weight: share(part.estimate, whole.drawn + of_drawn, whole.estimate)
                + part.certain
                + share(part.certain, of_certain, whole.certain),
        };
        Ok(parts.into_iter().map(move |(key, part)| (key, tally(part))))
    }
}

/// So much of `all` as `part` is of `whole`.
pub(super) fn share(part: u64, all: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(all) / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// The intervals of all threads that are away.
#[derive(Default)]
pub(super) struct Intervals {
    /// By thread, and by when they began: a census may know of a later one than the records that are still to come.
    open: BTreeMap<(KernelTid, Timestamp), Open>,
    away: FxHashMap<KernelTid, Away>,
    /// Threads that have ended since the last answer, and those that had before it.
    ended: Vec<KernelTid>,
    ended_before: Vec<KernelTid>,
    /// When a census was taken, the latest last.
    censuses: VecDeque<Timestamp>,
    /// Departures since the last answer, and those of them whose stacks were taken.
    departures: u64,
    taken: u64,
    /// Whether some were left out since the last census.
    thinned: bool,
    /// Those that end sooner are not counted.
    pub(super) shortest: u64,
}

impl Intervals {
    /// Answers how many ends of the thread's intervals before were missed. One that was `found` by a census tells nothing of them: their
    /// ends may still lie in a ring.
    pub(super) fn begin(&mut self, task: KernelTid, open: Open, found: bool) -> usize {
        self.departures += open.stride;
        self.taken += 1;
        self.thinned |= open.stride > 1;
        let missed = if found { 0 } else { self.forget_before(task, open.out) };
        self.away(task);
        self.open.insert((task, open.out), open);
        missed
    }

    fn forget_before(&mut self, task: KernelTid, end: Timestamp) -> usize {
        let old: Vec<_> = self.open.range((task, Timestamp(0))..(task, end)).map(|(&key, _)| key).collect();
        for key in &old {
            self.open.remove(key);
        }
        old.len()
    }

    /// What is known of a thread within the window.
    pub(super) fn away(&mut self, task: KernelTid) -> &mut Away {
        self.away.entry(task).or_default()
    }

    /// A thread was away for so many nanoseconds more than is told of it by its intervals.
    pub(super) fn leave_out(&mut self, task: KernelTid, nanoseconds: i64) {
        if nanoseconds != 0 {
            self.away(task).left_out += nanoseconds;
        }
    }

    /// A thread had a CPU for so many nanoseconds.
    pub(super) fn run(&mut self, task: KernelTid, nanoseconds: u64) {
        if nanoseconds != 0 {
            self.away(task).ran += nanoseconds;
        }
    }

    /// How long threads had a CPU, as far as that is known.
    pub(super) fn runs(&self) -> impl Iterator<Item = (KernelTid, u64)> {
        self.away.iter().filter(|(_, away)| away.ran > 0).map(|(&task, away)| (task, away.ran))
    }

    /// What is known of all threads, at the end of a window.
    pub(super) fn take_away(&mut self) -> impl Iterator<Item = Away> + use<> {
        self.ended.clear();
        std::mem::take(&mut self.away).into_values()
    }

    /// What is known of all threads of whose times away some have a stack; that of the others waits until one has. Also answers the
    /// nanoseconds of threads that ended before the last call and never had one: what is kept does not grow with the threads that were.
    pub(super) fn take_placed(&mut self) -> (Vec<Away>, u64) {
        let mut unplaced = 0;
        for task in std::mem::replace(&mut self.ended_before, std::mem::take(&mut self.ended)) {
            if let Some(away) = self.away.get(&task).filter(|away| !away.is_placed()) {
                unplaced += u64::try_from(away.left_out).unwrap_or(0);
                self.away.remove(&task);
            }
        }
        // Who was asked for stays known for a while: the end of a thread tells of it once more.
        let taken = self.away.values_mut().filter(|away| away.is_placed()).map(std::mem::take).collect();
        self.away.retain(|_, away| {
            away.rounds += 1;
            away.left_out != 0 || away.rounds <= REMEMBERED
        });
        (taken, unplaced)
    }

    /// Ends an interval: at most two charges, for the time until the thread was woken and for that until it got a CPU. `None` if nothing
    /// is known of its beginning.
    pub(super) fn finish(&mut self, finish: &Finish) -> Option<Vec<Charge>> {
        let task = finish.task;
        let Some(open) = self.open.remove(&(task, finish.out)) else {
            // The end of the thread itself; others of whom nothing is known were not asked for.
            if let Some(away) = self.away.get_mut(&task) {
                away.left_out += finish.left_out;
            }
            self.run(task, finish.ran);
            return None;
        };
        self.leave_out(task, finish.left_out);
        if finish.back.nanoseconds_since(open.out) < self.shortest {
            return Some(Vec::new());
        }
        let woken = finish.woken.filter(|_| open.state != State::Preempted).unwrap_or(finish.back);
        let weight = self.weight(&open, woken);
        let waker = finish.waker.as_ref().map(|(_, comm)| comm.clone());
        let blocked = open.charge(task, open.charged, woken.min(finish.back), open.state, weight, waker);
        let runnable = open.charge(task, woken.max(open.charged), finish.back, State::Runnable, weight, None);
        Some(blocked.into_iter().chain(runnable).collect())
    }

    /// Charges what open intervals have of the time until now: the rest belongs to the next window.
    pub(super) fn charge_until(&mut self, at: Timestamp) -> Vec<Charge> {
        let mut charges = Vec::new();
        let mut all = std::mem::take(&mut self.open);
        for (&(task, out), open) in &mut all {
            if at.nanoseconds_since(out) < self.shortest {
                continue;
            }
            let weight = self.weight(open, Timestamp(u64::MAX));
            charges.extend(open.charge(task, open.charged, at, open.state, weight, None));
            open.charged = open.charged.max(at);
        }
        self.open = all;
        charges
    }

    /// A census found every interval that was open at an instant.
    pub(super) fn counted_at(&mut self, instant: Timestamp) {
        const KEPT: usize = 100;
        self.censuses.truncate(KEPT);
        self.censuses.push_front(instant);
        self.thinned = false;
    }

    /// Whether intervals were left out since the last census.
    pub(super) fn is_thinned(&self) -> bool {
        self.thinned
    }

    /// Departures since the last answer, and those of them whose stacks were taken.
    pub(super) fn take_shares(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.departures), std::mem::take(&mut self.taken))
    }

    /// How many intervals one stands for. One that was asleep at the instant of a census was sure to be known, by lot or by the census,
    /// and so stands for itself alone; one that lies between two of them is known by lot only. Long waits are not left to chance this
    /// way.
    fn weight(&self, open: &Open, woken: Timestamp) -> u64 {
        let sleeps = open.state != State::Preempted;
        let held = sleeps && self.censuses.iter().any(|&instant| open.out <= instant && instant <= woken);
        if held { 1 } else { open.stride }
    }

    /// Forgets a thread that has ended. What was left out of it is told a moment later.
    pub(super) fn forget(&mut self, task: KernelTid) {
        if self.away.contains_key(&task) {
            self.ended.push(task);
        }
        self.forget_before(task, Timestamp(u64::MAX));
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.open.values_mut()
    }
}

impl Open {
    fn charge(
        &self,
        task: KernelTid,
        from: Timestamp,
        to: Timestamp,
        state: State,
        weight: u64,
        waker: Option<String>,
    ) -> Option<Charge> {
        let from = from.max(self.charged);
        let nanoseconds = to.nanoseconds_since(from);
        (nanoseconds > 0).then_some(Charge {
            task,
            thread: self.thread,
            stack: self.stack,
            state,
            lock: self.lock,
            waker,
            from,
            cpu: self.cpu,
            nanoseconds,
            weight,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::StackTree;
    use crate::ids::Pid;

    fn open(out: u64, state: State) -> Open {
        let (thread, stack) = (ThreadIndex(0), StackTree::EMPTY);
        Open { thread, stack, out: Timestamp(out), charged: Timestamp(out), state, lock: false, stride: 1, cpu: 0 }
    }

    fn finish(out: u64, woken: Option<u64>, back: u64) -> Finish {
        let waker = woken.map(|_| (Pid(9), "waker".to_owned()));
        Finish {
            task: KernelTid(7),
            out: Timestamp(out),
            woken: woken.map(Timestamp),
            back: Timestamp(back),
            waker,
            left_out: 0,
            ran: 0,
        }
    }

    fn told(charges: &[Charge]) -> Vec<(State, u64)> {
        charges.iter().map(|charge| (charge.state, charge.nanoseconds * charge.weight)).collect()
    }

    #[test]
    fn waiting_for_a_cpu_is_told_from_being_blocked() {
        let mut intervals = Intervals::default();
        intervals.begin(KernelTid(7), open(100, State::Interruptible), false);
        let charges = intervals.finish(&finish(100, Some(160), 190)).unwrap();
        assert_eq!(told(&charges), [(State::Interruptible, 60), (State::Runnable, 30)]);
        assert_eq!(charges[0].waker.as_deref(), Some("waker"));
        intervals.begin(KernelTid(7), open(200, State::Preempted), false);
        assert_eq!(told(&intervals.finish(&finish(200, None, 250)).unwrap()), [(State::Preempted, 50)]);
        assert_eq!(intervals.finish(&finish(200, None, 260)), None, "its beginning is not known");
    }

    #[test]
    fn each_window_is_charged_with_its_own_part() {
        let mut intervals = Intervals::default();
        intervals.begin(KernelTid(7), open(100, State::Uninterruptible), false);
        assert_eq!(told(&intervals.charge_until(Timestamp(150))), [(State::Uninterruptible, 50)]);
        assert_eq!(told(&intervals.charge_until(Timestamp(250))), [(State::Uninterruptible, 100)]);
        // It was woken before the last window began.
        let charges = intervals.finish(&finish(100, Some(240), 300)).unwrap();
        assert_eq!(told(&charges), [(State::Runnable, 50)]);
    }

    #[test]
    fn short_ones_are_left_out_and_those_of_a_census_stand_for_themselves() {
        let mut intervals = Intervals { shortest: 50, ..Intervals::default() };
        intervals.begin(KernelTid(7), open(100, State::Interruptible), false);
        assert_eq!(intervals.finish(&finish(100, None, 140)), Some(Vec::new()));
        let drawn = |out| Open { stride: 20, ..open(out, State::Interruptible) };
        intervals.begin(KernelTid(7), drawn(200), false);
        assert!(intervals.is_thinned());
        intervals.counted_at(Timestamp(250));
        assert!(!intervals.is_thinned());
        assert_eq!(told(&intervals.finish(&finish(200, None, 300)).unwrap()), [(State::Interruptible, 100)]);
        intervals.begin(KernelTid(7), drawn(300), false);
        assert_eq!(told(&intervals.finish(&finish(300, None, 360)).unwrap()), [(State::Interruptible, 1200)]);
        assert_eq!(intervals.take_shares(), (41, 3));
    }

    #[test]
    fn an_interval_of_a_census_outlasts_records_of_older_ones() {
        let mut intervals = Intervals::default();
        assert_eq!(intervals.begin(KernelTid(7), open(300, State::Interruptible), true), 0, "found by a census");
        assert_eq!(intervals.begin(KernelTid(7), open(100, State::Interruptible), false), 0, "was still in the ring");
        assert_eq!(told(&intervals.finish(&finish(100, None, 200)).unwrap()), [(State::Interruptible, 100)]);
        assert_eq!(told(&intervals.finish(&finish(300, None, 350)).unwrap()), [(State::Interruptible, 50)]);
        // One whose end is still in the ring, when a census finds the next.
        intervals.begin(KernelTid(7), open(360, State::Interruptible), false);
        assert_eq!(intervals.begin(KernelTid(7), open(390, State::Interruptible), true), 0);
        assert_eq!(told(&intervals.finish(&finish(360, None, 380)).unwrap()), [(State::Interruptible, 20)]);
        assert_eq!(told(&intervals.finish(&finish(390, None, 395)).unwrap()), [(State::Interruptible, 5)]);
        intervals.begin(KernelTid(7), open(400, State::Interruptible), false);
        assert_eq!(intervals.begin(KernelTid(7), open(500, State::Interruptible), false), 1, "one end was missed");
    }

    #[test]
    fn what_the_lot_says_adds_up_to_what_is_known() {
        let mut intervals = Intervals::default();
        let (event, thread, stack) = (0, ThreadIndex(0), StackTree::EMPTY);
        let key = |time| {
            let sample = SampleKey { event, thread, stack, time: Timestamp(time), state: None, waker: None };
            PartKey { sample, lock: false, cpu: None }
        };
        for (out, time) in [(100, 1), (200, 1), (300, 2)] {
            intervals.begin(KernelTid(7), Open { stride: 10, ..open(out, State::Interruptible) }, false);
            let end = Finish { left_out: 70, ..finish(out, None, out + 20) };
            for charge in intervals.finish(&end).unwrap() {
                intervals.away(KernelTid(7)).add(key(time), &charge);
            }
        }
        let away = intervals.take_away().next().unwrap();
        let mut scaled: Vec<_> =
            away.tallies().unwrap_or_else(|_| panic!()).map(|(key, tally)| (key.sample.time.0, tally)).collect();
        scaled.sort_by_key(|&(time, _)| time);
        let tally = |samples, weight| Tally { samples, weight };
        assert_eq!(scaled, [(1, tally(20, 180)), (2, tally(10, 90))]);
        intervals.leave_out(KernelTid(8), 5);
        assert!(intervals.take_away().all(|away| away.tallies().err() == Some(5)));
        // A census found one wait: where else it was, nobody knows better.
        intervals.begin(KernelTid(7), open(500, State::Interruptible), false);
        for charge in intervals.finish(&Finish { left_out: 30, ..finish(500, None, 600) }).unwrap() {
            intervals.away(KernelTid(7)).add(key(3), &charge);
        }
        let away = intervals.take_away().next().unwrap();
        let tallies: Vec<Tally> = away.tallies().unwrap_or_else(|_| panic!()).map(|(_, tally)| tally).collect();
        assert_eq!(tallies, [tally(1, 130)]);
    }
}
