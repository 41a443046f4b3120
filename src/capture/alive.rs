//! Who lives: the one place that asks the kernel, for when no record told of an end.

use std::fs;
use std::io::ErrorKind;

use nix::errno::Errno;
use nix::sys::signal::kill;

use crate::ids::{Pid, Tid};

/// Whether a process runs; a zombie does not.
#[must_use]
pub fn lives(pid: Pid) -> bool {
    // A first thread that has ended shows as a zombie while others run.
    stat(pid.0).is_some_and(|stat| !has_ended(&stat) || stat.num_threads > 1)
}

/// Whether a thread runs.
#[must_use]
pub fn thread_lives(tid: Tid) -> bool {
    stat(tid.0).is_some_and(|stat| !has_ended(&stat))
}

/// Whose `/proc/ID` tells of a process's memory, files and namespaces. Where the first thread has ended and others go on, its own tells of
/// none of them any more, and that of a living thread does, which is there although it is not listed.
#[must_use]
pub fn teller(pid: Pid) -> Pid {
    let has_ended = |id: Pid| {
        let executable = fs::read_link(format!("/proc/{}/exe", id.0));
        executable.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    if !has_ended(pid) {
        return pid;
    }
    let threads = procfs::process::Process::new(pid.0).and_then(|process| process.tasks());
    let others = threads.into_iter().flatten().flatten().map(|thread| Pid(thread.tid)).filter(|&id| id != pid);
    others.into_iter().find(|&id| !has_ended(id)).unwrap_or(pid)
}

/// Whether a PID is anybody's, be it a zombie's. A fiftieth of the price of [`lives`], and needs no /proc.
#[must_use]
pub fn exists(pid: Pid) -> bool {
    // 0 and what is below mean groups.
    pid.0 <= 0 || kill(nix::unistd::Pid::from_raw(pid.0), None) != Err(Errno::ESRCH)
}

fn stat(id: i32) -> Option<procfs::process::Stat> {
    procfs::process::Process::new(id).and_then(|process| process.stat()).ok()
}

fn has_ended(stat: &procfs::process::Stat) -> bool {
    matches!(stat.state, 'Z' | 'X')
}
