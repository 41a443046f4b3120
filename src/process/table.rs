//! The table of processes, kept true by records in the order of time and, for those that ran before, by /proc.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procfs::process::MemoryMap;
use rustc_hash::{FxHashMap, FxHashSet};

use super::entry::{Process, ProcessKey, Shared};
use super::image::Image;
use super::images::{Images, State};
use super::maps::{comm_of, executable_maps, executable_of, file_name, map_name, map_record};
use super::open::{self, Archive, OpenRequest};
use super::space::{AddressSpace, Content, Epochs, Mapping};
use super::{Jitdump, ProcessInfo};
use crate::capture;
use crate::ids::{Address, ImageId, Pid, Tid};
use crate::record::{Identity, MapRecord, Record, TaskRecord};

/// How often processes are looked at whose end may have gone unheard.
const ROUND: Duration = Duration::from_secs(60);
/// How long a process's mappings are believed after records were lost, so that a host that loses them without end is not
/// occupied with reading /proc.
const REREAD: Duration = Duration::from_secs(1);

/// All processes that were seen, and their images.
#[derive(Default)]
pub struct Processes {
    table: FxHashMap<Pid, Process>,
    images: Images,
    epochs: Epochs,
    keys: u64,
    requests: Vec<OpenRequest>,
    shared: Shared,
    /// Counts the rounds, and the times that records of processes were lost.
    round: u32,
    losses: u32,
    last_round: Option<Instant>,
    /// Processes that were read from /proc, if anybody asks for them.
    present: Option<Vec<Pid>>,
    /// Of processes that were recorded earlier or elsewhere, of which /proc knows nothing: where their files are.
    archive: Option<Arc<Archive>>,
}

impl Processes {
    /// An empty table.
    #[must_use]
    pub fn new() -> Processes {
        Processes::default()
    }

    /// An empty table of processes that were recorded: only records tell of them.
    #[must_use]
    pub fn recorded(archive: Archive) -> Processes {
        Processes { archive: Some(Arc::new(archive)), ..Processes::default() }
    }

    /// Follows a record. Samples change nothing; where records of processes were lost, each is read anew at its next sample.
    pub fn follow(&mut self, record: &Record<'_>) {
        match record {
            Record::Map(map) => self.map(map),
            Record::Comm { pid, tid, comm, exec } => self.comm(*pid, *tid, comm, *exec),
            Record::Fork(task) => self.fork(*task),
            Record::Exit(task) => self.exit(*task),
            // Of no event that samples: what was lost are records of processes.
            Record::Lost { event: None, .. } => self.losses = self.losses.wrapping_add(1),
            Record::Sample(_)
            | Record::Lost { .. }
            | Record::LostSamples { .. }
            | Record::Throttle { .. }
            | Record::Finish(_)
            | Record::HeapChange(_)
            | Record::Other(_) => {}
        }
    }

    /// Takes a running process into the table, from /proc. One that is gone, or not ours to read, is left as it is.
    pub fn read(&mut self, pid: Pid) {
        self.present.iter_mut().for_each(|present| present.push(pid));
        if self.archive.is_some() {
            self.process(pid);
            return;
        }
        let maps = executable_maps(pid);
        self.process(pid).info.executable = executable_of(pid);
        maps.iter().for_each(|map| self.map_of_proc(pid, map));
    }

    /// Takes every running process into the table.
    pub fn read_all(&mut self) {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.for_each(|pid| self.read(Pid(pid)));
    }

    /// The process of a sample. One that was never heard of, or whose records may have been lost, is read from /proc.
    pub fn of_sample(&mut self, pid: Pid) -> &mut Process {
        let (round, losses) = (self.round, self.losses);
        match self.table.get_mut(&pid) {
            None => self.read(pid),
            Some(_) if self.archive.is_some() => {}
            Some(process) if process.losses != losses && process.read.elapsed() >= REREAD => {
                self.refresh(pid);
            }
            Some(process) if process.round != round => {
                process.round = round;
                if process.compare() == Some(false) {
                    self.refresh(pid);
                }
            }
            Some(_) => {}
        }
        self.look_up(pid)
    }

    /// Reads a process's mappings and names anew, for where its records were lost or are not asked for. If it has become
    /// another one (its PID was used again, or it executed a program), it gets another key. Answers whether /proc could be
    /// read; if not, all stays as it is.
    pub fn refresh(&mut self, pid: Pid) -> bool {
        let (round, losses) = (self.round, self.losses);
        let Some(process) = self.table.get_mut(&pid) else {
            self.read(pid);
            return true;
        };
        (process.round, process.losses, process.read) = (round, losses, Instant::now());
        if process.compare() == Some(false) {
            self.exec(pid);
        }
        let maps = executable_maps(pid);
        self.present.iter_mut().for_each(|present| present.push(pid));
        let Some(process) = self.table.get_mut(&pid).filter(|_| !maps.is_empty()) else { return false };
        if let Some(name) = comm_of(&format!("/proc/{}/comm", pid.0)) {
            process.info.comm = name;
            process.threads.clear();
        }
        process.info.executable = executable_of(pid).or(process.info.executable.take());
        let before = std::mem::replace(&mut process.space, AddressSpace::new(&mut self.epochs).of(pid, true));
        maps.iter().for_each(|map| self.map_of_proc(pid, map));
        let Some(process) = self.table.get_mut(&pid) else { return false };
        if process.space.mappings() == before.mappings() {
            // What is cached of this state is still true.
            process.space = before;
        }
        true
    }

    /// All that are in the table, by PID.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        let mut pids: Vec<Pid> = self.table.keys().copied().collect();
        pids.sort_unstable();
        pids
    }

    /// From now on, remembers which processes are read from /proc.
    pub fn remember_present(&mut self) {
        self.present.get_or_insert_default();
    }

    /// Which were since the last call, if it is remembered.
    pub fn take_present(&mut self) -> Vec<Pid> {
        self.present.as_mut().map(std::mem::take).unwrap_or_default()
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

    /// Closes the images that no process has mapped, that nobody waits for and that `keep` does not name (the frames of a window
    /// that is not sealed yet). Answers which, so that what is derived from them can be dropped too. Their ids do not come again.
    pub fn forget_images(&mut self, keep: &dyn Fn(ImageId) -> bool) -> Vec<ImageId> {
        let mut used = FxHashSet::default();
        // Most processes are forks of another with the very same mappings.
        let mut seen = FxHashSet::default();
        for process in self.table.values().filter(|process| seen.insert(process.space.epoch())) {
            used.extend(process.space.mappings().iter().filter_map(Mapping::image));
        }
        self.images.forget(|id| used.contains(&id) || keep(id))
    }

    /// How many processes were met since the last call that we may not look into.
    pub fn take_hidden(&mut self) -> u64 {
        std::mem::take(&mut self.shared.hidden)
    }

    /// Takes in the perf map of a process, if it is still the same one; the file of an earlier search stays where there is none.
    pub fn found_perf_map(&mut self, process: &ProcessInfo, file: Option<Arc<File>>) {
        let found = self.table.get_mut(&process.pid).filter(|found| found.info.key == process.key);
        if let (Some(found), Some(file)) = (found, file) {
            found.info.perf_map = Some(file);
        }
    }

    /// Takes in how far the jitdump of a process was read, if it is still the same one. `changed` is whether it told of code.
    pub fn read_jitdump(&mut self, process: &ProcessInfo, jitdump: Jitdump, changed: bool) {
        let found = self.table.get_mut(&process.pid).filter(|found| found.info.key == process.key);
        let Some(found) = found else { return };
        found.info.jitdump.clone_from(&jitdump.file);
        found.jitdump = Some(jitdump);
        found.awaits_jitdump = false;
        if changed {
            found.space.forget_code(&mut self.epochs);
        }
    }

    /// What came of opening an image: its mappings now have their true addresses.
    pub fn opened(&mut self, id: ImageId, image: Option<Arc<Image>>) {
        // Until then every mapping of it was taken by its offset in the file.
        let first = self.images.state(id) != State::Open;
        self.images.opened(id, image.clone());
        let code_in_memory = self.images.is_code_in_memory(id);
        for process in self.table.values_mut() {
            process.pending.remove(&id);
            if code_in_memory {
                process.space.disown(id, &mut self.epochs);
            }
            let Some(image) = image.as_ref().filter(|_| first) else { continue };
            process
                .space
                .rebase(id, &mut self.epochs, |start, bias| bias_of(Some(image), start, start.0.wrapping_sub(bias)));
        }
    }

    fn process(&mut self, pid: Pid) -> &mut Process {
        self.process_and_shared(pid).0
    }

    /// A process whose facts are complete.
    fn look_up(&mut self, pid: Pid) -> &mut Process {
        let (process, shared) = self.process_and_shared(pid);
        process.look_up(shared);
        process
    }

    fn process_and_shared(&mut self, pid: Pid) -> (&mut Process, &mut Shared) {
        let Processes { table, shared, keys, epochs, round, losses, archive, .. } = self;
        let process = table.entry(pid).or_insert_with(|| {
            let info = ProcessInfo::new(next_key(keys), pid);
            let space = AddressSpace::new(epochs).of(pid, archive.is_none());
            let process = Process { round: *round, losses: *losses, ..Process::new(info, space) };
            if archive.is_some() { process.recorded() } else { process }
        });
        (process, shared)
    }

    fn map_of_proc(&mut self, pid: Pid, map: &MemoryMap) {
        let name = map_name(&map.pathname);
        self.map(&map_record(pid, map, &name));
    }

    fn map(&mut self, map: &MapRecord<'_>) {
        if map.pid.0 < 0 || map.size == 0 {
            return;
        }
        let (start, end) = (map.start, Address(map.start.0.saturating_add(map.size)));
        let name = map.name.to_string_lossy();
        let is_jitdump = is_jitdump(&name);
        let content = if is_file(&name) && !is_jitdump { self.map_file(map, end, &name) } else { Content::Anonymous };
        let process = self.process(map.pid);
        if is_jitdump {
            process.jitdump.get_or_insert_with(|| Jitdump::new(&name));
        }
        if let Some(process) = self.table.get_mut(&map.pid) {
            // The kernel maps the program itself before its interpreter and libraries.
            if process.info.executable.is_none() && is_file(&name) && name != open::VDSO {
                process.info.executable = file_name(&name);
            }
            process.space.insert(Mapping { start, end, content }, &mut self.epochs);
        }
    }

    fn map_file(&mut self, map: &MapRecord<'_>, end: Address, name: &str) -> Content {
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        // The vDSO is the kernel's, the same for all, wherever its record says it is stored.
        let identity = match &self.archive {
            Some(archive) => &archive.identity(name, &map.identity),
            None if name == open::VDSO => &Identity::Unknown,
            None => &map.identity,
        };
        let (image, open_it) = self.images.find(name, identity);
        if self.images.is_code_in_memory(image) {
            return Content::Anonymous;
        }
        if open_it {
            let root = self.look_up(map.pid).info.root.clone();
            self.images.asked(image, root.clone());
            let range = (map.start, end);
            self.requests.push(OpenRequest {
                id: image,
                name: name.into(),
                identity: identity.clone(),
                pid: map.pid,
                range,
                root,
                archive: self.archive.clone(),
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
        process.info.key = key;
        process.info.executable = None;
        (process.info.perf_map, process.perf_map_sought) = (None, None);
        (process.info.jitdump, process.jitdump, process.awaits_jitdump) = (None, None, false);
        process.space.clear(&mut self.epochs);
        process.threads.clear();
        process.pending.clear();
        process.looked_up = self.archive.is_some();
    }

    /// A thread shares its process's memory; a process starts with a copy of its parent's.
    fn fork(&mut self, task: TaskRecord) {
        if task.pid == task.parent {
            let process = self.process(task.pid);
            let name = process.threads.get(&task.parent_tid).cloned();
            // Of an earlier thread with this number, whose end was not heard of.
            process.threads.remove(&task.tid);
            name.and_then(|name| process.threads.insert(task.tid, name));
            return;
        }
        let key = next_key(&mut self.keys);
        let Some(parent) = self.table.get(&task.parent) else {
            // The parent is not wanted, or its own records were lost. A recording may tell of a parent later than of its child.
            if self.archive.is_some() {
                self.process(task.pid);
                return;
            }
            self.table.remove(&task.pid);
            self.read(task.pid);
            return;
        };
        let comm = parent.threads.get(&task.parent_tid).unwrap_or(&parent.info.comm).clone();
        let info = ProcessInfo {
            pid: task.pid,
            key,
            namespace_pid: task.pid,
            comm: comm.clone(),
            perf_map: None,
            jitdump: None,
            ..parent.info.clone()
        };
        let child = Process {
            threads: FxHashMap::from_iter([(task.tid, comm)]),
            pending: parent.pending.clone(),
            // What was lost of its parent is missing in it too.
            losses: parent.losses,
            read: parent.read,
            round: self.round,
            looked_up: parent.recorded,
            recorded: parent.recorded,
            ..Process::new(info, parent.space.clone().of(task.pid, self.archive.is_none()))
        };
        self.table.insert(task.pid, child);
    }

    /// A process is forgotten with its last thread, but not before the next drain: its samples on other CPUs may come later.
    fn exit(&mut self, task: TaskRecord) {
        let Some(process) = self.table.get_mut(&task.pid) else { return };
        process.threads.remove(&task.tid);
        process.leader_ended |= task.pid.0 == task.tid.0;
        let lives = || match self.archive {
            Some(_) => !process.threads.is_empty(),
            None => capture::lives(task.pid),
        };
        process.ended |= process.leader_ended && !lives();
    }

    /// Forgets processes that had ended by the last call. From time to time looks whether others are gone whose end was not
    /// heard of; those go if they are missing twice, so that their last samples have been passed on.
    pub fn sweep(&mut self) {
        if self.archive.is_some() {
            // A task is sampled for a little while behind the record of its end: it goes at the second call.
            self.table.retain(|_, process| !(process.ended && std::mem::replace(&mut process.missing, true)));
            return;
        }
        self.table.retain(|_, process| !process.ended);
        if self.last_round.get_or_insert_with(Instant::now).elapsed() < ROUND {
            return;
        }
        self.last_round = Some(Instant::now());
        self.begin_round();
    }

    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        for (&pid, process) in &mut self.table {
            let missing = !capture::exists(pid);
            process.ended |= missing && process.missing;
            process.missing = missing;
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
        && !name.starts_with("/SYSV")
        && !name.starts_with("/anon_hugepage");
    real || name == open::VDSO
}

/// Whether a file is one in which a JIT compiler tells of its code; it maps a page of it for profilers to notice.
fn is_jitdump(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    let number = base.strip_prefix("jit-").and_then(|rest| rest.strip_suffix(".dump"));
    name.starts_with('/') && number.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A PID above all that the kernel gives.
    const NOBODY: Pid = Pid(i32::MAX - 7);

    fn map(name: &str, inode: u64) -> Record<'_> {
        Record::Map(MapRecord {
            pid: NOBODY,
            start: Address(0x1000 * inode),
            size: 0x1000,
            offset: 0,
            identity: Identity::Inode { major: 8, minor: 1, inode },
            name: name.as_ref(),
        })
    }

    fn task(pid: Pid, tid: i32, parent: Pid) -> TaskRecord {
        TaskRecord { pid, tid: Tid(tid), parent, parent_tid: Tid(parent.0) }
    }

    /// Answers all requests as failed; tells their ids.
    fn answer(processes: &mut Processes) -> Vec<u32> {
        let ids: Vec<ImageId> = processes.take_requests().into_iter().map(|request| request.id).collect();
        ids.iter().for_each(|&id| processes.opened(id, None));
        ids.into_iter().map(|id| id.0).collect()
    }

    /// A program that waits for what it will not get.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Sleeper {
            let mut command = Command::new("cat");
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // Once it has answered, all of its libraries are loaded.
            child.stdin.as_mut().unwrap().write_all(b".").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            Sleeper(child)
        }

        fn pid(&self) -> Pid {
            Pid(self.0.id() as i32)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn images_go_with_the_last_who_needs_them() {
        let mut processes = Processes::new();
        processes.follow(&map("/usr/bin/first", 1));
        processes.follow(&map("/usr/lib/second", 2));
        assert!(processes.forget_images(&|_| false).is_empty(), "they are being opened");
        assert_eq!(answer(&mut processes), [0, 1]);
        assert!(processes.forget_images(&|_| false).is_empty(), "a process has them mapped");
        processes.follow(&Record::Exit(task(NOBODY, NOBODY.0, NOBODY)));
        assert!(processes.forget_images(&|_| false).is_empty(), "its last samples may still come");
        processes.sweep();
        assert_eq!(processes.forget_images(&|id| id == ImageId(0)), [ImageId(1)]);
        assert!(processes.images().info(ImageId(0)).is_some() && processes.images().info(ImageId(1)).is_none());
        assert_eq!(processes.images().infos().count(), 1);
        // The same file again is another image.
        processes.follow(&map("/usr/lib/second", 2));
        processes.follow(&map("/usr/bin/first", 1));
        assert_eq!(answer(&mut processes), [2, 0]);
    }

    #[test]
    fn processes_whose_end_was_not_heard_of_go_too() {
        let mut processes = Processes::new();
        let sleeper = Sleeper::start();
        processes.read(sleeper.pid());
        processes.follow(&map("/usr/bin/first", 1));
        for _ in 0..2 {
            assert!(processes.table.contains_key(&NOBODY));
            processes.begin_round();
        }
        processes.sweep();
        assert_eq!(processes.table.keys().collect::<Vec<_>>(), [&sleeper.pid()]);
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut processes = Processes::new();
        let sleeper = Sleeper::start();
        let pid = sleeper.pid();
        let key = |processes: &mut Processes| {
            let process = processes.of_sample(pid);
            (process.key(), process.space().epoch(), process.space().mappings().len())
        };
        let first = key(&mut processes);
        assert!(first.2 > 1);
        processes.begin_round();
        assert!(processes.refresh(pid) && key(&mut processes) == first, "nothing has changed");
        let process = processes.table.get_mut(&pid).unwrap();
        process.identity.as_mut().unwrap().start -= 1;
        process.space.clear(&mut Epochs::default());
        assert_eq!(key(&mut processes).0, first.0, "within a round nobody looks");
        processes.begin_round();
        let second = key(&mut processes);
        assert!(second.0 != first.0 && second.2 == first.2, "{first:?} {second:?}");
        assert_eq!(&*processes.of_sample(pid).info().comm, "cat");
    }

    #[test]
    fn lost_records_are_made_up_for_by_reading() {
        let mut processes = Processes::new();
        let sleeper = Sleeper::start();
        let pid = sleeper.pid();
        let whole = processes.of_sample(pid).space().mappings().len();
        let process = processes.table.get_mut(&pid).unwrap();
        process.space.clear(&mut Epochs::default());
        process.read -= REREAD;
        assert_eq!(processes.of_sample(pid).space().mappings().len(), 0);
        processes.follow(&Record::Lost { event: Some(crate::record::EventIndex(0)), lost: 1 });
        assert_eq!(processes.of_sample(pid).space().mappings().len(), 0, "only samples were lost");
        processes.follow(&Record::Lost { event: None, lost: 1 });
        assert_eq!(processes.of_sample(pid).space().mappings().len(), whole);
    }

    #[test]
    fn names_of_threads_that_are_gone_are_forgotten() {
        let mut processes = Processes::new();
        let sleeper = Sleeper::start();
        let pid = sleeper.pid();
        processes.of_sample(pid);
        for tid in 1..=200 {
            processes.follow(&Record::Fork(task(pid, i32::MAX - tid, pid)));
            let comm = Record::Comm { pid, tid: Tid(i32::MAX - tid), comm: "worker".as_ref(), exec: false };
            processes.follow(&comm);
        }
        assert_eq!(processes.table[&pid].threads.len(), 200);
        processes.begin_round();
        processes.of_sample(pid);
        assert!(processes.table[&pid].threads.len() <= 1);
    }

    #[test]
    fn roots_of_one_namespace_are_one() {
        let mut processes = Processes::new();
        let (one, two) = (Sleeper::start(), Sleeper::start());
        let roots = [one.pid(), two.pid()].map(|pid| processes.of_sample(pid).info().root.clone().unwrap());
        assert!(Arc::ptr_eq(&roots[0], &roots[1]));
    }

    #[test]
    fn memory_is_no_file() {
        let mut processes = Processes::new();
        processes.follow(&map("/memfd:doublemapper (deleted)", 1));
        processes.follow(&map("/anon_hugepage (deleted)", 2));
        assert!(!processes.table[&NOBODY].is_ready(), "a program may lie in it");
        assert_eq!(answer(&mut processes), [0]);
        let process = &processes.table[&NOBODY];
        assert!(process.is_ready() && process.space.mappings().iter().all(|m| m.content == Content::Anonymous));
        // The pool grows: it is known by now.
        processes.follow(&map("/memfd:doublemapper (deleted)", 1));
        assert!(answer(&mut processes).is_empty());
        assert!(processes.table[&NOBODY].space.mappings().iter().all(|m| m.content == Content::Anonymous));
    }
}
