//! `struct read_format` (`perf_event_open(2)`): counters that a sample brings along.

use super::Words;
use crate::sys::perf_event::abi;

/// What the counters of a group stood at when its leader was sampled (`PERF_SAMPLE_READ`), or the one of the event that was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters<'a> {
    format: u64,
    words: Words<'a>,
}

impl<'a> Counters<'a> {
    /// Counters as their `read_format` lays them out, without the number that a group begins with.
    pub(super) fn new(format: u64, words: Words<'a>) -> Counters<'a> {
        Counters { format, words }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Each counter's id and value; none without ids.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let (group, times) = (is_group(self.format), bits(self.format, TIMES) as usize);
        // `{ times; { value; id; lost }[] }` of a group, `{ value; times; id; lost }` of one.
        let (skipped, id) = if group { (times, 1) } else { (0, 1 + times) };
        let each = if group { of_each(self.format) as usize } else { self.words.len().max(1) };
        let words: Vec<u64> = self.words.iter().skip(skipped).collect();
        let count = if bits(self.format, abi::PERF_FORMAT_ID) > 0 { words.len() / each } else { 0 };
        (0..count).map(move |at| (words[at * each + id], words[at * each]))
    }
}

const TIMES: u32 = abi::PERF_FORMAT_TOTAL_TIME_ENABLED | abi::PERF_FORMAT_TOTAL_TIME_RUNNING;

/// Whether counters begin with their number.
pub(super) fn is_group(format: u64) -> bool {
    bits(format, abi::PERF_FORMAT_GROUP) > 0
}

/// The words of so many counters, behind their number.
pub(super) fn words(format: u64, count: u64) -> Option<u64> {
    count.checked_mul(of_each(format))?.checked_add(bits(format, TIMES))
}

fn of_each(format: u64) -> u64 {
    1 + bits(format, abi::PERF_FORMAT_ID | abi::PERF_FORMAT_LOST)
}

fn bits(format: u64, wanted: u32) -> u64 {
    u64::from((format & u64::from(wanted)).count_ones())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: u32, words: &[u64]) -> Vec<(u64, u64)> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Counters::new(format.into(), Words::new(&bytes)).iter().collect()
    }

    #[test]
    fn a_group_has_its_times_first_and_one_counter_behind_its_value() {
        let (id, lost, group) = (abi::PERF_FORMAT_ID, abi::PERF_FORMAT_LOST, abi::PERF_FORMAT_GROUP);
        assert_eq!(read(group | id, &[10, 1, 20, 2]), [(1, 10), (2, 20)]);
        assert_eq!(read(group | id | lost | TIMES, &[7, 7, 10, 1, 0, 20, 2, 0]), [(1, 10), (2, 20)]);
        assert_eq!(read(id | TIMES, &[10, 7, 7, 1]), [(1, 10)]);
        assert_eq!(read(group, &[10, 20]), []);
        assert_eq!(words((group | id | lost | TIMES).into(), 2), Some(8));
        assert_eq!(words(group.into(), u64::MAX), Some(u64::MAX));
        assert_eq!(words((group | id).into(), u64::MAX), None);
    }
}
