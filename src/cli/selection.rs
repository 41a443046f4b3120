//! What to record: the options that `record` and `snapshot` share, and how they become the settings of a capture.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgMatches, Args};

use super::values::{Frequency, Graph, RingSize};
use super::{rate, usage};
use crate::capture::{self, AlsoRecords, Event, EventError, Rate, Selector, Settings, Target};
use crate::ids::{Pid, Tid};
use crate::session::Screen;
use crate::sys::child::Child;

/// What stands in the place of a list of CPUs where none was given.
const ON_CPU: &str = "on-cpu";

/// Whom to record, and which events.
#[derive(Args, Debug)]
pub struct WhatArgs {
    /// Processes to record, with all their threads and the children they start
    #[arg(short, long, value_name = "PID,…", value_delimiter = ',')]
    pid: Vec<i32>,
    /// Threads to record
    #[arg(short, long, value_name = "TID,…", value_delimiter = ',')]
    tid: Vec<i32>,
    /// Record everything on this machine
    #[arg(short, long)]
    all_cpus: bool,
    /// Record only on these CPUs (0,2-4). Without a list: record time on CPUs, beside other kinds
    #[arg(short = 'C', long, value_name = "CPUS", num_args = 0..=1, default_missing_value = ON_CPU)]
    cpu: Option<String>,
    /// Record also the time that threads spend away from a CPU: blocked, or waiting for one (label state)
    #[arg(long)]
    off_cpu: bool,
    /// Record all time of threads, on a CPU and away from it, as one profile (label state)
    #[arg(long)]
    wall: bool,
    /// Record the time that threads wait for locks: mutexes and conditions of programs (futex), and locks of the kernel
    #[arg(long)]
    lock: bool,
    /// Record what is allocated by malloc and its kind, sampled by bytes, and what of it is in use at the end. Each call of an allocator
    /// is slowed by a microsecond or two; with =allocated, which leaves out what is in use, by half of that
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "in-use")]
    alloc: Option<Alloc>,
    /// Bytes between two samples of allocations, with B, K, M or G [default: 512K]
    #[arg(long, value_name = "SIZE")]
    alloc_period: Option<super::values::Size>,
    /// Record page faults: where memory grows
    #[arg(long)]
    page_faults: bool,
    /// Leave out times away from a CPU that are shorter: 1ms, 20us; a number alone is of milliseconds
    #[arg(long, value_name = "TIME", value_parser = threshold)]
    off_cpu_thresh: Option<std::time::Duration>,
    /// Tell which thread woke each that was blocked (label waker)
    #[arg(long)]
    wakers: bool,
    /// Record the tasks of these cgroups, each a path below the cgroup mount
    #[arg(short = 'G', long, value_name = "NAME,…", value_delimiter = ',')]
    cgroup: Vec<PathBuf>,
    /// Record processes of this name (as in /proc/PID/comm; *, ? and […] stand for others), also those that begin later
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    comm: Vec<String>,
    /// Record processes that execute this file: its path as the process sees it, or its name alone
    #[arg(long, value_name = "PATH,…", value_delimiter = ',')]
    exe: Vec<PathBuf>,
    /// Record the processes of these units of systemd
    #[arg(long, value_name = "UNIT,…", value_delimiter = ',')]
    systemd_unit: Vec<String>,
    /// Events to sample, each with modifiers behind a colon (u user code, k kernel): cycles, cpu-clock, task-clock,
    /// page-faults, context-switches, a tracepoint as sched:sched_switch, … [default: cycles, or cpu-clock for windows]
    #[arg(short, long, value_name = "EVENT,…")]
    event: Vec<String>,
    /// Sample a tracepoint only where its fields are so; behind its -e
    #[arg(long, value_name = "EXPRESSION")]
    filter: Vec<String>,
    /// Behind how many -e each filter stands.
    #[arg(skip)]
    filter_places: Vec<usize>,
    /// Do not sample what rprof itself does, by tracepoints
    #[arg(long)]
    exclude_perf: bool,
    /// Record the processes that this user runs now: a name or a number
    #[arg(short, long, value_name = "USER")]
    uid: Option<String>,
    /// Samples a second and CPU, or max for as many as the kernel allows [default: 999; 19 with --continuous, 99 for a
    /// snapshot, 499 for top]
    #[arg(short = 'F', long, value_name = "HZ|max")]
    freq: Option<Frequency>,
    /// One sample for so many occurrences of the event (nanoseconds, for clocks)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ring buffer of each CPU: pages, or bytes with B, K, M or G [default: half a second of samples]. What stands behind
    /// a comma, perf's size of rings for hardware tracing, changes nothing
    #[arg(short, long, value_name = "SIZE")]
    mmap_pages: Option<RingSize>,
    /// Record stacks (the default, as --call-graph auto)
    #[arg(short)]
    g: bool,
    /// How stacks are found: auto (per frame: unwind information, else frame pointers; the copy of the stack grows as
    /// needed), dwarf or dwarf,BYTES (a copy of that many bytes), fp or fp,FRAMES (frame pointers, followed by the kernel,
    /// and the most frames), no (none)
    #[arg(long, value_name = "MODE", default_value = "auto")]
    call_graph: Graph,
    /// Do not record threads and processes that the target starts later
    #[arg(short = 'i', long, alias = "per-thread", overrides_with = "inherit")]
    no_inherit: bool,
    /// Record them, as without this option: it takes -i back. Not with -t
    #[arg(long, overrides_with = "no_inherit")]
    inherit: bool,
    /// End after so long: 10s, 500ms, 2m
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<super::values::Span>,
    /// Keep the time of each sample, as its label timestamp_ns
    #[arg(long)]
    pub(super) timestamps: bool,
    /// Give every sample this label, by which query, diff and gate find it again: version=v2; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(super) label: Vec<(String, String)>,
    /// Say nothing but errors, also with -v
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Say more: how events were opened, and how samples were lost or cut
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Command to run and record; with -p, -t, -a or -G, to run meanwhile
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What is recorded where the command line says nothing.
pub(super) struct Defaults {
    pub(super) event: &'static str,
    /// Samples a second and CPU.
    pub(super) frequency: u64,
    /// Whether it is to outlast what it records: then the distance of samples is varied, and cgroups are chosen by their
    /// paths, which may be made anew.
    pub(super) lasting: bool,
    /// See [`Settings::build_ids`].
    pub(super) build_ids: bool,
}

impl Defaults {
    /// One recording: as many samples as cost a percent. Not a divisor of what programs do a thousand times a second.
    pub(super) const ONCE: Defaults = Defaults { event: "cycles", frequency: 999, lasting: false, build_ids: true };
    /// Half a minute from time to time. Time, not cycles: then values are CPUs used, on every machine alike.
    pub(super) const SNAPSHOT: Defaults =
        Defaults { event: "cpu-clock", frequency: 99, lasting: false, build_ids: false };
    /// For a few seconds at a time, looked at by somebody: enough for a function of a percent to show.
    pub(super) const TOP: Defaults = Defaults { event: "cpu-clock", frequency: 499, lasting: true, build_ids: false };
    /// For ever (docs/continuous.md argues for it).
    pub(super) const CONTINUOUS: Defaults =
        Defaults { event: "cpu-clock", frequency: 19, lasting: true, build_ids: false };
}

impl WhatArgs {
    /// Whether allocations are asked for by an option of their own.
    pub(super) fn tells_allocations(&self) -> bool {
        self.alloc.is_some()
    }

    /// Notes behind which `-e` each filter stands on the command line.
    pub(super) fn place_filters(&mut self, matches: &ArgMatches) {
        let indices = |id| matches.indices_of(id).map(Iterator::collect).unwrap_or_default();
        let (events, filters): (Vec<usize>, Vec<usize>) = (indices("event"), indices("filter"));
        self.filter_places =
            filters.iter().map(|filter| events.iter().filter(|event| *event < filter).count()).collect();
    }

    /// Records no stacks, as `--call-graph no`.
    pub(super) fn leave_out_stacks(&mut self) {
        self.call_graph = Graph { mode: capture::CallGraph::No, max_stack: None };
    }

    /// Whom to record, in few words.
    pub(super) fn in_words(&self) -> String {
        let list = |name: &str, of: Vec<String>| (!of.is_empty()).then(|| format!("{name} {}", of.join(", ")));
        let numbers = |of: &[i32]| of.iter().map(ToString::to_string).collect();
        let paths = |of: &[PathBuf]| of.iter().map(|path| path.display().to_string()).collect();
        let command = self.command.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let targets = [
            list("process", numbers(&self.pid)),
            list("thread", numbers(&self.tid)),
            list("user", self.uid.clone().into_iter().collect()),
            list("cgroup", paths(&self.cgroup)),
            list("command name", self.comm.clone()),
            list("executable", paths(&self.exe)),
            list("unit", self.systemd_unit.clone()),
            list(
                "command",
                Some(command).filter(|command| !command.is_empty() && !self.all_cpus).into_iter().collect(),
            ),
        ];
        let whom = targets.into_iter().flatten().next().unwrap_or_else(|| "the whole machine".into());
        let cpus = self.cpu.as_deref().filter(|list| *list != ON_CPU);
        let cpus = cpus.map_or(String::new(), |cpus| format!(" on CPU {cpus}"));
        super::show::printable(&format!("{whom}{cpus}"))
    }

    /// The settings, and the command to run meanwhile, which waits to be released.
    ///
    /// # Errors
    /// What is wrong with the options, and what mends it.
    pub(super) fn settings(
        &self,
        defaults: &Defaults,
        enable_on_exec: bool,
        screen: &Screen,
    ) -> anyhow::Result<(Settings, Option<Child>)> {
        if self.inherit && !self.tid.is_empty() {
            return Err(usage("--inherit: -t records no threads but those it names; name their process with -p"));
        }
        let events = events(self, defaults)?;
        if self.off_cpu_thresh.is_some() && !events.iter().any(tells_away) {
            screen.say("--off-cpu-thresh: no times away from a CPU are recorded; add --off-cpu, --lock or --wall");
        }
        let cpus = self.cpu.as_deref().filter(|list| *list != ON_CPU).map(|list| {
            capture::parse_cpus(list).ok_or_else(|| usage(format!("'{list}' is no list of CPUs; write 0,2-4")))
        });
        let cpus = cpus.transpose()?;
        let (target, child) = target(self, defaults.lasting, screen)?;
        let commanded = child.as_ref().filter(|_| matches!(target, Target::Command(_)));
        let program = commanded.map(|child| PathBuf::from(child.program()));
        if self.verbose {
            let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
            screen.say(&format!("target {target:?}, events {}", names.join(", ")));
        }
        let settings = Settings {
            events,
            graph: self.call_graph.mode,
            target,
            cpus,
            inherit: !self.no_inherit && self.tid.is_empty(),
            ring_bytes: self.mmap_pages.map(|RingSize(bytes)| bytes),
            enable_on_exec,
            build_ids: defaults.build_ids,
            shortest_off_cpu: self.off_cpu_thresh.unwrap_or_default(),
            wakers: self.wakers,
            program,
            jitter: defaults.lasting,
            also: AlsoRecords::default(),
        };
        Ok((settings, child))
    }
}

/// What is told of allocations.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Alloc {
    /// All, and what of it is in use.
    InUse,
    /// All, whether freed or not.
    Allocated,
}

fn events(args: &WhatArgs, defaults: &Defaults) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    for (place, list) in (1..).zip(&args.event) {
        let mut items = capture::parse_items(list).map_err(event_error)?;
        filter(args, place, items.last_mut())?;
        events.extend(items.into_iter().flatten());
    }
    if args.filter_places.contains(&0) {
        return Err(usage("--filter stands behind the -e that it is of"));
    }
    for kind in kinds(args, defaults) {
        events.extend(capture::parse_list(kind).map_err(event_error)?);
    }
    if args.wakers && !events.iter().any(tells_away) {
        return Err(usage("--wakers tells of times away from a CPU: add --off-cpu, --lock or --wall"));
    }
    limit_stacks(args.call_graph, &mut events)?;
    let asked = match (args.freq, args.count) {
        (Some(_), Some(_)) => return Err(rate("-F (a frequency) and -c (a period) contradict each other: give one")),
        (Some(Frequency(0)), _) => {
            return Err(rate("-F 0: nothing would be sampled; give a frequency above 0, or max"));
        }
        (Some(Frequency(hertz)), _) => Some(Rate::Frequency(hertz)),
        (_, Some(count)) => Some(Rate::Period(count)),
        _ => None,
    };
    if args.alloc_period.is_some() && !events.iter().any(is_alloc) {
        return Err(usage("--alloc-period tells how allocations are sampled: add --alloc"));
    }
    for event in &mut events {
        match (asked, event.rate) {
            _ if event.terms.rate => {}
            (_, Rate::Period(usual)) if is_alloc(event) => {
                event.rate = Rate::Period(args.alloc_period.map_or(usual, |size| size.0));
            }
            (Some(rate), _) => event.rate = rate,
            (None, Rate::Frequency(_)) => event.rate = Rate::Frequency(defaults.frequency),
            (None, Rate::Period(_)) => {}
        }
    }
    if events.is_empty() { Err(usage("no event was named")) } else { Ok(events) }
}

fn tells_away(event: &Event) -> bool {
    event.probe.is_some_and(capture::Probe::is_away)
}

/// Gives events the most frames that are followed. It is the kernel who counts them, where it follows frame pointers.
fn limit_stacks(graph: Graph, events: &mut [Event]) -> anyhow::Result<()> {
    for event in events {
        let followed = event.terms.graph.unwrap_or(graph.mode) == capture::CallGraph::FramePointer;
        if followed {
            event.terms.max_stack = event.terms.max_stack.or(graph.max_stack);
        } else if event.terms.max_stack.is_some() {
            return Err(usage(format!(
                "event '{}': max-stack is for stacks by frame pointers: add call-graph=fp, or --call-graph fp",
                event.name
            )));
        }
    }
    Ok(())
}

pub(super) fn is_alloc(event: &Event) -> bool {
    event.probe.is_some_and(capture::Probe::is_alloc)
}

/// Gives the filters that stand behind the n-th `-e` to its last item.
fn filter(args: &WhatArgs, place: usize, item: Option<&mut Vec<Event>>) -> anyhow::Result<()> {
    let here = args.filter.iter().zip(&args.filter_places).filter(|(_, at)| **at == place);
    let mut filters: Vec<String> = here.map(|(filter, _)| filter.clone()).collect();
    let Some(item) = item else { return Ok(()) };
    let tracepoints = item.iter().all(Event::is_tracepoint);
    if !filters.is_empty() && !tracepoints {
        let name = item.first().map_or("", |event| &event.name);
        return Err(usage(format!("--filter compares the fields of a tracepoint, and '{name}' is none")));
    }
    if args.exclude_perf && tracepoints {
        filters.push(format!("common_pid != {}", std::process::id()));
    }
    let filters: Vec<String> = filters.iter().map(|filter| format!("({filter})")).collect();
    for event in item.iter_mut().filter(|_| !filters.is_empty()) {
        event.terms.filter = Some(filters.join(" && "));
    }
    Ok(())
}

/// The events of the kinds that were asked for; time on CPUs if none was, and beside time away from them, as with perf.
fn kinds(args: &WhatArgs, defaults: &Defaults) -> impl Iterator<Item = &'static str> + use<> {
    let others = [
        (args.off_cpu, "off-cpu"),
        (args.lock, "lock"),
        (args.wall, "wall"),
        (args.alloc.is_some(), "alloc"),
        (args.alloc == Some(Alloc::InUse), "in-use"),
        (args.page_faults, "page-faults"),
    ];
    let asked = args.cpu.as_deref() == Some(ON_CPU) || args.off_cpu;
    let on_cpu = args.event.is_empty() && (asked || !others.iter().any(|(asked, _)| *asked));
    [(on_cpu, defaults.event)].into_iter().chain(others).filter(|(asked, _)| *asked).map(|(_, event)| event)
}

/// Labels that tell something else already: those that rprof and pprof give, and what selectors know of windows.
const TAKEN: [&str; 12] =
    ["pid", "tid", "process", "comm", "container", "unit", "state", "waker", "timestamp_ns", "host", "kind", "source"];

/// `KEY=VALUE`: a key that selectors can name, and a text.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, as in version=v2")?;
    let is_name = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if !is_name || key.starts_with("pprof::") {
        return Err(format!("'{key}' is no key: letters, digits, _ and . make one"));
    }
    if TAKEN.contains(&key) {
        return Err(format!("'{key}' is a label of its own already; choose another key"));
    }
    if value.is_empty() || value.len() > 256 || value.contains(char::is_control) {
        return Err("a value is a text of 1 to 256 bytes in one line".into());
    }
    Ok((key.into(), value.into()))
}

/// A time, in milliseconds where no unit stands with it, as with perf.
fn threshold(text: &str) -> Result<std::time::Duration, String> {
    match text.parse::<f64>() {
        Ok(milliseconds) => {
            std::time::Duration::try_from_secs_f64(milliseconds / 1e3).map_err(|error| error.to_string())
        }
        Err(_) => text.parse::<super::values::Span>().map(|span| span.0),
    }
}

/// A name that means nothing is the user's slip, and as with perf so is one that this user may not look up; a tracefs that is not there
/// is not.
fn event_error(error: EventError) -> anyhow::Error {
    match error {
        EventError::Tracefs { ref source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => usage(error),
        EventError::Tracefs { .. } => error.into(),
        EventError::Unknown { .. }
        | EventError::Modifier { .. }
        | EventError::Syntax { .. }
        | EventError::Uprobe { .. }
        | EventError::Pmu { .. } => usage(error),
    }
}

/// Whom to record, and what to run meanwhile.
fn target(args: &WhatArgs, lasting: bool, screen: &Screen) -> anyhow::Result<(Target, Option<Child>)> {
    let asked_for_tasks = !args.pid.is_empty() || !args.tid.is_empty();
    if asked_for_tasks && args.all_cpus {
        screen.say("-p and -t choose tasks, so -a is left aside");
    }
    // Before it is asked who lives.
    capture::check_proc()?;
    let selector = selector(args, lasting)?;
    if asked_for_tasks && !selector.is_empty() {
        return Err(usage(
            "-p and -t choose tasks by number, --comm, --exe and --systemd-unit by what they are: use one or the other",
        ));
    }
    if !selector.is_empty() && selector.running().is_empty() {
        screen.say("no process is like that now; waiting for one");
    }
    let child = match args.command.as_slice() {
        [] => None,
        command => Some(Child::start(command).context("cannot start a process")?),
    };
    let target = if !args.pid.is_empty() {
        Target::Processes(living(&args.pid, "process", screen)?.into_iter().map(Pid).collect())
    } else if !args.tid.is_empty() {
        Target::Threads(living(&args.tid, "thread", screen)?.into_iter().map(Tid).collect())
    } else if let Some(user) = &args.uid {
        Target::Processes(processes_of(user)?)
    } else if !selector.is_empty() {
        Target::Selected(selector)
    } else if !args.cgroup.is_empty() {
        Target::Cgroups(args.cgroup.clone())
    } else {
        match &child {
            Some(child) if !args.all_cpus => Target::Command(child.pid()),
            _ => Target::System,
        }
    };
    Ok((target, child))
}

/// The processes that a user runs now.
fn processes_of(user: &str) -> anyhow::Result<Vec<Pid>> {
    let named = nix::unistd::User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
    let uid = named.or_else(|| user.parse().ok()).ok_or_else(|| usage(format!("no user '{user}'")))?;
    let all = procfs::process::all_processes().context("cannot read /proc")?;
    let of_user = |process: &procfs::process::Process| process.uid().is_ok_and(|owner| owner == uid);
    let own = std::process::id() as i32;
    let pids: Vec<Pid> =
        all.flatten().filter(of_user).map(|process| Pid(process.pid)).filter(|pid| pid.0 != own).collect();
    if pids.is_empty() {
        anyhow::bail!("user {user} runs no process now");
    }
    Ok(pids)
}

/// What processes are chosen by, besides their numbers.
fn selector(args: &WhatArgs, lasting: bool) -> anyhow::Result<Selector> {
    let mut selector = Selector::default();
    args.comm.iter().try_for_each(|name| selector.add_comm(name)).map_err(usage)?;
    args.exe.iter().try_for_each(|path| selector.add_executable(path)).map_err(usage)?;
    args.systemd_unit.iter().try_for_each(|unit| selector.add_unit(unit)).map_err(usage)?;
    if lasting || !selector.is_empty() {
        args.cgroup.iter().try_for_each(|path| selector.add_cgroup(path)).map_err(usage)?;
    }
    Ok(selector)
}

/// Those that live; each that does not is named, and costs the others nothing.
fn living(ids: &[i32], what: &str, screen: &Screen) -> anyhow::Result<Vec<i32>> {
    let (alive, dead): (Vec<i32>, Vec<i32>) = ids.iter().copied().partition(|&id| id > 0 && capture::lives(Pid(id)));
    if alive.is_empty() {
        let list: Vec<_> = dead.iter().map(ToString::to_string).collect();
        let why = format!("no such {what}: {} (it has ended, or lives in another PID namespace)", list.join(", "));
        return Err(super::NoTaskError(why).into());
    }
    dead.iter().for_each(|id| screen.say(&format!("no such {what}: {id}; recording the others")));
    Ok(alive)
}
