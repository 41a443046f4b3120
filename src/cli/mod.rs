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
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
#[command(version, about, max_term_width = 120, disable_help_subcommand = true)]
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
}

/// Runs a command line, and answers its exit status.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let line = arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let is_gate = arguments.get(1).is_some_and(|command| command == "gate");
    let matches = command().try_get_matches_from(spelled(arguments));
    let parsed = matches.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    let (mut parsed, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help goes to the standard output, and a closed one is no error of ours.
            let _ = error.print();
            // A pipeline that does not tell a wrong option from a regression would stop for the wrong reason.
            let usage = if is_gate { GATE_ERROR } else { USAGE };
            return ExitCode::from(if error.use_stderr() { usage } else { 0 });
        }
    };
    let result = match &mut parsed.command {
        Command::Record(args) => {
            let matches = matches.subcommand_matches("record").unwrap_or(&matches);
            args.place_filters(matches);
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
    // As with perf, the last of several counts.
    let record = |record: clap::Command| record.args(perf::perf_arguments()).args_override_self(true);
    Arguments::command().mut_subcommand("record", record)
}

/// The command line as clap reads it: commands that show profiles take pprof's options with one dash too.
fn spelled(arguments: Vec<OsString>) -> Vec<OsString> {
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
