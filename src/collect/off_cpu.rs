//! Times away from a CPU: intervals that begin with a stack, and end later.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::stack::StackId;
use super::window::ThreadIndex;
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
    /// How many departures it was drawn from.
    pub(super) stride: u64,
}

/// A part of an interval, all of which lies in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) thread: ThreadIndex,
    pub(super) stack: StackId,
    pub(super) state: State,
    /// Who ended it by waking the thread, where that is known.
    pub(super) waker: Option<String>,
    /// When the part began.
    pub(super) from: Timestamp,
    pub(super) nanoseconds: u64,
    pub(super) weight: u64,
}

/// The intervals of all threads that are away.
#[derive(Default)]
pub(super) struct Intervals {
    open: FxHashMap<KernelTid, Open>,
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
    /// Answers whether the end of the thread's interval before was missed.
    pub(super) fn begin(&mut self, task: KernelTid, open: Open) -> bool {
        self.departures += open.stride;
        self.taken += 1;
        self.thinned |= open.stride > 1;
        self.open.insert(task, open).is_some()
    }

    /// Ends an interval: at most two charges, for the time until the thread was woken and for that until it got a CPU. `None` if nothing
    /// is known of its beginning.
    pub(super) fn finish(&mut self, finish: &Finish) -> Option<Vec<Charge>> {
        let open = self.open.get(&finish.task).filter(|open| open.out == finish.out)?.clone();
        self.open.remove(&finish.task);
        if finish.back.nanoseconds_since(open.out) < self.shortest {
            return Some(Vec::new());
        }
        let weight = self.weight(&open, finish.back);
        let woken = finish.woken.filter(|_| open.state != State::Preempted).unwrap_or(finish.back);
        let waker = finish.waker.as_ref().map(|(_, comm)| comm.clone());
        let blocked = open.charge(open.charged, woken.min(finish.back), open.state, weight, waker);
        let runnable = open.charge(woken.max(open.charged), finish.back, State::Runnable, weight, None);
        Some(blocked.into_iter().chain(runnable).collect())
    }

    /// Charges what open intervals have of the time until now: the rest belongs to the next window.
    pub(super) fn charge_until(&mut self, at: Timestamp) -> Vec<Charge> {
        let mut charges = Vec::new();
        let mut all = std::mem::take(&mut self.open);
        for open in all.values_mut().filter(|open| at.nanoseconds_since(open.out) >= self.shortest) {
            let weight = self.weight(open, Timestamp(u64::MAX));
            charges.extend(open.charge(open.charged, at, open.state, weight, None));
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

    /// How many intervals one stands for. One that holds the instant of a census was sure to be known, by lot or by the census, and so
    /// stands for itself alone; one that lies between two of them is known by lot only. Long waits are not left to chance this way.
    fn weight(&self, open: &Open, end: Timestamp) -> u64 {
        let held = self.censuses.iter().any(|&instant| open.out <= instant && instant <= end);
        if held { 1 } else { open.stride }
    }

    /// Forgets a thread that has ended.
    pub(super) fn forget(&mut self, task: KernelTid) {
        self.open.remove(&task);
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.open.values_mut()
    }
}

impl Open {
    fn charge(
        &self,
        from: Timestamp,
        to: Timestamp,
        state: State,
        weight: u64,
        waker: Option<String>,
    ) -> Option<Charge> {
        let from = from.max(self.charged);
        let nanoseconds = to.nanoseconds_since(from);
        (nanoseconds > 0).then_some(Charge {
            thread: self.thread,
            stack: self.stack,
            state,
            waker,
            from,
            nanoseconds: nanoseconds.saturating_mul(weight),
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
        Open { thread, stack, out: Timestamp(out), charged: Timestamp(out), state, stride: 1 }
    }

    fn finish(out: u64, woken: Option<u64>, back: u64) -> Finish {
        let waker = woken.map(|_| (Pid(9), "waker".to_owned()));
        Finish { task: KernelTid(7), out: Timestamp(out), woken: woken.map(Timestamp), back: Timestamp(back), waker }
    }

    fn told(charges: &[Charge]) -> Vec<(State, u64)> {
        charges.iter().map(|charge| (charge.state, charge.nanoseconds)).collect()
    }

    #[test]
    fn waiting_for_a_cpu_is_told_from_being_blocked() {
        let mut intervals = Intervals::default();
        intervals.begin(KernelTid(7), open(100, State::Interruptible));
        let charges = intervals.finish(&finish(100, Some(160), 190)).unwrap();
        assert_eq!(told(&charges), [(State::Interruptible, 60), (State::Runnable, 30)]);
        assert_eq!(charges[0].waker.as_deref(), Some("waker"));
        intervals.begin(KernelTid(7), open(200, State::Preempted));
        assert_eq!(told(&intervals.finish(&finish(200, None, 250)).unwrap()), [(State::Preempted, 50)]);
        assert_eq!(intervals.finish(&finish(200, None, 260)), None, "its beginning is not known");
    }

    #[test]
    fn each_window_is_charged_with_its_own_part() {
        let mut intervals = Intervals::default();
        intervals.begin(KernelTid(7), open(100, State::Uninterruptible));
        assert_eq!(told(&intervals.charge_until(Timestamp(150))), [(State::Uninterruptible, 50)]);
        assert_eq!(told(&intervals.charge_until(Timestamp(250))), [(State::Uninterruptible, 100)]);
        // It was woken before the last window began.
        let charges = intervals.finish(&finish(100, Some(240), 300)).unwrap();
        assert_eq!(told(&charges), [(State::Runnable, 50)]);
    }

    #[test]
    fn short_ones_are_left_out_and_those_of_a_census_stand_for_themselves() {
        let mut intervals = Intervals { shortest: 50, ..Intervals::default() };
        intervals.begin(KernelTid(7), open(100, State::Interruptible));
        assert_eq!(intervals.finish(&finish(100, None, 140)), Some(Vec::new()));
        let drawn = |out| Open { stride: 20, ..open(out, State::Interruptible) };
        intervals.begin(KernelTid(7), drawn(200));
        assert!(intervals.is_thinned());
        intervals.counted_at(Timestamp(250));
        assert!(!intervals.is_thinned());
        assert_eq!(told(&intervals.finish(&finish(200, None, 300)).unwrap()), [(State::Interruptible, 100)]);
        intervals.begin(KernelTid(7), drawn(300));
        assert_eq!(told(&intervals.finish(&finish(300, None, 360)).unwrap()), [(State::Interruptible, 1200)]);
        assert_eq!(intervals.take_shares(), (41, 3));
    }
}
