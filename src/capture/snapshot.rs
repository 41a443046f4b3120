//! The stacks of threads at one moment: all of them are held at once, copied, and let go; what is copied is unwound later.
//!
//! ```text
//! /proc: state, wait channel, stack in the kernel          nobody is held
//! seize each thread                                        nobody is held
//! interrupt each thread, wait for all, look for new ones   ├ threads are held
//! registers and stack of each                              │
//! let all go                                               ┘
//! ```
//!
//! A thread of ours of its own does the holding. When it ends, by whatever cause, the kernel lets go of all that it traced
//! ([`crate::sys::ptrace`]), also of threads that would not stop while it waited for them.

mod task;

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use procfs::process::MMPermissions;
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::task::{KernelLine, Task};
use super::alive::teller;
use super::attr::REGISTERS;
use super::target::{process_of, threads};
use crate::ids::{Address, Pid, Tid, Timestamp};
use crate::record::{Counters, EventIndex, Sample, UserRegisters, Words};
use crate::sys::perf_event::abi;
use crate::sys::ptrace::{self, TraceState, Tracee};
use crate::sys::{self, Priority};

/// How long threads that could run are waited for: on a busy host each must get a CPU before it stops, and all others are held
/// meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long threads are waited for that sleep uninterruptibly. Most such sleeps are short; one for a dead disk never ends.
const PATIENCE_WITH_SLEEPERS: Duration = Duration::from_millis(20);
/// How often those that have not stopped are looked at.
const LOOK: Duration = Duration::from_micros(200);
/// The most that is copied of one stack. A thread's stack has seldom more in use; where it lies in a large mapping (Go's do),
/// nothing tells where it ends.
const MOST_STACK: u64 = 1 << 20;
/// The most that is copied of one stack where its mapping is unknown.
const UNKNOWN_STACK: u64 = 64 << 10;
/// The most that is copied of all stacks.
const MOST_MEMORY: u64 = 256 << 20;
/// Frames followed by frame pointer; as many as the kernel follows (`kernel.perf_event_max_stack`) and some.
const MOST_LINKS: usize = 256;

/// Whose stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All threads of these processes.
    pub processes: Vec<Pid>,
    /// These threads alone: the others of their processes run on.
    pub threads: Vec<Tid>,
    /// Whether stacks in the kernel are wanted too.
    pub kernel: bool,
}

/// All threads that were wanted, as they were at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The threads, by process and number.
    pub threads: Vec<ThreadStack>,
    /// When the first was held.
    pub start: SystemTime,
    /// The same point on the clock of records.
    pub began: Timestamp,
    /// How long it took from asking the first to stop until the last was let go.
    pub stopped: Duration,
    /// Threads that ended before they could be held.
    pub ended: usize,
}

/// A thread and its stack.
#[derive(Debug)]
pub struct ThreadStack {
    /// What /proc told before it was held.
    pub task: Task,
    /// Its user stack, or why it was not taken.
    pub user: Result<UserStack, NoStack>,
    /// Whether it went on between the look at /proc and the moment of the snapshot: then its stack in the kernel is left out.
    pub moved: bool,
}

/// Why a thread has no user stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStack {
    /// It sleeps uninterruptibly (state D): it cannot be held, as it cannot be killed.
    Uninterruptible,
    /// It got no CPU for so long that it was given up.
    NotInTime,
    /// It is the kernel's own, and runs no user code.
    KernelThread,
    /// It has ended, and others of its process have not.
    Ended,
    /// This process traces it already: a debugger, strace.
    Traced(Pid),
    /// We may not.
    Denied,
}

/// Registers and the top of the stack, as `PERF_SAMPLE_REGS_USER` and `PERF_SAMPLE_STACK_USER` bring them.
#[derive(Debug)]
pub struct UserStack {
    compat: bool,
    /// 64-bit words.
    registers: Vec<u8>,
    stack: Vec<u8>,
    /// The callers by frame pointers, with the mark before them: 64-bit words.
    chain: Vec<u8>,
    sp: Address,
    pc: Address,
}

/// Why no stacks can be taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Nobody to look at.
    #[error("no such {what}: {} (it has ended, or lives in another PID namespace)", list(.ids))]
    Gone {
        /// `process` or `thread`.
        what: &'static str,
        /// What was asked for.
        ids: Vec<i32>,
    },
    /// A process cannot hold itself.
    #[error("rprof cannot hold its own threads (process {}); choose another process", .0.0)]
    Own(Pid),
    /// A zombie.
    #[error("process {} ({comm}) has ended; it only waits for its parent, process {}, to look after it", .pid.0, .parent.0)]
    Zombie {
        /// The process.
        pid: Pid,
        /// Its name.
        comm: String,
        /// Its parent.
        parent: Pid,
    },
    /// A debugger was here before us, and there can be one only.
    #[error(
        "process {} is being traced by process {} ({comm}) already, and a thread can have one tracer only; end that first (kill {})",
        .pid.0, .tracer.0, .tracer.0
    )]
    Traced {
        /// The process.
        pid: Pid,
        /// Who traces it.
        tracer: Pid,
        /// The tracer's name.
        comm: String,
    },
    /// The kernel refuses.
    #[error("not allowed to look into process {}: {mend}", .pid.0)]
    NotAllowed {
        /// The process.
        pid: Pid,
        /// What mends it.
        mend: String,
    },
    /// No thread for the work.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Snapshot {
    /// Holds all threads that are wanted and copies their stacks. While they are held, `meanwhile` is told their processes: for what
    /// must be read of those at that very moment.
    ///
    /// # Errors
    /// [`SnapshotError`] if a process is gone or may not be looked into.
    pub fn take(wanted: &Wanted, meanwhile: impl FnOnce(&[Pid])) -> Result<Snapshot, SnapshotError> {
        // Those who are held wait for us, and what /proc told of thousands of threads is not to grow old before. Naming them takes less.
        Priority::FIRST.set();
        let mut found = Found::read(wanted)?;
        let (held, is_held) = bounded(1);
        let (done, is_done) = bounded(1);
        thread::scope(|scope| {
            let hold = move || found.hold(&held, &is_done);
            let holder = thread::Builder::new().name("rprof-hold".into()).spawn_scoped(scope, hold);
            let holder = holder.map_err(SnapshotError::Thread)?;
            // Closed if the holder came to its end before.
            if let Ok(pids) = is_held.recv() {
                meanwhile(&pids);
            }
            drop(done);
            holder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl ThreadStack {
    /// The stack as a sample of an event that counts threads. Without a user stack, a sample without frames.
    #[must_use]
    pub fn sample(&self, event: EventIndex) -> Sample<'_> {
        const NO_FRAMES: &[u8] = &abi::PERF_CONTEXT_KERNEL.to_ne_bytes();
        let user = self.user.as_ref().ok();
        Sample {
            event,
            pid: self.task.pid,
            tid: self.task.tid,
            time: Timestamp::default(),
            cpu: None,
            period: 1,
            user_mode: user.is_some(),
            ip: user.map_or(0, |user| user.pc.0),
            callchain: Words::new(user.map_or(NO_FRAMES, |user| &user.chain)),
            registers: user.map(|user| UserRegisters {
                compat: user.compat,
                mask: REGISTERS,
                values: Words::new(&user.registers),
            }),
            stack: user.map_or(&[], |user| &user.stack),
            stack_full: false,
            branches: Words::default(),
            counters: Counters::default(),
            begin: None,
            allocation: None,
            raw: &[],
            cgroup: None,
        }
    }
}

/// Threads as they are found.
struct Found {
    wanted: Wanted,
    /// Each thread that was ever seen.
    seen: FxHashSet<Tid>,
    /// Those that are not traced yet.
    tasks: Vec<Task>,
    /// What may be stacks of each process.
    memory: FxHashMap<Pid, Memory>,
}

/// A thread, and the hold on it.
struct Held {
    task: Task,
    tracee: Result<Tracee, NoStack>,
}

impl Found {
    /// Looks at all threads, holding none.
    fn read(wanted: &Wanted) -> Result<Found, SnapshotError> {
        let mut found = Found {
            wanted: wanted.clone(),
            seen: FxHashSet::default(),
            tasks: Vec::new(),
            memory: FxHashMap::default(),
        };
        found.tasks = found.look();
        let own = Pid(i32::try_from(std::process::id()).unwrap_or(0));
        for of_one in found.tasks.chunk_by(|a, b| a.pid == b.pid) {
            let pid = of_one[0].pid;
            if pid == own {
                return Err(SnapshotError::Own(own));
            }
            if of_one.iter().all(Task::has_ended) {
                return Err(SnapshotError::Zombie { pid, comm: of_one[0].comm.clone(), parent: parent(pid) });
            }
            found.memory.insert(pid, Memory::read(pid));
        }
        if found.tasks.is_empty() { Err(gone(wanted)) } else { Ok(found) }
    }

    /// Threads that were not seen before, by process and number.
    fn look(&mut self) -> Vec<Task> {
        let whole = self.wanted.processes.iter().flat_map(|&pid| threads(pid).into_iter().map(move |tid| (pid, tid)));
        let single = self.wanted.threads.iter().filter_map(|&tid| Some((process_of(tid)?, tid)));
        let mut new: Vec<(Pid, Tid)> = whole.chain(single).filter(|(_, tid)| self.seen.insert(*tid)).collect();
        new.sort_unstable();
        new.into_iter().filter_map(|(pid, tid)| Task::read(pid, tid, self.wanted.kernel)).collect()
    }

    /// Holds all threads, tells so, copies their stacks, and lets them go once nobody needs them any more.
    fn hold(&mut self, held: &Sender<Vec<Pid>>, done: &Receiver<()>) -> Result<Snapshot, SnapshotError> {
        let mut new = seize(std::mem::take(&mut self.tasks));
        refused(&new)?;
        let (start, began, since) = (SystemTime::now(), sys::now(), Instant::now());
        let mut all = Vec::new();
        // Who is not held yet may start others; who is, cannot.
        while !new.is_empty() && since.elapsed() < PATIENCE {
            new.iter_mut().filter_map(|held| held.tracee.as_mut().ok()).for_each(Tracee::interrupt);
            wait(&mut new, since);
            all.append(&mut new);
            new = seize(self.look());
        }
        // An error says that nobody needs to know.
        let _ = held.send(pids(&all));
        let stacks = self.copy(&all);
        let _ = done.recv();
        let tasks: Vec<Task> = all.into_iter().map(|held| held.task).collect();
        let stopped = since.elapsed();
        let both = tasks.into_iter().zip(stacks).filter_map(|(task, user)| Some(ThreadStack::new(task, user?)));
        let mut threads: Vec<ThreadStack> = both.collect();
        threads.sort_by_key(|thread| (thread.task.pid, thread.task.tid));
        let ended = self.seen.len() - threads.len();
        if threads.is_empty() {
            Err(gone(&self.wanted))
        } else {
            Ok(Snapshot { threads, start, began, stopped, ended })
        }
    }

    /// The stack of each thread, or why there is none; `None` for threads that have ended.
    fn copy(&self, all: &[Held]) -> Vec<Option<Result<UserStack, NoStack>>> {
        let registers: Vec<_> = all.iter().map(Held::registers).collect();
        let room = |held: &Held, registers: &ptrace::UserRegisters| {
            self.memory.get(&held.task.pid).map_or(UNKNOWN_STACK, |memory| memory.above(registers.sp))
        };
        let rooms: Vec<u64> = all
            .iter()
            .zip(&registers)
            .map(|(held, registers)| match registers {
                Some(Ok(registers)) => room(held, registers),
                _ => 0,
            })
            .collect();
        let most = most_of_each(&rooms);
        let all = all.iter().zip(registers).zip(rooms);
        all.map(|((held, registers), room)| {
            Some(registers?.map(|registers| UserStack::copy(held.task.tid, &registers, room.min(most))))
        })
        .collect()
    }
}

impl Held {
    fn registers(&self) -> Option<Result<ptrace::UserRegisters, NoStack>> {
        let tracee = match &self.tracee {
            Ok(tracee) => tracee,
            Err(why) => return Some(Err(*why)),
        };
        match tracee.state() {
            // It was killed.
            TraceState::Gone => None,
            TraceState::Stopped(_) => tracee.registers().ok().map(Ok),
            TraceState::Running => match task::state(self.task.pid, self.task.tid)? {
                'Z' | 'X' => Some(Err(NoStack::Ended)),
                'D' => Some(Err(NoStack::Uninterruptible)),
                _ => Some(Err(NoStack::NotInTime)),
            },
        }
    }
}

impl NoStack {
    /// The name under which a thread stands in a profile that has no user stack; `None` where none is missing.
    #[must_use]
    pub fn marker(self) -> Option<&'static str> {
        match self {
            NoStack::Uninterruptible => Some("[in uninterruptible sleep]"),
            NoStack::NotInTime => Some("[did not stop in time]"),
            NoStack::KernelThread => None,
            NoStack::Ended => Some("[ended]"),
            NoStack::Traced(_) => Some("[traced by another process]"),
            NoStack::Denied => Some("[not allowed]"),
        }
    }
}

impl ThreadStack {
    fn new(mut task: Task, user: Result<UserStack, NoStack>) -> ThreadStack {
        let now = user.as_ref().ok().map(|user| (user.sp, user.pc));
        let moved = task.place.zip(now).is_some_and(|(then, now)| then != now);
        if moved {
            task.kernel.clear();
        }
        ThreadStack { task, user, moved }
    }
}

impl UserStack {
    fn copy(tid: Tid, registers: &ptrace::UserRegisters, bytes: u64) -> UserStack {
        let mut stack = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let copied = sys::read_memory(tid, registers.sp, &mut stack);
        stack.truncate(copied);
        UserStack {
            compat: registers.compat,
            registers: bytes_of(&registers.values),
            chain: bytes_of(&follow_links(tid, registers, &stack)),
            stack,
            sp: registers.sp,
            pc: registers.pc,
        }
    }
}

/// The callers as the kernel finds them when it samples: by frame pointers, on whatever stack they lie. Go's goroutines and signal
/// handlers have stacks of their own, which the copy does not hold.
fn follow_links(tid: Tid, registers: &ptrace::UserRegisters, stack: &[u8]) -> Vec<u64> {
    let mut chain = vec![abi::PERF_CONTEXT_USER, registers.pc.0];
    let mut fp = registers.fp.0;
    while fp != 0 && fp.is_multiple_of(8) && chain.len() < MOST_LINKS {
        let mut link = [0; 16];
        let copied = usize::try_from(fp.wrapping_sub(registers.sp.0)).ok();
        match copied.and_then(|at| stack.get(at..)?.first_chunk::<16>()) {
            Some(copied) => link = *copied,
            None if sys::read_memory(tid, Address(fp), &mut link) == link.len() => {}
            None => break,
        }
        let [next, caller] = [0, 8].map(|at| link[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word)));
        if caller == 0 || next == fp {
            break;
        }
        chain.push(caller);
        fp = next;
    }
    chain
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// How much to copy of each stack, so that all together keep within bounds.
fn most_of_each(rooms: &[u64]) -> u64 {
    let mut halves = std::iter::successors(Some(MOST_STACK), |most| Some(most / 2));
    let fits = |most: &u64| *most <= 4096 || rooms.iter().map(|room| room.min(most)).sum::<u64>() <= MOST_MEMORY;
    halves.find(fits).unwrap_or(4096)
}

/// Memory of a process that can be written to, by address: stacks lie in it.
struct Memory(Vec<(u64, u64)>);

impl Memory {
    /// One that may not be read has no ranges.
    fn read(pid: Pid) -> Memory {
        let maps = procfs::process::Process::new(teller(pid).0).and_then(|process| process.maps());
        let maps = maps.into_iter().flatten();
        Memory(maps.filter(|map| map.perms.contains(MMPermissions::WRITE)).map(|map| map.address).collect())
    }

    /// Bytes from an address to the end of what is mapped there.
    fn above(&self, address: Address) -> u64 {
        let at = self.0.partition_point(|&(_, end)| end <= address.0);
        self.0.get(at).filter(|&&(start, _)| start <= address.0).map_or(UNKNOWN_STACK, |&(_, end)| end - address.0)
    }
}

/// Begins to trace threads; those that have ended are left away.
fn seize(tasks: Vec<Task>) -> Vec<Held> {
    let seize = |task: Task| {
        let tracee = if task.of_kernel {
            Err(NoStack::KernelThread)
        } else if task.has_ended() {
            Err(NoStack::Ended)
        } else {
            match Tracee::seize(task.tid) {
                Ok(tracee) => Ok(tracee),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
                Err(_) => Err(why_not(&task)?),
            }
        };
        Some(Held { task, tracee })
    };
    tasks.into_iter().filter_map(seize).collect()
}

/// Why a thread could not be traced; `None` if it has ended.
fn why_not(task: &Task) -> Option<NoStack> {
    match task::state(task.pid, task.tid)? {
        'Z' | 'X' => Some(NoStack::Ended),
        _ => Some(task::tracer(task.pid, task.tid).map_or(NoStack::Denied, NoStack::Traced)),
    }
}

/// Waits until all of these have stopped or ended, or those that have not cannot be waited for. `since` others are held.
fn wait(new: &mut [Held], since: Instant) {
    let mut look_at_sleepers = PATIENCE_WITH_SLEEPERS;
    loop {
        let traced = new.iter_mut().filter_map(|held| Some((&held.task, held.tracee.as_mut().ok()?)));
        let waiting: Vec<&Task> =
            traced.filter_map(|(task, tracee)| (tracee.poll() == TraceState::Running).then_some(task)).collect();
        let waited = since.elapsed();
        if waiting.is_empty() || waited >= PATIENCE {
            return;
        }
        if waited >= look_at_sleepers {
            let never = |task: &&Task| matches!(task::state(task.pid, task.tid), None | Some('D' | 'Z' | 'X'));
            if waiting.iter().all(never) {
                return;
            }
            look_at_sleepers = waited + PATIENCE_WITH_SLEEPERS / 2;
        }
        thread::sleep(LOOK);
    }
}

/// Where no thread of a process may be traced, that is an error to be told, not a stack to be shown.
fn refused(all: &[Held]) -> Result<(), SnapshotError> {
    for of_one in all.chunk_by(|a, b| a.task.pid == b.task.pid) {
        let living = || of_one.iter().filter(|held| !matches!(held.tracee, Err(NoStack::Ended)));
        let refusal = |held: &Held| match held.tracee {
            Err(why @ (NoStack::Traced(_) | NoStack::Denied)) => Some(why),
            _ => None,
        };
        if let Some(why) = living().next().and_then(refusal)
            && living().all(|held| refusal(held).is_some())
        {
            let pid = of_one[0].task.pid;
            return Err(match why {
                NoStack::Traced(tracer) => {
                    SnapshotError::Traced { pid, tracer, comm: task::name(tracer).unwrap_or_default() }
                }
                _ => SnapshotError::NotAllowed { pid, mend: mend() },
            });
        }
    }
    Ok(())
}

/// What gives the right to trace others, by what denies it.
fn mend() -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let privilege = "run as root, or give the program the privilege: setcap cap_sys_ptrace+ep $(which rprof); in a container: docker run --cap-add SYS_PTRACE";
    match scope.trim() {
        "1" => format!(
            "kernel.yama.ptrace_scope is 1, which lets a process trace its own children alone; {privilege}; or for own processes: sysctl kernel.yama.ptrace_scope=0"
        ),
        "2" => format!("kernel.yama.ptrace_scope is 2, which takes CAP_SYS_PTRACE; {privilege}"),
        "3" => "kernel.yama.ptrace_scope is 3, which lets nobody trace until the next boot".into(),
        _ => format!("it is another user's, or it keeps itself from being looked into; {privilege}"),
    }
}

fn pids(all: &[Held]) -> Vec<Pid> {
    let mut pids: Vec<Pid> = all.iter().map(|held| held.task.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn gone(wanted: &Wanted) -> SnapshotError {
    let (pids, tids) = (&wanted.processes, &wanted.threads);
    match pids[..] {
        [] => SnapshotError::Gone { what: "thread", ids: tids.iter().map(|tid| tid.0).collect() },
        _ => SnapshotError::Gone { what: "process", ids: pids.iter().map(|pid| pid.0).collect() },
    }
}

fn list(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn parent(pid: Pid) -> Pid {
    let stat = procfs::process::Process::new(pid.0).and_then(|process| process.stat());
    Pid(stat.map_or(0, |stat| stat.ppid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_share_the_room_for_all() {
        assert_eq!(most_of_each(&[8 << 20; 20]), MOST_STACK);
        let many = most_of_each(&[8 << 20; 2000]);
        assert!(many == 128 << 10 && many * 2000 <= MOST_MEMORY, "{many}");
        // Most have little in use, and leave the room to others.
        assert_eq!(most_of_each(&[&[8192; 10_000][..], &[8 << 20; 10]].concat()), MOST_STACK);
        assert_eq!(most_of_each(&[8 << 20; 1_000_000]), 4096);
    }

    #[test]
    fn a_stack_ends_with_its_mapping() {
        let memory = Memory(vec![(0x1000, 0x3000), (0x5000, 0x6000)]);
        assert_eq!(memory.above(Address(0x1800)), 0x1800);
        assert_eq!(memory.above(Address(0x5fff)), 1);
        assert_eq!(memory.above(Address(0x3000)), UNKNOWN_STACK);
    }

    #[test]
    fn nobody_holds_himself() {
        let wanted = Wanted { processes: vec![Pid(std::process::id() as i32)], ..Wanted::default() };
        assert!(matches!(Snapshot::take(&wanted, |_| {}), Err(SnapshotError::Own(_))));
        let wanted = Wanted { threads: vec![Tid(i32::MAX)], ..Wanted::default() };
        assert!(matches!(Snapshot::take(&wanted, |_| {}), Err(SnapshotError::Gone { what: "thread", .. })));
    }
}
