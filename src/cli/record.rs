//! `rprof record`: the options of `perf record`, and how they become a recording.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::UsageError;
use crate::capture::{self, CallGraph, Event, EventError, MAX_STACK_BYTES, Rate, Settings, Target};
use crate::encode::Format;
use crate::ids::{Pid, Tid};
use crate::session::{self, Output, Recording, Screen, Timing};
use crate::symbol::Symbolizer;
use crate::sys::child::Child;

/// Record where a program, a process or the whole system spends its time
///
/// Stacks are unwound by DWARF unwind information, so that no frame pointers are needed, and named before the file is
/// written: it is whole by itself. Without a target, everything is recorded until ^C.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Processes to record, with all their threads and the children they start
    #[arg(short, long, value_name = "PID,…", value_delimiter = ',')]
    pid: Vec<i32>,
    /// Threads to record
    #[arg(short, long, value_name = "TID,…", value_delimiter = ',')]
    tid: Vec<i32>,
    /// Record everything on this machine
    #[arg(short, long)]
    all_cpus: bool,
    /// Record only on these CPUs (0,2-4)
    #[arg(short = 'C', long, value_name = "CPUS")]
    cpu: Option<String>,
    /// Record the tasks of these cgroups, each a path below the cgroup mount
    #[arg(short = 'G', long, value_name = "NAME,…", value_delimiter = ',')]
    cgroup: Vec<PathBuf>,
    /// Events to sample, each with modifiers behind a colon (u user code, k kernel): cycles, cpu-clock, task-clock,
    /// page-faults, context-switches, a tracepoint as sched:sched_switch, …
    #[arg(short, long, value_name = "EVENT,…", default_value = "cycles")]
    event: Vec<String>,
    /// Samples a second and CPU, or max for as many as the kernel allows [default: 999]
    #[arg(short = 'F', long, value_name = "HZ|max", conflicts_with = "count")]
    freq: Option<Frequency>,
    /// One sample for so many occurrences of the event (nanoseconds, for clocks)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ring buffer of each CPU: pages, or bytes with B, K, M or G [default: half a second of samples]
    #[arg(short, long, value_name = "SIZE")]
    mmap_pages: Option<String>,
    /// Record stacks (the default, as --call-graph auto)
    #[arg(short)]
    g: bool,
    /// How stacks are found: auto (per frame: unwind information, else frame pointers; the copy of the stack grows as
    /// needed), dwarf or dwarf,BYTES (a copy of that many bytes), fp (frame pointers, followed by the kernel), no (none)
    #[arg(long, value_name = "MODE", default_value = "auto")]
    call_graph: Graph,
    /// Do not record threads and processes that the target starts later
    #[arg(short = 'i', long)]
    no_inherit: bool,
    /// Begin to sample so many milliseconds after the start
    #[arg(short = 'D', long, value_name = "MS", default_value_t = 0, allow_negative_numbers = true)]
    delay: i64,
    /// End after so long: 10s, 500ms, 2m
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// File to write; the ending chooses the format, - is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "profile.pb.gz")]
    output: PathBuf,
    /// Format to write, whatever the file's ending: pprof, folded, flamegraph
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Say more: how events were opened, and how samples were lost or cut
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Command to run and record; with -p, -t, -a or -G, to run meanwhile
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Frequency where the command line says none: not a divisor of what programs do a thousand times a second.
const DEFAULT_FREQUENCY: u64 = 999;

#[derive(Clone, Copy, Debug)]
struct Frequency(u64);

impl FromStr for Frequency {
    type Err = String;

    fn from_str(text: &str) -> Result<Frequency, String> {
        match text {
            // The kernel's limit is known where events are opened.
            "max" => Ok(Frequency(u64::MAX)),
            _ => match text.parse() {
                Ok(0) | Err(_) => Err("a number above 0, or max".into()),
                Ok(hertz) => Ok(Frequency(hertz)),
            },
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Graph(CallGraph);

impl FromStr for Graph {
    type Err = String;

    fn from_str(text: &str) -> Result<Graph, String> {
        let (mode, size) = text.split_once(',').unwrap_or((text, ""));
        let graph = match (mode, size) {
            ("auto", "") => CallGraph::Auto,
            ("fp", "") => CallGraph::FramePointer,
            ("no" | "none", "") => CallGraph::No,
            ("dwarf", "") => CallGraph::Dwarf { stack_bytes: 16 << 10 },
            ("dwarf", size) => CallGraph::Dwarf { stack_bytes: stack_bytes(size)? },
            ("lbr", _) => return Err("branch records are not supported; use auto".into()),
            _ => return Err("auto, dwarf, dwarf,BYTES, fp or no".into()),
        };
        Ok(Graph(graph))
    }
}

/// The kernel takes multiples of eight.
fn stack_bytes(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    let rounded = bytes.div_ceil(8).saturating_mul(8);
    if (8..=MAX_STACK_BYTES).contains(&rounded) {
        Ok(rounded)
    } else {
        Err(format!("a copy of a stack has 8 to {MAX_STACK_BYTES} bytes"))
    }
}

#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("'{text}' is no time; write 10s, 500ms or 2m"))?;
        let seconds = match unit {
            "s" | "" => number,
            "ms" => number / 1e3,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            other => return Err(format!("unknown unit '{other}'; write 10s, 500ms, 2m or 1h")),
        };
        Duration::try_from_secs_f64(seconds).map(Span).map_err(|error| error.to_string())
    }
}

/// Records, and answers the exit status. `line` is the whole command line.
///
/// # Errors
/// What went wrong, and what mends it.
pub fn run(args: &RecordArgs, line: &str) -> anyhow::Result<i32> {
    let format = match &args.format {
        Some(name) => Format::by_name(name),
        // A device or a FIFO has no ending that was meant.
        None if args.output.exists() && !args.output.is_file() && !args.output.is_dir() => Format::by_name("pprof"),
        None => Format::for_path(&args.output),
    };
    let format = format.map_err(usage)?;
    writable(&args.output)?;
    let screen = Screen::new(args.quiet);
    let events = events(args)?;
    let cpus = args.cpu.as_deref().map(|list| {
        capture::parse_cpus(list).ok_or_else(|| usage(format!("'{list}' is no list of CPUs; write 0,2-4")))
    });
    let (target, child) = target(args, &screen)?;
    if args.verbose {
        let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
        screen.say(&format!("target {target:?}, events {}", names.join(", ")));
    }
    let settings = Settings {
        events,
        graph: args.call_graph.0,
        target,
        cpus: cpus.transpose()?,
        inherit: !args.no_inherit && args.tid.is_empty(),
        ring_bytes: args.mmap_pages.as_deref().map(ring_bytes).transpose()?,
        enable_on_exec: args.delay == 0,
    };
    let delay = u64::try_from(args.delay).map_err(|_| {
        usage("events that begin disabled (-D -1) need a way to enable them, which is not there yet; use -D MS")
    })?;
    let recording = Recording {
        settings,
        timing: Timing { delay: Duration::from_millis(delay), duration: args.duration.map(|span| span.0) },
        child,
        command: line.to_owned(),
        output: Output { path: args.output.clone(), format },
        symbolizer: Symbolizer::new(crate::symbol::Options::default()),
        verbose: args.verbose,
    };
    Ok(session::record(recording, &screen)?)
}

fn usage(error: impl Display) -> anyhow::Error {
    UsageError(error.to_string()).into()
}

/// Where the file cannot be written, that is better known before the recording than behind it.
fn writable(path: &Path) -> anyhow::Result<()> {
    use nix::unistd::{AccessFlags, access};
    if path == Path::new("-") {
        return Ok(());
    }
    if path.is_dir() {
        anyhow::bail!("cannot write {}: it is a folder; name a file in it", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = if path.exists() && !path.is_file() { path } else { folder };
    access(place, AccessFlags::W_OK).with_context(|| {
        format!(
            "cannot write {}: no right to write to {}; choose another place with -o",
            path.display(),
            place.display()
        )
    })
}

fn events(args: &RecordArgs) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    for list in &args.event {
        events.extend(capture::parse_list(list).map_err(event_error)?);
    }
    let asked = match (args.freq, args.count) {
        (Some(Frequency(hertz)), _) => Some(Rate::Frequency(hertz)),
        (_, Some(count)) => Some(Rate::Period(count)),
        _ => None,
    };
    for event in &mut events {
        match (asked, event.rate) {
            (Some(rate), _) => event.rate = rate,
            (None, Rate::Frequency(_)) => event.rate = Rate::Frequency(DEFAULT_FREQUENCY),
            (None, Rate::Period(_)) => {}
        }
    }
    if events.is_empty() { Err(usage("no event was named")) } else { Ok(events) }
}

/// A name that means nothing is the user's slip; a tracepoint that may not be read is not.
fn event_error(error: EventError) -> anyhow::Error {
    match error {
        EventError::Tracefs { .. } => error.into(),
        EventError::Unknown { .. } | EventError::Modifier { .. } => usage(error),
    }
}

/// Whom to record, and what to run meanwhile.
fn target(args: &RecordArgs, screen: &Screen) -> anyhow::Result<(Target, Option<Child>)> {
    let asked_for_tasks = !args.pid.is_empty() || !args.tid.is_empty();
    if asked_for_tasks && args.all_cpus {
        screen.say("-p and -t choose tasks, so -a is left aside");
    }
    let child = match args.command.as_slice() {
        [] => None,
        command => Some(Child::start(command).context("cannot start a process")?),
    };
    let target = if !args.pid.is_empty() {
        Target::Processes(living(&args.pid, "process", screen)?.into_iter().map(Pid).collect())
    } else if !args.tid.is_empty() {
        Target::Threads(living(&args.tid, "thread", screen)?.into_iter().map(Tid).collect())
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

/// Those that live; each that does not is named, and costs the others nothing.
fn living(ids: &[i32], what: &str, screen: &Screen) -> anyhow::Result<Vec<i32>> {
    let (alive, dead): (Vec<i32>, Vec<i32>) = ids.iter().copied().partition(|&id| id > 0 && capture::lives(Pid(id)));
    if alive.is_empty() {
        let list: Vec<_> = dead.iter().map(ToString::to_string).collect();
        anyhow::bail!("no such {what}: {} (it has ended, or lives in another PID namespace)", list.join(", "));
    }
    dead.iter().for_each(|id| screen.say(&format!("no such {what}: {id}; recording the others")));
    Ok(alive)
}

/// `-m`: a number of pages, or of bytes with a unit.
fn ring_bytes(text: &str) -> anyhow::Result<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale = match unit {
        "" => crate::sys::page_size(),
        "B" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err(usage(format!("'{text}' is no size; write pages, or a number with B, K, M or G"))),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    bytes
        .filter(|bytes| (1..=4 << 30).contains(bytes))
        .ok_or_else(|| usage(format!("'{text}' is no size for a ring (1B to 4G)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(ring_bytes("8M").unwrap(), 8 << 20);
        assert_eq!(ring_bytes("128").unwrap(), 128 * crate::sys::page_size());
        assert!(ring_bytes("8X").is_err() && ring_bytes("0").is_err() && ring_bytes("99999999999999999999").is_err());
        assert_eq!(Span::from_str("1.5s").unwrap().0, Duration::from_millis(1500));
        assert_eq!(Span::from_str("2m").unwrap().0, Duration::from_secs(120));
        assert!(Span::from_str("2y").is_err());
    }

    #[test]
    fn call_graphs() {
        let parse = |text| Graph::from_str(text).map(|graph| graph.0);
        assert_eq!(parse("dwarf,1001"), Ok(CallGraph::Dwarf { stack_bytes: 1008 }));
        assert_eq!(parse("dwarf,65528"), Ok(CallGraph::Dwarf { stack_bytes: 65_528 }));
        assert!(parse("dwarf,100000").is_err() && parse("lbr").is_err() && parse("x").is_err());
    }
}
