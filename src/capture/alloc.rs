//! What programs allocate, told by BPF programs at the functions of their allocators.
//!
//! Each call of a probed function stops its thread for a microsecond or so, whether it is sampled or not, and that cost is the target's:
//! it is measured on ourselves when recording begins, and told. What is sampled is drawn by bytes.

use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::{Ebpf, EbpfLoader};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use procfs::process::{MMPermissions, MMapPath, Process};
use rustc_hash::{FxHashMap, FxHashSet};

use super::alive::{lives, teller};
use super::bpf::{self, BpfError};
use super::event::{Event, Probe, Rate};
use super::sites::{self, Code, FileId, Site};
use crate::ids::Pid;
use crate::record::{MapRecord, Placed, Record};
use crate::sys;
use crate::sys::perf_event::EventFd;
use crate::sys::stops::{self, Stop};

#[cfg(target_arch = "x86_64")]
const OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/alloc.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
const OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/alloc.aarch64.bpf.o");

/// What the programs tell, for errors.
const WHAT: &str = "what programs allocate";
/// The program that knows calls and returns.
const SESSION: &str = "session";
/// `GAPS` of the program, and how many parts of it are one period.
const GAPS: u32 = 1 << 12;
const PERIOD: f64 = 65_536.0;
/// `COOKIE_RETURNS` and `COOKIE_STEPPED` of the program.
const RETURNS: u64 = 0x100;
const STEPPED: u64 = 0x200;

/// What a function of an allocator does: `enum function` of the program, and `free`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Malloc = 0,
    Calloc = 1,
    Realloc = 2,
    Memalign = 3,
    PosixMemalign = 4,
    Free = 5,
}

impl Function {
    /// Whether some allocators call another of these functions in it, which is not to be counted twice.
    fn calls_others(self) -> bool {
        !matches!(self, Function::Malloc | Function::Free)
    }
}

/// The functions of allocators, by their names in C.
const FUNCTIONS: [(&str, Function); 28] = [
    ("malloc", Function::Malloc),
    ("valloc", Function::Malloc),
    ("pvalloc", Function::Malloc),
    ("mallocx", Function::Malloc),
    ("calloc", Function::Calloc),
    ("realloc", Function::Realloc),
    ("rallocx", Function::Realloc),
    ("memalign", Function::Memalign),
    ("aligned_alloc", Function::Memalign),
    ("posix_memalign", Function::PosixMemalign),
    ("free", Function::Free),
    ("cfree", Function::Free),
    ("dallocx", Function::Free),
    ("sdallocx", Function::Free),
    ("free_sized", Function::Free),
    ("free_aligned_sized", Function::Free),
    // Of mimalloc, with its prefix where the rest alone says too little.
    ("zalloc", Function::Malloc),
    ("malloc_aligned", Function::Malloc),
    ("zalloc_aligned", Function::Malloc),
    ("calloc_aligned", Function::Calloc),
    ("mallocn", Function::Calloc),
    ("realloc_aligned", Function::Realloc),
    ("mi_new", Function::Malloc),
    ("mi_new_nothrow", Function::Malloc),
    ("mi_new_aligned", Function::Malloc),
    ("mi_free_size", Function::Free),
    ("mi_free_aligned", Function::Free),
    ("mi_free_size_aligned", Function::Free),
];

/// What is put before them: by jemalloc, as others build it in, as Rust does, by tcmalloc and by mimalloc.
const PREFIXES: [&str; 5] = ["", "je_", "_rjem_", "tc_", "mi_"];

/// C++'s operators, which an allocator may have itself; elsewhere they call `malloc`.
fn operator(name: &str) -> Option<Function> {
    match name.get(..5)? {
        "_Znwm" | "_Znam" => Some(Function::Malloc),
        "_ZdlP" | "_ZdaP" => Some(Function::Free),
        _ => None,
    }
}

fn function(name: &str) -> Option<Function> {
    let bare = PREFIXES.iter().filter_map(|prefix| name.strip_prefix(prefix));
    let known = |bare: &str| FUNCTIONS.iter().find(|(known, _)| *known == bare).map(|&(_, function)| function);
    bare.into_iter().find_map(known)
}

/// Files that are known to have no allocator, at most.
const MOST_FILES: usize = 10_000;

/// The functions of a file that are probed.
type Allocator = Rc<[(Site, Function)]>;

/// The loaded programs and their probes. They end with it, and with the process, however that ends.
pub(super) struct Alloc {
    bpf: Ebpf,
    /// One program for all places, where the kernel has such (Linux 6.13): it lets a call return unseen where that does not matter.
    session: Option<OwnedFd>,
    /// Whether what was sampled is followed until it is freed.
    in_use: bool,
    /// Whether probes stop whoever runs the code, and not single processes.
    everybody: bool,
    /// Bytes between two samples, as was asked for.
    period: u64,
    allocators: FxHashMap<FileId, Allocator>,
    /// What everybody is stopped in, to see whether it is written to.
    watched: FxHashMap<FileId, File>,
    /// By process; `None` is everybody.
    probes: FxHashMap<Option<Pid>, FxHashMap<FileId, Probes>>,
    /// What may have an allocator, and has not been looked at.
    candidates: Vec<Candidate>,
    /// Probes of processes that have ended, and those by which the cost was measured.
    gone: Vec<Probes>,
    cost: Cost,
    notes: Vec<String>,
}

/// The probes of a file. They end with it.
enum Probes {
    Session(#[expect(dead_code, reason = "held, not read")] OwnedFd),
    Single(Vec<UProbeLink>),
}

impl Probes {
    fn is_none(&self) -> bool {
        matches!(self, Probes::Single(links) if links.is_empty())
    }
}

/// A process or a mapping of one that may have an allocator.
enum Candidate {
    Process(Pid),
    Mapping { pid: Pid, paths: [PathBuf; 2] },
}

/// CPU nanoseconds of a stop.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    acted_out: u64,
    stepped: u64,
    returned: u64,
}

/// `struct counts` of the program: what happened since recording began.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    acted_out: u64,
    stepped: u64,
    returned: u64,
    allocations: u64,
    bytes: u64,
    untracked: u64,
}

/// What probes of allocators saw, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocTotals {
    /// Allocations, all of them.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sampled allocations that are not followed, for want of room for more than a million.
    pub untracked: u64,
    /// How often a thread was stopped.
    pub stops: u64,
    /// CPU nanoseconds that this took, by what a stop took of us.
    pub nanoseconds: u64,
}

impl AllocTotals {
    /// What is new since earlier totals.
    #[must_use]
    pub fn since(self, earlier: AllocTotals) -> AllocTotals {
        AllocTotals {
            allocations: self.allocations - earlier.allocations,
            bytes: self.bytes - earlier.bytes,
            untracked: self.untracked - earlier.untracked,
            stops: self.stops - earlier.stops,
            nanoseconds: self.nanoseconds.saturating_sub(earlier.nanoseconds),
        }
    }
}

impl Alloc {
    /// Loads the programs for the events that ask for them, and measures what a stop costs.
    pub(super) fn load(events: &[Event], everybody: bool) -> Result<Alloc, BpfError> {
        let in_use = events.iter().any(|event| event.probe == Some(Probe::InUse));
        let period = events.iter().find(|event| event.probe.is_some_and(Probe::is_alloc)).map(|event| event.rate);
        let Some(Rate::Period(period)) = period else { return Err(BpfError::missing(WHAT, "period")) };
        let mut loader = EbpfLoader::new();
        let follows = u32::from(in_use);
        loader.override_global("IN_USE", &follows, true);
        loader.allow_unsupported_maps();
        let mut bpf = loader.load(OBJECT).map_err(|error| refusal(&error))?;
        for (_, program) in bpf.programs_mut().filter(|(name, _)| *name != SESSION) {
            let program: &mut UProbe = program.try_into().map_err(|error| refusal(&error))?;
            program.load().map_err(|error| refusal(&error))?;
        }
        let session = bpf::instructions(OBJECT, SESSION, &bpf)
            .and_then(|(instructions, license)| sys::bpf::load_session(SESSION, &instructions, &license).ok());
        let mut alloc = Alloc {
            bpf,
            session,
            in_use,
            everybody,
            period,
            allocators: FxHashMap::default(),
            watched: FxHashMap::default(),
            probes: FxHashMap::default(),
            candidates: Vec::new(),
            gone: Vec::new(),
            cost: Cost::default(),
            notes: Vec::new(),
        };
        alloc.fill_gaps()?;
        alloc.set_scale(1.0);
        alloc.measure();
        Ok(alloc)
    }

    /// The quantiles of the exponential distribution: the distance of one sampled byte from the next.
    fn fill_gaps(&mut self) -> Result<(), BpfError> {
        let map = self.bpf.map_mut("gaps").ok_or_else(|| BpfError::missing(WHAT, "gaps"))?;
        let mut gaps: Array<_, u32> = map.try_into().map_err(|error| refusal(&error))?;
        (0..GAPS).try_for_each(|at| gaps.set(at, gap(at), 0)).map_err(|error| refusal(&error))
    }

    /// Samples so many times as often as was asked for.
    pub(super) fn set_scale(&mut self, scale: f64) {
        let period = (self.period as f64 / scale).round().max(1.0) as u64;
        if let Some(Ok(mut map)) = self.bpf.map_mut("period").map(Array::<_, u64>::try_from) {
            // The map has room for one.
            let _ = map.set(0, period, 0);
        }
    }

    /// What was met that the user should know, once.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Tells a CPU's allocations to these events from now on.
    pub(super) fn connect(&self, cpu: u32, allocations: &EventFd, changes: &EventFd) -> io::Result<()> {
        bpf::put(&self.bpf, "allocations", cpu, allocations.as_fd())?;
        bpf::put(&self.bpf, "changes", cpu, changes.as_fd())
    }

    /// Removes all probes: nobody is stopped any more.
    pub(super) fn leave(&mut self) {
        let all = std::mem::take(&mut self.probes).into_values().flat_map(FxHashMap::into_values);
        remove(all.collect());
    }

    /// Says so if none of the files that were looked at is an allocator's.
    pub(super) fn note_if_none(&mut self) {
        let looked = !self.allocators.is_empty();
        if looked && self.allocators.values().all(|allocator| allocator.is_empty()) {
            self.notes.push(
                "no file that the target has mapped now has the functions of an allocator (malloc, je_malloc, …): stripped programs that bring their own are not seen, nor are the heaps of Go, Java and JavaScript".into(),
            );
        }
    }

    /// Probes the allocators that processes have mapped now.
    pub(super) fn watch(&mut self, pids: impl IntoIterator<Item = Pid>) {
        self.candidates.extend(pids.into_iter().map(Candidate::Process));
        self.look();
    }

    /// Probes the allocators that a program will have mapped once a process of ours executes it, so that none of its calls is missed.
    pub(super) fn watch_program(&mut self, pid: Pid, program: &Path) {
        for path in with_libraries(program) {
            self.look_at(pid, &path);
        }
    }

    /// Takes note of what a process mapped or started.
    pub(super) fn follow(&mut self, record: &Record<'_>) {
        match record {
            Record::Map(map) => self.candidates.extend(candidate(map)),
            // It has a copy of everything, but for the probes.
            Record::Fork(task) if task.pid != task.parent && !self.everybody => {
                self.candidates.push(Candidate::Process(task.pid));
            }
            Record::Exit(task) if task.pid.0 == task.tid.0 => {
                let gone = self.probes.remove(&Some(task.pid)).into_iter().flat_map(FxHashMap::into_values);
                self.gone.extend(gone);
            }
            _ => {}
        }
    }

    /// Probes what was taken note of.
    pub(super) fn look(&mut self) {
        self.leave_written();
        let gone = std::mem::take(&mut self.gone);
        remove(gone);
        for candidate in std::mem::take(&mut self.candidates) {
            match candidate {
                Candidate::Process(pid) => mapped_files(pid).iter().for_each(|path| self.look_at(pid, path)),
                Candidate::Mapping { pid, paths } => {
                    if let Some(path) = paths.iter().find(|path| path.exists()) {
                        self.look_at(pid, path);
                    }
                }
            }
        }
    }

    /// Probes a file that a process has mapped, if it has the functions of an allocator.
    fn look_at(&mut self, pid: Pid, path: &Path) {
        let Ok(file) = sys::open_regular(None, path, true) else { return };
        let Ok(meta) = file.metadata() else { return };
        let id = FileId::of(&meta);
        let whom = (!self.everybody).then_some(pid);
        if !meta.is_file() || self.probes.get(&whom).is_some_and(|files| files.contains_key(&id)) {
            return;
        }
        self.forget_older(id);
        let allocator = self.allocators.entry(id).or_insert_with(|| allocator(&file)).clone();
        let probes = if allocator.is_empty() {
            Probes::Single(Vec::new())
        } else {
            self.attach(whom, path, &allocator).unwrap_or_else(|error| {
                // It may have ended meanwhile.
                if whom.is_none_or(lives) {
                    self.notes.push(format!("cannot probe the allocator in {}: {error}", path.display()));
                }
                Probes::Single(Vec::new())
            })
        };
        if self.everybody && !probes.is_none() {
            self.watched.insert(id, file);
        }
        self.probes.entry(whom).or_default().insert(id, probes);
    }

    /// Takes the probes out of files that are written to: whoever maps them next would be stopped where no instruction begins.
    fn leave_written(&mut self) {
        let now = |file: &File| file.metadata().map(|meta| FileId::of(&meta));
        let written = self.watched.iter().filter_map(|(&id, file)| now(file).ok().filter(|&now| now != id));
        written.collect::<Vec<_>>().into_iter().for_each(|id| self.forget_older(id));
    }

    /// A file that was written to since has its functions elsewhere: to stop at the old places could break whoever runs it.
    fn forget_older(&mut self, id: FileId) {
        self.watched.retain(|known, _| *known == id || !known.is_same_file(id));
        self.allocators.retain(|known, _| *known == id || !known.is_same_file(id));
        for files in self.probes.values_mut() {
            let older = files.extract_if(|known, _| *known != id && known.is_same_file(id));
            self.gone.extend(older.map(|(_, probes)| probes));
        }
        // Files without an allocator come by the thousand, and are looked at quickly.
        if self.allocators.len() > MOST_FILES {
            self.allocators.retain(|_, allocator| !allocator.is_empty());
            self.probes.values_mut().for_each(|files| files.retain(|_, probes| !probes.is_none()));
        }
    }

    fn attach(&mut self, whom: Option<Pid>, path: &Path, allocator: &Allocator) -> Result<Probes, BpfError> {
        let probed = allocator.iter().filter(|(_, function)| self.in_use || *function != Function::Free);
        let places: Vec<(u64, u64)> = probed.map(|&(site, function)| (site.offset, cookie(site, function))).collect();
        self.attach_at(whom, path, &places)
    }

    /// Probes places of a file, each with its cookie.
    fn attach_at(&mut self, whom: Option<Pid>, path: &Path, places: &[(u64, u64)]) -> Result<Probes, BpfError> {
        if let Some(session) = &self.session {
            let named = CString::new(path.as_os_str().as_bytes()).map_err(|error| refusal(&error))?;
            let pid = whom.map(|pid| pid.0.cast_unsigned());
            let link = sys::bpf::link_session(session.as_fd(), &named, places, pid);
            return link.map(Probes::Session).map_err(|error| refusal(&error));
        }
        let mut links = Vec::new();
        for &(offset, cookie) in places {
            let frees = cookie & 0xff == Function::Free as u64;
            let returns = !frees && (self.in_use || cookie & RETURNS != 0);
            // Returns before entries, so that no entry is counted without its return.
            let programs = [returns.then_some("on_return"), Some(if frees { "on_free" } else { "on_allocate" })];
            let cookie = if returns { cookie | RETURNS } else { cookie };
            for program in programs.into_iter().flatten() {
                links.push(self.probe(program, whom, path, offset, cookie)?);
            }
        }
        Ok(Probes::Single(links))
    }

    fn probe(
        &mut self,
        program: &'static str,
        whom: Option<Pid>,
        path: &Path,
        offset: u64,
        cookie: u64,
    ) -> Result<UProbeLink, BpfError> {
        let scope = match whom.and_then(|pid| NonZeroU32::new(pid.0.cast_unsigned())) {
            Some(pid) => UProbeScope::OneProcess(pid),
            None => UProbeScope::AllProcesses,
        };
        let program = self.bpf.program_mut(program).ok_or_else(|| BpfError::missing(WHAT, program))?;
        let program: &mut UProbe = program.try_into().map_err(|error| refusal(&error))?;
        let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(offset), cookie: Some(cookie) };
        let id = program.attach(point, path, scope).map_err(|error| refusal(&error))?;
        program.take_link(id).map_err(|error| refusal(&error))
    }

    /// What happened since recording began.
    pub(super) fn totals(&self) -> AllocTotals {
        let counts = self.counts();
        let Cost { acted_out, stepped, returned } = self.cost;
        AllocTotals {
            allocations: counts.allocations,
            bytes: counts.bytes,
            untracked: counts.untracked,
            stops: counts.acted_out + counts.stepped + counts.returned,
            nanoseconds: counts.acted_out * acted_out + counts.stepped * stepped + counts.returned * returned,
        }
    }

    fn counts(&self) -> Counts {
        let map = self.bpf.map("counted").map(PerCpuArray::<&MapData, [u64; 7]>::try_from);
        let Some(Ok(counted)) = map else { return Counts::default() };
        let mut all = Counts::default();
        for [acted_out, stepped, returned, allocations, bytes, untracked, _next] in
            counted.get(&0, 0).iter().flat_map(|cpus| cpus.iter().copied())
        {
            all.acted_out += acted_out;
            all.stepped += stepped;
            all.returned += returned;
            all.allocations += allocations;
            all.bytes += bytes;
            all.untracked += untracked;
        }
        all
    }

    /// Forgets where allocations lie that are freed without a call, as their process has ended.
    pub(super) fn forget(&mut self, places: &[Placed]) {
        let Some(Ok(mut live)) = self.bpf.map_mut("live").map(HashMap::<_, [u64; 2], u64>::try_from) else { return };
        for place in places {
            // One that is not there was freed meanwhile.
            let _ = live.remove(&[place.process.0, place.address.0]);
        }
    }

    /// Stops ourselves, to see what it costs.
    fn measure(&mut self) {
        let acted_out = self.cost_of(stops::ACTED_OUT, Function::Free as u64);
        let stepped = self.cost_of(stops::STEPPED, Function::Free as u64);
        // As if it were realloc(0, 0), which is neither counted nor sampled.
        let both = self.cost_of(stops::ACTED_OUT, RETURNS | Function::Realloc as u64);
        self.cost = Cost { acted_out, stepped, returned: both.saturating_sub(acted_out) };
        let zero = [0_u64; 7];
        let cpus = aya::util::nr_cpus().unwrap_or(1);
        if let (Some(Ok(mut counted)), Ok(zeros)) = (
            self.bpf.map_mut("counted").map(PerCpuArray::<_, [u64; 7]>::try_from),
            PerCpuValues::try_from(vec![zero; cpus]),
        ) {
            let _ = counted.set(0, zeros, 0);
        }
    }

    fn cost_of(&mut self, stop: Stop, cookie: u64) -> u64 {
        let Some(offset) = stop.offset() else { return 0 };
        let ourselves = Pid(std::process::id().cast_signed());
        let probed = self.attach_at(Some(ourselves), Path::new("/proc/self/exe"), &[(offset, cookie)]);
        let Ok(probed) = probed else { return 0 };
        let cost = stop.cost();
        self.gone.push(probed);
        cost
    }
}

/// What a probe's program is told.
fn cookie(site: Site, function: Function) -> u64 {
    let returns = if function.calls_others() { RETURNS } else { 0 };
    let stepped = if site.stepped { STEPPED } else { 0 };
    returns | stepped | function as u64
}

/// Removes probes while others go on: the kernel waits for a tenth of a second at each.
fn remove(probes: Vec<Probes>) {
    if !probes.is_empty() {
        // Without a thread they are removed at once.
        let _ = thread::Builder::new().spawn(move || drop(probes));
    }
}

fn refusal(error: &(dyn std::error::Error + 'static)) -> BpfError {
    BpfError::new(WHAT, error)
}

/// The part of a period, of [`PERIOD`], that lies below this quantile.
fn gap(at: u32) -> u32 {
    let below = (f64::from(at) + 0.5) / f64::from(GAPS);
    (-(-below).ln_1p() * PERIOD) as u32
}

/// The functions of an allocator in a file, each of them once: many have several names.
fn allocator(file: &File) -> Allocator {
    let Ok(map) = sites::map(file) else { return Rc::new([]) };
    let Ok(code) = Code::read(&map) else { return Rc::new([]) };
    let mut found = FxHashMap::default();
    let mut operators = FxHashMap::default();
    for (name, address) in code.functions() {
        if let Some(function) = function(name) {
            found.insert(address, function);
        } else if let Some(function) = operator(name) {
            operators.insert(address, function);
        }
    }
    if !found.values().any(|&function| function == Function::Malloc) {
        return Rc::new([]);
    }
    operators.into_iter().for_each(|(address, function)| {
        found.entry(address).or_insert(function);
    });
    found.into_iter().filter_map(|(address, function)| Some((code.site(address).ok()?, function))).collect()
}

/// The very file that was mapped, or the path as the process sees it.
fn candidate(map: &MapRecord<'_>) -> Option<Candidate> {
    let name = map.name.to_str().filter(|name| map.pid.0 > 0 && is_file(name))?;
    let (pid, start, end) = (map.pid, map.start.0, map.start.0.saturating_add(map.size));
    let teller = teller(pid);
    let mapping = PathBuf::from(format!("/proc/{}/map_files/{start:x}-{end:x}", teller.0));
    Some(Candidate::Mapping { pid, paths: [mapping, below_root(teller, name)] })
}

fn below_root(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{name}", pid.0))
}

fn is_file(name: &str) -> bool {
    name.starts_with('/') && !name.starts_with("//") && !name.starts_with("/memfd:")
}

/// The files of code that a process has mapped, as it sees them.
fn mapped_files(pid: Pid) -> Vec<PathBuf> {
    let pid = teller(pid);
    let maps = Process::new(pid.0).and_then(|process| process.maps());
    let code = maps.into_iter().flatten().filter(|map| map.perms.contains(MMPermissions::EXECUTE));
    let mut seen = FxHashSet::default();
    let files = code.filter_map(|map| match &map.pathname {
        MMapPath::Path(path) if seen.insert(map.inode) => {
            let (start, end) = map.address;
            let mapping = PathBuf::from(format!("/proc/{}/map_files/{start:x}-{end:x}", pid.0));
            let named = path.to_str().filter(|name| is_file(name)).map(|name| below_root(pid, name));
            named.filter(|named| named.exists()).or(Some(mapping))
        }
        _ => None,
    });
    files.collect()
}

/// A program and the libraries that it is linked with, as its own dynamic linker finds them without running it.
fn with_libraries(program: &Path) -> Vec<PathBuf> {
    let Some(path) = found_in_path(program) else { return Vec::new() };
    let Some(interpreter) = interpreter(&path) else { return vec![path] };
    let listed = Command::new(interpreter).arg("--list").arg(&path).stderr(Stdio::null()).output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let libraries = text.lines().filter_map(|line| {
        let named = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
        named.split_once(" (").map(|(path, _)| PathBuf::from(path)).filter(|path| path.is_absolute())
    });
    libraries.chain([path.clone()]).collect()
}

/// The file of a program, as `execvp(3)` finds it; `None` if there is none.
#[must_use]
pub fn found_in_path(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The dynamic linker of a program (`PT_INTERP`), or of the one that a script begins with.
fn interpreter(program: &Path) -> Option<PathBuf> {
    const HEADERS: u64 = 1 << 20;
    let mut bytes = Vec::new();
    sys::open_regular(None, program, true).ok()?.take(HEADERS).read_to_end(&mut bytes).ok()?;
    if let Some(line) = bytes.strip_prefix(b"#!").and_then(|rest| rest.split(|&byte| byte == b'\n').next()) {
        let line = String::from_utf8_lossy(line).trim().to_owned();
        let shell = line.split_whitespace().next()?;
        return (Path::new(shell) != program).then(|| interpreter(Path::new(shell))).flatten();
    }
    let bytes = &*bytes;
    let elf = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = elf.endian().ok()?;
    let headers = elf.program_headers(endian, bytes).ok()?;
    let found = headers.iter().find_map(|header| header.interpreter(endian, bytes).ok().flatten())?;
    Some(PathBuf::from(String::from_utf8_lossy(found).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_allocators_are_known() {
        assert_eq!(function("malloc"), Some(Function::Malloc));
        assert_eq!(function("_rjem_posix_memalign"), Some(Function::PosixMemalign));
        assert_eq!(function("mi_free"), Some(Function::Free));
        assert_eq!(function("mi_zalloc_aligned"), Some(Function::Malloc));
        assert_eq!(function("new"), None);
        assert_eq!(function("xmalloc"), None);
        assert_eq!(operator("_ZdlPvm"), Some(Function::Free));
        assert_eq!(operator("_ZN1a"), None);
    }

    #[test]
    fn gaps_are_a_period_long_on_average() {
        let sum: f64 = (0..GAPS).map(|at| f64::from(gap(at))).sum();
        let mean = sum / f64::from(GAPS) / PERIOD;
        assert!((mean - 1.0).abs() < 1e-4, "{mean}");
    }
}
