//! Allocations that were sampled: what each stands for, and which of them are still in use.

use std::mem;

use rustc_hash::FxHashMap;

use super::stack::StackId;
use super::window::{Tally, ThreadIndex};
use crate::ids::Pid;
use crate::record::{Allocation, HeapChange, KernelTid, Placed};

/// An allocation that was sampled.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) thread: ThreadIndex,
    pub(super) stack: StackId,
    pub(super) tally: Tally,
    /// Where it lies; it is not in use before that is known.
    placed: Option<Placed>,
}

/// What is in use of what was sampled.
#[derive(Default)]
pub(super) struct Heap {
    by_process: FxHashMap<KernelTid, FxHashMap<u64, Held>>,
    /// The kernel's own number of each process, which in a PID namespace is another than the one that its end is told of.
    numbers: FxHashMap<Pid, KernelTid>,
    /// Of processes that have ended in this window: what they had in use at their ends.
    ended: Vec<Held>,
    /// Where allocations lay that were freed by the end of their process.
    gone: Vec<Placed>,
}

impl Heap {
    /// An allocation was sampled.
    pub(super) fn add(&mut self, pid: Pid, allocation: &Allocation, thread: ThreadIndex, stack: StackId, tally: Tally) {
        let held = Held { thread, stack, tally, placed: None };
        self.numbers.insert(pid, allocation.process);
        self.by_process.entry(allocation.process).or_default().insert(allocation.id, held);
    }

    /// Something became of one.
    pub(super) fn change(&mut self, change: &HeapChange) {
        let Some(of_process) = self.by_process.get_mut(&change.process) else { return };
        match change.placed {
            Some(placed) => {
                if let Some(held) = of_process.get_mut(&change.id) {
                    held.placed = Some(placed);
                }
            }
            None => {
                of_process.remove(&change.id);
            }
        }
    }

    /// A process has ended, or executes another program.
    pub(super) fn end(&mut self, pid: Pid) {
        let process = self.numbers.remove(&pid);
        let left = process.and_then(|process| self.by_process.remove(&process)).into_iter();
        let left = left.flat_map(FxHashMap::into_values);
        let placed = left.filter(|held| held.placed.is_some());
        let before = self.ended.len();
        self.ended.extend(placed);
        self.gone.extend(self.ended[before..].iter().filter_map(|held| held.placed));
    }

    /// What is in use at the end of a window, or was when its process ended.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &Held> {
        let living = self.by_process.values().flat_map(FxHashMap::values);
        living.filter(|held| held.placed.is_some()).chain(&self.ended)
    }

    /// Begins the next window, in which those that have ended have nothing. Answers whose threads and stacks go on into it.
    pub(super) fn turn(&mut self) -> impl Iterator<Item = &mut Held> {
        self.ended.clear();
        self.by_process.values_mut().flat_map(FxHashMap::values_mut)
    }

    /// Where allocations lay that were freed by the end of their process, since the last answer.
    pub(super) fn take_gone(&mut self) -> Vec<Placed> {
        mem::take(&mut self.gone)
    }
}

/// What a sampled allocation stands for: as many of its size as were to be expected for one to be sampled. Their number is rounded by
/// lot, so that many small errors do not add up to a large one.
pub(super) fn weight(allocation: &Allocation) -> Tally {
    let size = allocation.size.max(1) as f64;
    let number = 1.0 / -(-size / allocation.period as f64).exp_m1();
    Tally { samples: (number + fastrand::f64()) as u64, weight: (number * size).round() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::StackTree;
    use crate::ids::Address;

    const PROCESS: KernelTid = KernelTid(7);

    fn allocation(id: u64, size: u64) -> Allocation {
        Allocation { id, process: PROCESS, size, period: 1 << 19 }
    }

    #[test]
    fn small_ones_stand_for_many_and_large_ones_for_themselves() {
        let small = weight(&allocation(1, 64));
        assert!(matches!(small, Tally { samples: 8192 | 8193, weight: 524_320 }), "{small:?}");
        let large = weight(&allocation(1, 64 << 20));
        assert_eq!((large.samples, large.weight), (1, 64 << 20));
        let mean = (0..10_000).map(|_| weight(&allocation(1, 1 << 19)).samples).sum::<u64>() as f64 / 10_000.0;
        assert!((mean - 1.582).abs() < 0.02, "{mean}");
    }

    #[test]
    fn what_is_freed_or_never_got_a_place_is_not_in_use() {
        let mut heap = Heap::default();
        let tally = Tally { samples: 1, weight: 8 };
        for id in 1..=3 {
            heap.add(Pid(3), &allocation(id, 8), ThreadIndex(0), StackTree::EMPTY, tally);
        }
        let place = |id: u64| Some(Placed { process: PROCESS, address: Address(id << 12) });
        for id in 1..=2 {
            heap.change(&HeapChange { id, process: PROCESS, placed: place(id) });
        }
        heap.change(&HeapChange { id: 1, process: PROCESS, placed: None });
        assert_eq!(heap.in_use().count(), 1);
        heap.end(Pid(3));
        assert_eq!(heap.in_use().count(), 1, "at its end it had that");
        assert_eq!(heap.turn().count(), 0);
        assert_eq!(heap.in_use().count(), 0);
        assert_eq!(heap.take_gone(), [place(2).unwrap()]);
    }
}
