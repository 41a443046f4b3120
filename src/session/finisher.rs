//! The finisher: a thread that takes sealed windows by ownership, names them, and hands them on, while the next one grows.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::RecordingError;
use super::record::{KERNEL_HIDDEN, kernel_names_hidden};
use super::screen::Screen;
use super::status::Status;
use crate::collect::Window;
use crate::ids::ImageId;
use crate::profile::{self, Profile};
use crate::symbol::Symbolizer;
use crate::sys::{self, Priority};

/// Where windows go once their frames have names.
pub(super) trait Shelf: Send {
    /// Sampling has begun.
    fn begin(&mut self) {}

    /// What is to be remarked in a window before it is named.
    fn remark(&mut self) -> Option<String> {
        None
    }

    /// Takes what a window tells of one event; of several, one after the other in the order of the command line.
    fn take(&mut self, profile: Profile);

    /// All events of the window were taken.
    fn end_window(&mut self);

    /// Is told how the recorder does.
    fn tell(&mut self, _status: Status) {}
}

/// What the finisher is given.
pub(super) enum Work {
    /// Sampling has begun.
    Begin,
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
    pub(super) shelf: Box<dyn Shelf>,
    /// Labels that every sample gets.
    pub(super) labels: Vec<(String, String)>,
    pub(super) screen: Screen,
}

impl Finisher {
    pub(super) fn start(bench: Bench) -> Result<Finisher, RecordingError> {
        // One window at a time: where that is too slow, windows become longer.
        let (work, todo) = bounded(1);
        let mut worker = Worker { bench, told_hidden: false };
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
    told_hidden: bool,
}

impl Worker {
    fn run(&mut self, todo: &Receiver<Work>) {
        Priority::LATER.set();
        for work in todo {
            match work {
                Work::Begin => self.bench.shelf.begin(),
                Work::Window(window, gone) => {
                    self.finish(*window);
                    gone.into_iter().for_each(|image| self.bench.symbolizer.forget_image(image));
                    sys::trim_memory();
                }
                Work::Status(status) => self.bench.shelf.tell(*status),
                Work::Forget => {
                    self.bench.symbolizer.forget_all();
                    sys::trim_memory();
                }
            }
        }
    }

    fn finish(&mut self, mut window: Window) {
        window.comments.extend(self.bench.shelf.remark());
        if !self.told_hidden && kernel_names_hidden(&window, &mut self.bench.symbolizer) {
            self.told_hidden = true;
            self.bench.screen.say(KERNEL_HIDDEN);
        }
        for window in window.split() {
            let mut profile = profile::build(window, &mut self.bench.symbolizer, &mut |_, _| {});
            profile.add_labels(&self.bench.labels);
            self.bench.shelf.take(profile);
        }
        self.bench.shelf.end_window();
    }
}
