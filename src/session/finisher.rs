//! The finisher: a thread that takes sealed windows by ownership, names them, and writes them into the store, while the next one grows.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::RecordingError;
use super::record::{KERNEL_HIDDEN, kernel_names_hidden, window_name};
use super::screen::Screen;
use super::status::Status;
use crate::collect::Window;
use crate::encode::Format;
use crate::ids::{ImageId, UnixNanos};
use crate::profile;
use crate::store::{Policy, Source, StoreError, Writer};
use crate::symbol::Symbolizer;
use crate::sys::{self, Priority};

/// What the finisher is given.
pub(super) enum Work {
    /// A window, and images that no later one will name.
    Window(Box<Window>, Vec<ImageId>),
    /// How the recorder does.
    Status(Box<Status>),
    /// Give memory back.
    Forget,
}

/// The recorder's end. The thread ends when this is finished.
pub(super) struct Finisher {
    work: Sender<Work>,
    thread: JoinHandle<()>,
}

/// What the thread works with.
pub(super) struct Bench {
    pub(super) symbolizer: Symbolizer,
    pub(super) writer: Writer,
    pub(super) policy: Policy,
    pub(super) format: &'static Format,
    /// Labels that every sample gets.
    pub(super) labels: Vec<(String, String)>,
    /// Files for the status.
    pub(super) metrics: Vec<PathBuf>,
    pub(super) screen: Screen,
    pub(super) verbose: bool,
}

impl Finisher {
    pub(super) fn start(bench: Bench) -> Result<Finisher, RecordingError> {
        // One window at a time: where that is too slow, windows become longer.
        let (work, todo) = bounded(1);
        let mut worker =
            Worker { bench, written: 0, dropped: 0, failing: None, tending: Vec::new(), told_hidden: false };
        let thread = thread::Builder::new().name("rprof-finish".into()).spawn(move || worker.run(&todo));
        let thread = thread.map_err(|source| RecordingError::System { what: "start a thread", source })?;
        Ok(Finisher { work, thread })
    }

    /// Whether it would take a window now.
    pub(super) fn is_free(&self) -> bool {
        self.work.is_empty()
    }

    /// Hands work over; what cannot be taken now is given back.
    pub(super) fn offer(&self, work: Work) -> Option<Work> {
        self.work.try_send(work).err().map(crossbeam_channel::TrySendError::into_inner)
    }

    /// Whether the thread has ended before its time.
    pub(super) fn is_gone(&self) -> bool {
        self.thread.is_finished()
    }

    /// Hands over what is last, and waits until all is written.
    pub(super) fn finish(self, last: Vec<Work>) {
        for work in last {
            // It fails only where the thread is gone, and that has been told.
            let _ = self.work.send(work);
        }
        drop(self.work);
        let _ = self.thread.join();
    }
}

struct Worker {
    bench: Bench,
    written: u64,
    dropped: u64,
    /// Windows dropped since the last one that could be written.
    failing: Option<u64>,
    /// What could not be tended the last time.
    tending: Vec<String>,
    told_hidden: bool,
}

impl Worker {
    fn run(&mut self, todo: &Receiver<Work>) {
        Priority::LATER.set();
        for work in todo {
            match work {
                Work::Window(window, gone) => {
                    self.finish(*window);
                    gone.into_iter().for_each(|image| self.bench.symbolizer.forget_image(image));
                    self.tend();
                    sys::trim_memory();
                }
                Work::Status(status) => self.tell(*status),
                Work::Forget => {
                    self.bench.symbolizer.forget_all();
                    sys::trim_memory();
                }
            }
        }
    }

    fn finish(&mut self, mut window: Window) {
        if let Some(number) = self.failing {
            window.comments.push(format!("{number} windows before this one could not be written and are lost"));
        }
        if !self.told_hidden && kernel_names_hidden(&window, &mut self.bench.symbolizer) {
            self.told_hidden = true;
            self.bench.screen.say(KERNEL_HIDDEN);
        }
        for window in window.split() {
            let mut profile = profile::build(window, &mut self.bench.symbolizer, &mut |_, _| {});
            profile.add_labels(&self.bench.labels);
            let name = window_name(&profile, Source::Recorder);
            match self.bench.writer.write(&name, &profile, self.bench.format) {
                Ok(written) => {
                    self.written += 1;
                    if let Some(number) = self.failing.take() {
                        self.bench.screen.say(&format!("writing again; {number} windows are lost"));
                    }
                    if self.bench.verbose {
                        self.bench.screen.say(&format!("wrote {} ({} bytes)", written.path.display(), written.bytes));
                    }
                }
                Err(error) => self.drop_window(&error),
            }
        }
    }

    /// A recorder goes on whatever happens to its disk.
    fn drop_window(&mut self, error: &StoreError) {
        self.dropped += 1;
        let number = self.failing.get_or_insert(0);
        *number += 1;
        if *number == 1 {
            self.bench.screen.say(&format!("{error}; windows are dropped until there is a way"));
        }
    }

    fn tend(&mut self) {
        let tended = self.bench.writer.tend(UnixNanos::from(SystemTime::now()), &self.bench.policy);
        let problems = match tended {
            Ok(tended) => tended.problems,
            Err(error) => vec![error],
        };
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        // A directory that cannot be tended now cannot be for a while: it is said once.
        problems
            .iter()
            .filter(|problem| !self.tending.contains(problem))
            .for_each(|problem| self.bench.screen.say(problem));
        self.tending = problems;
    }

    fn tell(&mut self, mut status: Status) {
        let usage = self.bench.writer.usage();
        (status.windows_written, status.windows_dropped) = (self.written, self.dropped);
        (status.files, status.disk_bytes) = (usage.windows as u64, usage.bytes);
        for path in &self.bench.metrics {
            // A status that cannot be written now is written the next time; a full disk is told by the windows.
            if let Err(error) = status.write(path)
                && self.bench.verbose
            {
                self.bench.screen.say(&format!("cannot write {}: {error}", path.display()));
            }
        }
    }
}
