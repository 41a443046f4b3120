//! Values over time, from the index alone: no window is opened.

use std::cmp::Reverse;
use std::ops::Range;

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::{Plan, Query, Row, Selector, Total};
use crate::ids::UnixNanos;

/// Steps that are chosen from, in seconds.
const STEPS: [i64; 14] = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800];
/// Steps at most, whoever reads them.
pub const MAX_STEPS: i64 = 100_000;
const SECOND: i64 = 1_000_000_000;

/// The shortest usual step, in nanoseconds, that gives no more values than `most` for a time.
#[must_use]
pub fn step(range: &Range<UnixNanos>, most: i64) -> i64 {
    let asked = range.end.0.saturating_sub(range.start.0);
    let fits = |step: &&i64| asked / (**step * SECOND) <= most.max(1);
    let usual = STEPS.iter().find(fits).map(|step| step * SECOND);
    usual.unwrap_or_else(|| (asked / most.max(1)).max(STEPS[STEPS.len() - 1] * SECOND))
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
    Comm,
    /// Processes.
    Pid,
    /// Containers.
    Container,
    /// systemd units.
    Unit,
    /// Hosts.
    Host,
    /// Values of a label that `record --label` gave. Conditions can then be on that label alone: of others the index does not tell.
    Label(String),
}

/// What a row tells of one line: its name, its samples and its value.
type Part = (String, i64, i64);

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
    /// Sums rows by steps of time. Parts of windows outside of `range` are not counted.
    ///
    /// # Errors
    /// The key of a condition that the index cannot decide.
    pub fn of<'a>(
        rows: &[Row],
        range: &Range<UnixNanos>,
        step: i64,
        by: &By,
        selector: &'a Selector,
    ) -> Result<Series, &'a str> {
        match by {
            By::Label(key) => Series::made(rows, range, step, |row| parts_by_label(row, key, selector)),
            by => Series::named(rows, range, step, selector, |row, total| name(row, total, by)),
        }
    }

    /// As [`Series::of`], where a process's part in a window goes to the line that `name` names.
    ///
    /// # Errors
    /// The key of a condition that the index cannot decide.
    pub fn named<'a>(
        rows: &[Row],
        range: &Range<UnixNanos>,
        step: i64,
        selector: &'a Selector,
        name: impl Fn(&Row, &Total) -> String,
    ) -> Result<Series, &'a str> {
        Series::made(rows, range, step, |row| {
            let mut parts = Vec::with_capacity(row.summary.totals.len());
            for total in &row.summary.totals {
                if selector.matches_total(total)? {
                    parts.push((name(row, total), total.samples, total.value));
                }
            }
            Ok(parts)
        })
    }

    fn made<'a>(
        rows: &[Row],
        range: &Range<UnixNanos>,
        step: i64,
        parts: impl Fn(&Row) -> Result<Vec<Part>, &'a str>,
    ) -> Result<Series, &'a str> {
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
        for row in rows {
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
            for (name, samples, value) in parts(row)? {
                let lines = &mut series.lines;
                let at = *index.entry(name).or_insert_with_key(|name| {
                    lines.push(Line { name: name.clone(), values: vec![0.0; steps], samples: vec![0.0; steps] });
                    lines.len() - 1
                });
                let line = &mut lines[at];
                for &(step, share) in &shares {
                    line.values[step] += float(value) * share;
                    line.samples[step] += float(samples) * share;
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

    /// The series as programs read it (docs/query.md).
    #[must_use]
    pub fn to_json(&self, query: &Query, plan: &Plan) -> Value {
        let is_time = plan.is_time();
        let mut document = plan.to_json(query);
        document["start_nanos"] = json!(self.start.0);
        document["step_nanos"] = json!(self.step);
        document["covered_nanos"] = json!(self.covered);
        let lines = self.lines.iter().map(|line| {
            let rates: Vec<Option<f64>> = self.rates(line, is_time).collect();
            let name = if is_time { "cpus" } else { "per_second" };
            json!({ "name": line.name, "values": line.values, "samples": line.samples, name: rates })
        });
        document["series"] = json!(lines.collect::<Vec<_>>());
        document
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

/// What a row tells by the values of a label; what is without it, or of a row with too many values, has no name.
fn parts_by_label<'a>(row: &Row, key: &str, selector: &'a Selector) -> Result<Vec<Part>, &'a str> {
    let labels = row.summary.labels.iter().flatten().filter(|label| *label.key == *key);
    let mut parts: Vec<Part> = labels.map(|label| (label.text.to_string(), label.samples, label.value)).collect();
    let sum = |of: fn(&Part) -> i64| parts.iter().map(of).fold(0, i64::saturating_add);
    let rest = (row.summary.samples - sum(|part| part.1), row.summary.value - sum(|part| part.2));
    if rest != (0, 0) {
        parts.push((String::new(), rest.0, rest.1));
    }
    let mut chosen = Vec::with_capacity(parts.len());
    for part in parts {
        if selector.matches_label(key, &part.0)? {
            chosen.push(part);
        }
    }
    Ok(chosen)
}

fn name(row: &Row, total: &Total, by: &By) -> String {
    match by {
        By::All | By::Label(_) => String::new(),
        By::Comm => total.comm.to_string(),
        By::Pid if total.pid == 0 => total.comm.to_string(),
        By::Pid => format!("{} {}", total.pid, total.comm),
        By::Container => total.container.to_string(),
        By::Unit => total.unit.to_string(),
        By::Host => row.name.host.clone(),
    }
}
