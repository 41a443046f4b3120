//! The loader: threads that open images and compile their unwind tables, so that neither a slow disk nor a library of 150 MB
//! keeps the collector from its rings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::ids::ImageId;
use crate::process::{Image, OpenRequest};
use crate::sys::Priority;
use crate::unwind::{Cfi, Table};

/// Work that is done.
pub(super) enum Loaded {
    /// An image is open, or cannot be.
    Opened { id: ImageId, image: Option<Arc<Image>>, cfi: Option<Arc<Cfi>> },
    /// An image's table is ready; so many of its entries were damaged.
    Compiled { id: ImageId, table: Arc<Table>, damaged: u64 },
}

/// The collector's end. The threads end when this is dropped.
///
/// Two threads, because samples wait for an image to be opened, which must not wait for a table to be compiled, nor on a busy
/// host for anything else.
pub(super) struct Loader {
    to_open: Queue<OpenRequest>,
    to_compile: Queue<(ImageId, Arc<Cfi>)>,
    loaded: Receiver<Loaded>,
}

impl Loader {
    pub(super) fn start() -> Loader {
        let (done, loaded) = bounded(64);
        Loader {
            to_open: Queue::start("rprof-open", Priority::FIRST, done.clone(), |request| open(&request)),
            to_compile: Queue::start("rprof-compile", Priority::current(), done, |(id, cfi): (ImageId, Arc<Cfi>)| {
                compile(id, &cfi)
            }),
            loaded,
        }
    }

    pub(super) fn open(&mut self, requests: Vec<OpenRequest>) {
        self.to_open.backlog.extend(requests);
        self.to_open.send();
    }

    pub(super) fn compile(&mut self, id: ImageId, cfi: Arc<Cfi>) {
        self.to_compile.backlog.push_back((id, cfi));
        self.to_compile.send();
    }

    /// What is done, without waiting.
    pub(super) fn take(&mut self) -> Option<Loaded> {
        self.send();
        self.loaded.try_recv().ok()
    }

    /// What is done, waiting at most so long.
    pub(super) fn wait(&mut self, timeout: Duration) -> Option<Loaded> {
        self.send();
        self.loaded.recv_timeout(timeout).ok()
    }

    fn send(&mut self) {
        self.to_open.send();
        self.to_compile.send();
    }
}

/// Jobs for one thread.
struct Queue<T> {
    jobs: Sender<T>,
    /// Jobs that the channel had no room for: the collector never waits.
    backlog: VecDeque<T>,
}

impl<T: Send + 'static> Queue<T> {
    fn start(
        name: &str,
        priority: Priority,
        done: Sender<Loaded>,
        work: impl Fn(T) -> Loaded + Send + 'static,
    ) -> Queue<T> {
        let (jobs, todo) = bounded::<T>(64);
        let run = move || {
            priority.set();
            for job in todo {
                if done.send(work(job)).is_err() {
                    return;
                }
            }
        };
        // Ends with its channels; a thread that cannot be started leaves all images unopened, and that is counted.
        let _ = thread::Builder::new().name(name.into()).spawn(run);
        Queue { jobs, backlog: VecDeque::new() }
    }

    fn send(&mut self) {
        while let Some(job) = self.backlog.pop_front() {
            if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job) {
                self.backlog.push_front(job);
                return;
            }
        }
    }
}

fn compile(id: ImageId, cfi: &Cfi) -> Loaded {
    let (table, damaged) = Table::compile(cfi);
    Loaded::Compiled { id, table: Arc::new(table), damaged }
}

fn open(request: &OpenRequest) -> Loaded {
    let image = request.open().ok();
    let cfi = image.as_ref().and_then(Cfi::open).map(Arc::new);
    Loaded::Opened { id: request.id, image, cfi }
}
