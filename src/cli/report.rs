//! `rprof report`: what a profile says, as text: a table of functions, or a tree of callers and callees.

mod table;
pub(super) mod text;
mod tree;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use rustc_hash::FxHashMap;

use crate::encode::read_file;
use crate::profile::{Profile, Quality};
use text::{amount, percent, printable};

/// Columns when the output is no terminal.
const WIDTH: usize = 120;
/// Narrower terminals are written to as if they had this many.
const MIN_WIDTH: usize = 60;

/// Show a profile in the terminal: functions by time, trees of callers and callees
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// The profile: pprof or folded stacks, told by content; `-` is the standard input
    pub file: PathBuf,
    /// What functions are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Own)]
    pub sort: Sort,
    /// Functions to show; 0 shows all
    #[arg(short = 'n', long, default_value_t = 30)]
    pub limit: usize,
    /// The value to show (`samples`, `cpu`, …) instead of the profile's own
    #[arg(long, value_name = "NAME")]
    pub value: Option<String>,
    /// Show what calls what, from the roots of the stacks
    #[arg(long, conflicts_with_all = ["callers", "callees"])]
    pub tree: bool,
    /// Show who calls a function, and their callers
    #[arg(long, value_name = "FUNCTION")]
    pub callers: Option<String>,
    /// Show what a function calls, and what that calls
    #[arg(long, value_name = "FUNCTION")]
    pub callees: Option<String>,
    /// Leave out branches of trees with a smaller share of the whole
    #[arg(long, value_name = "PERCENT", default_value_t = 0.5)]
    pub min_share: f64,
    /// Only stacks with a function whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub focus: Option<String>,
    /// No stacks with a function whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub ignore: Option<String>,
}

/// An order of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// What was counted in the function itself
    #[value(name = "self")]
    Own,
    /// What was counted in the function and in all that it called
    Total,
}

/// Prints a report of a profile. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If the file is no profile, or there is no such value or function.
pub fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let profile = read_file(&args.file)?;
    let text = render(profile, args, width())?;
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write the report"),
        _ => Ok(()),
    }
}

/// The report as text, its lines at most `width` characters long where they hold names.
///
/// # Errors
/// If there is no such value or function.
pub fn render(mut profile: Profile, args: &ReportArgs, width: usize) -> anyhow::Result<String> {
    let column = profile.column(args.value.as_deref())?;
    filter(&mut profile, args);
    let counts = Counts::new(&profile, column);
    let mut out = String::new();
    header(&profile, &counts, args, &mut out);
    if args.tree {
        tree::callees_of_roots(&counts, args, width, &mut out);
    }
    if let Some(function) = &args.callers {
        tree::callers(&counts, function, args, width, &mut out)?;
    }
    if let Some(function) = &args.callees {
        tree::callees(&counts, function, args, width, &mut out)?;
    }
    if !args.tree && args.callers.is_none() && args.callees.is_none() {
        table::functions(&counts, args, width, &mut out);
    }
    Ok(out)
}

fn width() -> usize {
    let terminal = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map_or(WIDTH, |(width, _)| usize::from(width.0).max(MIN_WIDTH))
}

fn filter(profile: &mut Profile, args: &ReportArgs) {
    let (focus, ignore) = (args.focus.as_deref(), args.ignore.as_deref());
    if focus.is_none() && ignore.is_none() {
        return;
    }
    profile.retain_samples(|profile, sample| {
        let has = |text: &str| profile.frames(sample).any(|frame| frame.name.contains(text));
        focus.is_none_or(has) && !ignore.is_some_and(has)
    });
}

/// A function: what a row of the table and a node of a tree stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    name: String,
    module: String,
}

/// A profile with one column, its frames as indices of rows.
struct Counts {
    rows: Vec<Row>,
    /// Stacks of rows, leaf first, with what was counted there.
    stacks: Vec<CountedStack>,
    /// Name and unit of the column.
    value: String,
    unit: String,
    total: i128,
    /// Whether there is another column that counts samples.
    has_samples: bool,
}

struct CountedStack {
    rows: Vec<usize>,
    value: i128,
    samples: i128,
}

impl Counts {
    fn new(profile: &Profile, column: usize) -> Counts {
        let mut rows = Rows::default();
        let at_location = rows_of_locations(profile, &mut rows);
        let count = profile.count_column();
        let stacks = profile.samples.iter().map(|sample| {
            let mut stack: Vec<usize> =
                sample.stack.iter().flat_map(|id| at_location[id.0 as usize].iter().copied()).collect();
            if stack.is_empty() {
                stack.push(rows.id("[no stack]", ""));
            }
            let value = |at: usize| i128::from(sample.values[at]);
            CountedStack { rows: stack, value: value(column), samples: count.map_or(0, value) }
        });
        let stacks: Vec<CountedStack> = stacks.collect();
        let kind = profile.sample_types[column];
        Counts {
            stacks,
            rows: rows.rows,
            value: profile.text(kind.name).to_owned(),
            unit: profile.text(kind.unit).to_owned(),
            total: profile.total(column),
            has_samples: count.is_some_and(|count| count != column),
        }
    }

    fn amount(&self, value: i128) -> String {
        amount(value, &self.unit)
    }

    fn percent(&self, value: i128) -> String {
        percent(value, self.total)
    }
}

fn rows_of_locations(profile: &Profile, rows: &mut Rows) -> Vec<Vec<usize>> {
    let ids = (0..profile.locations.len()).filter_map(|index| u32::try_from(index).ok());
    ids.map(|id| {
        let frames = profile.frames_at(crate::profile::LocationId(id));
        frames.map(|frame| rows.id(&frame.name, frame.module)).collect()
    })
    .collect()
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    ids: FxHashMap<Row, usize>,
}

impl Rows {
    fn id(&mut self, name: &str, module: &str) -> usize {
        let file = module.rsplit('/').next().unwrap_or(module);
        let row = Row { name: printable(name), module: printable(file) };
        *self.ids.entry(row).or_insert_with_key(|row| {
            self.rows.push(row.clone());
            self.rows.len() - 1
        })
    }
}

/// What was profiled, for how long, and how much of it is missing.
fn header(profile: &Profile, counts: &Counts, args: &ReportArgs, out: &mut String) {
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
        parts.push(format!("{} {}{}", counts.value, counts.amount(counts.total), of_one_cpu(profile, counts)));
    }
    if let Some(quality) = Quality::of(profile) {
        parts.push(format!("lost {} ({:.1} %)", amount(quality.lost.into(), ""), quality.lost_share() * 100.0));
        let complete = quality.complete_share();
        parts.extend(complete.map(|share| format!("complete stacks {:.1} %", share * 100.0)));
    }
    out.push_str(&format!("# {}\n", parts.join(", ")));
    if args.focus.is_some() || args.ignore.is_some() {
        out.push_str("# only the stacks that were asked for; shares are of these\n");
    }
    out.push('\n');
}

fn of_one_cpu(profile: &Profile, counts: &Counts) -> String {
    if counts.unit != "nanoseconds" || profile.duration_nanos <= 0 {
        return String::new();
    }
    format!(" ({} of one CPU)", percent(counts.total, profile.duration_nanos.into()))
}
