//! The options of `perf record` beyond whom and what to record: those that choose how perf.data is written and when, and one table of all
//! the others, which cost nothing, or which rprof has something else for, or nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args};

use super::usage;
use super::values::{Size, Span};
use crate::capture::{AlsoRecords, Rate};
use crate::record::perf_data::write::{Keep, KernelClock};
use crate::session::{ControlPlace, PerfData, Recording, Screen, Switch};

/// How perf.data is written.
#[derive(Args, Debug)]
#[command(next_help_heading = "Writing perf.data")]
pub struct PerfArgs {
    /// Keep registers and the copied part of each stack, for readers that unwind them, instead of the unwound stack
    #[arg(long)]
    raw_stacks: bool,
    /// Compress records with zstd, 1 to 22 [default: 1]
    #[arg(short = 'z', long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "1",
        value_parser = clap::value_parser!(i32).range(0..=22))]
    compression_level: Option<i32>,
    /// The clock of times: monotonic, realtime, boottime, tai, or its number [default: monotonic]
    #[arg(short = 'k', long, value_name = "CLOCK", value_parser = clock)]
    clockid: Option<KernelClock>,
    /// Leave out the section of build IDs
    #[arg(short = 'B', long)]
    no_buildid: bool,
    /// Record each time that a thread gets a CPU or leaves it
    #[arg(long, alias = "latency")]
    switch_events: bool,
    /// Record the namespaces that processes enter (always done)
    #[arg(long)]
    namespaces: bool,
    /// Record the cgroups that there are, and that of each sample
    #[arg(long)]
    all_cgroups: bool,
    /// Sample user code only
    #[arg(long, conflicts_with = "all_kernel")]
    all_user: bool,
    /// Sample the kernel only
    #[arg(long)]
    all_kernel: bool,
    /// Write only the user's part of stacks
    #[arg(long, conflicts_with = "kernel_callchains")]
    user_callchains: bool,
    /// Write only the kernel's part of stacks
    #[arg(long)]
    kernel_callchains: bool,
    /// Take commands while recording (enable, disable, evlist, ping, snapshot, stop): fifo:COMMANDS,ANSWERS or
    /// fd:NUMBER,NUMBER; the second, for answers, may be left out
    #[arg(long, value_name = "PLACE")]
    pub(super) control: Option<ControlPlace>,
    /// End the file's name with the time
    #[arg(long)]
    timestamp_filename: bool,
    /// Keep only the newest records, in memory (64 MB of them, or so many, or those of so many seconds), and write them to a file
    /// when SIGUSR2 or a snapshot by --control comes, when --switch-output says so, and at the end
    #[arg(long, value_name = "SIZE|TIME", num_args = 0..=1, require_equals = true, default_missing_value = "64M",
        value_parser = keep)]
    overwrite: Option<Keep>,
    /// Fail where the kernel does not allow the frequency that was asked for, instead of lowering it
    #[arg(long)]
    strict_freq: bool,
    /// Look whether the command line means something, and who and what is to be recorded is there; open no events, and record
    /// nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What becomes of an option of perf that does not have an argument of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is accepted: what it asks for is so anyway, or only makes perf faster.
    Quiet,
    /// It is accepted, and this is said.
    Say(&'static str),
    /// It is refused, for this reason.
    Refuse(&'static str),
}

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// None.
    None,
    /// One that may be left out, behind `=`.
    Optional,
    /// One.
    Needed,
}

/// An option of perf's.
#[derive(Clone, Copy, Debug)]
pub struct PerfOption {
    /// Behind two dashes.
    pub long: &'static str,
    /// What takes it back, behind two dashes.
    pub negation: &'static str,
    /// Behind one.
    pub short: Option<char>,
    /// Its value.
    pub value: Value,
    /// What becomes of it.
    pub answer: Answer,
}

const MEMORY: Answer = Answer::Refuse("samples of memory accesses are not supported; use perf mem");
const BRANCHES: Answer =
    Answer::Refuse("branch records are not supported; stacks need none: leave it away, or use perf");
const HARDWARE: Answer = Answer::Refuse("hardware tracing is not supported; use perf");
const REGISTERS: Answer = Answer::Refuse("registers come with --raw-stacks, the user's alone; use that, or perf");
const BPF: Answer =
    Answer::Refuse("BPF programs and filters are no part of rprof; use --filter behind a tracepoint, or perf");

macro_rules! options {
    ($($long:literal $short:expr, $value:ident, $answer:expr;)*) => {
        /// The options of perf that have no argument of ours, with what becomes of them.
        pub const PERF_OPTIONS: &[PerfOption] = &[
            $(PerfOption { long: $long, negation: concat!("no-", $long), short: $short, value: Value::$value, answer: $answer },)*
        ];
    };
}

options! {
    "timestamp" Some('T'), None, Answer::Quiet;
    "period" Some('P'), None, Answer::Quiet;
    "sample-cpu" None, None, Answer::Quiet;
    "sample-identifier" None, None, Answer::Quiet;
    "aio" None, Optional, Answer::Quiet;
    "mmap-flush" None, Needed, Answer::Quiet;
    "no-buffering" None, None, Answer::Quiet;
    "affinity" None, Needed, Answer::Quiet;
    "realtime" Some('r'), Needed, Answer::Quiet;
    "num-thread-synthesize" None, Needed, Answer::Quiet;
    "proc-map-timeout" None, Needed, Answer::Quiet;
    "no-buildid-cache" Some('N'), None, Answer::Quiet;
    "buildid-all" None, None, Answer::Quiet;
    "buildid-mmap" None, None, Answer::Quiet;
    "synth" None, Needed, Answer::Quiet;
    "no-bpf-event" None, None, Answer::Quiet;
    "tail-synthesize" None, None, Answer::Quiet;
    "timestamp-boundary" None, None, Answer::Quiet;
    "vmlinux" None, Needed, Answer::Quiet;
    "threads" None, Optional, Answer::Say("--threads: one thread writes one file");
    "stat" Some('s'), None, Answer::Say("--stat: counts by thread are not written; samples tell their thread");
    "data" Some('d'), None, Answer::Say("-d: addresses of data are not sampled");
    "no-samples" Some('n'), None, Answer::Say("-n: samples are taken all the same");
    "raw-samples" Some('R'), None, Answer::Quiet;
    "running-time" None, None, Answer::Say("--running-time: no event shares a counter with another, so all run all the time");
    "group" None, None, Answer::Say("--group: write -e '{a,b}'");
    "kcore" None, None, Answer::Say("--kcore: the kernel's code is not copied");
    "debuginfod" None, Optional, Answer::Say("--debuginfod: nothing is asked for over the network; perf.data holds no names");
    "scale" Some('l'), None, Answer::Say("-l: counts are not scaled");
    "phys-data" None, None, MEMORY;
    "data-page-size" None, None, MEMORY;
    "code-page-size" None, None, MEMORY;
    "sample-mem-info" None, None, MEMORY;
    "weight" Some('W'), None, MEMORY;
    "transaction" None, None, MEMORY;
    "branch-any" Some('b'), None, BRANCHES;
    "branch-filter" Some('j'), Needed, BRANCHES;
    "intr-regs" Some('I'), Optional, REGISTERS;
    "user-regs" None, Optional, REGISTERS;
    "switch-output-event" None, Needed, Answer::Refuse("only time, size or a signal begins another file; use --switch-output, or --control and snapshot");
    "clang-path" None, Needed, BPF;
    "clang-opt" None, Needed, BPF;
    "bpf-aux-pause" None, None, BPF;
    "setup-filter" None, Needed, BPF;
    "snapshot" Some('S'), Optional, HARDWARE;
    "aux-sample" None, Optional, HARDWARE;
    "pfm-events" None, Needed, Answer::Refuse("libpfm's names are not known; use -e with a name or rHEX");
}

/// What takes back options that are arguments of ours, as perf's parser lets all be taken back: the last of both counts. The
/// names behind are those of the arguments.
pub const TAKEN_BACK: &[(&str, &[&str])] = &[
    ("no-all-cpus", &["all_cpus"]),
    ("no-all-cgroups", &["all_cgroups"]),
    ("no-all-kernel", &["all_kernel"]),
    ("no-all-user", &["all_user"]),
    ("no-call-graph", &["call_graph", "g"]),
    ("no-clockid", &["clockid"]),
    ("no-compression-level", &["compression_level"]),
    ("no-control", &["control"]),
    ("no-delay", &["delay"]),
    ("no-dry-run", &["dry_run"]),
    ("no-exclude-perf", &["exclude_perf"]),
    ("no-kernel-callchains", &["kernel_callchains"]),
    ("no-latency", &["switch_events"]),
    ("no-max-size", &["max_size"]),
    ("no-namespaces", &["namespaces"]),
    ("no-no-buildid", &["no_buildid"]),
    ("buildid", &["no_buildid"]),
    ("no-no-inherit", &["no_inherit"]),
    ("no-off-cpu", &["off_cpu"]),
    ("no-overwrite", &["overwrite"]),
    ("no-per-thread", &["no_inherit"]),
    ("no-quiet", &["quiet"]),
    ("no-strict-freq", &["strict_freq"]),
    ("no-switch-events", &["switch_events"]),
    ("no-switch-output", &["switch_output"]),
    ("no-timestamp-filename", &["timestamp_filename"]),
    ("no-user-callchains", &["user_callchains"]),
    ("no-verbose", &["verbose"]),
];

/// Options that change nothing and stand in the help all the same: hotspot looks there for what may be asked for.
const SHOWN: [(&str, &str); 2] = [
    ("sample-cpu", "Tell the CPU of each sample (always done)"),
    ("aio", "Accepted, and changes nothing: files are written as without it"),
];

/// The arguments of [`PERF_OPTIONS`], and what takes options back. Help shows few of them: docs/perf-options.md does.
#[must_use]
pub fn perf_arguments() -> Vec<Arg> {
    let theirs = PERF_OPTIONS.iter().flat_map(|option| [argument(option), back(option.negation, &[option.long])]);
    theirs.chain(TAKEN_BACK.iter().map(|(name, of)| back(name, of))).collect()
}

fn argument(option: &PerfOption) -> Arg {
    let argument = Arg::new(option.long).long(option.long).short(option.short);
    let argument = match SHOWN.iter().find(|(shown, _)| *shown == option.long) {
        Some((_, help)) => argument.help(*help).help_heading("Writing perf.data"),
        None => argument.hide(true),
    };
    match option.value {
        Value::None => argument.action(ArgAction::SetTrue),
        Value::Optional => argument.num_args(0..=1).require_equals(true).default_missing_value(""),
        Value::Needed => argument.num_args(1),
    }
}

/// A flag that takes arguments back.
fn back(name: &'static str, of: &[&'static str]) -> Arg {
    Arg::new(name).long(name).hide(true).action(ArgAction::SetTrue).overrides_with_all(of.iter().copied())
}

/// Whether stacks were taken back: then there are none, where other options would be as they are without a word.
pub(super) fn takes_stacks_back(matches: &ArgMatches) -> bool {
    matches.get_flag("no-call-graph")
}

/// Answers the options of [`PERF_OPTIONS`] that were given.
///
/// # Errors
/// The first that is refused, with what to use.
pub fn answer(matches: &ArgMatches, screen: &Screen) -> anyhow::Result<()> {
    let given =
        |option: &&PerfOption| matches.value_source(option.long) == Some(clap::parser::ValueSource::CommandLine);
    for option in PERF_OPTIONS.iter().filter(given) {
        match option.answer {
            Answer::Quiet => {}
            Answer::Say(line) => screen.say(line),
            Answer::Refuse(why) => return Err(usage(format!("--{}: {why}", option.long))),
        }
    }
    Ok(())
}

impl PerfArgs {
    /// What is written, to a file or to the standard output.
    ///
    /// # Errors
    /// If files are to follow each other where they cannot.
    pub(super) fn perf_data(&self, path: Option<PathBuf>, rotation: Rotation) -> anyhow::Result<PerfData> {
        if path.is_none() && rotation.switch != Switch::Never {
            return Err(usage("files that follow each other (--switch-output) need a name: write -o FILE"));
        }
        if self.overwrite.is_some() && matches!(rotation.switch, Switch::Size(_)) {
            return Err(usage(
                "--overwrite keeps records in memory, where no file grows: use --switch-output=signal, or a time, and --overwrite=SIZE",
            ));
        }
        Ok(PerfData {
            path,
            arguments: std::env::args().collect(),
            raw_stacks: self.raw_stacks,
            parts: (!self.user_callchains, !self.kernel_callchains),
            compression: self.compression_level.filter(|&level| level > 0),
            clock: self.clockid.unwrap_or_default(),
            build_ids: !self.no_buildid,
            switch: rotation.switch,
            max_files: rotation.max_files,
            max_size: rotation.max_size,
            timestamp_name: self.timestamp_filename,
            keep: self.overwrite,
        })
    }

    /// What is captured, as far as these options choose it.
    ///
    /// # Errors
    /// If the kernel does not allow what must not be lowered.
    pub(super) fn complete(&self, recording: &mut Recording) -> anyhow::Result<()> {
        recording.control.clone_from(&self.control);
        let settings = &mut recording.settings;
        settings.also = AlsoRecords {
            data_maps: self.raw_stacks,
            namespaces: true,
            switches: self.switch_events,
            cgroups: self.all_cgroups,
            kernel_code: true,
            fields: true,
        };
        for event in &mut settings.events {
            (event.user, event.kernel) = (event.user && !self.all_kernel, event.kernel && !self.all_user);
        }
        let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
        let limit = limit.ok().and_then(|limit| limit.trim().parse().ok()).unwrap_or(u64::MAX);
        let above = |rate| matches!(rate, Rate::Frequency(hertz) if hertz > limit && hertz != u64::MAX);
        if self.strict_freq && settings.events.iter().any(|event| above(event.rate)) {
            anyhow::bail!(
                "the kernel allows {limit} Hz at most (sysctl kernel.perf_event_max_sample_rate), and --strict-freq forbids to lower the frequency"
            );
        }
        Ok(())
    }

    /// Options that mean nothing for windows without end.
    ///
    /// # Errors
    /// If there is one.
    pub(super) fn refuse_for_windows(&self) -> anyhow::Result<()> {
        let given = [
            (self.control.is_some(), "--control"),
            (self.all_user, "--all-user"),
            (self.all_kernel, "--all-kernel"),
            (self.dry_run, "--dry-run"),
            (self.strict_freq, "--strict-freq"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(usage(format!("{option} is not for --continuous"))),
            None => self.refuse(),
        }
    }

    /// Options that mean nothing where a profile is written instead.
    ///
    /// # Errors
    /// If there is one.
    pub(super) fn refuse(&self) -> anyhow::Result<()> {
        let given = [
            (self.raw_stacks, "--raw-stacks"),
            (self.compression_level.is_some(), "-z"),
            (self.clockid.is_some(), "-k"),
            (self.switch_events, "--switch-events"),
            (self.user_callchains, "--user-callchains"),
            (self.kernel_callchains, "--kernel-callchains"),
            (self.timestamp_filename, "--timestamp-filename"),
            (self.overwrite.is_some(), "--overwrite"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(usage(format!("{option} is of perf.data: write to one (-o FILE.data)"))),
            None => Ok(()),
        }
    }
}

/// When files follow each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rotation {
    pub(super) switch: Switch,
    pub(super) max_files: Option<usize>,
    pub(super) max_size: Option<u64>,
}

/// `--switch-output` as perf reads it: nothing or `signal`, a size, or a time.
pub(super) fn switch(text: &str) -> Result<Switch, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    match &text[number.len()..] {
        _ if text == "signal" => Ok(Switch::Signal),
        "B" | "K" | "M" | "G" => text.parse().map(|Size(bytes)| Switch::Size(bytes)),
        "ns" | "us" | "ms" | "s" | "m" | "h" | "d" | "w" => text.parse().map(|Span(time)| Switch::Time(time)),
        _ => Err(format!("--switch-output={text}: write signal, a size (100M) or a time (30s)")),
    }
}

/// Bytes of the newest records that are kept where nothing else is said, or a time alone.
const KEPT: usize = 64 << 20;

/// `--overwrite`: a size or a time.
fn keep(text: &str) -> Result<Keep, String> {
    let wrong = || format!("--overwrite={text}: write a size from 1M on (100M), or a time (30s)");
    match switch(text) {
        Ok(Switch::Size(bytes)) if bytes >= 1 << 20 => {
            Ok(Keep { bytes: usize::try_from(bytes).map_err(|_| wrong())?, time: None })
        }
        Ok(Switch::Time(time)) => Ok(Keep { bytes: KEPT, time: Some(time) }),
        _ => Err(wrong()),
    }
}

/// When sampling begins and, by turns, stops and goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Not before somebody says so.
    pub(super) disabled: bool,
    /// The first beginning.
    pub(super) begin: Duration,
    /// What follows.
    pub(super) turns: Vec<Duration>,
}

/// `-D`: milliseconds, -1, or windows `a-b,c-d`.
pub(super) fn delay(text: &str) -> Result<Delay, String> {
    let wrong = || format!("'{text}': write milliseconds, -1, or windows as 100-200,400-500");
    let number = |text: &str| text.parse::<u64>().map(Duration::from_millis).map_err(|_| wrong());
    if text == "-1" {
        return Ok(Delay { disabled: true, begin: Duration::ZERO, turns: Vec::new() });
    }
    if !text.contains('-') {
        return Ok(Delay { disabled: false, begin: number(text)?, turns: Vec::new() });
    }
    let mut points = Vec::new();
    for window in text.split(',') {
        let (from, to) = window.split_once('-').ok_or_else(wrong)?;
        points.extend([number(from)?, number(to)?]);
    }
    if !points.is_sorted_by(|a, b| a < b) {
        return Err(format!("'{text}': each window begins behind the one before and lasts a while"));
    }
    let begin = points.remove(0);
    Ok(Delay { disabled: false, begin, turns: points })
}

/// `-k`: a clock's name, with or without `CLOCK_`, or its number.
fn clock(text: &str) -> Result<KernelClock, String> {
    let name = text.to_lowercase();
    let id = match name.strip_prefix("clock_").unwrap_or(&name) {
        "monotonic" | "mono" => libc::CLOCK_MONOTONIC,
        "realtime" | "real" => libc::CLOCK_REALTIME,
        "boottime" | "boot" => libc::CLOCK_BOOTTIME,
        "tai" | "international_atomic_time" => libc::CLOCK_TAI,
        "monotonic_raw" | "raw" => libc::CLOCK_MONOTONIC_RAW,
        number => {
            number.parse().map_err(|_| format!("no clock '{text}'; write monotonic, realtime, boottime or tai"))?
        }
    };
    let other = || {
        format!("'{text}' does not keep step with the clock of our events; write monotonic, realtime, boottime or tai")
    };
    KernelClock::new(id).ok_or_else(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_time() {
        let ms = Duration::from_millis;
        let windows = delay("100-200,400-500").unwrap();
        assert_eq!((windows.begin, windows.turns), (ms(100), vec![ms(200), ms(400), ms(500)]));
        assert_eq!(delay("500").unwrap().begin, ms(500));
        assert!(delay("-1").unwrap().disabled);
        for wrong in ["x", "-2", "200-100", "1-2,2-3", "1-"] {
            assert!(delay(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_that_follow_each_other() {
        assert_eq!(switch("signal"), Ok(Switch::Signal));
        assert_eq!(switch("100K"), Ok(Switch::Size(100 << 10)));
        assert_eq!(switch("2s"), Ok(Switch::Time(Duration::from_secs(2))));
        assert!(switch("5").is_err() && switch("x").is_err());
    }

    #[test]
    fn clocks() {
        for same in ["mono", "1", "CLOCK_MONOTONIC", "monotonic"] {
            assert_eq!(clock(same), Ok(KernelClock::Monotonic));
        }
        assert!(matches!(clock("realtime"), Ok(KernelClock::Other { id: libc::CLOCK_REALTIME, .. })));
        assert!(clock("raw").is_err() && clock("x").is_err());
    }
}
