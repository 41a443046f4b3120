//! Records of many rings, as `perf record` writes one ring after the other, in the order of their times.
//!
//! A round of the writer's empties every ring once. What it holds may be older than what the round before held, but not older than the
//! end of the one before that: so at the end of a round all up to the youngest time of the round before can be passed on
//! (`PERF_RECORD_FINISHED_ROUND`, `tools/perf/util/ordered-events.c`).

use crate::ids::Timestamp;

/// Bytes of records that wait. A file without rounds, or one whose rings were larger, is sorted as far as this reaches; what then still
/// comes late is passed on late.
const MOST_BYTES: usize = 48 << 20;

/// Records that wait for those that may be older.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Time, and where each record lies. Equal times keep their order in the file.
    waiting: Vec<Waiting>,
    /// The youngest of all, and what it was at the end of the last round.
    youngest: Timestamp,
    round: Timestamp,
    /// The time up to which all was passed on.
    passed: Timestamp,
    late: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    time: Timestamp,
    start: usize,
    size: u32,
}

impl Queue {
    /// Takes a record.
    pub(super) fn push(&mut self, time: Timestamp, record: &[u8]) {
        self.late += u64::from(time < self.passed);
        self.youngest = self.youngest.max(time);
        self.waiting.push(Waiting { time, start: self.bytes.len(), size: record.len() as u32 });
        self.bytes.extend_from_slice(record);
    }

    /// Whether older records should be passed on by now, round or not.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= MOST_BYTES
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
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|waiting| waiting.time);
        let kept = waiting.split_off(waiting.partition_point(|waiting| waiting.time <= until));
        for record in &waiting {
            self.passed = self.passed.max(record.time);
            visit(self.bytes.get(record.start..record.start + record.size as usize).unwrap_or_default());
        }
        if waiting.is_empty() {
            self.waiting = kept;
            return;
        }
        let mut bytes = Vec::with_capacity(kept.iter().map(|record| record.size as usize).sum());
        for mut record in kept {
            let from = record.start..record.start + record.size as usize;
            record.start = bytes.len();
            bytes.extend_from_slice(self.bytes.get(from).unwrap_or_default());
            self.waiting.push(record);
        }
        // Each keeps its place among equal times: the sort is stable, and what comes later is pushed behind.
        self.bytes = bytes;
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

    #[test]
    fn a_round_waits_for_the_next() {
        let mut queue = Queue::default();
        queue.push(Timestamp(5), &[5]);
        queue.push(Timestamp(3), &[3]);
        assert!(passed(|visit| queue.end_round(visit)).is_empty());
        queue.push(Timestamp(4), &[4]);
        queue.push(Timestamp(9), &[9]);
        queue.push(Timestamp(5), &[55]);
        assert_eq!(passed(|visit| queue.end_round(visit)), [3, 4, 5, 55]);
        queue.push(Timestamp(2), &[2]);
        assert_eq!((passed(|visit| queue.finish(visit)), queue.late()), (vec![2, 9], 1));
    }

    #[test]
    fn half_is_passed_without_rounds() {
        let mut queue = Queue::default();
        (0..10).rev().for_each(|at| queue.push(Timestamp(at), &[at as u8]));
        assert_eq!(passed(|visit| queue.pass_half(visit)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(passed(|visit| queue.finish(visit)), [6, 7, 8, 9]);
    }
}
