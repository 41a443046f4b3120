//! Records of many rings, as `perf record` writes one ring after the other, in the order of their times.
//!
//! A round of the writer's empties every ring once. What it holds may be older than what the round before held, but not older than the
//! end of the one before that: so at the end of a round all up to the youngest time of the round before can be passed on
//! (`PERF_RECORD_FINISHED_ROUND`, `tools/perf/util/ordered-events.c`).

use bytes::Bytes;

use crate::ids::Timestamp;

/// Bytes of records that wait. A file without rounds, or one whose rings were larger, is sorted as far as this reaches; what then still
/// comes late is passed on late.
const MOST_BYTES: usize = 48 << 20;

/// Records that wait for those that may be older.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Equal times keep their order in the file.
    waiting: Vec<Waiting>,
    /// Bytes of all that wait.
    size: usize,
    /// The youngest of all, and what it was at the end of the last round.
    youngest: Timestamp,
    round: Timestamp,
    /// The time up to which all was passed on.
    passed: Timestamp,
    late: u64,
}

#[derive(Debug)]
struct Waiting {
    time: Timestamp,
    record: Bytes,
    /// How often others were passed on before it.
    stayed: u8,
}

impl Queue {
    /// Takes a record.
    pub(super) fn push(&mut self, time: Timestamp, record: Bytes) {
        self.late += u64::from(time < self.passed);
        self.youngest = self.youngest.max(time);
        self.size += record.len();
        self.waiting.push(Waiting { time, record, stayed: 0 });
    }

    /// Whether older records should be passed on by now, round or not.
    pub(super) fn is_full(&self) -> bool {
        self.size >= MOST_BYTES
    }

    /// Records that came when a younger one had been passed on.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// A round has ended.
    pub(super) fn end_round(&mut self, visit: &mut dyn FnMut(&[u8])) {
        self.pass(self.round, visit);
        self.round = self.youngest;
    }

    /// Passes on the older half.
    pub(super) fn pass_half(&mut self, visit: &mut dyn FnMut(&[u8])) {
        let mut times: Vec<Timestamp> = self.waiting.iter().map(|waiting| waiting.time).collect();
        let middle = times.len() / 2;
        if middle < times.len() {
            let (_, &mut until, _) = times.select_nth_unstable(middle);
            self.pass(until, visit);
        }
    }

    /// Passes on all.
    pub(super) fn finish(&mut self, visit: &mut dyn FnMut(&[u8])) {
        self.pass(Timestamp(u64::MAX), visit);
    }

    fn pass(&mut self, until: Timestamp, visit: &mut dyn FnMut(&[u8])) {
        self.waiting.sort_by_key(|waiting| waiting.time);
        let count = self.waiting.partition_point(|waiting| waiting.time <= until);
        for Waiting { time, record, .. } in self.waiting.drain(..count) {
            self.passed = self.passed.max(time);
            self.size -= record.len();
            visit(&record);
        }
        self.waiting.iter_mut().for_each(Waiting::stay);
    }
}

impl Waiting {
    /// A record keeps all alive that was read with it. Most are passed on a round or two later; one that is of a far future gets memory of its own.
    fn stay(&mut self) {
        self.stayed = self.stayed.saturating_add(1);
        if self.stayed == 8 {
            self.record = Bytes::copy_from_slice(&self.record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(pass: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
        let mut seen = Vec::new();
        pass(&mut |record| seen.extend_from_slice(record));
        seen
    }

    fn push(queue: &mut Queue, time: u64, record: u8) {
        queue.push(Timestamp(time), Bytes::from(vec![record]));
    }

    #[test]
    fn a_round_waits_for_the_next() {
        let mut queue = Queue::default();
        push(&mut queue, 5, 5);
        push(&mut queue, 3, 3);
        assert!(passed(|visit| queue.end_round(visit)).is_empty());
        push(&mut queue, 4, 4);
        push(&mut queue, 9, 9);
        push(&mut queue, 5, 55);
        assert_eq!(passed(|visit| queue.end_round(visit)), [3, 4, 5, 55]);
        push(&mut queue, 2, 2);
        assert_eq!((passed(|visit| queue.finish(visit)), queue.late()), (vec![2, 9], 1));
    }

    #[test]
    fn half_is_passed_without_rounds() {
        let mut queue = Queue::default();
        (0..10).rev().for_each(|at| push(&mut queue, at.into(), at));
        assert_eq!(passed(|visit| queue.pass_half(visit)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(passed(|visit| queue.finish(visit)), [6, 7, 8, 9]);
    }
}
