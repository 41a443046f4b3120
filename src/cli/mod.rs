//! Command line: arguments and one file a command.

pub mod annotate;
pub mod compact;
pub mod continuous;
pub mod convert;
pub mod diff;
pub mod doctor;
pub mod gate;
pub mod input;
pub mod ls;
pub mod overhead;
pub mod perf;
pub mod pin;
pub mod query;
pub mod record;
pub mod report;
pub mod script;
pub mod selection;
pub mod serve;
pub mod show;
pub mod sides;
pub mod snapshot;
pub mod stack;
pub mod status;
pub mod terminal;
pub mod top;
mod values;
pub mod view;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::capture::CaptureError;
use crate::session::RecordingError;
use crate::when;

/// Exit status for a command line that means nothing, as perf's.
const USAGE: u8 = 129;
/// Exit status where nothing could be recorded or read, as perf's.
const FAILURE: u8 = 255;

/// Exit status of `rprof gate` for everything that went wrong.
const GATE_ERROR: u8 = 2;

/// A sampling profiler for Linux: whole stacks without frame pointers, named, in one file.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(Box<record::RecordArgs>),
    Snapshot(Box<snapshot::SnapshotArgs>),
    Top(Box<top::TopArgs>),
    Stack(stack::StackArgs),
    Status(status::StatusArgs),
    Report(Box<report::ReportArgs>),
    View(Box<view::ViewArgs>),
    Script(Box<script::ScriptArgs>),
    Annotate(Box<annotate::AnnotateArgs>),
    Convert(Box<convert::ConvertArgs>),
    Ls(ls::LsArgs),
    Pin(pin::PinArgs),
    Compact(compact::CompactArgs),
    Query(Box<query::QueryArgs>),
    Serve(Box<serve::ServeArgs>),
    Diff(Box<diff::DiffArgs>),
    Gate(Box<gate::GateArgs>),
    Doctor(doctor::DoctorArgs),
    Version(VersionArgs),
}

/// Print the version, as perf does
#[derive(Args, Debug)]
#[command(hide = true)]
struct VersionArgs {
    /// Print what it was built with, too: hotspot asks for it
    #[arg(long)]
    build_options: bool,
}

/// Runs a command line, and answers its exit status.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let line = arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if is_perfs_own(&arguments) {
        let error = become_perf(&arguments);
        complain(&error);
        return ExitCode::from(status_of(&error));
    }
    let is_gate = arguments.get(1).is_some_and(|command| command == "gate");
    let matches = command().try_get_matches_from(spelled(arguments));
    let parsed = matches.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    let (mut parsed, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            explain(&error);
            // A pipeline that does not tell a wrong option from a regression would stop for the wrong reason.
            let usage = if is_gate { GATE_ERROR } else { USAGE };
            return ExitCode::from(if error.use_stderr() { usage } else { 0 });
        }
    };
    let result = match &mut parsed.command {
        Command::Record(args) => {
            let matches = matches.subcommand_matches("record").unwrap_or(&matches);
            args.settle(matches);
            record::run(args, matches, &line)
        }
        Command::Snapshot(args) => {
            args.place_filters(matches.subcommand_matches("snapshot").unwrap_or(&matches));
            snapshot::run(args, &line)
        }
        Command::Top(args) => {
            args.place_filters(matches.subcommand_matches("top").unwrap_or(&matches));
            top::run(args, &line)
        }
        Command::Stack(args) => stack::run(args, &line).map(|()| 0),
        Command::Status(args) => status::run(args),
        Command::Report(args) => report::run(args).map(|()| 0),
        Command::View(args) => view::run(args),
        Command::Script(args) => script::run(args).map(|()| 0),
        Command::Annotate(args) => annotate::run(args).map(|()| 0),
        Command::Convert(args) => convert::run(args).map(|()| 0),
        Command::Ls(args) => ls::run(args).map(|()| 0),
        Command::Pin(args) => pin::run(args).map(|()| 0),
        Command::Compact(args) => compact::run(args).map(|()| 0),
        Command::Query(args) => query::run(args).map(|()| 0),
        Command::Serve(args) => serve::run(args).map(|()| 0),
        Command::Diff(args) => diff::run(args).map(|()| 0),
        Command::Gate(args) => Ok(gate::run(args)),
        Command::Doctor(args) => doctor::run(args),
        Command::Version(args) => version(args).map(|()| 0),
    };
    match result {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(FAILURE)),
        Err(error) => {
            complain(&error);
            ExitCode::from(status_of(&error))
        }
    }
}

/// The exit status of a failure, as perf's.
fn status_of(error: &anyhow::Error) -> u8 {
    const NO_TASK: u8 = 244;
    const NO_CPU: u8 = 237;
    const NO_RATE: u8 = 234;
    let capture = match error.downcast_ref::<RecordingError>() {
        Some(RecordingError::Capture(capture)) => Some(capture),
        _ => error.downcast_ref::<CaptureError>(),
    };
    match capture {
        _ if error.is::<UsageError>() => USAGE,
        _ if error.is::<NoTaskError>() => NO_TASK,
        _ if error.is::<RateError>() => NO_RATE,
        Some(CaptureError::Gone) => NO_TASK,
        Some(CaptureError::Cpus(_)) => NO_CPU,
        _ => FAILURE,
    }
}

/// What can be said on the command line.
fn command() -> clap::Command {
    // As with perf, the last of several counts, and a name may be cut where it stays clear.
    let record =
        |record: clap::Command| record.args(perf::perf_arguments()).args_override_self(true).infer_long_args(true);
    Arguments::command().mut_subcommand("record", record)
}

/// Whether a command line is for perf: we are called by its name, and have no such subcommand.
fn is_perfs_own(arguments: &[OsString]) -> bool {
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    let subcommand = arguments.get(1).filter(|word| !word.to_string_lossy().starts_with('-'));
    called.is_some_and(|name| name == "perf")
        && subcommand.is_some_and(|name| command().find_subcommand(name).is_none())
}

/// Lets perf itself run a command line, the next in `PATH` that is not we; answers why that was not possible.
fn become_perf(arguments: &[OsString]) -> anyhow::Error {
    /// Who handed a command line on: a process that has done so once has found another copy of itself.
    const HANDED_ON: &str = "RPROF_HANDED_ON";
    let own = process::id().to_string();
    let subcommand = arguments.get(1).map(|word| word.to_string_lossy()).unwrap_or_default();
    let perf = next_perf().filter(|_| std::env::var_os(HANDED_ON).is_none_or(|pid| pid != own.as_str()));
    let Some(perf) = perf else {
        let lacks = format!("rprof has no subcommand '{subcommand}'");
        return usage(format!("{lacks}, and there is no other perf in PATH that could have it"));
    };
    let error = process::Command::new(&perf).args(arguments.iter().skip(1)).env(HANDED_ON, own).exec();
    anyhow::Error::new(error).context(format!("cannot run {}, whose subcommand '{subcommand}' is", perf.display()))
}

/// The first perf in `PATH` that is another program than this.
fn next_perf() -> Option<PathBuf> {
    use nix::unistd::{AccessFlags, access};
    let own = std::env::current_exe().and_then(std::fs::canonicalize).ok()?;
    let other = |file: &PathBuf| std::fs::canonicalize(file).is_ok_and(|path| path != own && path.is_file());
    let path = std::env::var_os("PATH")?;
    let files = std::env::split_paths(&path).map(|folder| folder.join("perf"));
    files.filter(other).find(|file| access(file.as_path(), AccessFlags::X_OK).is_ok())
}

/// Prints the version and, if asked for, what perf tells of itself in the same words.
fn version(args: &VersionArgs) -> anyhow::Result<()> {
    let mut text = format!("rprof version {}\n", env!("CARGO_PKG_VERSION"));
    let parts = [("dwarf", true), ("bpf_skeletons", true), ("zstd", true), ("aio", false)];
    for (part, there) in parts.iter().filter(|_| args.build_options) {
        text += &format!("{part:>22}: [ {:<3} ]\n", if *there { "on" } else { "OFF" });
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write the version"),
        _ => Ok(()),
    }
}

/// The command line as clap reads it: commands that show profiles take pprof's options with one dash too, and `pin` takes `-15m` as a
/// time among its options.
fn spelled(arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|command| command == "pin") {
        return pin::with_times(arguments);
    }
    let showing = ["report", "view", "query", "diff", "gate"];
    let shows = arguments.get(1).is_some_and(|command| showing.iter().any(|of| command == of));
    if shows { show::with_two_dashes(arguments) } else { arguments }
}

/// A command line that means nothing, found only when it was looked at closely.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Nothing to record: what was named has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoTaskError(String);

/// No rate to sample at: none, or two.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RateError(&'static str);

fn usage(error: impl std::fmt::Display) -> anyhow::Error {
    UsageError(error.to_string()).into()
}

fn rate(error: &'static str) -> anyhow::Error {
    RateError(error).into()
}

/// Tells what clap has to say: help whole, what is wrong in one line.
#[expect(clippy::print_stderr, reason = "the one place where a wrong command line is told")]
fn explain(error: &clap::Error) {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Help goes to the standard output, and a closed one is no error of ours.
        let _ = error.print();
    } else {
        eprintln!("rprof: {}", in_one_line(&error.to_string()));
    }
}

/// What clap says, without its usage: what is wrong, and what was meant perhaps.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let (tips, wrong): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("tip: "));
    let wrong = wrong.join(" ");
    let wrong = wrong.strip_prefix("error: ").unwrap_or(&wrong);
    // The others tell how to write what nobody means.
    let tip = tips.iter().find_map(|tip| tip.strip_prefix("tip: ").filter(|tip| tip.contains("similar")));
    let tip = tip.map_or(String::new(), |tip| format!("; {tip}"));
    show::printable(&format!("{wrong}{tip}"))
}

/// The whole of an error in one line: its causes too, where it does not tell them itself.
#[expect(clippy::print_stderr, reason = "the one place where a command's failure is told")]
fn complain(error: &anyhow::Error) {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    let line: Vec<String> = line.lines().map(show::printable).collect();
    eprintln!("rprof: {}", line.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> String {
        let error = command().try_get_matches_from(line.split(' ')).expect_err(line);
        in_one_line(&error.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_is_wrong_takes_one_line() {
        for (line, begins, ends) in [
            ("rprof record --freqq 9 -- true", "unexpected argument '--freqq' found; ", "'--freq'"),
            ("rprof record -k raw -- true", "invalid value 'raw' for '--clockid <CLOCK>': 'raw' does not", "tai"),
            ("rprof record --alloc=x -- true", "invalid value 'x'", "[possible values: in-use, allocated]"),
            ("rprof recrod", "unrecognized subcommand 'recrod'; ", "'record'"),
            ("rprof pin .", "the following required arguments were not provided: ", ">..."),
            ("rprof record --all-user --all-kernel", "the argument '--all-", "'"),
        ] {
            let told = wrong(line);
            assert!(told.starts_with(begins) && told.ends_with(ends) && told.lines().count() == 1, "{line}: {told}");
        }
    }

    #[test]
    fn options_of_perf_can_be_cut_and_taken_back() {
        let record = |line: &str| {
            let matches = command().try_get_matches_from(format!("rprof record {line} true").split(' '));
            matches.expect(line).subcommand_matches("record").cloned()
        };
        let flag = |line: &str, id: &str| record(line).is_some_and(|matches| matches.get_flag(id));
        assert!(flag("--switch-ev", "switch_events") && !flag("--switch-events --no-switch-events", "switch_events"));
        assert!(flag("--no-switch-events --switch-events", "switch_events"));
        assert!(!flag("-i --inherit", "no_inherit") && flag("--inherit -i", "no_inherit"));
        assert!(!flag("-B --buildid", "no_buildid") && !flag("--weight --no-weight", "weight"));
        assert!(flag("--call-graph fp --no-call-graph", "no-call-graph"));
        assert!(!flag("--no-call-graph --call dwarf", "no-call-graph"));
        let lines = perf::PERF_OPTIONS.iter().map(|option| option.negation);
        for name in lines.chain(perf::TAKEN_BACK.iter().map(|(name, _)| *name)) {
            assert!(record(&format!("--{name}")).is_some(), "--{name}");
        }
    }

    #[test]
    fn what_rprof_does_not_have_is_perfs() {
        let perfs = |line: &str| is_perfs_own(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(perfs("perf stat true") && perfs("/opt/bin/perf trace -p 1"));
        assert!(!perfs("perf record true") && !perfs("perf --version") && !perfs("perf version") && !perfs("perf"));
        assert!(!perfs("rprof stat true"));
    }
}
