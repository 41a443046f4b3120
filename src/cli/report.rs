//! `rprof report`: what a profile says, as text: a table of functions, or a tree of callers and callees.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::input::{self, ForceArgs, LookArgs, RecordingArgs};
use super::overhead::{self, OverheadArgs, Shown};
use super::script;
use super::show::{self, Counts, ShowArgs, amount, percent, printable};
use crate::profile::Profile;
use crate::record::perf_data::PerfData;
use crate::session::replay::ReplayOptions;

/// Show a profile in the terminal: functions by time, trees of callers and callees
#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct ReportArgs {
    /// The profile: a recording (perf.data), pprof or folded stacks, told by content; `-` is the standard input [default: perf.data]
    #[arg(value_name = "FILE", conflicts_with = "input")]
    pub file: Option<PathBuf>,
    /// The same, as perf spells it
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Leave out calls that were inlined
    #[arg(long)]
    pub no_inline: bool,
    /// Only so many frames of each stack, from the code itself on
    #[arg(long, value_name = "NUMBER")]
    pub max_stack: Option<usize>,
    /// What shares are of where only a part is asked for: all, or that part (--relative_percentages)
    #[arg(long, value_enum)]
    pub percentage: Option<Percentage>,
    /// Of a perf.data: print what the file says of itself first
    #[arg(long)]
    pub header: bool,
    /// Of a perf.data: print what the file says of itself, and nothing else
    #[arg(long)]
    pub header_only: bool,
    /// Of a perf.data: print how many records of each kind it has, and nothing else
    #[arg(long)]
    pub stats: bool,
    /// How a recording is read
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// What needs no word
    #[command(flatten)]
    pub force: ForceArgs,
    /// What there is one way of
    #[command(flatten)]
    pub look: LookArgs,
    /// perf's words
    #[command(flatten)]
    pub overhead: OverheadArgs,
    /// What of it is shown
    #[command(flatten)]
    pub show: ShowArgs,
}

/// What shares are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Percentage {
    /// Of what filters leave
    Relative,
    /// Of all
    Absolute,
}

impl ReportArgs {
    fn is_relative(&self) -> bool {
        self.percentage.map_or(self.show.part.relative_percentages, |of| of == Percentage::Relative)
    }

    /// The option of the command line that no other file than a recording can honour.
    fn of_recordings(&self) -> Option<&'static str> {
        let given = [("--header", self.header), ("--header-only", self.header_only), ("--stats", self.stats)];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Prints a report of a profile. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If the file is no profile, or there is no such value or function.
pub fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let file = args.file.clone().or_else(|| args.input.clone()).unwrap_or_else(input::unnamed);
    if let Some(option) = args.of_recordings() {
        input::needs_recording(&file, option)?;
    }
    if let Some(text) = of_file(&file, args)? {
        return show::print(&text);
    }
    // Functions are told by their names, unless somebody asks for more.
    let part = &args.show.part;
    let no_lines = part.granularity.is_none() && !part.filter()?.selects();
    let options = ReplayOptions { no_lines, ..args.recording.options(args.no_inline, false) };
    let mut text = String::new();
    let profile = input::read_with(&file, &args.recording, options, args.force.quiet, &mut |header| {
        if args.header {
            text = script::header(header, &file);
        }
    })?;
    text.push_str(&render(profile, args, show::width())?);
    show::print(&text)
}

/// What is told of the file itself, where nothing else is asked for.
fn of_file(file: &Path, args: &ReportArgs) -> anyhow::Result<Option<String>> {
    if args.stats {
        return Ok(Some(overhead::stats(file)?));
    }
    if args.header_only {
        return Ok(Some(script::header(PerfData::open(file)?.header(), file)));
    }
    Ok(None)
}

/// The report as text, its lines at most `width` characters long where they hold names.
///
/// # Errors
/// If there is no such value or function.
pub fn render(profile: Profile, args: &ReportArgs, width: usize) -> anyhow::Result<String> {
    let part = &args.show.part;
    // Printed once, and then the process ends: to give back a million stacks one by one takes longer than to print them.
    let mut profile = ManuallyDrop::new(profile);
    trim(&mut profile, args);
    let all = totals(&profile);
    args.overhead.keep(&mut profile);
    let (column, _) = part.apply(&mut profile)?;
    let totals = if args.is_relative() { totals(&profile) } else { all };
    let quiet = args.force.quiet;
    if args.overhead.wanted(args.show.keys().is_some()) {
        let columns = if part.value.is_some() { vec![column] } else { overhead::value_columns(&profile) };
        let shown = Shown { args: &args.overhead, sort: args.show.keys(), totals: &totals, quiet };
        return Ok(overhead::render(&profile, &columns, &shown));
    }
    let total = totals.get(column).copied().unwrap_or(0);
    let counts = ManuallyDrop::new(Counts::new(&profile, column, total, part));
    let mut out = String::new();
    if !quiet {
        header(&profile, &counts, column, &mut out);
        if args.overhead.selects() || part.filter()?.selects() {
            let whole = if args.is_relative() { "these" } else { "all" };
            out.push_str(&format!("# only the stacks and frames that were asked for; shares are of {whole}\n"));
        }
        out.push('\n');
    }
    show::body(&counts, &args.show, width, &mut out)?;
    Ok(out)
}

/// Leaves out inlined calls and deep callers, where that is asked for.
fn trim(profile: &mut Profile, args: &ReportArgs) {
    if args.no_inline {
        for lines in profile.locations.iter_mut().map(|location| &mut location.lines) {
            lines.drain(..lines.len().saturating_sub(1));
        }
    }
    if let Some(most) = args.max_stack {
        // The code itself always stays: shares are of it.
        profile.samples.iter_mut().for_each(|sample| sample.stack.truncate(most.max(1)));
    }
}

/// What each column adds up to.
fn totals(profile: &Profile) -> Vec<i128> {
    (0..profile.sample_types.len()).map(|column| profile.total(column)).collect()
}

/// What was profiled, for how long, and how much of it is missing.
fn header(profile: &Profile, counts: &Counts, column: usize, out: &mut String) {
    let total = profile.total(column);
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
    parts.extend(show::quality_in_words(profile, column));
    out.push_str(&format!("# {}\n", parts.join(", ")));
}

fn of_one_cpu(profile: &Profile, counts: &Counts, total: i128) -> String {
    if counts.unit != "nanoseconds" || profile.duration_nanos <= 0 {
        return String::new();
    }
    format!(" ({} of one CPU)", percent(total, profile.duration_nanos.into()))
}
