//! How much of each stack is worth copying: as little as holds nearly all of the stacks that were walked lately.
//!
//! A recording begins with the largest copy, so that no stack is cut before anything is known, and takes a smaller one once enough
//! stacks were seen to need no more. Where stacks turn out to be cut after that, it goes back to the largest at once.

use std::time::{Duration, Instant};

/// Copies that are chosen among, beside the largest one.
const SMALLER: [u32; 2] = [16 << 10, 32 << 10];
/// A smaller copy is taken after so many stacks and so long; twice as many after each time that it turned out to be too small.
const ENOUGH: u64 = 100;
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// The share of stacks that may be cut.
const MAY_BE_CUT: f64 = 0.005;

/// What the stacks that were walked lately needed.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    since: Option<Instant>,
    stacks: u64,
    /// Stacks whose next frame lies behind the copy.
    cut: u64,
    /// Stacks that would not fit well into each of [`SMALLER`].
    longer: [u64; SMALLER.len()],
    /// How often a smaller copy turned out to be too small.
    regrets: u32,
}

/// Another size for the copies of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySize {
    /// Bytes.
    pub bytes: u32,
    /// Of how many stacks that were looked at.
    pub stacks: u64,
    /// How many were cut.
    pub cut: u64,
}

impl Pressure {
    /// Takes a stack into account of which so many bytes are needed. `cut` is whether the copy was too small for them.
    pub(super) fn count(&mut self, bytes: u64, cut: bool) {
        self.stacks += 1;
        self.cut += u64::from(cut);
        for (longer, size) in self.longer.iter_mut().zip(SMALLER) {
            // Some room is left: stacks of a program that recurses vary.
            *longer += u64::from(bytes > u64::from(size / 4 * 3));
        }
    }

    /// The size to take from now on, if it is another one than the present. `most` is the largest possible.
    pub(super) fn advice(&mut self, present: u32, most: u32) -> Option<CopySize> {
        if self.stacks == 0 {
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let Pressure { stacks, cut, .. } = *self;
        let too_many = |count: u64| count as f64 > MAY_BE_CUT * stacks as f64;
        if present < most && cut >= 2 && too_many(cut) {
            *self = Pressure { regrets: self.regrets + 1, ..Pressure::default() };
            return Some(CopySize { bytes: most, stacks, cut });
        }
        if stacks < ENOUGH << self.regrets.min(20) || since.elapsed() < LONG_ENOUGH {
            return None;
        }
        let fits = SMALLER.iter().zip(self.longer).find(|(_, longer)| !too_many(*longer));
        *self = Pressure { regrets: self.regrets, ..Pressure::default() };
        let bytes = fits.map(|(&size, _)| size).filter(|&size| size < present)?;
        Some(CopySize { bytes, stacks, cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 65_528;

    fn pressure(stacks: &[(u64, u64, bool)]) -> Pressure {
        let mut pressure = Pressure { since: Instant::now().checked_sub(2 * LONG_ENOUGH), ..Pressure::default() };
        for &(count, bytes, cut) in stacks {
            (0..count).for_each(|_| pressure.count(bytes, cut));
        }
        pressure
    }

    fn advice(stacks: &[(u64, u64, bool)], present: u32) -> Option<u32> {
        pressure(stacks).advice(present, MOST).map(|size| size.bytes)
    }

    #[test]
    fn a_copy_shrinks_to_what_nearly_all_stacks_need() {
        assert_eq!(advice(&[(200, 3000, false)], MOST), Some(16 << 10));
        assert_eq!(advice(&[(199, 3000, false), (1, 20_000, false)], MOST), Some(16 << 10));
        assert_eq!(advice(&[(190, 3000, false), (10, 20_000, false)], MOST), Some(32 << 10));
        assert_eq!(advice(&[(190, 3000, false), (10, 40_000, false)], MOST), None);
        assert_eq!(advice(&[(50, 3000, false)], MOST), None, "too few to tell");
        assert_eq!(advice(&[(200, 3000, false)], 16 << 10), None);
    }

    #[test]
    fn a_copy_that_cuts_stacks_grows_at_once() {
        assert_eq!(advice(&[(3, 3000, false), (2, 17_000, true)], 16 << 10), Some(MOST));
        assert_eq!(advice(&[(9, 3000, false), (1, 17_000, true)], 16 << 10), None, "one alone is no sign");
        assert_eq!(advice(&[(10, 70_000, true)], MOST), None, "there is no larger one");
    }

    #[test]
    fn what_was_too_small_once_is_not_taken_again_so_soon() {
        let mut pressure = pressure(&[(10, 17_000, true)]);
        assert!(pressure.advice(16 << 10, MOST).is_some());
        pressure.since = Instant::now().checked_sub(2 * LONG_ENOUGH);
        (0..150).for_each(|_| pressure.count(3000, false));
        assert_eq!(pressure.advice(MOST, MOST), None);
        (0..50).for_each(|_| pressure.count(3000, false));
        assert_eq!(pressure.advice(MOST, MOST).map(|size| size.bytes), Some(16 << 10));
    }
}
