//! How good a profile is: one table of everything that was lost, guessed or skipped. Every station adds to it, and
//! every file that is written and every closing summary shows it.

use std::fmt;

macro_rules! health_rows {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// One row of the table: what was counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count {
            $(#[doc = $meaning] $variant,)*
        }

        impl Count {
            /// All rows, in the order in which they are shown.
            pub const ALL: &'static [Count] = &[$(Count::$variant,)*];

            /// The name under which the row is written, `station.what`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Count::$variant => $name,)* }
            }

            /// What the number says, for people.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Count::$variant => $meaning,)* }
            }
        }
    };
}

health_rows! {
    Samples "samples.taken" "samples of the target, kept in the profile";
    SamplesSkipped "samples.skipped" "samples of other tasks on the same CPUs, passed over in the ring";
    SamplesUser "samples.user" "samples with a user stack";
    OffCpuUnplaced "off_cpu.unplaced" "nanoseconds away from a CPU of threads none of whose stacks were taken";
    WallUnplaced "wall.unplaced" "nanoseconds on a CPU of threads of which no sample was taken";
    AllocUntracked "alloc.untracked" "sampled allocations that were not followed until they are freed, for want of room";
    IntervalsMissed "intervals.missed" "times away from a CPU whose end was lost";
    RecordsLost "records.lost" "records that the kernel dropped because a ring was full (PERF_RECORD_LOST)";
    RecordsBad "records.bad" "records that did not parse";
    RecordsUnordered "records.unordered" "records that came later than one with a later time";
    Throttled "events.throttled" "times the kernel throttled an event because it came too often";
    StacksRoot "stacks.root" "user stacks that reached the thread's first function";
    StacksFiber "stacks.fiber" "user stacks that ended at a fiber's entry: the first function of a stack that the program made itself";
    StacksTruncated "stacks.truncated" "user stacks longer than the copied part of the stack";
    StacksNoCfi "stacks.no_unwind_info" "user stacks that ended in code without unwind information or frame pointers";
    StacksBroken "stacks.broken" "user stacks that led to an address where no code lies";
    StacksTooDeep "stacks.too_deep" "user stacks with more frames than are followed";
    StacksNoRegisters "stacks.no_registers" "samples of user code without registers (32-bit, or a task that was exiting)";
    StacksEarly "stacks.early" "stacks walked before all images of their process were open";
    FramesSpliced "stacks.spliced" "user stacks that the kernel's own frame-pointer walk completed";
    FramesReadLate "stacks.read_late" "user stacks part of which, on another stack than the sample's, was read from the process after the sample";
    CfiExpressions "unwind.expressions" "frames whose rule was a DWARF expression";
    FramePointerFrames "unwind.frame_pointer" "frames followed by frame pointer, for want of unwind information";
    ImagesOpened "images.opened" "images opened";
    ImagesFailed "images.failed" "images that could not be opened or read";
    ImagesDenied "images.denied" "images among those that could not be opened for want of CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH or CAP_CHECKPOINT_RESTORE";
    ProcessesHidden "processes.hidden" "processes that rprof may not look into for want of CAP_SYS_PTRACE: files of containers have no names";
    ImagesBadCfi "images.bad_cfi" "images whose unwind information was damaged in part";
    ImagesBadGo "images.bad_go" "Go programs whose table of functions is damaged or does not tell where their code begins: stacks and names without it";
    LoaderPanics "loader.panics" "files that rprof failed on by a fault of its own (a panic), taken as unreadable";
    FramesNamed "frames.named" "distinct frames with a function name";
    FramesUnnamed "frames.unnamed" "distinct frames without a function name, kept as module+offset";
}

/// The table: a number for each [`Count`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health([u64; Count::ALL.len()]);

impl Default for Health {
    fn default() -> Health {
        Health([0; Count::ALL.len()])
    }
}

impl Health {
    /// Adds to a row.
    pub fn add(&mut self, row: Count, number: u64) {
        let sum = &mut self.0[row as usize];
        *sum = sum.saturating_add(number);
    }

    /// Reads a row.
    #[must_use]
    pub fn get(&self, row: Count) -> u64 {
        self.0[row as usize]
    }

    /// Adds every row of another table.
    pub fn merge(&mut self, other: &Health) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// The rows that are not zero.
    pub fn rows(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::ALL.iter().map(|&row| (row, self.get(row))).filter(|&(_, number)| number > 0)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().try_for_each(|(row, number)| writeln!(f, "{}={number}", row.name()))
    }
}
