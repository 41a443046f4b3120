//! The table itself: its head, its rows, and what is counted for each.

use std::fmt::Write as _;

use rustc_hash::{FxHashMap, FxHashSet};

use super::columns::{Column, Layout, SortKey};
use super::graph::{Order, Scale};
use super::{OverheadArgs, Sums, base, number, percent};
use crate::cli::show::printable;
use crate::profile::{FrameView, LocationId, Origin, Profile, Sample};

/// Stacks are drawn no deeper: names would have no room.
const DEEPEST: usize = 127;

/// How a profile is shown.
pub struct Shown<'a> {
    /// perf's words.
    pub args: &'a OverheadArgs,
    /// What rows are sorted by, if anything was asked for.
    pub sort: Option<&'a [Column]>,
    /// What shares of each of the profile's columns are of.
    pub totals: &'a [i128],
    /// Whether rows are all that is printed.
    pub quiet: bool,
}

/// The table of each event: of the one column that is asked for, or of all values.
#[must_use]
pub fn render(profile: &Profile, columns: &[usize], shown: &Shown<'_>) -> String {
    let mut text = String::new();
    for &column in columns {
        table(profile, column, shown, &mut text);
    }
    text
}

/// The columns of values: all but the counts of samples, each of which stands before its own.
#[must_use]
pub fn value_columns(profile: &Profile) -> Vec<usize> {
    let name = |at: usize| profile.text(profile.sample_types[at].name);
    let is_count = |at: &usize| name(*at) == "samples" || name(*at).ends_with("_samples");
    let all = 0..profile.sample_types.len();
    let values: Vec<usize> = all.clone().filter(|at| !is_count(at)).collect();
    if values.is_empty() { all.collect() } else { values }
}

/// The event whose value a column is, as it was asked for; the column's own name where that is not known.
#[must_use]
pub fn event_name(profile: &Profile, column: usize) -> &str {
    let value = profile.text(profile.sample_types[column].name);
    let wanted = format!(" value={value} ");
    let comments = profile.comments.iter().map(|&comment| profile.text(comment));
    let event =
        comments.filter(|line| line.contains(&wanted)).find_map(|line| line.strip_prefix("event ")?.split(": ").next());
    event.unwrap_or(value)
}

fn table(profile: &Profile, column: usize, shown: &Shown<'_>, text: &mut String) {
    let args = shown.args;
    let deep = profile.samples.iter().any(|sample| sample.stack.len() > 1);
    let layout = Layout::new(args, shown.sort, deep);
    let order = args.order().filter(|_| deep);
    let total = shown.totals.get(column).copied().unwrap_or(0);
    let mut rows = count(profile, column, &layout, order);
    let share = |sums: &Sums| percent(if layout.children { sums.total } else { sums.own }, total);
    rows.retain(|(_, sums)| args.percent_limit.is_none_or(|least| share(sums) >= least));
    rows.sort_by(|one, other| layout.compare(one, other));
    let printed = layout.printed(args);
    let cells = |(keys, sums): &(Vec<String>, Sums)| -> Vec<String> {
        printed.iter().map(|column| cell(*column, &layout, keys, sums, total)).collect()
    };
    let lines = Lines::new(&printed, rows.iter().map(cells).collect(), args.field_separator.as_deref());
    if !shown.quiet {
        head(profile, column, shown, text);
        lines.headings(text);
    }
    let scale = Scale { total, least: args.least_branch() };
    for (line, (_, sums)) in lines.rows.iter().zip(&rows) {
        let _ = writeln!(text, "{}", lines.line("  ", line));
        if order.is_some() {
            sums.tree.draw(&scale, text);
        }
    }
    text.push_str("\n\n");
}

/// The rows of a column, in no order.
fn count(profile: &Profile, column: usize, layout: &Layout, order: Option<Order>) -> Vec<(Vec<String>, Sums)> {
    let mut rows = Rows {
        profile,
        layout,
        order,
        threads: FxHashMap::default(),
        places: FxHashMap::default(),
        numbers: FxHashMap::default(),
        rows: Vec::new(),
    };
    let counts = count_column(column);
    for sample in profile.samples.iter().filter(|sample| sample.values[column] != 0) {
        rows.add(sample, sample.values[column].into(), sample.values[counts].into());
    }
    rows.rows
}

/// The column that counts the samples of another: the one before it.
fn count_column(column: usize) -> usize {
    column.saturating_sub(1)
}

fn cell(column: Column, layout: &Layout, keys: &[String], sums: &Sums, total: i128) -> String {
    let share = |value: i128| format!("{:.2}%", percent(value, total));
    match column {
        Column::Overhead | Column::Own => share(sums.own),
        Column::Children => share(sums.total),
        Column::Samples => sums.samples.to_string(),
        Column::Period => sums.own.to_string(),
        Column::Key(key) => layout.keys.iter().position(|of| *of == key).map_or(String::new(), |at| keys[at].clone()),
    }
}

/// Rows as text: numbers to the right, and names to the left of their columns; or as they are, with a separator between.
struct Lines<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    separator: Option<&'a str>,
}

impl<'a> Lines<'a> {
    fn new(columns: &'a [Column], rows: Vec<Vec<String>>, separator: Option<&'a str>) -> Lines<'a> {
        let width = |(at, column): (usize, &Column)| {
            let widest = rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
            widest.max(column.heading().len())
        };
        Lines { columns, widths: columns.iter().enumerate().map(width).collect(), rows, separator }
    }

    fn headings(&self, text: &mut String) {
        let headings: Vec<String> = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        let _ = writeln!(text, "{}", self.line("# ", &headings));
        if self.separator.is_none() {
            let dots: Vec<String> = self.widths.iter().map(|&width| ".".repeat(width)).collect();
            let _ = writeln!(text, "{}\n#", self.line("# ", &dots));
        }
    }

    fn line(&self, before: &str, cells: &[String]) -> String {
        if let Some(separator) = self.separator {
            let cells: Vec<String> = cells.iter().map(|cell| cell.trim().replace(separator, ".")).collect();
            return format!("{}{}", before.trim_start(), cells.join(separator));
        }
        let padded = cells.iter().zip(&self.widths).zip(self.columns).map(|((cell, &width), column)| {
            if column.key().is_some() { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("{before}{}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    }
}

/// Rows, each found by what it is about: most samples are of places that were met before, whose cells are not put together again.
struct Rows<'a> {
    profile: &'a Profile,
    layout: &'a Layout,
    order: Option<Order>,
    /// Those cells that are about the thread.
    threads: FxHashMap<Vec<String>, usize>,
    /// The row of a place in a thread; of no place, for samples without a stack.
    places: FxHashMap<(usize, Option<LocationId>), usize>,
    /// The numbers of rows by their cells.
    numbers: FxHashMap<Vec<String>, usize>,
    rows: Vec<(Vec<String>, Sums)>,
}

impl Rows<'_> {
    /// Counts a sample for its own row, and for those of all its callers where they are wanted.
    fn add(&mut self, sample: &Sample, value: i128, samples: i128) {
        let (profile, order) = (self.profile, self.order);
        let of_thread: Vec<SortKey> = self.layout.keys.iter().copied().filter(|key| key.is_of_thread()).collect();
        let threads = self.threads.len();
        let thread = *self.threads.entry(row(profile, sample, None, &of_thread)).or_insert(threads);
        let frames: Vec<FrameView<'_>> = if order.is_none() { Vec::new() } else { profile.frames(sample).collect() };
        let names = |frames: &mut dyn Iterator<Item = &FrameView<'_>>| -> Vec<String> {
            frames.take(DEEPEST).map(|frame| printable(&frame.name)).collect()
        };
        let places = sample.stack.iter().map(|&place| Some(place));
        let nowhere = sample.stack.is_empty().then_some(None);
        let deepest = if self.layout.children { usize::MAX } else { 1 };
        let mut seen = FxHashSet::default();
        let mut end = 0;
        for (number, place) in places.chain(nowhere).take(deepest).enumerate() {
            let at = self.row_of(thread, place, sample);
            let first = end;
            if order.is_some() {
                end += place.map_or(0, |place| profile.frames_at(place).count());
            }
            if !seen.insert(at) {
                continue;
            }
            let sums = &mut self.rows[at].1;
            sums.total += value;
            if number == 0 {
                sums.own += value;
                sums.samples += samples;
            }
            match order {
                // What a caller of all called, from itself on; for code itself its callers too.
                Some(Order::Caller) if number > 0 => sums.tree.add(&names(&mut frames[..end].iter().rev()), value),
                Some(Order::Caller) => sums.tree.add(&names(&mut frames.iter().rev()), value),
                Some(Order::Callee) => sums.tree.add(&names(&mut frames[first..].iter()), value),
                None => {}
            }
        }
    }

    /// The number of the row that a place in a thread is counted for. A row is of a function that the compiler emitted, the outermost of a
    /// place; what was inlined into it shows in stacks.
    fn row_of(&mut self, thread: usize, place: Option<LocationId>, sample: &Sample) -> usize {
        if let Some(&known) = self.places.get(&(thread, place)) {
            return known;
        }
        let frame = place.and_then(|place| self.profile.frames_at(place).last());
        let cells = row(self.profile, sample, frame.as_ref(), &self.layout.keys);
        let next = self.rows.len();
        let at = *self.numbers.entry(cells.clone()).or_insert(next);
        if at == next {
            self.rows.push((cells, Sums::default()));
        }
        self.places.insert((thread, place), at);
        at
    }
}

fn row(profile: &Profile, sample: &Sample, frame: Option<&FrameView<'_>>, keys: &[SortKey]) -> Vec<String> {
    let id = |key| number(profile, sample, key).map_or_else(|| "-".to_owned(), |id| id.to_string());
    let comm = || printable(profile.label(sample, "comm").unwrap_or("[unknown]"));
    let cell = |key: &SortKey| match key {
        SortKey::Comm => comm(),
        SortKey::Pid => format!("{:>7}:{}", id("tid"), comm()),
        SortKey::Tgid => format!("{:>7}:{}", id("pid"), comm()),
        SortKey::Tid => id("tid"),
        SortKey::Dso => {
            let module = frame.map_or("", |frame| base(frame.module));
            if module.is_empty() { "[unknown]".into() } else { printable(module) }
        }
        SortKey::Symbol => {
            let mark = if frame.is_some_and(|frame| frame.origin == Origin::Kernel) { "[k]" } else { "[.]" };
            format!("{mark} {}", frame.map_or_else(|| "[unknown]".into(), |frame| printable(&frame.name)))
        }
    };
    keys.iter().map(cell).collect()
}

/// What was asked for, and what shares are of.
fn head(profile: &Profile, column: usize, shown: &Shown<'_>, text: &mut String) {
    let args = shown.args;
    for (name, wanted) in [("comm", &args.comm), ("dso", &args.dso), ("symbol", &args.symbol)] {
        if !wanted.is_empty() {
            let _ = writeln!(text, "# {name}: {}", printable(&wanted.join(",")));
        }
    }
    if args.selects() {
        text.push_str("#\n");
    }
    let event = printable(event_name(profile, column));
    let total = |column: usize| shown.totals.get(column).copied().unwrap_or(0);
    let (samples, total) = (total(count_column(column)), total(column));
    let _ = writeln!(text, "# Samples: {samples}  of event '{event}'\n# Event count (approx.): {total}\n#");
}
