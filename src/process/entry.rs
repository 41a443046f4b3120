//! A process and the program that it runs, as far as records and /proc tell.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::ProcessInfo;
use super::labels::Labels;
use super::maps::comm_of;
use super::open::Roots;
use super::space::AddressSpace;
use crate::capture;
use crate::ids::{ImageId, Pid, Tid};

/// Tells a process from a later one with the same PID, and a program from the one that it executes: a number of its own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey(pub u64);

/// How long to wait before a perf map is looked for again, where there was none and where one is held open: a compiler may
/// have made a new file.
const SEEK_PERF_MAP: Duration = Duration::from_secs(1);
const SEEK_NEW_PERF_MAP: Duration = Duration::from_secs(30);

/// How often a jitdump is looked at: at least once for the samples that one drain of the rings brings.
const LOOK_AT_JITDUMP: Duration = Duration::from_millis(10);

/// The file in which a process tells of the code that it makes, as far as it was read.
#[derive(Clone, Debug)]
pub struct Jitdump {
    /// Its path as the process sees it.
    pub path: Arc<str>,
    /// The file, once it was opened.
    pub file: Option<Arc<File>>,
    /// Up to where it was read; [`u64::MAX`] if there is no more to be read.
    pub read: u64,
    looked: Option<Instant>,
}

impl Jitdump {
    pub(super) fn new(path: &str) -> Jitdump {
        Jitdump { path: path.into(), file: None, read: 0, looked: None }
    }

    /// Whether it has grown, as far as that was not looked for a moment ago.
    fn is_due(&mut self) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AT_JITDUMP) {
            return false;
        }
        let first = self.looked.replace(Instant::now()).is_none();
        let length = self.file.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
        first || length.is_some_and(|length| self.read < length)
    }
}

/// A process.
pub struct Process {
    pub(super) info: ProcessInfo,
    /// Whether `info` has been completed from /proc, or inherited and found still true.
    pub(super) looked_up: bool,
    /// What tells it from another process or program, as far as /proc told when it was looked up.
    pub(super) identity: Option<ProcessIdentity>,
    pub(super) space: AddressSpace,
    pub(super) threads: FxHashMap<Tid, Arc<str>>,
    /// Images of the space that are still being opened.
    pub(super) pending: FxHashSet<ImageId>,
    /// Its first thread has ended, which may be before the others.
    pub(super) leader_ended: bool,
    /// Its last thread has ended.
    pub(super) ended: bool,
    /// It was not there in the last round.
    pub(super) missing: bool,
    /// The round and the loss of records that it was last compared with /proc for, and when.
    pub(super) round: u32,
    pub(super) losses: u32,
    pub(super) read: Instant,
    pub(super) perf_map_sought: Option<Instant>,
    pub(super) jitdump: Option<Jitdump>,
    /// Its jitdump is being read.
    pub(super) awaits_jitdump: bool,
    /// It was recorded: /proc knows nothing of it.
    pub(super) recorded: bool,
}

/// A process and its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessIdentity {
    /// When it began, in clock ticks since boot.
    pub(super) start: u64,
    /// Device and inode of its executable; `None` where we may not ask.
    executable: Option<(u64, u64)>,
}

impl Process {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> ProcessKey {
        self.info.key
    }

    /// What a profile needs of it.
    #[must_use]
    pub fn info(&self) -> &ProcessInfo {
        &self.info
    }

    /// Its executable mappings.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Whether all of its images are open, or given up, and its jitdump is read as far as it is written.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.is_empty() && !self.awaits_jitdump
    }

    /// Waits for its images no longer; those that are opened later still get their true addresses.
    pub fn give_up_waiting(&mut self) {
        self.pending.clear();
        self.awaits_jitdump = false;
    }

    /// What is needed to read what its jitdump tells, if there is more of that; the answer comes by
    /// [`super::Processes::read_jitdump`], and samples wait for it.
    pub fn seek_jitdump(&mut self) -> Option<(ProcessInfo, Jitdump)> {
        let jitdump = self.jitdump.as_mut()?;
        if self.awaits_jitdump || !jitdump.is_due() {
            return None;
        }
        self.awaits_jitdump = true;
        Some((self.info.clone(), jitdump.clone()))
    }

    /// What is needed to look for its perf map, if it is time to; the answer comes by [`super::Processes::found_perf_map`].
    pub fn seek_perf_map(&mut self) -> Option<ProcessInfo> {
        let pause = if self.info.perf_map.is_some() { SEEK_NEW_PERF_MAP } else { SEEK_PERF_MAP };
        if self.perf_map_sought.is_some_and(|sought| sought.elapsed() < pause) {
            return None;
        }
        self.perf_map_sought = Some(Instant::now());
        Some(self.info.clone())
    }

    /// A thread's name.
    pub fn thread_name(&mut self, tid: Tid) -> Arc<str> {
        let pid = self.info.pid;
        let process = &self.info.comm;
        let read = || match process.is_empty() {
            _ if !self.recorded => {
                comm_of(&format!("/proc/{}/task/{}/comm", pid.0, tid.0)).unwrap_or_else(|| process.clone())
            }
            // As perf names them: the idle task of each CPU, and threads of which the recording tells nothing.
            true if tid.0 == 0 => "swapper".into(),
            true => format!(":{}", tid.0).into(),
            false => process.clone(),
        };
        self.threads.entry(tid).or_insert_with(read).clone()
    }

    pub(super) fn new(info: ProcessInfo, space: AddressSpace) -> Process {
        Process {
            info,
            looked_up: false,
            identity: None,
            space,
            threads: FxHashMap::default(),
            pending: FxHashSet::default(),
            leader_ended: false,
            ended: false,
            missing: false,
            round: 0,
            losses: 0,
            read: Instant::now(),
            perf_map_sought: None,
            jitdump: None,
            awaits_jitdump: false,
            recorded: false,
        }
    }

    /// A process of which nothing is to be looked up. What it made at run time has names in a perf map here, if it ran here, as our own
    /// user.
    pub(super) fn recorded(self) -> Process {
        let info = ProcessInfo { uid: nix::unistd::geteuid().as_raw(), ..self.info };
        Process { info, looked_up: true, recorded: true, ..self }
    }

    /// Completes what /proc knows, once: while the process lives. What it inherited from its parent stays where it is gone.
    pub(super) fn look_up(&mut self, shared: &mut Shared) {
        if std::mem::replace(&mut self.looked_up, true) {
            return;
        }
        let pid = self.info.pid;
        let Ok(process) = procfs::process::Process::new(pid.0) else { return };
        self.identity = process.stat().ok().map(|stat| ProcessIdentity::new(pid, stat.starttime));
        if let Ok(status) = process.status() {
            self.info.uid = status.euid;
            self.info.namespace_pid = status.nspid.and_then(|pids| pids.last().copied()).map_or(pid, Pid);
            if self.info.comm.is_empty() {
                self.info.comm = status.name.into();
            }
        }
        match shared.roots.open(pid) {
            Ok(root) => self.info.root = Some(root),
            Err(error) => shared.hidden += u64::from(error.kind() == io::ErrorKind::PermissionDenied),
        }
        if let Some(labels) = shared.labels.of(pid) {
            (self.info.container, self.info.unit) = (labels.container, labels.unit);
        }
    }

    /// Whether /proc shows the same process and program as when it was looked up; `None` where nothing can be compared. Forgets
    /// names of threads whose end was not heard of.
    pub(super) fn compare(&mut self) -> Option<bool> {
        let pid = self.info.pid;
        let stat = procfs::process::Process::new(pid.0).and_then(|process| process.stat()).ok()?;
        let living = usize::try_from(stat.num_threads).unwrap_or(0);
        // Some have just ended, and their last samples are still to come.
        if self.threads.len() > 2 * living + 64 {
            let threads: FxHashSet<Tid> = capture::threads(pid).into_iter().collect();
            self.threads.retain(|tid, _| threads.contains(tid));
        }
        let before = self.identity?;
        let now = ProcessIdentity::new(pid, stat.starttime);
        let both = before.executable.zip(now.executable);
        Some(before.start == now.start && both.is_none_or(|(before, now)| before == now))
    }
}

impl ProcessIdentity {
    fn new(pid: Pid, start: u64) -> ProcessIdentity {
        let executable = fs::metadata(format!("/proc/{}/exe", capture::teller(pid).0)).ok();
        ProcessIdentity { start, executable: executable.map(|file| (file.dev(), file.ino())) }
    }
}

/// What many processes have in common, held once.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) roots: Roots,
    pub(super) labels: Labels,
    /// Processes that we may not look into.
    pub(super) hidden: u64,
}
