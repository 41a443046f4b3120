//! `rprof record`: the options of `perf record`, and how they become a recording.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::continuous::ContinuousArgs;
use super::perf::{self, Delay, PerfArgs};
use super::selection::{Defaults, WhatArgs};
use super::usage;
use crate::encode::Format;
use crate::session::{self, Output, Recording, Screen, Timing};
use crate::symbol::{Options, Symbolizer};

/// Record where a program, a process or the whole system spends its time
///
/// Stacks are unwound by DWARF unwind information, so that no frame pointers are needed, and named before the file is
/// written: it is whole by itself. Without a target, everything is recorded until ^C. With --continuous a file is
/// written for each minute, for ever.
#[derive(Args, Debug)]
pub struct RecordArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Begin to sample so many milliseconds after the start; -1: when a command of --control says so; or sample in
    /// windows only: 100-200,400-500
    #[arg(short = 'D', long, value_name = "MS|-1|MS-MS,…", allow_hyphen_values = true, value_parser = perf::delay)]
    delay: Option<Delay>,
    /// File to write: perf.data, or what the ending says (.pb.gz pprof, .svg flame graph, .folded, …); - is the standard
    /// output [default: perf.data, or the standard output if that is a pipe]. With --continuous, the directory [default:
    /// /var/lib/rprof, or ~/.local/state/rprof for ordinary users]
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// Format to write, whatever the file's ending: perf.data, pprof, folded, flamegraph
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    #[command(flatten)]
    perf: PerfArgs,
    #[command(flatten)]
    continuous: ContinuousArgs,
}

impl RecordArgs {
    /// Notes what the order on the command line says.
    pub(super) fn settle(&mut self, matches: &ArgMatches) {
        self.what.place_filters(matches);
        if perf::takes_stacks_back(matches) {
            self.what.leave_out_stacks();
        }
    }

    /// Whether samples are written one by one as perf does; else they are counted, and a profile is written.
    fn is_perf_data(&self, path: &Path) -> bool {
        match &self.format {
            Some(name) => PERF_DATA.contains(&name.as_str()),
            // A device or a FIFO has no ending that was meant.
            None if path.exists() && !path.is_file() => true,
            // As perf, which takes any name: perf.data.1, or what mktemp makes.
            None => Format::for_path(path).is_err() && !names_another_kind(path),
        }
    }

    /// When to sample.
    fn timing(&self) -> anyhow::Result<Timing> {
        let delay = self.delay.clone().unwrap_or(Delay { disabled: false, begin: Duration::ZERO, turns: Vec::new() });
        if delay.disabled && self.perf.control.is_none() {
            return Err(usage("events that begin disabled (-D -1) need a way to enable them: add --control fifo:PATH"));
        }
        let duration = self.what.duration.map(|span| span.0);
        Ok(Timing { delay: delay.begin, duration, turns: delay.turns, disabled: delay.disabled })
    }

    /// The file; `None` for the standard output.
    fn perf_data_path(&self) -> Option<PathBuf> {
        let piped = std::fs::metadata("/dev/stdout").is_ok_and(|meta| meta.file_type().is_fifo());
        match &self.output {
            Some(path) => Some(path.clone()).filter(|path| path != Path::new("-")),
            // As with perf: `rprof record … | perf script`.
            None => (!piped).then(|| DEFAULT_FILE.into()),
        }
    }
}

/// Whether it is said how many files are kept where only one is written.
fn bounds_one_file(matches: &ArgMatches) -> bool {
    let given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
    given("switch_max_files") && !given("switch_output") && !given("continuous")
}

/// The names of the format.
const PERF_DATA: [&str; 3] = ["perf.data", "perf", "data"];

/// The file where the command line names none.
const DEFAULT_FILE: &str = "perf.data";

/// Records, and answers the exit status. `line` is the whole command line.
///
/// # Errors
/// What went wrong, and what mends it.
pub fn run(args: &RecordArgs, matches: &ArgMatches, line: &str) -> anyhow::Result<i32> {
    let timing = args.timing()?;
    let screen = Screen::new(args.what.quiet);
    perf::answer(matches, &screen)?;
    if bounds_one_file(matches) {
        screen.say("--switch-max-files: one file is written; add --switch-output to begin others");
    }
    let named = args.format.as_deref().filter(|name| !PERF_DATA.contains(name));
    let format = named.map(Format::by_name).transpose().map_err(usage)?;
    if let Some(window) = args.continuous.window()? {
        args.perf.refuse_for_windows()?;
        let continuous = args.continuous.settings(args.output.clone(), window)?;
        let format = format.map_or_else(|| Format::by_name("pprof"), Ok).map_err(usage)?;
        super::snapshot::may_be_a_window(format)?;
        let memory = continuous.bounds.max_memory;
        let recording = recording(&args.what, &Defaults::CONTINUOUS, timing, format, memory, line, &screen)?;
        return Ok(session::record_continuously(recording, continuous, &screen)?);
    }
    let usual = if args.what.tells_allocations() { "profile.pb.gz" } else { DEFAULT_FILE };
    let default = || format.map_or(usual.into(), |format| format!("profile.{}", format.endings[0]).into());
    let path = args.output.clone().unwrap_or_else(default);
    if args.is_perf_data(&path) {
        let data = args.perf.perf_data(args.perf_data_path(), args.continuous.rotation()?)?;
        data.path.as_deref().map_or(Ok(()), writable)?;
        what_has_no_place(&args.what, "perf.data")?;
        // The format of the summary, which goes to no file.
        let format = Format::by_name("pprof").map_err(usage)?;
        let mut recording = recording(&args.what, &Defaults::ONCE, timing, format, None, line, &screen)?;
        args.perf.complete(&mut recording)?;
        if recording.settings.events.iter().any(super::selection::is_alloc) {
            return Err(usage(
                "perf.data has no place for what is in use: name a profile for allocations, as with -o x.pb.gz",
            ));
        }
        if args.perf.dry_run {
            return Ok(0);
        }
        if let Some(child) = recording.child.as_mut().filter(|_| data.path.is_none()) {
            child.divert_stdout();
        }
        return Ok(session::record(recording, &Output::PerfData(data), &screen)?);
    }
    args.continuous.refuse()?;
    args.perf.refuse()?;
    let format = match format {
        Some(format) => format,
        None => Format::for_path(&path).map_err(usage)?,
    };
    writable(&path)?;
    let mut recording = recording(&args.what, &Defaults::ONCE, timing, format, None, line, &screen)?;
    args.perf.complete(&mut recording)?;
    if args.perf.dry_run {
        return Ok(0);
    }
    let events = &recording.settings.events;
    if path == Path::new("-") && events.len() > 1 && events.iter().any(|event| event.probe.is_some()) {
        return Err(usage(
            "each kind goes to a file of its own, and -o - names one: ask for one kind, as with -e off-cpu, or name a file",
        ));
    }
    Ok(session::record(recording, &Output::File(path), &screen)?)
}

/// Refuses labels where the file has no place for them.
fn what_has_no_place(what: &WhatArgs, format: &str) -> anyhow::Result<()> {
    if what.label.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "{format} has no place for a label: record with --label into a pprof file (-o x.pb.gz) or into windows"
    )))
}

/// What `record` and `snapshot` hand to a session. `memory` bounds what we may use.
pub(super) fn recording(
    what: &WhatArgs,
    defaults: &Defaults,
    timing: Timing,
    format: &'static Format,
    memory: Option<u64>,
    line: &str,
    screen: &Screen,
) -> anyhow::Result<Recording> {
    if format.name != "pprof" {
        what_has_no_place(what, format.name)?;
    }
    let (settings, child) = what.settings(defaults, timing.delay.is_zero() && !timing.disabled, screen)?;
    let mut options = Options::default();
    if let Some(bytes) = memory {
        options.memory = options.memory.min(usize::try_from(bytes / 5).unwrap_or(usize::MAX));
    }
    Ok(Recording {
        settings,
        timing,
        control: None,
        child,
        command: line.to_owned(),
        format,
        times: what.timestamps,
        labels: what.label.clone(),
        symbolizer: Symbolizer::new(options),
        verbose: what.verbose,
    })
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
    access(place, AccessFlags::W_OK).map_err(|errno| {
        let (path, place) = (path.display(), place.display());
        let why = match errno {
            nix::errno::Errno::EACCES | nix::errno::Errno::EPERM => format!("no right to write to {place}"),
            nix::errno::Errno::ENOENT => format!("{place} does not exist"),
            nix::errno::Errno::EROFS => format!("{place} is on a read-only file system"),
            other => format!("{place}: {}", other.desc()),
        };
        anyhow::anyhow!("cannot write {path}: {why}; choose another place with -o")
    })
}

/// Whether a file's ending names a kind of file that no recording is: somebody expects a picture, and would get a perf.data.
fn names_another_kind(path: &Path) -> bool {
    const OTHERS: &[&str] = &[
        "bz2",
        "csv",
        "flamegraph",
        "gif",
        "gz",
        "htm",
        "jfr",
        "jpeg",
        "jpg",
        "pdf",
        "png",
        "tar",
        "tgz",
        "webp",
        "xml",
        "xz",
        "yaml",
        "zip",
        "zst",
    ];
    path.extension().is_some_and(|ending| OTHERS.iter().any(|other| ending.eq_ignore_ascii_case(other)))
}
