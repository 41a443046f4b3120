//! Records of many rings, as `perf record` writes one ring after the other, in the order of their times.
//!
//! A round of the writer's empties every ring once. What it holds may be older than what the round before held, but not older than the
//! end of the one before that: so at the end of a round all up to the youngest time of the round before can be passed on
//! (`PERF_RECORD_FINISHED_ROUND`, `tools/perf/util/ordered-events.c`).

use std::collections::VecDeque;

use crate::ids::Timestamp;

/// Bytes of records that wait. A file without rounds, or one whose rings were larger, is sorted as far as this reaches; what then still
/// comes late is passed on late.
const MOST_BYTES: usize = 48 << 20;

/// Records that wait for those that may be older.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The bytes of each round; none is moved before it is passed on.
    segments: VecDeque<Segment>,
    /// The number of the first segment.
    first: usize,
    /// Room of a segment that is over.
    spare: Vec<u8>,
    size: usize,
    /// Time, and where each record lies. Equal times keep their order in the file.
    waiting: Vec<Waiting>,
    /// The youngest of all, and what it was at the end of the last round.
    youngest: Timestamp,
    round: Timestamp,
    /// The time up to which all was passed on.
    passed: Timestamp,
    late: u64,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Records of it that wait.
    left: usize,
    /// Whether its round has ended.
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    time: Timestamp,
    segment: usize,
    start: usize,
    size: usize,
}

impl Queue {
    /// Takes a record.
    pub(super) fn push(&mut self, time: Timestamp, record: &[u8]) {
        self.late += u64::from(time < self.passed);
        self.youngest = self.youngest.max(time);
        if self.segments.back().is_none_or(|segment| segment.closed) {
            let bytes = std::mem::take(&mut self.spare);
            self.segments.push_back(Segment { bytes, left: 0, closed: false });
        }
        let segment = self.first + self.segments.len() - 1;
        if let Some(open) = self.segments.back_mut() {
            self.waiting.push(Waiting { time, segment, start: open.bytes.len(), size: record.len() });
            open.bytes.extend_from_slice(record);
            open.left += 1;
            self.size += record.len();
        }
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
        self.close();
        self.pass(self.round, visit);
        self.round = self.youngest;
    }

    /// Passes on the older half.
    pub(super) fn pass_half(&mut self, visit: &mut dyn FnMut(&[u8])) {
        let mut times: Vec<Timestamp> = self.waiting.iter().map(|waiting| waiting.time).collect();
        let middle = times.len() / 2;
        if middle < times.len() {
            let (_, &mut until, _) = times.select_nth_unstable(middle);
            self.close();
            self.pass(until, visit);
        }
        self.make_room();
    }

    /// Passes on all.
    pub(super) fn finish(&mut self, visit: &mut dyn FnMut(&[u8])) {
        self.close();
        self.pass(Timestamp(u64::MAX), visit);
    }

    fn close(&mut self) {
        self.segments.iter_mut().for_each(|segment| segment.closed = true);
    }

    fn pass(&mut self, until: Timestamp, visit: &mut dyn FnMut(&[u8])) {
        self.waiting.sort_by_key(|waiting| waiting.time);
        let count = self.waiting.partition_point(|waiting| waiting.time <= until);
        for record in self.waiting.drain(..count) {
            self.passed = self.passed.max(record.time);
            if let Some(segment) = self.segments.get_mut(record.segment - self.first) {
                visit(segment.bytes.get(record.start..record.start + record.size).unwrap_or_default());
                segment.left -= 1;
            }
        }
        while self.segments.front().is_some_and(|segment| segment.closed && segment.left == 0) {
            if let Some(over) = self.segments.pop_front() {
                self.size -= over.bytes.len();
                self.first += 1;
                self.spare = over.bytes;
                self.spare.clear();
            }
        }
    }

    /// Puts what still waits together, where single records keep whole segments.
    fn make_room(&mut self) {
        if !self.is_full() {
            return;
        }
        let bytes = Vec::with_capacity(self.waiting.iter().map(|record| record.size).sum());
        let mut joined = Segment { bytes, left: self.waiting.len(), closed: true };
        for record in &mut self.waiting {
            let from = self.segments.get(record.segment - self.first);
            let start = joined.bytes.len();
            let lies = record.start..record.start + record.size;
            joined.bytes.extend_from_slice(from.and_then(|from| from.bytes.get(lies)).unwrap_or_default());
            (record.segment, record.start) = (self.first, start);
        }
        self.size = joined.bytes.len();
        self.segments = VecDeque::from([joined]);
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
