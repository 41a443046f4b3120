//! `rprof report`: what a profile says, as text: a table of functions, or a tree of callers and callees.

use std::mem::ManuallyDrop;
use std::path::PathBuf;

use clap::Args;

use super::input::{self, ForceArgs, RecordingArgs};
use super::overhead::{self, OverheadArgs};
use super::show::{self, Counts, ShowArgs, amount, percent, printable};
use crate::profile::{Profile, Quality};
use crate::session::replay::ReplayOptions;

/// Show a profile in the terminal: functions by time, trees of callers and callees
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// The profile: a recording (perf.data), pprof or folded stacks, told by content; `-` is the standard input [default: perf.data]
    #[arg(value_name = "FILE", conflicts_with = "input")]
    pub file: Option<PathBuf>,
    /// The same, as perf spells it
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// How a recording is read
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// What needs no word
    #[command(flatten)]
    pub force: ForceArgs,
    /// perf's words
    #[command(flatten)]
    pub overhead: OverheadArgs,
    /// What of it is shown
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Prints a report of a profile. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If the file is no profile, or there is no such value or function.
pub fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let file = args.file.clone().or_else(|| args.input.clone()).unwrap_or_else(input::unnamed);
    // Functions are told by their names, unless somebody asks for more.
    let part = &args.show.part;
    let no_lines = part.granularity.is_none() && !part.filter()?.selects();
    let options = ReplayOptions { no_lines, ..args.recording.options(false, false) };
    let profile = input::read_with(&file, &args.recording, options)?;
    show::print(&render(profile, args, show::width())?)
}

/// The report as text, its lines at most `width` characters long where they hold names.
///
/// # Errors
/// If there is no such value or function.
pub fn render(profile: Profile, args: &ReportArgs, width: usize) -> anyhow::Result<String> {
    let part = &args.show.part;
    // Printed once, and then the process ends: to give back a million stacks one by one takes longer than to print them.
    let mut profile = ManuallyDrop::new(profile);
    args.overhead.keep(&mut profile);
    let (column, total) = part.apply(&mut profile)?;
    if args.overhead.wanted(args.show.keys().is_some()) {
        let columns = if part.value.is_some() { vec![column] } else { overhead::value_columns(&profile) };
        return Ok(overhead::render(&profile, &columns, args.show.keys(), &args.overhead));
    }
    let counts = ManuallyDrop::new(Counts::new(&profile, column, total, part));
    let mut out = String::new();
    header(&profile, &counts, profile.total(column), &mut out);
    if part.filter()?.selects() {
        let whole = if part.relative_percentages { "these" } else { "all" };
        out.push_str(&format!("# only the stacks and frames that were asked for; shares are of {whole}\n"));
    }
    out.push('\n');
    show::body(&counts, &args.show, width, &mut out)?;
    Ok(out)
}

/// What was profiled, for how long, and how much of it is missing.
fn header(profile: &Profile, counts: &Counts, total: i128, out: &mut String) {
    for remark in profile.remarks() {
        out.push_str(&format!("# {}\n", printable(remark)));
    }
    let mut parts = Vec::new();
    if profile.duration_nanos > 0 {
        parts.push(format!("duration {}", amount(profile.duration_nanos.into(), "nanoseconds")));
    }
    if let Some(count) = profile.count_column() {
        parts.push(format!("{} samples", amount(profile.total(count), "")));
    }
    if counts.unit != "count" {
        parts.push(format!("{} {}{}", counts.value, counts.amount(total), of_one_cpu(profile, counts, total)));
    }
    if let Some(quality) = Quality::of(profile) {
        parts.push(format!("lost {} ({:.1} %)", amount(quality.lost.into(), ""), quality.lost_share() * 100.0));
        let complete = quality.complete_share();
        parts.extend(complete.map(|share| format!("complete stacks {:.1} %", share * 100.0)));
    }
    out.push_str(&format!("# {}\n", parts.join(", ")));
}

fn of_one_cpu(profile: &Profile, counts: &Counts, total: i128) -> String {
    if counts.unit != "nanoseconds" || profile.duration_nanos <= 0 {
        return String::new();
    }
    format!(" ({} of one CPU)", percent(total, profile.duration_nanos.into()))
}
