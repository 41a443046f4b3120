//! Targets: whose samples are wanted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use super::alive::{lives, thread_lives};
use super::namespace;
use super::selector::{Choice, Selector};
use crate::ids::{Pid, Tid};
use crate::record::Record;

/// Whom to profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything on the chosen CPUs.
    System,
    /// These processes, which run already, and what they start.
    Processes(Vec<Pid>),
    /// A child of ours that waits to be released into its exec, and what it starts.
    Command(Pid),
    /// Just these threads.
    Threads(Vec<Tid>),
    /// The tasks of these cgroups.
    Cgroups(Vec<PathBuf>),
    /// Processes by what they are, whenever they run.
    Selected(Selector),
}

/// Which tasks' records are wanted, as tasks come and go. Where events are opened per CPU, records of all tasks arrive and this decides.
#[derive(Debug)]
pub enum Scope {
    /// All: the kernel already chose.
    Everything {
        /// Whether we are in a PID namespace of our own. Tasks outside of it have the number 0 there, as the idle task has on
        /// the host: nothing can be known of them.
        numbered: bool,
    },
    /// Processes, with those that they start where `follow` is set.
    Processes {
        /// The processes that live.
        pids: FxHashSet<Pid>,
        /// Whether the children of wanted processes are wanted.
        follow: bool,
        /// A child of ours that still runs our own code: unwanted until its exec.
        before_exec: Option<Pid>,
    },
    /// Threads.
    Threads {
        /// The threads that live.
        tids: FxHashSet<Tid>,
        /// Their processes, whose mappings are needed.
        pids: FxHashSet<Pid>,
    },
    /// Processes by what they are.
    Selected(Choice),
}

impl Scope {
    /// The scope of a target; with `follow`, later threads and forks belong to it.
    #[must_use]
    pub fn new(target: &Target, follow: bool) -> Scope {
        match target {
            Target::System | Target::Cgroups(_) => Scope::Everything { numbered: !namespace::in_first_pid_namespace() },
            Target::Processes(pids) if !follow => Scope::threads(pids.iter().flat_map(|&pid| threads(pid))),
            Target::Processes(pids) => {
                Scope::Processes { pids: pids.iter().copied().collect(), follow, before_exec: None }
            }
            Target::Command(pid) if !follow => {
                Scope::Threads { tids: FxHashSet::from_iter([Tid(pid.0)]), pids: FxHashSet::from_iter([*pid]) }
            }
            Target::Command(pid) => {
                Scope::Processes { pids: FxHashSet::from_iter([*pid]), follow, before_exec: Some(*pid) }
            }
            Target::Threads(tids) => Scope::threads(tids.iter().copied()),
            Target::Selected(selector) => Scope::Selected(Choice::new(selector.clone())),
        }
    }

    fn threads(tids: impl Iterator<Item = Tid>) -> Scope {
        let tids: FxHashSet<_> = tids.collect();
        let pids = tids.iter().filter_map(|&tid| process_of(tid)).collect();
        Scope::Threads { tids, pids }
    }

    /// Whether a sample of this task is wanted. Of a process that is chosen by what it is, that is found out now.
    #[must_use]
    pub fn wants_sample(&mut self, pid: Pid, tid: Tid) -> bool {
        match self {
            Scope::Everything { numbered } => pid.0 != 0 || !*numbered,
            Scope::Processes { pids, before_exec, .. } => pids.contains(&pid) && *before_exec != Some(pid),
            Scope::Threads { tids, .. } => tids.contains(&tid),
            Scope::Selected(choice) => choice.decide(pid),
        }
    }

    /// Whether what happens to this process must be known. The kernel's own mappings come with a negative PID.
    #[must_use]
    pub fn wants_process(&self, pid: Pid) -> bool {
        match self {
            Scope::Everything { numbered } => pid.0 != 0 || !*numbered,
            Scope::Processes { pids, .. } | Scope::Threads { pids, .. } => pid.0 < 0 || pids.contains(&pid),
            Scope::Selected(choice) => pid.0 < 0 || choice.follows(pid),
        }
    }

    /// The threads that are wanted, as far as they are known one by one, as they are now.
    #[must_use]
    pub fn tasks(&self) -> Vec<Tid> {
        match self {
            Scope::Everything { .. } | Scope::Selected(_) => Vec::new(),
            Scope::Processes { pids, .. } => pids.iter().flat_map(|&pid| threads(pid)).collect(),
            Scope::Threads { tids, .. } => tids.iter().copied().filter(|&tid| thread_lives(tid)).collect(),
        }
    }

    /// Follows tasks as they come and go; every record but samples must pass here, in the order of time.
    pub fn follow(&mut self, record: &Record<'_>) {
        match (self, record) {
            (Scope::Processes { pids, follow: true, .. }, Record::Fork(task)) if pids.contains(&task.parent) => {
                pids.insert(task.pid);
            }
            (Scope::Processes { pids, before_exec, .. }, Record::Comm { pid, exec: true, .. })
                if pids.contains(pid) =>
            {
                before_exec.take_if(|waiting| waiting == pid);
            }
            // The first thread of a process may end before others do, so only a process that is gone whole is forgotten.
            (Scope::Processes { pids, .. }, Record::Exit(task))
                if task.tid.0 == task.pid.0 && pids.contains(&task.pid) && !lives(task.pid) =>
            {
                pids.remove(&task.pid);
            }
            (Scope::Threads { tids, .. }, Record::Exit(task)) => {
                tids.remove(&task.tid);
            }
            (Scope::Selected(choice), record) => choice.follow(record),
            _ => {}
        }
    }

    /// Whether nothing that is wanted lives any more, nor may come. `EXIT` records can be lost, so the living are looked at too.
    #[must_use]
    pub fn is_over(&mut self) -> bool {
        match self {
            Scope::Everything { .. } => false,
            Scope::Processes { pids, .. } => {
                pids.retain(|&pid| lives(pid));
                pids.is_empty()
            }
            Scope::Threads { tids, .. } => {
                tids.retain(|&tid| thread_lives(tid));
                tids.is_empty()
            }
            Scope::Selected(choice) => {
                choice.sweep();
                false
            }
        }
    }
}

/// All processes that there are now.
pub(super) fn all_processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid)).collect()
}

/// The threads of a process, as they are now; none if it is gone.
#[must_use]
pub fn threads(pid: Pid) -> Vec<Tid> {
    let entries = fs::read_dir(format!("/proc/{}/task", pid.0)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Tid)).collect()
}

/// The process of a thread.
#[must_use]
pub fn process_of(tid: Tid) -> Option<Pid> {
    procfs::process::Process::new(tid.0).ok()?.status().ok().map(|status| Pid(status.tgid))
}

/// The CPUs that are online.
///
/// # Errors
/// If the kernel does not say.
pub fn online_cpus() -> io::Result<BTreeSet<u32>> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online");
    // Inside a container /sys may be missing: then as many as the scheduler would give us.
    let list = list.or_else(|_| std::thread::available_parallelism().map(|n| format!("0-{}", n.get() - 1)))?;
    parse_cpus(list.trim()).ok_or_else(|| io::Error::other(format!("cannot read the list of CPUs '{}'", list.trim())))
}

/// A list of CPUs as `0,2-4`; `None` if it is not one.
#[must_use]
pub fn parse_cpus(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // More CPUs than Linux can have is a slip of the pen.
        (first <= last && last < 8192).then(|| cpus.extend(first..=last))?;
    }
    Some(cpus)
}

fn cgroup_folder(name: &Path) -> io::Result<PathBuf> {
    if name.is_absolute() && name.starts_with("/sys") {
        return Ok(name.to_owned());
    }
    Ok(cgroup_root()?.join(name.strip_prefix("/").unwrap_or(name)))
}

/// Opens a cgroup's folder: a path, or a name below the hierarchy that perf events belong to.
///
/// # Errors
/// If there is no such folder.
pub(super) fn open_cgroup(name: &Path) -> io::Result<File> {
    let folder = cgroup_folder(name)?;
    let file =
        File::open(&folder).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
    if file.metadata()?.is_dir() {
        Ok(file)
    } else {
        Err(io::Error::other(format!("{} is not a cgroup", folder.display())))
    }
}

/// The threads of a cgroup and of those below it, as they are now.
pub(super) fn threads_of_cgroup(name: &Path) -> Vec<Tid> {
    let Ok(folder) = cgroup_folder(name) else { return Vec::new() };
    let mut threads = Vec::new();
    for folder in with_all_below(folder) {
        let list = ["cgroup.threads", "tasks"].iter().find_map(|file| fs::read_to_string(folder.join(file)).ok());
        threads.extend(list.unwrap_or_default().lines().filter_map(|tid| tid.parse().ok().map(Tid)));
    }
    threads
}

/// The cgroups that there are now, in the hierarchy that perf events belong to: their numbers, which are those of samples
/// (`PERF_SAMPLE_CGROUP`), and their paths from its root on. None where none is mounted.
#[must_use]
pub fn cgroups() -> Vec<(u64, PathBuf)> {
    let Ok(root) = cgroup_root() else { return Vec::new() };
    let numbered = |folder: PathBuf| {
        let path = Path::new("/").join(folder.strip_prefix(&root).ok()?);
        Some((fs::metadata(&folder).ok()?.ino(), path))
    };
    with_all_below(root.clone()).into_iter().filter_map(numbered).collect()
}

/// A cgroup's folder and those below it, each behind the one that it lies in.
fn with_all_below(folder: PathBuf) -> Vec<PathBuf> {
    let mut folders = vec![folder];
    let mut at = 0;
    while let Some(folder) = folders.get(at) {
        let below = fs::read_dir(folder).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
        let below: Vec<PathBuf> = below.collect();
        folders.extend(below);
        at += 1;
    }
    folders
}

/// Version 1 has a hierarchy of its own for perf events, version 2 has one for everything.
fn cgroup_root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
    let of_events = |mount: &&Mount<'_>| mount.kind == "cgroup" && mount.options.split(',').any(|o| o == "perf_event");
    let root = mounts.iter().find(of_events).or_else(|| mounts.iter().find(|mount| mount.kind == "cgroup2"));
    root.map(|mount| PathBuf::from(mount.place)).ok_or_else(|| {
        io::Error::other("no cgroup hierarchy for perf events is mounted; mount -t cgroup2 none /sys/fs/cgroup")
    })
}

/// Where hierarchies of cgroups are mounted.
pub(super) fn cgroup_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(Mount::parse);
    mounts.filter(|mount| matches!(mount.kind, "cgroup" | "cgroup2")).map(|mount| mount.place.into()).collect()
}

/// A line of `/proc/self/mounts` (fstab(5)).
struct Mount<'a> {
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let mut fields = line.split(' ').skip(1);
        Some(Mount { place: fields.next()?, kind: fields.next()?, options: fields.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TaskRecord;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus("0,2-4"), Some(BTreeSet::from([0, 2, 3, 4])));
        assert_eq!(parse_cpus("3-1"), None);
        assert_eq!(parse_cpus("0-99999999"), None);
        assert_eq!(parse_cpus("x"), None);
    }

    #[test]
    fn children_of_wanted_processes_are_wanted() {
        let fork = |parent, pid| {
            Record::Fork(TaskRecord { pid: Pid(pid), tid: Tid(pid), parent: Pid(parent), parent_tid: Tid(parent) })
        };
        let mut scope = Scope::new(&Target::Command(Pid(10)), true);
        scope.follow(&fork(10, 11));
        scope.follow(&fork(5, 6));
        assert!(!scope.wants_sample(Pid(10), Tid(10)), "it has not been released into its exec");
        scope.follow(&Record::Comm { pid: Pid(10), tid: Tid(10), comm: "x".as_ref(), exec: true });
        assert!(scope.wants_sample(Pid(10), Tid(99)) && scope.wants_sample(Pid(11), Tid(11)));
        assert!(!scope.wants_sample(Pid(6), Tid(6)) && !scope.wants_process(Pid(6)) && scope.wants_process(Pid(-1)));
    }
}
