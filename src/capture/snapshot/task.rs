//! What /proc tells of a thread while nobody holds it: its state, what it waits for, and its stack in the kernel (proc(5)). A held
//! thread would show only that it is held, so this is read before.

use std::fs;
use std::io;

use crate::capture::target::process_of;
use crate::ids::{Address, Pid, Tid};

/// `PF_KTHREAD` of the kernel's sched.h, in the flags of `/proc/TID/stat`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A thread as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name.
    pub comm: String,
    /// The letter of its state: R runs or could run, S sleeps, D sleeps uninterruptibly, T stopped, t held by a tracer, Z ended, I idle.
    pub state: char,
    /// The kernel's function that it waits in; `None` if it does not wait, or we may not know.
    pub wait_channel: Option<String>,
    /// The system call that it waits in, by number; `None` if it waits in none, or we may not know.
    pub system_call: Option<u64>,
    /// Its stack in the kernel, leaf first; empty while it runs.
    pub kernel: Vec<KernelLine>,
    /// Whether the kernel's stack was refused (it takes `CAP_SYS_ADMIN`).
    pub kernel_denied: bool,
    /// Whether it is one of the kernel's own threads, which have no user code.
    pub of_kernel: bool,
    /// The user's stack pointer and next instruction while it waits.
    pub(super) place: Option<(Address, Address)>,
}

/// A line of `/proc/TID/stack`, for which the kernel gives the name and keeps the address for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelLine {
    /// The function.
    pub function: String,
    /// The module in brackets, where it is not the kernel proper.
    pub module: Option<String>,
}

impl Task {
    /// Reads all of it, `kernel` with the kernel's stack; `None` if the thread has ended and is no zombie either.
    pub(super) fn read(pid: Pid, tid: Tid, kernel: bool) -> Option<Task> {
        let (comm, state, flags) = parse_stat(&read(pid, tid, "stat").ok()?)?;
        let text = |name| read(pid, tid, name);
        let line = text("syscall");
        let denied =
            |text: &io::Result<String>| text.as_ref().is_err_and(|error| error.raw_os_error() != Some(libc::ESRCH));
        let (system_call, place) = line.as_deref().map_or((None, None), parse_syscall);
        // Of a thread that runs, the kernel's stack changes while it is read.
        let stack = if kernel && place.is_some() { text("stack") } else { Ok(String::new()) };
        let kernel_denied = kernel && (denied(&line) || denied(&stack));
        let of_kernel = flags & KERNEL_THREAD != 0;
        let wait_channel = text("wchan").ok().filter(|name| !name.is_empty() && name != "0");
        Some(Task {
            pid,
            tid,
            comm,
            state,
            wait_channel,
            system_call: system_call.filter(|_| !of_kernel),
            kernel: stack.map_or_else(|_| Vec::new(), |stack| stack.lines().filter_map(KernelLine::parse).collect()),
            kernel_denied,
            of_kernel,
            place,
        })
    }

    /// Whether it has ended and waits to be looked after.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The state of a thread now; `None` if it has ended.
pub(super) fn state(pid: Pid, tid: Tid) -> Option<char> {
    parse_stat(&read(pid, tid, "stat").ok()?).map(|(_, state, _)| state)
}

/// The process that traces a thread, if one does.
pub(super) fn tracer(pid: Pid, tid: Tid) -> Option<Pid> {
    let status = read(pid, tid, "status").ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().parse().ok()?;
    // The kernel tells the very thread that traces.
    (tracer != 0).then(|| process_of(Tid(tracer)).unwrap_or(Pid(tracer)))
}

/// A process's name.
pub(super) fn name(pid: Pid) -> Option<String> {
    read(pid, Tid(pid.0), "comm").ok()
}

fn read(pid: Pid, tid: Tid, name: &str) -> io::Result<String> {
    // Names may be any bytes.
    let bytes = fs::read(format!("/proc/{}/task/{}/{name}", pid.0, tid.0))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// `TID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS …`, where the name may hold anything, parentheses too.
fn parse_stat(stat: &str) -> Option<(String, char, u32)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((name.to_owned(), state, fields.nth(5)?.parse().ok()?))
}

/// `NUMBER ARGUMENT×6 SP PC`, `-1 SP PC` of a thread that waits in no system call, or `running`.
fn parse_syscall(line: &str) -> (Option<u64>, Option<(Address, Address)>) {
    let mut words = line.split_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    let address = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok().map(Address);
    let pc = words.next_back().and_then(address);
    let sp = words.next_back().and_then(address);
    (number, sp.zip(pc))
}

impl KernelLine {
    /// `[<0>] function+0xoffset/0xsize [module]`.
    fn parse(line: &str) -> Option<KernelLine> {
        let mut words = line.split_once("] ")?.1.split_whitespace();
        let (function, _) = words.next()?.split_once("+0x")?;
        let module = words.next().filter(|word| word.starts_with('[')).map(str::to_owned);
        Some(KernelLine { function: function.to_owned(), module })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_look_like_anything() {
        let stat = parse_stat("7 (a) R (b)) S 1 7 7 0 -1 4194560 0 0");
        assert_eq!(stat, Some(("a) R (b)".into(), 'S', 0x40_0100)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn system_calls() {
        let parse = |line| parse_syscall(line);
        let place = Some((Address(0x7ffc), Address(0x7f66)));
        assert_eq!(parse("230 0x0 0x0 0x7ff 0x0 0x0 0x0 0x7ffc 0x7f66"), (Some(230), place));
        assert_eq!(parse("-1 0x7ffc 0x7f66"), (None, place));
        assert_eq!(parse("running"), (None, None));
    }

    #[test]
    fn lines_of_the_kernel() {
        let line = |function: &str, module: Option<&str>| {
            Some(KernelLine { function: function.into(), module: module.map(str::to_owned) })
        };
        assert_eq!(KernelLine::parse("[<0>] futex_do_wait+0x38/0x70"), line("futex_do_wait", None));
        assert_eq!(KernelLine::parse("[<0>] read+0x1/0x2 [ext4]"), line("read", Some("[ext4]")));
        assert_eq!(KernelLine::parse("[<0>] 0xffffffff"), None);
    }

    #[test]
    fn a_thread_of_ours() {
        let pid = Pid(std::process::id() as i32);
        let task = Task::read(pid, Tid(nix::unistd::gettid().as_raw()), true).unwrap();
        assert_eq!((task.state, task.of_kernel, task.has_ended()), ('R', false, false));
        assert!(Task::read(pid, Tid(i32::MAX), true).is_none());
    }
}
