//! Profiles in the terminal: the table of functions, trees of calls, what `report` and `query` have in common.

mod calls;
mod filters;
mod json;
mod options;
mod peek;
mod quality;
mod table;
mod text;
mod tree;

use std::io::{self, IsTerminal, Write};
use std::ops::Range;

use anyhow::Context;
use regex::Regex;
use rustc_hash::FxHashMap;

use crate::profile::{FunctionId, LocationId, MappingId, Origin, Profile, SourceLine, scale};
pub(super) use crate::session::{printable, printable_lines};
pub(super) use calls::{Node, Tree};
pub use filters::FilterArgs;
pub(super) use json::{functions_json, number};
pub use options::{Granularity, PartArgs, ShowArgs, Sort};
pub(super) use options::{Listing, with_two_dashes};
pub(super) use quality::{complete, lost, quality_in_words};
pub(super) use table::{FunctionSums, functions, functions_table, order};
pub(super) use text::{amount, cpus, fit, percent};

/// Narrower terminals are written to as if they had this many.
const MIN_WIDTH: usize = 60;

/// The columns to write to: those of `COLUMNS`, else those of the terminal. Where the output is no terminal, names are whole.
pub(super) fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0);
    let terminal = || io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    let columns: Option<usize> = asked.or_else(|| terminal().map(|(width, _)| usize::from(width.0)));
    columns.map_or(usize::MAX, |columns| columns.max(MIN_WIDTH))
}

/// Writes text to the standard output, without anything that steers a terminal. A reader that has seen enough (a closed pipe) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(printable_lines(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to the standard output")
        }
        _ => Ok(()),
    }
}

/// What the options ask for: a table, or trees.
pub(super) fn body(counts: &Counts, args: &ShowArgs, width: usize, out: &mut String) -> anyhow::Result<()> {
    if args.tree {
        tree::callees_of_roots(counts, args, width, out);
    }
    if let Some(function) = &args.callers {
        tree::callers(counts, function, args, width, out)?;
    }
    if let Some(function) = &args.callees {
        tree::callees(counts, function, args, width, out)?;
    }
    if let Some(wanted) = filters::regex("peek", &args.peek)? {
        peek::neighbours(counts, &wanted, width, out)?;
    }
    if !args.tree && args.callers.is_none() && args.callees.is_none() && args.peek.is_none() {
        functions_table(counts, &args.listing(), width, out);
    }
    Ok(())
}

/// A function: what a row of the table and a node of a tree stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) module: String,
}

impl Row {
    /// Whether an expression is found in the name or the module.
    pub(super) fn matches(&self, wanted: &Regex) -> bool {
        wanted.is_match(&self.name) || wanted.is_match(&self.module)
    }
}

/// How values are told.
#[derive(Clone, Debug)]
pub(super) enum Measure {
    /// In a unit that suits each.
    Suited,
    /// In this unit, all of them.
    Unit(String),
    /// As CPUs: by this time, in nanoseconds.
    Cpus(i64),
}

/// A profile with one column, its frames as indices of rows.
pub(super) struct Counts {
    pub(super) rows: Vec<Row>,
    /// Where the code of each row comes from: inlined, if nothing else is known of it.
    pub(super) origins: Vec<Origin>,
    /// Stacks of rows with what was counted there.
    stacks: Vec<CountedStack>,
    /// The rows of all stacks, one behind the other, each leaf first.
    frames: Vec<u32>,
    /// Name and unit of the column.
    pub(super) value: String,
    pub(super) unit: String,
    /// What shares are of.
    pub(super) total: i128,
    /// Whether there is another column that counts samples.
    has_samples: bool,
    measure: Measure,
}

struct CountedStack {
    frames: Range<usize>,
    /// The row of its process, where there are several.
    process: Option<usize>,
    value: i128,
    samples: i128,
    /// What a mean is divided by: the first column.
    divisor: i128,
}

impl Counts {
    /// The values of a column; shares are of `total`.
    pub(super) fn new(profile: &Profile, column: usize, total: i128, part: &PartArgs) -> Counts {
        let mut rows = Rows::default();
        let at_location = rows_of_locations(profile, part, &mut rows);
        let count = profile.count_column();
        let processes = profile.has_several_processes();
        let mut frames = Vec::new();
        let stacks = profile.samples.iter().map(|sample| {
            let start = frames.len();
            sample.stack.iter().for_each(|id| frames.extend_from_slice(&at_location[id.0 as usize]));
            if frames.len() == start {
                frames.push(rows.id("[no stack]", "", Origin::Nowhere));
            }
            let value = |at: usize| i128::from(sample.values[at]);
            let samples = count.map_or(0, value);
            let process = processes.then(|| profile.process_name(sample)).flatten();
            let process = process.map(|name| rows.id(name, "", Origin::Nowhere) as usize);
            CountedStack { process, frames: start..frames.len(), value: value(column), samples, divisor: value(0) }
        });
        let stacks: Vec<CountedStack> = stacks.collect();
        let kind = profile.sample_types.get(column).copied().unwrap_or_default();
        Counts {
            stacks,
            frames,
            rows: rows.rows,
            origins: rows.origins,
            value: printable(profile.text(kind.name)),
            unit: profile.text(kind.unit).to_owned(),
            total,
            has_samples: count.is_some_and(|count| count != column),
            measure: part.unit.clone().map_or(Measure::Suited, Measure::Unit),
        }
    }

    /// Tells values as CPUs over a time (in nanoseconds), if they are times and no unit was asked for.
    pub(super) fn in_cpus_over(mut self, covered: i64) -> Counts {
        if matches!(self.measure, Measure::Suited) && self.unit == "nanoseconds" && covered > 0 {
            self.measure = Measure::Cpus(covered);
        }
        self
    }

    /// Whether another column counts samples.
    pub(super) fn has_samples(&self) -> bool {
        self.has_samples
    }

    /// What was counted in stacks with at least one of these rows; `rows` has an entry for each.
    pub(super) fn value_with(&self, rows: &[bool]) -> i128 {
        let with = self.stacks.iter().filter(|stack| self.rows_of(stack).iter().any(|&row| rows[row as usize]));
        with.map(|stack| stack.value).sum()
    }

    /// The rows of a stack, leaf first.
    fn rows_of(&self, stack: &CountedStack) -> &[u32] {
        &self.frames[stack.frames.clone()]
    }

    /// Whether values are told as CPUs.
    pub(super) fn in_cpus(&self) -> bool {
        matches!(self.measure, Measure::Cpus(_))
    }

    pub(super) fn amount(&self, value: i128) -> String {
        match &self.measure {
            Measure::Suited => amount(value, &self.unit),
            Measure::Cpus(covered) => cpus(value, *covered),
            Measure::Unit(unit) => {
                let (value, unit) = scale(i64::try_from(value).unwrap_or(i64::MAX), &self.unit, unit);
                format!("{value:.2}{unit}")
            }
        }
    }

    pub(super) fn percent(&self, value: i128) -> String {
        percent(value, self.total)
    }
}

fn rows_of_locations(profile: &Profile, part: &PartArgs, rows: &mut Rows) -> Vec<Vec<u32>> {
    let ids = (0..profile.locations.len()).filter_map(|index| u32::try_from(index).ok());
    // Most functions have many locations.
    let mut known: FxHashMap<(FunctionId, Option<MappingId>, Origin), u32> = FxHashMap::default();
    ids.map(|id| {
        let lines = &profile.locations[id as usize].lines;
        let frames = profile.frames_at(LocationId(id)).enumerate();
        let skipped = if part.noinlines { lines.len().saturating_sub(1) } else { 0 };
        let shown = frames.skip(skipped);
        shown
            .map(|(at, frame)| match part.granularity {
                None => match lines.get(at) {
                    Some(line) => *known
                        .entry((line.function, profile.locations[id as usize].mapping, frame.origin))
                        .or_insert_with(|| rows.id(&frame.name, frame.module, frame.origin)),
                    None => rows.id(&frame.name, frame.module, frame.origin),
                },
                Some(of) => {
                    let origin = frame.origin;
                    let name =
                        name_of(profile, LocationId(id), lines.get(at), of).unwrap_or_else(|| frame.name.into_owned());
                    rows.id(&name, "", origin)
                }
            })
            .collect()
    })
    .collect()
}

/// How pprof names what a row of this granularity stands for; `None` where nothing but an address is known.
fn name_of(profile: &Profile, id: LocationId, line: Option<&SourceLine>, of: Granularity) -> Option<String> {
    let line = line?;
    let function = profile.functions[line.function.0 as usize];
    let (name, file) = (profile.text(function.name), profile.text(function.file));
    let place = || if line.line == 0 { file.to_owned() } else { format!("{file}:{}", line.line) };
    let parts: Vec<String> = match of {
        Granularity::Functions => vec![name.to_owned()],
        Granularity::Filefunctions => vec![name.to_owned(), file.to_owned()],
        Granularity::Files if file.is_empty() => vec![code_file(profile, id)],
        Granularity::Files => vec![file.to_owned()],
        Granularity::Lines => vec![name.to_owned(), place()],
        Granularity::Addresses => match profile.locations[id.0 as usize].address {
            0 => vec![name.to_owned(), place()],
            address => vec![format!("{address:016x}"), name.to_owned(), place()],
        },
    };
    let words: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The file of code in place of a source file that is not known.
fn code_file(profile: &Profile, id: LocationId) -> String {
    let mapping = profile.locations[id.0 as usize].mapping.map(|id| profile.mappings[id.0 as usize]);
    let path = mapping.map_or("", |mapping| profile.text(mapping.file));
    if path.is_empty() { "<unknown>".into() } else { format!("[{}]", path.rsplit('/').next().unwrap_or(path)) }
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    origins: Vec<Origin>,
    ids: FxHashMap<Row, u32>,
}

impl Rows {
    fn id(&mut self, name: &str, module: &str, origin: Origin) -> u32 {
        let file = module.rsplit('/').next().unwrap_or(module);
        let row = Row { name: printable(name), module: printable(file) };
        let id = *self.ids.entry(row).or_insert_with_key(|row| {
            self.rows.push(row.clone());
            self.origins.push(origin);
            self.rows.len() as u32 - 1
        });
        let known = &mut self.origins[id as usize];
        if *known == Origin::Inlined {
            *known = origin;
        }
        id
    }
}
