//! What a window is made of, while it grows.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::stack::{Frame, StackId, StackTree};
use super::window::{ProcessIndex, SampleKey, Tally, Thread, ThreadIndex, WakerIndex};
use crate::ids::Tid;
use crate::process::{Process, ProcessInfo, ProcessKey};

/// What a window is made of, while it grows.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) samples: FxHashMap<SampleKey, Tally>,
    pub(super) stacks: StackTree,
    pub(super) threads: Vec<Thread>,
    pub(super) processes: Vec<ProcessInfo>,
    pub(super) process_index: FxHashMap<ProcessKey, ProcessIndex>,
    pub(super) thread_index: FxHashMap<(ProcessKey, Tid), ThreadIndex>,
    pub(super) wakers: Vec<Arc<str>>,
    pub(super) waker_index: FxHashMap<Arc<str>, WakerIndex>,
}

impl Counts {
    pub(super) fn add(&mut self, key: SampleKey, more: Tally) {
        self.samples.entry(key).or_default().add(more);
    }

    pub(super) fn waker(&mut self, name: &str) -> WakerIndex {
        if let Some(&index) = self.waker_index.get(name) {
            return index;
        }
        let (name, index): (Arc<str>, _) = (name.into(), WakerIndex(self.wakers.len() as u32));
        self.wakers.push(name.clone());
        self.waker_index.insert(name, index);
        index
    }

    /// A thread and a stack of the window before.
    pub(super) fn adopt(&mut self, before: &Counts, thread: ThreadIndex, stack: StackId) -> (ThreadIndex, StackId) {
        let Some(row) = before.threads.get(thread.0 as usize) else { return (thread, StackTree::EMPTY) };
        let Some(info) = before.processes.get(row.process.0 as usize) else { return (thread, StackTree::EMPTY) };
        let process = self.process(info);
        let key = (info.key, row.tid);
        let thread = match self.thread_index.get(&key) {
            Some(&known) if self.threads[known.0 as usize].comm == row.comm => known,
            _ => self.add_thread(key, Thread { process, ..row.clone() }),
        };
        let frames: Vec<Frame> = before.stacks.frames(stack).collect();
        let frames = frames.into_iter().rev().map(|frame| match frame {
            Frame::Anonymous(_, address) => Frame::Anonymous(process, address),
            other => other,
        });
        (thread, self.stacks.push(process, frames))
    }

    pub(super) fn process(&mut self, info: &ProcessInfo) -> ProcessIndex {
        let processes = &mut self.processes;
        *self.process_index.entry(info.key).or_insert_with(|| {
            processes.push(info.clone());
            ProcessIndex(processes.len() as u32 - 1)
        })
    }

    pub(super) fn add_thread(&mut self, key: (ProcessKey, Tid), thread: Thread) -> ThreadIndex {
        let index = ThreadIndex(self.threads.len() as u32);
        self.threads.push(thread);
        self.thread_index.insert(key, index);
        index
    }

    /// The row of a thread. One that takes another name, by itself or by exec, gets another row.
    pub(super) fn thread(&mut self, process: &mut Process, tid: Tid) -> ThreadIndex {
        let comm = process.thread_name(tid);
        let key = (process.key(), tid);
        if let Some(&index) = self.thread_index.get(&key)
            && self.threads[index.0 as usize].comm == comm
        {
            return index;
        }
        let info = process.info();
        let owner = self.process(info);
        self.add_thread(key, Thread { process: owner, pid: info.pid, tid, comm })
    }
}
