//! What runs now: a recording for ever whose windows are short, and go to whoever shows them instead of into a directory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::continuous::{Bounds, no_signals, record_windows};
use super::finisher::Shelf;
use super::record::{Recording, RecordingError};
use super::screen::Screen;
use super::signals::{Signals, Stopper};
use crate::ids::Timestamp;
use crate::profile::{MergeError, MergeOptions, Merger, Profile, Quality};
use crate::store::is_state;
use crate::sys;

/// How far back [`Kind::recent`] goes.
pub const RECENT: Duration = Duration::from_secs(60);
/// Windows of it at most: they are added up each time that they are shown.
const MOST_RECENT: usize = 60;

/// What was seen until the end of a window.
#[derive(Clone, Debug)]
pub struct Seen {
    /// For each event that is sampled, in the order of the command line.
    pub kinds: Vec<Kind>,
    /// How many windows there were.
    pub windows: u64,
    /// What it cost.
    pub own: Own,
}

/// What was seen of one kind of event. Stacks are of functions, and samples have no labels, as [`MergeOptions`] said at the start.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its name: `cpu`, `off_cpu`.
    pub name: String,
    /// The last window.
    pub last: Arc<Profile>,
    /// The windows of the last [`RECENT`], oldest first; of a state (what is in use), the last one.
    pub recent: VecDeque<Arc<Profile>>,
    /// All since the start; of a state, the last window.
    pub all: Arc<Profile>,
    /// Samples that were lost since the start.
    pub lost: u64,
}

/// What rprof itself used in a window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// How many CPUs it kept busy.
    pub cpus: f64,
    /// Bytes of resident memory.
    pub memory: u64,
}

/// A recording that goes on in a thread of its own.
pub struct Top {
    seen: Receiver<Box<Seen>>,
    said: Receiver<String>,
    stopper: Stopper,
    thread: JoinHandle<Result<i32, RecordingError>>,
}

impl Top {
    /// Starts one.
    ///
    /// # Errors
    /// If nothing could be begun. What fails later, [`Top::finish`] tells.
    pub fn start(
        recording: Recording,
        bounds: Bounds,
        options: MergeOptions,
        screen: &Screen,
    ) -> Result<Top, RecordingError> {
        let signals = Signals::listen().map_err(no_signals)?;
        let stopper = signals.stopper().map_err(no_signals)?;
        // Whoever shows windows slower than they come sees longer ones.
        let (sender, seen) = bounded(1);
        let (listener, said) = unbounded();
        let (begin, begun) = bounded(1);
        let shelf = Box::new(Glass::new(sender, begin, options));
        let record = move || record_windows(recording, bounds, shelf, &signals, &Screen::of(listener));
        let thread = thread::Builder::new().name("rprof-record".into()).spawn(record);
        let thread = thread.map_err(|source| RecordingError::System { what: "start a thread", source })?;
        let top = Top { seen, said, stopper, thread };
        // What cannot be begun is told before a terminal is taken.
        match begun.recv() {
            Ok(()) => Ok(top),
            Err(_) => top.finish(|line| screen.say(line)).map(|_| Err(ended()))?,
        }
    }

    /// What was seen, each time that a window has ended. It is disconnected once the recording has ended.
    #[must_use]
    pub fn seen(&self) -> &Receiver<Box<Seen>> {
        &self.seen
    }

    /// What is to be told to the user.
    #[must_use]
    pub fn said(&self) -> &Receiver<String> {
        &self.said
    }

    /// Ends the recording, asks its command to end, and waits for both. Lines that are said meanwhile are handed over. Answers the exit
    /// status: that of a command that ended by itself, or 128 and the number of the signal that ended the recording; else 0.
    ///
    /// # Errors
    /// What the recording failed by.
    pub fn finish(self, mut say: impl FnMut(&str)) -> Result<i32, RecordingError> {
        self.stopper.stop();
        drop(self.seen);
        self.said.iter().for_each(|line| say(&line));
        self.thread.join().unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> RecordingError {
    let source = std::io::Error::other("the recording ended by a fault of its own");
    RecordingError::System { what: "go on recording", source }
}

/// The shelf behind glass: what lies there is looked at, and not kept.
struct Glass {
    seen: Sender<Box<Seen>>,
    begun: Sender<()>,
    options: MergeOptions,
    kinds: Vec<Kind>,
    /// Which of them the next profile is of.
    next: usize,
    windows: u64,
    before: (Timestamp, u64),
}

impl Glass {
    fn new(seen: Sender<Box<Seen>>, begun: Sender<()>, options: MergeOptions) -> Glass {
        Glass { seen, begun, options, kinds: Vec::new(), next: 0, windows: 0, before: (sys::now(), sys::cpu_time()) }
    }

    fn own(&mut self) -> Own {
        let (at, cpu) = (sys::now(), sys::cpu_time());
        let (since, before) = std::mem::replace(&mut self.before, (at, cpu));
        let cpus = cpu.saturating_sub(before) as f64 / at.since(since).as_nanos().max(1) as f64;
        Own { cpus, memory: sys::resident_memory().unwrap_or(0) }
    }
}

impl Shelf for Glass {
    fn begin(&mut self) {
        let _ = self.begun.send(());
    }

    fn take(&mut self, profile: Profile) {
        let column = profile.column(None).unwrap_or(0);
        let lost = Quality::of(&profile).map_or(0, |quality| quality.of_column(&profile, column).lost);
        let last = Arc::new(merged(&self.options, [&profile]).unwrap_or(profile));
        match self.kinds.get_mut(self.next) {
            Some(kind) => kind.add(last, lost, &self.options),
            None => self.kinds.push(Kind::new(last, lost)),
        }
        self.next += 1;
    }

    fn end_window(&mut self) {
        self.next = 0;
        self.windows += 1;
        let seen = Seen { kinds: self.kinds.clone(), windows: self.windows, own: self.own() };
        // Nobody looks any more where it cannot be sent: the recording is about to end.
        let _ = self.seen.send(Box::new(seen));
    }
}

impl Kind {
    fn new(last: Arc<Profile>, lost: u64) -> Kind {
        let name = last.text(last.default_sample_type).to_owned();
        Kind { name, recent: [last.clone()].into(), all: last.clone(), last, lost }
    }

    fn add(&mut self, last: Arc<Profile>, lost: u64, options: &MergeOptions) {
        self.lost = self.lost.saturating_add(lost);
        self.last = last.clone();
        if is_state(&self.name) {
            (self.recent, self.all) = ([last.clone()].into(), last);
            return;
        }
        // Only a sum that no counter holds cannot be told: then the time since the start begins anew.
        self.all = merged(options, [&*self.all, &last]).map_or_else(|_| last.clone(), Arc::new);
        self.recent.push_back(last);
        let most = i64::try_from(RECENT.as_nanos()).unwrap_or(i64::MAX);
        let covers = |recent: &VecDeque<Arc<Profile>>| {
            recent.iter().skip(1).fold(0_i64, |sum, profile| sum.saturating_add(profile.duration_nanos))
        };
        while self.recent.len() > MOST_RECENT || covers(&self.recent) >= most {
            self.recent.pop_front();
        }
    }

    /// The windows of the last [`RECENT`] as one.
    #[must_use]
    pub fn minute(&self, options: &MergeOptions) -> Arc<Profile> {
        if self.recent.len() <= 1 {
            return self.last.clone();
        }
        merged(options, self.recent.iter().map(|profile| &**profile)).map_or_else(|_| self.last.clone(), Arc::new)
    }
}

fn merged<'a>(options: &MergeOptions, of: impl IntoIterator<Item = &'a Profile>) -> Result<Profile, MergeError> {
    let mut merger = Merger::new(options.clone());
    of.into_iter().try_for_each(|profile| merger.add(profile))?;
    Ok(merger.finish())
}
