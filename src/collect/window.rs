//! A window: what was counted between two points in time. It owns all that naming its frames takes, and is moved from
//! the collector to the finisher.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::stack::{StackId, StackTree};
use crate::health::Health;
use crate::ids::{ImageId, Pid, Tid, Timestamp, Unit};
use crate::process::{ImageInfo, ProcessInfo};
use crate::record::State;

/// An index into [`Window::processes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessIndex(pub u32);

/// An index into [`Window::threads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadIndex(pub u32);

/// What the kernel dropped of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Samples dropped because a ring was full (`PERF_FORMAT_LOST`, or the sum of `PERF_RECORD_LOST`).
    pub lost: u64,
    /// Times that the event was throttled.
    pub throttled: u64,
}

/// One kind of event that was sampled.
#[derive(Clone, Debug)]
pub struct EventInfo {
    /// As the user spelled it, or what it fell back to: `cpu-clock`, `sched:sched_switch`.
    pub name: String,
    /// The name of its value in a profile: `cpu`, `page_faults`. Never with a `-`.
    pub value_name: String,
    /// The name under which its samples are counted in a profile of its own.
    pub count_name: &'static str,
    /// What its weights count.
    pub unit: Unit,
    /// Weight of one sample, where it is the same for all: nanoseconds or occurrences; 0 where it varies.
    pub period: u64,
    /// Samples a second that were asked for; 0 with a fixed period.
    pub frequency: u64,
    /// What was lost of it.
    pub loss: Loss,
    /// Samples that were passed on one by one and are not in the window.
    pub passed_on: u64,
    /// Whether it is of a kind of its own, told in a profile of its own: not a count of events, but of times.
    pub apart: bool,
}

/// A thread that was sampled.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its process.
    pub process: ProcessIndex,
    /// Its process's PID.
    pub pid: Pid,
    /// Its id.
    pub tid: Tid,
    /// Its name at the time of its samples.
    pub comm: Arc<str>,
}

/// An index into [`Window::wakers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WakerIndex(pub u32);

/// What samples are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleKey {
    /// An index into [`Window::events`].
    pub event: u32,
    /// The thread.
    pub thread: ThreadIndex,
    /// The stack, kernel part at the leaf.
    pub stack: StackId,
    /// When, where each sample's time is kept; 0 where samples are added up.
    pub time: Timestamp,
    /// What the thread did, where times away from CPUs are told.
    pub state: Option<State>,
    /// Who woke it, where that was asked for and is known.
    pub waker: Option<WakerIndex>,
}

/// How often and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples.
    pub samples: u64,
    /// Sum of the samples' periods, in the event's [`Unit`].
    pub weight: u64,
}

impl Tally {
    /// Adds others to it.
    pub(super) fn add(&mut self, more: Tally) {
        self.samples += more.samples;
        self.weight = self.weight.saturating_add(more.weight);
    }
}

/// What was counted between two points in time.
pub struct Window {
    /// When it began.
    pub start: SystemTime,
    /// The same point on the clock of the samples' times.
    pub began: Timestamp,
    /// How long it lasted.
    pub duration: Duration,
    /// The events, in the order of the command line.
    pub events: Vec<EventInfo>,
    /// The counts.
    pub samples: FxHashMap<SampleKey, Tally>,
    /// The stacks.
    pub stacks: StackTree,
    /// The threads that were sampled.
    pub threads: Vec<Thread>,
    /// The processes that were sampled.
    pub processes: Vec<ProcessInfo>,
    /// The names of threads that woke others.
    pub wakers: Vec<Arc<str>>,
    /// The images of its frames.
    pub images: FxHashMap<ImageId, ImageInfo>,
    /// The process whose executable is the profile's first mapping: the command, or the first PID that was asked for.
    pub main_process: Option<Pid>,
    /// Lines for people: version, command line, host, how the events were opened.
    pub comments: Vec<String>,
    /// Losses and fallbacks.
    pub health: Health,
}

impl Window {
    /// A window for each event, in their order: readers merge and compare only profiles with the same columns.
    #[must_use]
    pub fn split(self) -> Vec<Window> {
        if self.events.len() <= 1 {
            return vec![self];
        }
        (0_u32..).zip(&self.events).map(|(index, event)| self.of_event(index, event)).collect()
    }

    /// Whether nothing was sampled.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.samples.is_empty() && self.events.iter().all(|event| event.passed_on == 0)
    }

    /// Samples that were lost, of all events.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.events.iter().map(|event| event.loss.lost).sum()
    }

    /// What was counted of each event, in their order.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.events.len()];
        for (key, tally) in &self.samples {
            if let Some(sum) = tallies.get_mut(key.event as usize) {
                sum.add(*tally);
            }
        }
        tallies
    }

    fn of_event(&self, index: u32, event: &EventInfo) -> Window {
        let mut stacks = StackTree::default();
        let mut copied = FxHashMap::default();
        let samples = self.samples.iter().filter(|(key, _)| key.event == index).map(|(key, tally)| {
            let stack = *copied.entry(key.stack).or_insert_with(|| {
                let frames: Vec<_> = self.stacks.frames(key.stack).collect();
                stacks.push(ProcessIndex(0), frames.into_iter().rev())
            });
            (SampleKey { event: 0, stack, ..*key }, *tally)
        });
        Window {
            samples: samples.collect(),
            events: vec![event.clone()],
            stacks,
            threads: self.threads.clone(),
            processes: self.processes.clone(),
            wakers: self.wakers.clone(),
            images: self.images.clone(),
            comments: self.comments.clone(),
            health: self.health.clone(),
            ..*self
        }
    }
}
