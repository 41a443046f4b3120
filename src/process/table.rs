//! The table of processes, kept true by records in the order of time and, for those that ran before, by /proc.

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use procfs::process::{MMPermissions, MMapPath, MemoryMap};
use rustc_hash::{FxHashMap, FxHashSet};

use super::ProcessInfo;
use super::image::Image;
use super::images::{Images, State};
use super::open::{self, OpenRequest};
use super::space::{AddressSpace, Content, Epochs, Mapping};
use crate::capture;
use crate::ids::{Address, ImageId, Pid, Tid};
use crate::record::{Identity, MapRecord, Record, TaskRecord};

/// Tells a process from a later one with the same PID, and a program from the one that it executes: a number of its own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey(pub u64);

/// A process.
pub struct Process {
    key: ProcessKey,
    info: ProcessInfo,
    /// Whether `info` has been completed from /proc, or inherited and found still true.
    looked_up: bool,
    space: AddressSpace,
    threads: FxHashMap<Tid, Arc<str>>,
    /// Images of the space that are still being opened.
    pending: FxHashSet<ImageId>,
    /// Its first thread has ended, which may be before the others.
    leader_ended: bool,
    /// Its last thread has ended.
    ended: bool,
}

impl Process {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> ProcessKey {
        self.key
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

    /// Whether all of its images are open, or given up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.is_empty()
    }

    /// Waits for its images no longer; those that are opened later still get their true addresses.
    pub fn give_up_waiting(&mut self) {
        self.pending.clear();
    }

    /// A thread's name.
    pub fn thread_name(&mut self, tid: Tid) -> Arc<str> {
        let pid = self.info.pid;
        let process = &self.info.comm;
        let read = || comm_of(&format!("/proc/{}/task/{}/comm", pid.0, tid.0)).unwrap_or_else(|| process.clone());
        self.threads.entry(tid).or_insert_with(read).clone()
    }
}

/// All processes that were seen, and their images.
#[derive(Default)]
pub struct Processes {
    table: FxHashMap<Pid, Process>,
    images: Images,
    epochs: Epochs,
    keys: u64,
    requests: Vec<OpenRequest>,
}

impl Processes {
    /// An empty table.
    #[must_use]
    pub fn new() -> Processes {
        Processes::default()
    }

    /// Follows a record; samples and losses change nothing.
    pub fn follow(&mut self, record: &Record<'_>) {
        match record {
            Record::Map(map) => self.map(map),
            Record::Comm { pid, tid, comm, exec } => self.comm(*pid, *tid, comm, *exec),
            Record::Fork(task) => self.fork(*task),
            Record::Exit(task) => self.exit(*task),
            Record::Sample(_) | Record::Lost { .. } | Record::Throttle { .. } | Record::Other(_) => {}
        }
    }

    /// Takes a running process into the table, from /proc. One that is gone, or not ours to read, is left as it is.
    pub fn read(&mut self, pid: Pid) {
        let maps = procfs::process::Process::new(pid.0).and_then(|process| process.maps());
        self.process(pid);
        let Ok(maps) = maps else { return };
        let executable = maps.into_iter().filter(|map| map.perms.contains(MMPermissions::EXECUTE));
        for map in executable {
            let name = map_name(&map.pathname);
            self.map(&MapRecord {
                pid,
                start: Address(map.address.0),
                size: map.address.1 - map.address.0,
                offset: map.offset,
                identity: map_identity(&map),
                name: OsStr::new(&name),
            });
        }
    }

    /// Takes every running process into the table.
    pub fn read_all(&mut self) {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.for_each(|pid| self.read(Pid(pid)));
    }

    /// The process of a sample. One that was never heard of (its records were lost) is read from /proc.
    pub fn of_sample(&mut self, pid: Pid) -> &mut Process {
        if !self.table.contains_key(&pid) {
            self.read(pid);
        }
        let process = self.process(pid);
        process.look_up();
        process
    }

    /// All images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Files to open since the last call.
    pub fn take_requests(&mut self) -> Vec<OpenRequest> {
        std::mem::take(&mut self.requests)
    }

    /// What came of opening an image: its mappings now have their true addresses.
    pub fn opened(&mut self, id: ImageId, image: Option<Arc<Image>>) {
        // Until then every mapping of it was taken by its offset in the file.
        let first = self.images.state(id) != State::Open;
        self.images.opened(id, image.clone());
        for process in self.table.values_mut() {
            process.pending.remove(&id);
            let Some(image) = image.as_ref().filter(|_| first) else { continue };
            process
                .space
                .rebase(id, &mut self.epochs, |start, bias| bias_of(Some(image), start, start.0.wrapping_sub(bias)));
        }
    }

    fn process(&mut self, pid: Pid) -> &mut Process {
        let (keys, epochs) = (&mut self.keys, &mut self.epochs);
        self.table.entry(pid).or_insert_with(|| Process {
            key: next_key(keys),
            info: ProcessInfo { pid, namespace_pid: pid, uid: u32::MAX, comm: "".into(), root: None, perf_map: None },
            looked_up: false,
            space: AddressSpace::new(epochs),
            threads: FxHashMap::default(),
            pending: FxHashSet::default(),
            leader_ended: false,
            ended: false,
        })
    }

    fn map(&mut self, map: &MapRecord<'_>) {
        if map.pid.0 < 0 || map.size == 0 {
            return;
        }
        let (start, end) = (map.start, Address(map.start.0.saturating_add(map.size)));
        let name = map.name.to_string_lossy();
        let content = if is_file(&name) { self.map_file(map, end, &name) } else { Content::Anonymous };
        let epochs = &mut self.epochs;
        if let Some(process) = self.table.get_mut(&map.pid) {
            process.space.insert(Mapping { start, end, content }, epochs);
        }
    }

    fn map_file(&mut self, map: &MapRecord<'_>, end: Address, name: &str) -> Content {
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        // The vDSO is the kernel's, the same for all, wherever its record says it is stored.
        let identity = if name == open::VDSO { &Identity::Unknown } else { &map.identity };
        let (image, open_it) = self.images.find(name, identity);
        let process = self.process(map.pid);
        if open_it {
            process.look_up();
            let root = process.info.root.clone();
            self.images.set_root(image, root.clone());
            let range = (map.start, end);
            self.requests.push(OpenRequest {
                id: image,
                name: name.into(),
                identity: identity.clone(),
                pid: map.pid,
                range,
                root,
            });
        }
        if open_it || self.images.state(image) == State::Pending {
            self.process(map.pid).pending.insert(image);
        }
        let bias = bias_of(self.images.image(image), map.start, map.offset);
        Content::Image { image, bias }
    }

    fn comm(&mut self, pid: Pid, tid: Tid, comm: &OsStr, exec: bool) {
        let name: Arc<str> = comm.to_string_lossy().into();
        if exec {
            self.exec(pid);
        }
        let process = self.process(pid);
        process.threads.insert(tid, name.clone());
        if pid.0 == tid.0 {
            process.info.comm = name;
        }
    }

    /// A new program in the same process: nothing of the old one's memory is left, and only the first thread.
    fn exec(&mut self, pid: Pid) {
        let key = next_key(&mut self.keys);
        self.process(pid);
        let Some(process) = self.table.get_mut(&pid) else { return };
        process.key = key;
        process.space.clear(&mut self.epochs);
        process.threads.clear();
        process.pending.clear();
        process.looked_up = false;
    }

    /// A thread shares its process's memory; a process starts with a copy of its parent's.
    fn fork(&mut self, task: TaskRecord) {
        if task.pid == task.parent {
            let process = self.process(task.pid);
            let name = process.threads.get(&task.parent_tid).cloned();
            name.and_then(|name| process.threads.insert(task.tid, name));
            return;
        }
        let key = next_key(&mut self.keys);
        let Some(parent) = self.table.get(&task.parent) else {
            // The parent is not wanted, or its own records were lost.
            self.table.remove(&task.pid);
            self.read(task.pid);
            return;
        };
        let comm = parent.threads.get(&task.parent_tid).unwrap_or(&parent.info.comm).clone();
        let info = ProcessInfo {
            pid: task.pid,
            namespace_pid: task.pid,
            comm: comm.clone(),
            perf_map: None,
            ..parent.info.clone()
        };
        let child = Process {
            key,
            info,
            looked_up: false,
            space: parent.space.clone(),
            threads: FxHashMap::from_iter([(task.tid, comm)]),
            pending: parent.pending.clone(),
            leader_ended: false,
            ended: false,
        };
        self.table.insert(task.pid, child);
    }

    /// A process is forgotten with its last thread, but not before the next drain: its samples on other CPUs may come later.
    fn exit(&mut self, task: TaskRecord) {
        let Some(process) = self.table.get_mut(&task.pid) else { return };
        process.threads.remove(&task.tid);
        process.leader_ended |= task.pid.0 == task.tid.0;
        process.ended |= process.leader_ended && !capture::lives(task.pid);
    }

    /// Forgets processes that had ended by the last call.
    pub fn sweep(&mut self) {
        self.table.retain(|_, process| !process.ended);
    }
}

impl Process {
    /// Completes what /proc knows, once: while the process lives. What it inherited from its parent stays where it is gone.
    fn look_up(&mut self) {
        if std::mem::replace(&mut self.looked_up, true) {
            return;
        }
        let pid = self.info.pid;
        if let Some(status) = procfs::process::Process::new(pid.0).ok().and_then(|process| process.status().ok()) {
            self.info.uid = status.euid;
            self.info.namespace_pid = status.nspid.and_then(|pids| pids.last().copied()).map_or(pid, Pid);
            if self.info.comm.is_empty() {
                self.info.comm = status.name.into();
            }
        }
        if let Some(root) = open::open_root(pid) {
            self.info.root = Some(root);
        }
    }
}

fn next_key(keys: &mut u64) -> ProcessKey {
    *keys += 1;
    ProcessKey(*keys)
}

/// Load address less link address: until the image is open, addresses are offsets in the file.
fn bias_of(image: Option<&Arc<Image>>, start: Address, offset: u64) -> u64 {
    let rva = image.and_then(|image| image.rva_of_offset(offset)).map_or(offset, |rva| rva.0);
    start.0.wrapping_sub(rva)
}

/// Whether a mapping's name is that of a file with code. `//anon` is how records, and an empty name how /proc spells memory without a file.
fn is_file(name: &str) -> bool {
    let real = name.starts_with('/')
        && !name.starts_with("//")
        && !name.starts_with("/dev/zero")
        && !name.starts_with("/SYSV");
    real || name == open::VDSO
}

fn map_name(path: &MMapPath) -> String {
    match path {
        MMapPath::Path(path) => path.to_string_lossy().into_owned(),
        MMapPath::Vdso => open::VDSO.into(),
        _ => "//anon".into(),
    }
}

fn map_identity(map: &MemoryMap) -> Identity {
    if map.inode == 0 {
        return Identity::Unknown;
    }
    Identity::Inode { major: map.dev.0 as u32, minor: map.dev.1 as u32, inode: map.inode }
}

fn comm_of(path: &str) -> Option<Arc<str>> {
    fs::read_to_string(path).ok().map(|comm| comm.trim_end().into())
}
