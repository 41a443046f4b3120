//! Values over time, from the index alone: no window is opened.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;

use rustc_hash::FxHashMap;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::selector::{is_of_process, of_total};
use super::{LabelTotal, Limits, Plan, Query, QueryError, Row, Selector, Total};
use crate::ids::UnixNanos;
use crate::profile::PROCESS_LABEL;
use crate::when;

/// Steps that are chosen from, in seconds.
const STEPS: [i64; 14] = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800];
/// Steps at most, whoever reads them.
pub const MAX_STEPS: i64 = 100_000;
/// Lines times steps that [`Series::within`] gives at most: each costs 16 bytes.
pub const MAX_VALUES: usize = 4_000_000;
/// Separates the values of labels in the name of a line by [`By::Labels`]. No value has it.
pub const SEPARATOR: char = '\0';
const SECOND: i64 = 1_000_000_000;

/// The shortest usual step, in nanoseconds, that gives no more values than `most` for a time.
#[must_use]
pub fn step(range: &Range<UnixNanos>, most: i64) -> i64 {
    let asked = range.end.0.saturating_sub(range.start.0);
    let fits = |step: &&i64| asked / (**step * SECOND) <= most.max(1);
    let usual = STEPS.iter().find(fits).map(|step| step * SECOND);
    usual.unwrap_or_else(|| (asked / most.max(1)).max(STEPS[STEPS.len() - 1] * SECOND))
}

/// The step that was asked for, in nanoseconds; without, a usual one that gives no more values than `most`.
///
/// # Errors
/// [`SeriesError`] if it is no duration, or gives more than [`MAX_STEPS`] values.
pub fn asked_step(text: Option<&str>, range: &Range<UnixNanos>, most: i64) -> Result<i64, SeriesError> {
    let Some(text) = text else { return Ok(step(range, most)) };
    let step = when::duration(text).map_err(SeriesError::Duration)?;
    let step = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX);
    if step == 0 || range.end.0.saturating_sub(range.start.0) / step > MAX_STEPS {
        return Err(SeriesError::Short(text.to_owned()));
    }
    Ok(step)
}

/// A time that begins with a whole step of the clock, so that the same minute is the same step in every question.
#[must_use]
pub fn whole_steps(range: &Range<UnixNanos>, step: i64) -> Range<UnixNanos> {
    UnixNanos(range.start.0.saturating_sub(range.start.0.rem_euclid(step.max(1))))..range.end
}

/// What a series is made for each of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Everything is one series.
    All,
    /// Names of processes.
    Process,
    /// Processes.
    Pid,
    /// Containers.
    Container,
    /// systemd units.
    Unit,
    /// Hosts.
    Host,
    /// Values of a label that `record --label` gave. A window with too many values of it goes to the line without a name.
    Label(String),
    /// Sets of values of these labels, told apart by [`SEPARATOR`].
    Labels(Vec<String>),
}

impl From<&str> for By {
    /// What a name asks for: without one, everything.
    fn from(name: &str) -> By {
        match name {
            "" => By::All,
            // The index does not tell threads apart: by their names, as this was called, is by those of their processes.
            PROCESS_LABEL | "comm" => By::Process,
            "pid" => By::Pid,
            "container" => By::Container,
            "unit" => By::Unit,
            "host" => By::Host,
            label => By::Label(label.to_owned()),
        }
    }
}

impl By {
    /// The labels that lines are named by.
    fn labels(&self) -> Vec<&str> {
        match self {
            By::All => Vec::new(),
            By::Process => vec![PROCESS_LABEL],
            By::Pid => vec!["pid", PROCESS_LABEL],
            By::Container => vec!["container"],
            By::Unit => vec!["unit"],
            By::Host => vec!["host"],
            By::Label(key) => vec![key],
            By::Labels(keys) => keys.iter().map(String::as_str).collect(),
        }
    }

    /// The line that a part of a window goes to, by these labels.
    ///
    /// # Errors
    /// The key of a label whose values the index does not tell apart there.
    fn name<'a>(&self, labels: &[&'a str], part: &Part<'_>) -> Result<String, &'a str> {
        let values: Vec<Cow<'_, str>> = labels.iter().map(|key| part.name(key)).collect::<Result<_, _>>()?;
        if *self != By::Pid {
            return Ok(values.join(&*SEPARATOR.encode_utf8(&mut [0; 4])));
        }
        // Where no PID is known, the name is all.
        let name = values.join(" ");
        Ok(name.strip_prefix(' ').map(str::to_owned).unwrap_or(name))
    }
}

/// What the index tells of a part of a window: of a process, with the further labels that all samples of the window have; or of the
/// samples that have one value of a further label.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    row: &'a Row,
    of: Of<'a>,
    samples: i64,
    value: i64,
}

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    Process(&'a Total),
    /// A label's key, and the value.
    Label(&'a str, &'a str),
}

impl<'a> Part<'a> {
    /// The parts of a window of which the index tells these labels, as far as it does: processes, or what has the values of the one
    /// label that is asked for and differs within the window.
    #[must_use]
    pub fn all(row: &'a Row, asked: &[&'a str]) -> Vec<Part<'a>> {
        let labels = row.summary.labels.as_deref().filter(|_| !asked.iter().any(|key| is_of_process(key)));
        let differs = |key: &&str| Selector::is_further(key) && common(row, key).is_none();
        match (labels, asked.iter().copied().find(differs)) {
            (Some(labels), Some(key)) => Part::by_label(row, key, labels),
            _ => row.summary.totals.iter().map(|total| Part::of_process(row, total)).collect(),
        }
    }

    fn of_process(row: &'a Row, total: &'a Total) -> Part<'a> {
        Part { row, of: Of::Process(total), samples: total.samples, value: total.value }
    }

    /// What has each value of a label; what is without it has an empty one.
    fn by_label(row: &'a Row, key: &'a str, labels: &'a [LabelTotal]) -> Vec<Part<'a>> {
        let part = |text, samples, value| Part { row, of: Of::Label(key, text), samples, value };
        let with_key = labels.iter().filter(|label| *label.key == *key);
        let mut parts: Vec<Part<'_>> = with_key.map(|label| part(&label.text, label.samples, label.value)).collect();
        let rest = |all: i64, of: fn(&Part<'_>) -> i64| parts.iter().map(of).fold(all, i64::saturating_sub);
        let rest = (rest(row.summary.samples, |part| part.samples), rest(row.summary.value, |part| part.value));
        if rest != (0, 0) {
            parts.push(part("", rest.0, rest.1));
        }
        parts
    }

    /// The value of a label, which conditions are held against; `None` where the index does not tell.
    pub(super) fn told(&self, key: &str) -> Option<Cow<'a, str>> {
        match self.of {
            _ if key == "host" => Some((&*self.row.name.host).into()),
            _ if key == "kind" => Some((&*self.row.name.kind).into()),
            _ if key == "source" => Some(self.row.name.source.name().into()),
            Of::Process(total) if is_of_process(key) => of_total(total, key),
            Of::Label(known, text) if known == key => Some(text.into()),
            _ if Selector::is_further(key) => common(self.row, key).map(Cow::from),
            _ => None,
        }
    }

    /// The value of a label, for those who read it: a PID that is not known is empty. `None` where the index does not tell.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<Cow<'a, str>> {
        match self.of {
            Of::Process(total) if key == "pid" && total.pid == 0 => Some("".into()),
            _ => self.told(key),
        }
    }

    /// The value of a label in the name of a line; empty for one that the index never tells.
    fn name<'k>(&self, key: &'k str) -> Result<Cow<'a, str>, &'k str> {
        let differs = || Selector::is_further(key) && self.row.summary.labels.is_some();
        match self.label(key) {
            None if differs() => Err(key),
            value => Ok(value.unwrap_or_default()),
        }
    }
}

/// The value of a further label that all samples of a window have, empty if none has it; `None` if they differ, or the index does not
/// tell.
fn common<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    let mut with_key = row.summary.labels.as_deref()?.iter().filter(|label| *label.key == *key);
    match (with_key.next(), with_key.next()) {
        (None, _) => Some(""),
        (Some(one), None) if (one.samples, one.value) == (row.summary.samples, row.summary.value) => Some(&one.text),
        _ => None,
    }
}

/// Whether the index of any of these windows tells of a label.
#[must_use]
pub fn tells(rows: &[Row], key: &str) -> bool {
    let mut labels = rows.iter().flat_map(|row| row.summary.labels.iter().flatten());
    Selector::is_of_window(key) || is_of_process(key) || labels.any(|label| *label.key == *key)
}

/// Why there is no series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// The key of a label that the index does not tell.
    #[error(
        "a series is made of the index, which knows host, kind, source, pid, process, container and unit, and other labels that \
         all samples of a window have, not {0}; ask without it"
    )]
    Undecided(String),
    /// No window has the label that there was to be a line for each value of.
    #[error("a series is by process, pid, container, unit, host, or a label that record --label gave, not by {0:?}")]
    NotBy(String),
    /// The step is no duration, and why.
    #[error("{0}")]
    Duration(String),
    /// The step gives more values than anybody reads.
    #[error("a step of {0} gives more than {MAX_STEPS} values; make it longer")]
    Short(String),
    /// It would have had more values than it may.
    #[error(
        "the series has more than {MAX_VALUES} values (lines times steps); ask for a larger step, for less time, or for fewer lines"
    )]
    Large,
    /// It would have cost more than it may, or nobody waits for it.
    #[error(transparent)]
    Cost(#[from] QueryError),
}

impl From<&str> for SeriesError {
    fn from(key: &str) -> SeriesError {
        SeriesError::Undecided(key.to_owned())
    }
}

/// Values over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// When the first step begins.
    pub start: UnixNanos,
    /// The length of a step, in nanoseconds.
    pub step: i64,
    /// For each step, the nanoseconds of it that windows tell of, summed over hosts and divided by their number.
    pub covered: Vec<f64>,
    /// The lines, the largest sum first.
    pub lines: Vec<Line>,
}

/// One series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// What it is of; empty for what has no such label.
    pub name: String,
    /// The sum of values in each step. A window that lies in two steps counts in each by its share of time; of windows that tell of
    /// the state at their end, the last in each step counts.
    pub values: Vec<f64>,
    /// The same of samples.
    pub samples: Vec<f64>,
}

impl Line {
    /// The sum over all steps.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.values.iter().sum()
    }
}

impl Series {
    /// As [`Series::within`], for those who type: a condition on a label that no window has is a slip of the pen, and refused.
    ///
    /// # Errors
    /// As [`Series::within`].
    pub fn asked(
        rows: &[Row],
        range: &Range<UnixNanos>,
        step: i64,
        by: &By,
        selector: &Selector,
        limits: &Limits,
    ) -> Result<Series, SeriesError> {
        match selector.keys().find(|key| !tells(rows, key)) {
            Some(key) => Err(key.into()),
            None => Series::within(rows, range, step, by, selector, limits),
        }
    }

    /// Sums rows by steps of time, of no more than [`MAX_VALUES`] values, while the limits are kept. Parts of windows outside of
    /// `range` are not counted. A label that no window has is empty, and not refused.
    ///
    /// # Errors
    /// [`SeriesError`] if the index cannot decide a condition, or a limit was reached.
    pub fn within(
        rows: &[Row],
        range: &Range<UnixNanos>,
        step: i64,
        by: &By,
        selector: &Selector,
        limits: &Limits,
    ) -> Result<Series, SeriesError> {
        // Asked before each window and each new line, with the number of values that there are then.
        let check = |values: usize| {
            if values > MAX_VALUES {
                return Err(SeriesError::Large);
            }
            Ok(limits.check(rows.len(), 0)?)
        };
        let step = step.max(1);
        let steps = usize::try_from(
            range.end.0.saturating_sub(range.start.0).max(0).unsigned_abs().div_ceil(step.unsigned_abs()),
        )
        .unwrap_or(0);
        let mut series = Series { start: range.start, step, covered: vec![0.0; steps], lines: Vec::new() };
        let mut index: FxHashMap<String, usize> = FxHashMap::default();
        let hosts: std::collections::BTreeSet<&str> = rows.iter().map(|row| &*row.name.host).collect();
        let mut last: FxHashMap<(usize, &str), UnixNanos> = FxHashMap::default();
        for row in rows.iter().filter(|row| row.name.is_state()) {
            for (at, _) in series.shares(row, range) {
                let end = last.entry((at, &row.name.host)).or_insert(row.name.end);
                *end = row.name.end.max(*end);
            }
        }
        let labels = by.labels();
        let asked: Vec<&str> = selector.keys().chain(labels.iter().copied()).collect();
        for row in rows {
            check(series.lines.len() * steps)?;
            let mut shares = series.shares(row, range);
            let covered = float(row.summary.covered) / float(i64::try_from(hosts.len()).unwrap_or(1).max(1));
            shares.iter().for_each(|&(at, share)| series.covered[at] += covered * share);
            if row.name.is_state() {
                shares = shares
                    .iter()
                    .filter(|(at, _)| last.get(&(*at, &*row.name.host)) == Some(&row.name.end))
                    .map(|&(at, _)| (at, 1.0))
                    .collect();
            }
            for part in Part::all(row, &asked) {
                if !selector.matches_part(&part)? {
                    continue;
                }
                let name = by.name(&labels, &part)?;
                let at = match index.get(&name) {
                    Some(&at) => at,
                    None => {
                        check((series.lines.len() + 1) * steps)?;
                        let (values, samples) = (vec![0.0; steps], vec![0.0; steps]);
                        series.lines.push(Line { name: name.clone(), values, samples });
                        index.insert(name, series.lines.len() - 1);
                        series.lines.len() - 1
                    }
                };
                let line = &mut series.lines[at];
                for &(step, share) in &shares {
                    line.values[step] += float(part.value) * share;
                    line.samples[step] += float(part.samples) * share;
                }
            }
        }
        series.lines.sort_by_cached_key(|line| (Reverse(total_key(line)), line.name.clone()));
        Ok(series)
    }

    /// A line's values by the time that was sampled: a number of CPUs if they are times, else events a second. A step without data
    /// has none.
    pub fn rates<'a>(&'a self, line: &'a Line, is_time: bool) -> impl Iterator<Item = Option<f64>> + 'a {
        let scale = if is_time { 1.0 } else { 1e9 };
        let values = line.values.iter().zip(&self.covered);
        values.map(move |(value, &covered)| (covered > 0.0).then(|| value / covered * scale))
    }

    /// The series as programs read it (docs/query.md): it is written as it stands, without a copy.
    #[must_use]
    pub fn to_json(&self, query: &Query, plan: &Plan) -> impl Serialize {
        Document {
            plan: plan.to_json(query),
            start_nanos: self.start.0,
            step_nanos: self.step,
            covered_nanos: &self.covered,
            series: Lines { series: self, is_time: plan.is_time() },
        }
    }

    /// The steps that a window lies in, with the share of its time in each.
    fn shares(&self, row: &Row, range: &Range<UnixNanos>) -> Vec<(usize, f64)> {
        let (start, end) = (row.name.start.0, row.name.end.0);
        let (from, to) = (start.max(range.start.0), end.min(range.end.0));
        if from >= to {
            return Vec::new();
        }
        let step_of = |time: i64| usize::try_from((time - range.start.0) / self.step).unwrap_or(usize::MAX);
        (step_of(from)..=step_of(to - 1))
            .filter(|&at| at < self.covered.len())
            .map(|at| {
                let begin = range.start.0 + i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(self.step);
                let part = to.min(begin.saturating_add(self.step)) - from.max(begin);
                (at, float(part) / float(end - start))
            })
            .collect()
    }
}

/// Sums are ordered as whole numbers, since floats have no order.
#[allow(clippy::cast_possible_truncation, reason = "the order of sums does not hang on fractions")]
fn total_key(line: &Line) -> i64 {
    line.total() as i64
}

#[allow(clippy::cast_precision_loss, reason = "sums that are shown with three digits")]
fn float(number: i64) -> f64 {
    number as f64
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    plan: Value,
    start_nanos: i64,
    step_nanos: i64,
    covered_nanos: &'a [f64],
    series: Lines<'a>,
}

#[derive(Clone, Copy)]
struct Lines<'a> {
    series: &'a Series,
    is_time: bool,
}

struct OneLine<'a>(Lines<'a>, &'a Line);

struct Rates<'a>(&'a OneLine<'a>);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.series.lines.iter().map(|line| OneLine(*self, line)))
    }
}

impl Serialize for OneLine<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let OneLine(Lines { is_time, .. }, line) = self;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("name", &line.name)?;
        map.serialize_entry("values", &line.values)?;
        map.serialize_entry("samples", &line.samples)?;
        map.serialize_entry(if *is_time { "cpus" } else { "per_second" }, &Rates(self))?;
        map.end()
    }
}

impl Serialize for Rates<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Rates(OneLine(Lines { series, is_time }, line)) = self;
        to.collect_seq(series.rates(line, *is_time))
    }
}
