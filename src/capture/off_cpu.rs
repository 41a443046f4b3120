//! The times that threads spend away from a CPU, told by BPF programs.
//!
//! The scheduler's tracepoints are too dear to be recorded one by one on a host that switches a hundred thousand times a second (a
//! callchain at each takes more than half of such a program's throughput, docs/off-cpu.md). So a program in the kernel notes when each
//! thread leaves, and takes the stacks of as many as a limit allows, by lot. Raw tracepoints need no tracefs.

use std::fs::File;
use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::AsFd;

use aya::maps::{Array, HashMap};
use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf, EbpfLoader};

use super::attr::REGISTERS;
use super::bpf::{self, BpfError};
use super::event::Probe;
use super::live::Settings;
use super::target::Target;
use crate::ids::{Address, Pid, Tid, Timestamp};
use crate::record::{Begin, Counters, EventIndex, KernelTid, Sample, UserRegisters, Words};
use crate::sys;
use crate::sys::perf_event::{EventFd, abi};

#[cfg(target_arch = "x86_64")]
const OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/off_cpu.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
const OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/off_cpu.aarch64.bpf.o");

/// Stacks that are taken of a CPU in ten milliseconds, more or less: a thousand a second cost about a percent of it.
const MOST_STACKS: f64 = 10.0;
/// `MOST_CGROUPS` of the program.
const MOST_CGROUPS: usize = 16;
/// Words of `struct left_out`: three times, two of numbers, 64 of the kernel's stack, 33 registers.
const LEFT_OUT_WORDS: usize = 5 + 64 + 33;

/// What the programs tell, for errors.
const WHAT: &str = "when threads leave their CPUs";

/// The loaded programs. They end with it, and with the process, however that ends.
pub(super) struct OffCpu {
    bpf: Ebpf,
    types: Btf,
    notes: Vec<String>,
}

/// Programs, and the tracepoints that they sit on.
const ALWAYS: [(&str, &str); 4] = [
    ("on_switch", "sched_switch"),
    ("on_waking", "sched_waking"),
    ("on_fork", "sched_process_fork"),
    ("on_exit", "sched_process_exit"),
];
/// Linux 5.19 has these.
const FOR_LOCKS: [(&str, &str); 2] =
    [("on_contention_begin", "contention_begin"), ("on_contention_end", "contention_end")];

/// What the lot left out of a thread.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The thread, as records of its times have it.
    pub task: KernelTid,
    /// Times away that have ended without being told, in nanoseconds ([`crate::record::Finish::left_out`]).
    pub ended: i64,
    /// Nanoseconds that it had a CPU and that were not told, where that is asked for ([`crate::record::Finish::ran`]).
    pub ran: u64,
    /// Since when it is away without its stack having been taken, as far as is known, and why; `None` if it is not.
    pub begin: Option<Begin>,
    /// The kernel's stack, as samples have it.
    callchain: Vec<u8>,
    /// The user registers that samples have.
    registers: Vec<u8>,
}

/// Where the stack pointer stands among the registers that samples have.
#[cfg(target_arch = "x86_64")]
const STACK_POINTER: usize = 7;
#[cfg(target_arch = "aarch64")]
const STACK_POINTER: usize = 31;

impl LeftOut {
    /// Where its user stack begins.
    #[must_use]
    pub fn stack_pointer(&self) -> Address {
        Address(Words::new(&self.registers).iter().nth(STACK_POINTER).unwrap_or(0))
    }

    /// As if it had been sampled when it left its CPU, with so much of its user stack; `full` if that may go on.
    #[must_use]
    pub fn sample<'a>(&'a self, stack: &'a [u8], full: bool) -> Sample<'a> {
        Sample {
            event: EventIndex(0),
            pid: self.pid,
            tid: self.tid,
            time: self.begin.map_or(Timestamp::default(), |begin| begin.out),
            cpu: None,
            period: 1,
            user_mode: false,
            ip: 0,
            callchain: Words::new(&self.callchain),
            registers: Some(UserRegisters { compat: false, mask: REGISTERS, values: Words::new(&self.registers) }),
            stack,
            stack_full: full,
            branches: Words::default(),
            counters: Counters::default(),
            begin: self.begin,
            allocation: None,
            raw: &[],
            cgroup: None,
        }
    }
}

impl OffCpu {
    /// Loads the programs for a target. They tell nothing before their events are [connected](OffCpu::connect) and counting.
    pub(super) fn load(settings: &Settings, cgroups: &[File]) -> Result<OffCpu, BpfError> {
        let types = Btf::from_sys_fs().map_err(|error| BpfError::NoTypes { what: WHAT, reason: bpf::chain(&error) })?;
        let (ids, by_thread) = match &settings.target {
            // In a PID namespace the kernel's numbers are not ours: then all tasks are told, and the others' passed over.
            _ if !super::in_first_pid_namespace() => (Vec::new(), false),
            Target::Processes(pids) => (pids.iter().map(|pid| pid.0).collect(), false),
            Target::Command(pid) => (vec![pid.0], false),
            Target::Threads(tids) => (tids.iter().map(|tid| tid.0).collect(), true),
            Target::System | Target::Cgroups(_) | Target::Selected(_) => (Vec::new(), false),
        };
        if cgroups.len() > MOST_CGROUPS {
            return Err(BpfError::Limit(format!(
                "off-CPU times can be told of at most {MOST_CGROUPS} cgroups at once"
            )));
        }
        let flag = |set: bool| u32::from(set);
        let locks = settings.events.iter().any(|event| event.probe == Some(Probe::Lock));
        let (only, inherit) = (flag(!ids.is_empty()), flag(settings.inherit && !by_thread));
        let (by_thread, groups, asks_locks) = (flag(by_thread), cgroups.len() as u32, flag(locks));
        let asks_runs = flag(settings.events.iter().any(|event| event.probe == Some(Probe::Wall)));
        let mut loader = EbpfLoader::new();
        loader.allow_unsupported_maps().btf(Some(&types));
        let flags = [
            ("ONLY_WANTED", &only),
            ("BY_THREAD", &by_thread),
            ("INHERIT", &inherit),
            ("CGROUPS", &groups),
            ("LOCKS", &asks_locks),
            ("RUNS", &asks_runs),
        ];
        for (name, value) in flags {
            loader.override_global(name, value, true);
        }
        let shortest = u64::try_from(settings.shortest_off_cpu.as_nanos()).unwrap_or(u64::MAX);
        loader.override_global("SHORTEST", &shortest, true);
        let loaded = sys::now().0;
        loader.override_global("LOADED", &loaded, true);
        let bpf = loader.load(OBJECT).map_err(|error| refusal(&error))?;
        let mut programs = OffCpu { bpf, types, notes: Vec::new() };
        programs.want(&ids)?;
        programs.set_scale(1.0);
        for (at, cgroup) in (0..).zip(cgroups) {
            bpf::put(&programs.bpf, "cgroups", at, cgroup.as_fd()).map_err(|error| refusal(&error))?;
        }
        programs.attach(&ALWAYS)?;
        programs.load_census()?;
        if locks && let Err(error) = programs.attach(&FOR_LOCKS) {
            programs.notes.push(format!("waits for locks of the kernel are not told, only those of programs: {error}"));
        }
        Ok(programs)
    }

    /// What was met while loading that the user should know.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn attach(&mut self, tracepoints: &[(&str, &str)]) -> Result<(), BpfError> {
        for &(name, tracepoint) in tracepoints {
            let missing = || BpfError::missing(WHAT, name);
            let program = self.bpf.program_mut(name).ok_or_else(missing)?;
            let program: &mut BtfTracePoint = program.try_into().map_err(|error| refusal(&error))?;
            program.load(tracepoint, &self.types).map_err(|error| refusal(&error))?;
            program.attach().map_err(|error| refusal(&error))?;
        }
        Ok(())
    }

    fn load_census(&mut self) -> Result<(), BpfError> {
        let program = self.bpf.program_mut("census").ok_or_else(|| BpfError::missing(WHAT, "census"))?;
        let program: &mut Iter = program.try_into().map_err(|error| refusal(&error))?;
        program.load("task", &self.types).map_err(|error| refusal(&error))
    }

    fn want(&mut self, ids: &[i32]) -> Result<(), BpfError> {
        let Some(map) = self.bpf.map_mut("wanted") else { return Ok(()) };
        let mut wanted: HashMap<_, u32, u32> = map.try_into().map_err(|error| refusal(&error))?;
        ids.iter().try_for_each(|&id| wanted.insert(id as u32, 1, 0)).map_err(|error| refusal(&error))
    }

    /// Lets so many times as many stacks be taken as usual.
    pub(super) fn set_scale(&mut self, scale: f64) {
        let limit = (MOST_STACKS * scale).round().max(1.0) as u32;
        if let Some(Ok(mut most)) = self.bpf.map_mut("most").map(Array::<_, u32>::try_from) {
            // The map has room for one.
            let _ = most.set(0, limit, 0);
        }
    }

    /// Tells a CPU's intervals to these events from now on.
    pub(super) fn connect(&self, cpu: u32, begins: &EventFd, ends: &EventFd) -> io::Result<()> {
        bpf::put(&self.bpf, "begins", cpu, begins.as_fd())?;
        bpf::put(&self.bpf, "ends", cpu, ends.as_fd())
    }

    /// What the lot left out since the last census. Of threads that are away, the ends are told from now on.
    pub(super) fn census(&mut self) -> io::Result<Vec<LeftOut>> {
        let program: &mut Iter = match self.bpf.program_mut("census").map(TryInto::try_into) {
            Some(Ok(program)) => program,
            _ => return Err(io::Error::other("there is no census")),
        };
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(io::Error::other)?;
        let bytes = read_census(&link.into_file().map_err(io::Error::other)?)?;
        Ok(bytes.chunks_exact(LEFT_OUT_WORDS * size_of::<u64>()).map(left_out).collect())
    }
}

/// Reads to the end in parts that are smaller than the kernel's room for them (`bpf_seq_read`: 32 KB). Once that is full, the kernel
/// throws away what the program told last and asks it again: but what it has told, it tells only once.
fn read_census(mut census: impl Read) -> io::Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        match census.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `struct left_out`.
fn left_out(bytes: &[u8]) -> LeftOut {
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let halves = |word: u64| (word as u32, (word >> 32) as u32);
    let ((tgid, tid), (state, depth)) = (halves(words[3]), halves(words[4]));
    let (task, out) = (KernelTid(tid.into()), Timestamp(words[0]));
    LeftOut {
        pid: Pid(tgid as i32),
        tid: Tid(tid as i32),
        task,
        ended: words[1].cast_signed(),
        ran: words[2],
        begin: (out.0 > 0).then(|| Begin { found: true, ..Begin::new(task, out, 1, state) }),
        callchain: bytes_of([abi::PERF_CONTEXT_KERNEL].iter().chain(words[5..69].iter().take(depth as usize))),
        registers: bytes_of(words[69..].iter().take(REGISTERS.count_ones() as usize)),
    }
}

fn bytes_of<'a>(words: impl Iterator<Item = &'a u64>) -> Vec<u8> {
    words.flat_map(|word| word.to_ne_bytes()).collect()
}

fn refusal(error: &(dyn std::error::Error + 'static)) -> BpfError {
    BpfError::new(WHAT, error)
}
