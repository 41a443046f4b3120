//! Time that a file's debug info may take. Each table is walked in linear time, but a hostile file can have many entries
//! point at one long table; no count of bytes bounds that as simply as a clock.

use std::time::{Duration, Instant};

use super::DwarfError;

/// Steps (entries, rows, ranges) between two looks at the clock: some 50 µs.
const STEPS_PER_LOOK: u32 = 4096;
/// What any file may take.
const BASE: Duration = Duration::from_secs(5);
/// Bytes of debug info that a second is added for. Honest files are read ten times as fast.
const BYTES_PER_SECOND: u64 = 16 << 20;

/// The time that is left.
pub(super) struct Budget {
    end: Instant,
    steps: u32,
}

impl Budget {
    /// The time for sections of this size.
    pub(super) fn new(bytes: u64) -> Budget {
        let extra = Duration::from_secs((bytes / BYTES_PER_SECOND).min(120));
        Budget { end: Instant::now() + BASE + extra, steps: 0 }
    }

    /// Counts a step.
    ///
    /// # Errors
    /// [`DwarfError::TooSlow`] once the time is over.
    pub(super) fn step(&mut self) -> Result<(), DwarfError> {
        self.steps += 1;
        if self.steps < STEPS_PER_LOOK { Ok(()) } else { self.look() }
    }

    /// Looks at the clock, after something of unknown length.
    ///
    /// # Errors
    /// As [`Budget::step`].
    pub(super) fn look(&mut self) -> Result<(), DwarfError> {
        self.steps = 0;
        if Instant::now() < self.end { Ok(()) } else { Err(DwarfError::TooSlow) }
    }
}
