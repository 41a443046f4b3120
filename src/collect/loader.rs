//! The loader: threads that open files and compile unwind tables, so that neither a slow disk nor a library of 150 MB keeps the
//! collector from its rings.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::ids::ImageId;
use crate::process::{Image, Jitdump, OpenRequest, ProcessInfo};
use crate::runtime::{jitdump, perf_map};
use crate::sys::Priority;
use crate::unwind::go::Pclntab;
use crate::unwind::{Cfi, MadeCode, Table};

/// Jobs that wait for a thread, at most: one that hangs on a dead network mount must not cost memory without end.
const MOST_WAITING: usize = 1 << 16;

/// Work that is done.
pub(super) enum Loaded {
    /// An image is open, or cannot be, perhaps for want of a privilege.
    Opened { id: ImageId, image: Option<Arc<Image>>, cfi: Option<Arc<Cfi>>, denied: bool, go_unusable: bool },
    /// A process's perf map is open, or there is none.
    PerfMap { process: Box<ProcessInfo>, file: Option<Arc<File>> },
    /// A process's jitdump was read on, and tells of this code.
    Jitdump { process: Box<ProcessInfo>, jitdump: Jitdump, code: Vec<MadeCode> },
    /// An image's table is ready; so many of its entries were damaged.
    Compiled { id: ImageId, table: Arc<Table>, damaged: u64 },
    /// An image has no table, for a fault of ours: its rules are looked up one by one.
    NotCompiled,
}

/// A file to open.
enum ToOpen {
    Image(OpenRequest),
    PerfMap(Box<ProcessInfo>),
    Jitdump(Box<ProcessInfo>, Jitdump),
}

impl ToOpen {
    fn open(&self) -> Loaded {
        match self {
            ToOpen::Image(request) => {
                let (image, denied) =
                    request.open().map_or_else(|e| (None, e.is_denied()), |image| (Some(image), false));
                let cfi = image.as_ref().and_then(Cfi::open).map(Arc::new);
                let go_unusable = cfi.as_ref().is_none_or(|cfi| cfi.go().is_none())
                    && image.as_ref().is_some_and(Pclntab::is_unusable);
                Loaded::Opened { id: request.id, image, cfi, denied, go_unusable }
            }
            ToOpen::PerfMap(process) => {
                Loaded::PerfMap { process: process.clone(), file: perf_map::open(process).ok().map(Arc::new) }
            }
            ToOpen::Jitdump(process, jitdump) => {
                let (jitdump, code) = jitdump::read_unwinding(process, jitdump.clone());
                Loaded::Jitdump { process: process.clone(), jitdump, code }
            }
        }
    }

    fn failed(&self) -> Loaded {
        match self {
            ToOpen::Image(request) => {
                Loaded::Opened { id: request.id, image: None, cfi: None, denied: false, go_unusable: false }
            }
            ToOpen::PerfMap(process) => Loaded::PerfMap { process: process.clone(), file: None },
            ToOpen::Jitdump(process, jitdump) => {
                let mut jitdump = jitdump.clone();
                jitdump.read = u64::MAX;
                Loaded::Jitdump { process: process.clone(), jitdump, code: Vec::new() }
            }
        }
    }
}

struct ToCompile {
    id: ImageId,
    cfi: Arc<Cfi>,
}

impl ToCompile {
    fn compile(&self) -> Loaded {
        let (table, damaged) = Table::compile(&self.cfi);
        Loaded::Compiled { id: self.id, table: Arc::new(table), damaged }
    }
}

/// An answer of a thread.
struct Answer {
    loaded: Loaded,
    panicked: bool,
}

/// The collector's end. The threads end when this is dropped.
///
/// Two threads, because samples wait for an image to be opened, which must not wait for a table to be compiled, nor on a busy
/// host for anything else.
pub(super) struct Loader {
    to_open: Queue<ToOpen>,
    to_compile: Queue<ToCompile>,
    answers: Receiver<Answer>,
    panics: u64,
}

impl Loader {
    pub(super) fn start() -> Loader {
        let (done, answers) = bounded(64);
        let compile = Work { run: ToCompile::compile, failed: |_| Loaded::NotCompiled };
        Loader {
            to_open: Queue::start(
                "rprof-open",
                Priority::FIRST,
                done.clone(),
                Work { run: ToOpen::open, failed: ToOpen::failed },
            ),
            to_compile: Queue::start("rprof-compile", Priority::current(), done, compile),
            answers,
            panics: 0,
        }
    }

    pub(super) fn open(&mut self, requests: Vec<OpenRequest>) {
        requests.into_iter().for_each(|request| self.to_open.push(ToOpen::Image(request)));
    }

    pub(super) fn open_perf_map(&mut self, process: ProcessInfo) {
        self.to_open.push(ToOpen::PerfMap(Box::new(process)));
    }

    pub(super) fn read_jitdump(&mut self, process: ProcessInfo, jitdump: Jitdump) {
        self.to_open.push(ToOpen::Jitdump(Box::new(process), jitdump));
    }

    pub(super) fn compile(&mut self, id: ImageId, cfi: Arc<Cfi>) {
        self.to_compile.push(ToCompile { id, cfi });
    }

    /// What is done, without waiting.
    pub(super) fn take(&mut self) -> Option<Loaded> {
        self.refused().or_else(|| self.answers.try_recv().ok().map(|answer| self.answer(answer)))
    }

    /// What is done, waiting at most so long.
    pub(super) fn wait(&mut self, timeout: Duration) -> Option<Loaded> {
        self.refused().or_else(|| self.answers.recv_timeout(timeout).ok().map(|answer| self.answer(answer)))
    }

    /// Jobs that ended in a panic since the last call.
    pub(super) fn take_panics(&mut self) -> u64 {
        std::mem::take(&mut self.panics)
    }

    fn answer(&mut self, answer: Answer) -> Loaded {
        self.panics += u64::from(answer.panicked);
        answer.loaded
    }

    /// Passes on what waits. Answers what no thread took.
    fn refused(&mut self) -> Option<Loaded> {
        self.to_open.send();
        self.to_compile.send();
        self.to_open.refused.pop_front().or_else(|| self.to_compile.refused.pop_front())
    }
}

/// What a thread does with a job, and what is answered where it cannot be done.
struct Work<T> {
    run: fn(&T) -> Loaded,
    failed: fn(&T) -> Loaded,
}

impl<T> Work<T> {
    /// Does a job. A panic is a fault of ours that must cost no more than the file that brought it about.
    fn answer(&self, job: &T) -> Answer {
        match catch_unwind(AssertUnwindSafe(|| (self.run)(job))) {
            Ok(loaded) => Answer { loaded, panicked: false },
            Err(_) => Answer { loaded: (self.failed)(job), panicked: true },
        }
    }
}

/// Jobs for one thread.
struct Queue<T> {
    jobs: Sender<T>,
    /// Jobs that the channel had no room for: the collector never waits.
    backlog: VecDeque<T>,
    failed: fn(&T) -> Loaded,
    /// Answers to jobs that no thread will take.
    refused: VecDeque<Loaded>,
}

impl<T: Send + 'static> Queue<T> {
    fn start(name: &str, priority: Priority, done: Sender<Answer>, work: Work<T>) -> Queue<T> {
        let (jobs, todo) = bounded::<T>(64);
        let failed = work.failed;
        let run = move || {
            priority.set();
            for job in todo {
                if done.send(work.answer(&job)).is_err() {
                    return;
                }
            }
        };
        // Ends with its channels. Where it cannot be started its channel is closed, and every job is answered as failed.
        let _ = thread::Builder::new().name(name.into()).spawn(run);
        Queue { jobs, backlog: VecDeque::new(), failed, refused: VecDeque::new() }
    }

    fn push(&mut self, job: T) {
        if self.backlog.len() < MOST_WAITING {
            self.backlog.push_back(job);
        } else {
            self.refused.push_back((self.failed)(&job));
        }
        self.send();
    }

    fn send(&mut self) {
        while let Some(job) = self.backlog.pop_front() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => return self.backlog.push_front(job),
                Err(TrySendError::Disconnected(job)) => self.refused.push_back((self.failed)(&job)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Address;
    use crate::record::Identity;

    fn request(id: u32) -> OpenRequest {
        OpenRequest {
            id: ImageId(id),
            name: "/no/such/file".into(),
            identity: Identity::Unknown,
            pid: crate::ids::Pid(i32::MAX),
            range: (Address(0), Address(1)),
            root: None,
            archive: None,
        }
    }

    fn id(loaded: Option<Loaded>) -> Option<(u32, bool)> {
        match loaded {
            Some(Loaded::Opened { id, image, .. }) => Some((id.0, image.is_some())),
            _ => None,
        }
    }

    fn loader(run: fn(&ToOpen) -> Loaded) -> Loader {
        let (done, answers) = bounded(64);
        let to_open = Queue::start("test", Priority::current(), done, Work { run, failed: ToOpen::failed });
        Loader { to_open, answers, ..Loader::start() }
    }

    #[test]
    fn a_panic_costs_its_own_file_alone() {
        let mut loader = loader(|job| match job {
            ToOpen::Image(request) if request.id.0 == 1 => panic!("a fault of the test's own"),
            job => job.open(),
        });
        loader.open(vec![request(1), request(2)]);
        let patience = Duration::from_secs(60);
        assert_eq!([id(loader.wait(patience)), id(loader.wait(patience))], [Some((1, false)), Some((2, false))]);
        assert_eq!((loader.take_panics(), loader.take_panics()), (1, 0));
    }

    #[test]
    fn a_thread_that_is_gone_leaves_nobody_waiting() {
        let mut loader = loader(ToOpen::open);
        loader.to_open.jobs = bounded(1).0;
        loader.open(vec![request(7)]);
        assert_eq!(id(loader.take()), Some((7, false)));
    }
}
