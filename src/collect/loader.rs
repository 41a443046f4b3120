//! The loader: a thread that opens images and compiles their unwind tables, so that neither a slow disk nor a library of 150 MB
//! keeps the collector from its rings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::ids::ImageId;
use crate::process::{Image, OpenRequest};
use crate::unwind::{Cfi, Table};

/// Work for the loader.
enum Job {
    Open(OpenRequest),
    Compile(ImageId, Arc<Cfi>),
}

/// Work that is done.
pub(super) enum Loaded {
    /// An image is open, or cannot be.
    Opened { id: ImageId, image: Option<Arc<Image>>, cfi: Option<Arc<Cfi>> },
    /// An image's table is ready; so many of its entries were damaged.
    Compiled { id: ImageId, table: Arc<Table>, damaged: u64 },
}

/// The collector's end. The thread ends when this is dropped.
pub(super) struct Loader {
    jobs: Sender<Job>,
    loaded: Receiver<Loaded>,
    /// Jobs that the channel had no room for: the collector never waits.
    backlog: VecDeque<Job>,
}

impl Loader {
    pub(super) fn start() -> Loader {
        let (jobs, todo) = bounded(64);
        let (done, loaded) = bounded(64);
        // Ends with its channels; a thread that cannot be started leaves all images unopened, and that is counted.
        let _ = thread::Builder::new().name("rprof-loader".into()).spawn(move || run(&todo, &done));
        Loader { jobs, loaded, backlog: VecDeque::new() }
    }

    pub(super) fn open(&mut self, requests: Vec<OpenRequest>) {
        // What waits to be opened may be about to vanish: before tables.
        for request in requests.into_iter().rev() {
            self.backlog.push_front(Job::Open(request));
        }
        self.send();
    }

    pub(super) fn compile(&mut self, id: ImageId, cfi: Arc<Cfi>) {
        self.backlog.push_back(Job::Compile(id, cfi));
        self.send();
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
        while let Some(job) = self.backlog.pop_front() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.backlog.push_front(job);
                    return;
                }
            }
        }
    }
}

fn run(jobs: &Receiver<Job>, done: &Sender<Loaded>) {
    for job in jobs {
        let loaded = match job {
            Job::Open(request) => open(&request),
            Job::Compile(id, cfi) => {
                let (table, damaged) = Table::compile(&cfi);
                Loaded::Compiled { id, table: Arc::new(table), damaged }
            }
        };
        if done.send(loaded).is_err() {
            return;
        }
    }
}

fn open(request: &OpenRequest) -> Loaded {
    let image = request.open().ok();
    let cfi = image.as_ref().and_then(Cfi::open).map(Arc::new);
    Loaded::Opened { id: request.id, image, cfi }
}
