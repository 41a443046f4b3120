//! Times away from a CPU: intervals that begin with a stack, and end later.

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
    /// How many intervals it stands for.
    pub(super) weight: u64,
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
    /// Those that end sooner are not counted.
    pub(super) shortest: u64,
}

impl Intervals {
    /// Answers whether the end of the thread's interval before was missed.
    pub(super) fn begin(&mut self, task: KernelTid, open: Open) -> bool {
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
        let woken = finish.woken.filter(|_| open.state != State::Preempted).unwrap_or(finish.back);
        let waker = finish.waker.as_ref().map(|(_, comm)| comm.clone());
        let blocked = open.charge(open.charged, woken.min(finish.back), open.state, waker);
        let runnable = open.charge(woken.max(open.charged), finish.back, State::Runnable, None);
        Some(blocked.into_iter().chain(runnable).collect())
    }

    /// Charges what open intervals have of the time until now: the rest belongs to the next window.
    pub(super) fn charge_until(&mut self, at: Timestamp) -> Vec<Charge> {
        let mut charges = Vec::new();
        for open in self.open.values_mut() {
            if at.nanoseconds_since(open.out) >= self.shortest {
                charges.extend(open.charge(open.charged, at, open.state, None));
                open.charged = open.charged.max(at);
            }
        }
        charges
    }

    /// All that are open at an instant at which the rest was found by a census: none of them is left to chance, so each stands for itself
    /// alone. (An interval that lies between two of these instants is chosen by lot, one that holds such an instant is sure to be known.)
    pub(super) fn all_known(&mut self) {
        self.open.values_mut().for_each(|open| open.weight = 1);
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
    fn charge(&self, from: Timestamp, to: Timestamp, state: State, waker: Option<String>) -> Option<Charge> {
        let from = from.max(self.charged);
        let nanoseconds = to.nanoseconds_since(from);
        (nanoseconds > 0).then_some(Charge {
            thread: self.thread,
            stack: self.stack,
            state,
            waker,
            from,
            nanoseconds: nanoseconds.saturating_mul(self.weight),
            weight: self.weight,
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
        Open { thread, stack, out: Timestamp(out), charged: Timestamp(out), state, weight: 1 }
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
    fn short_ones_are_left_out_and_known_ones_stand_for_themselves() {
        let mut intervals = Intervals { shortest: 50, ..Intervals::default() };
        intervals.begin(KernelTid(7), open(100, State::Interruptible));
        assert_eq!(intervals.finish(&finish(100, None, 140)), Some(Vec::new()));
        intervals.begin(KernelTid(7), Open { weight: 20, ..open(200, State::Interruptible) });
        intervals.all_known();
        assert_eq!(told(&intervals.finish(&finish(200, None, 300)).unwrap()), [(State::Interruptible, 100)]);
    }
}
