//! Answering from a directory: which windows tell of an asked time, how much of it they cover, and their sum.
//!
//! A plan is made of the index alone. Files are read one at a time by each worker, into the same room, and what is not asked for is
//! dropped before a profile is added to the sum: memory grows with the answer, not with the time that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Level, Row, Selector, Source};
use crate::encode::{FileError, FileReader, ReadOptions};
use crate::ids::UnixNanos;
use crate::profile::{
    KeptLabels, KindQuality, LabelValue, MergeError, MergeOptions, Merger, Profile, Sample, StringId,
};
use crate::sys::in_threads;

/// The label that holds a sample's time, in nanoseconds since 1970.
pub const TIMESTAMP: &str = "timestamp_ns";
/// The kind that is shown if nothing else is asked for, and there is some.
const DEFAULT_KIND: &str = "cpu";
/// Workers at most: files are inflated at some hundred MB/s each, and every worker holds a sum of its own.
pub(super) const MAX_WORKERS: usize = 8;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// The time.
    pub range: Range<UnixNanos>,
    /// What was counted (`cpu`); `None` for the usual one.
    pub kind: Option<String>,
    /// Which windows and samples.
    pub selector: Selector,
}

/// The windows that answer a query, and what they leave open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The windows, by their start.
    pub rows: Vec<Row>,
    /// The kind that they are of.
    pub kind: String,
    /// The kinds that there are in the asked time.
    pub kinds: BTreeSet<String>,
    /// The hosts of the windows.
    pub hosts: BTreeSet<String>,
    /// Stretches of the asked time of which no window tells, by their start.
    pub gaps: Vec<Range<UnixNanos>>,
    /// Snapshots that were left out because a recorder's windows tell of the same time.
    pub snapshots_left_out: usize,
}

impl Query {
    /// Chooses the windows. `rows` are those of the time, as [`super::Store::rows`] gives them.
    #[must_use]
    pub fn plan(&self, rows: &[Row]) -> Plan {
        let is_asked_for = |row: &Row| self.selector.matches_window(row) && self.selector.may_be_of_version(row);
        let in_time = rows.iter().filter(|row| self.overlap(row) > 0 && is_asked_for(row));
        let mut chosen: Vec<Row> = in_time.cloned().collect();
        let kinds: BTreeSet<String> = chosen.iter().map(|row| row.name.kind.clone()).collect();
        let usual = || kinds.get(DEFAULT_KIND).or(kinds.first()).cloned();
        let kind = self.kind.clone().or_else(usual).unwrap_or_else(|| DEFAULT_KIND.to_owned());
        chosen.retain(|row| row.name.kind == kind);
        let snapshots_left_out = if self.selector.names("source") { 0 } else { drop_covered_snapshots(&mut chosen) };
        let hosts = chosen.iter().map(|row| row.name.host.clone()).collect();
        let gaps = self.gaps(&chosen);
        chosen.sort_by(|a, b| (a.name.start, &a.path).cmp(&(b.name.start, &b.path)));
        keep_last_states(&mut chosen);
        Plan { rows: chosen, kind, kinds, hosts, gaps, snapshots_left_out }
    }

    /// Whether a window is partly outside of the asked time.
    #[must_use]
    pub fn sticks_out(&self, row: &Row) -> bool {
        row.name.start < self.range.start || row.name.end > self.range.end
    }

    /// Leaves of a window's profile what was asked for: the samples that the selector chooses, and, of a window that reaches beyond the
    /// asked time, those of that time, if they tell theirs. Answers how many nanoseconds were cut off, if it was cut.
    pub(super) fn narrow(&self, row: &Row, profile: &mut Profile) -> Option<i64> {
        let whole = profile.duration_nanos;
        let is_cut = self.sticks_out(row) && has_times(profile);
        // The selector first: whose name a process has, the whole window tells.
        self.selector.apply(profile);
        if is_cut {
            cut(profile, &(row.name.start..row.name.end), &self.range);
        }
        is_cut.then(|| whole.saturating_sub(profile.duration_nanos))
    }

    /// The part of a window that was asked for, in nanoseconds.
    fn overlap(&self, row: &Row) -> i64 {
        overlap(&(row.name.start..row.name.end), &self.range)
    }

    fn gaps(&self, rows: &[Row]) -> Vec<Range<UnixNanos>> {
        let mut spans: Vec<_> = rows.iter().map(|row| (row.name.start, row.name.end)).collect();
        spans.sort_unstable();
        let mut gaps = Vec::new();
        let mut covered = self.range.start;
        for (start, end) in spans {
            if start > covered {
                gaps.push(covered..start.min(self.range.end));
            }
            covered = covered.max(end);
        }
        if covered < self.range.end {
            gaps.push(covered..self.range.end);
        }
        gaps
    }
}

impl Plan {
    /// Nanoseconds of the asked time that no window tells of.
    #[must_use]
    pub fn missing(&self) -> i64 {
        self.gaps.iter().map(|gap| gap.end.0 - gap.start.0).sum()
    }

    /// The samples of the windows, and how many were lost, as the index tells them.
    #[must_use]
    pub fn counted(&self) -> KindQuality {
        self.rows.iter().fold(KindQuality::default(), |sum, row| sum.plus(&row.summary.counted()))
    }

    /// Whether the values are times.
    #[must_use]
    pub fn is_time(&self) -> bool {
        self.rows.iter().all(|row| row.summary.unit == "nanoseconds")
    }

    /// What part of the asked time has data, as programs read it (docs/query.md).
    #[must_use]
    pub fn to_json(&self, query: &Query) -> Value {
        json!({
            "from_nanos": query.range.start.0,
            "to_nanos": query.range.end.0,
            "kind": self.kind,
            "kinds": self.kinds,
            "hosts": self.hosts,
            "windows": self.rows.len(),
            "lost": self.counted().lost,
            "lost_share": self.counted().lost_share(),
            "gaps": self.gaps.iter().map(|gap| json!([gap.start.0, gap.end.0])).collect::<Vec<_>>(),
            "snapshots_left_out": self.snapshots_left_out,
        })
    }

    /// The windows of a level that stick out of the asked time.
    #[must_use]
    pub fn sticking_out(&self, query: &Query, level: Level) -> usize {
        self.rows.iter().filter(|row| row.name.level == level && query.sticks_out(row)).count()
    }
}

/// Nanoseconds that two spans have in common.
fn overlap(a: &Range<UnixNanos>, b: &Range<UnixNanos>) -> i64 {
    a.end.0.min(b.end.0).saturating_sub(a.start.0.max(b.start.0)).max(0)
}

/// Of states, the last of each host is that at the end of the time. `rows` are in order.
fn keep_last_states(rows: &mut Vec<Row>) {
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut last: Vec<Row> = Vec::with_capacity(rows.len());
    for row in std::mem::take(rows).into_iter().rev() {
        if !row.name.is_state() || told.insert(row.name.host.clone()) {
            last.push(row);
        }
    }
    last.reverse();
    *rows = last;
}

/// A snapshot and a recorder on one host tell of the same samples twice. Answers how many snapshots went.
fn drop_covered_snapshots(rows: &mut Vec<Row>) -> usize {
    let mut recorded: BTreeMap<String, Vec<Range<UnixNanos>>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.name.source == Source::Recorder) {
        recorded.entry(row.name.host.clone()).or_default().push(row.name.start..row.name.end);
    }
    let before = rows.len();
    rows.retain(|row| {
        let spans = recorded.get(&row.name.host);
        let own = row.name.start..row.name.end;
        row.name.source == Source::Recorder
            || !spans.is_some_and(|spans| spans.iter().any(|span| overlap(span, &own) > 0))
    });
    before - rows.len()
}

/// What was read and added up.
#[derive(Debug, Default)]
pub struct Answer {
    /// The sum.
    pub profile: Profile,
    /// For each column, the sum before samples were filtered by `prepare`'s last step.
    pub totals: Vec<i128>,
    /// Windows whose samples were cut to the asked time by their own times.
    pub cut: usize,
    /// Nanoseconds of them that were cut off.
    pub cut_nanos: i64,
    /// Files that could not be read, with the cause.
    pub unreadable: Vec<String>,
}

/// Why windows have no sum.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Two windows of a kind count different things.
    #[error("cannot add {path} to the windows before it: {source}")]
    Merge {
        /// The file.
        path: String,
        /// The cause.
        source: MergeError,
    },
    /// It would have taken longer than it may.
    #[error("adding up {windows} windows takes longer than it may; ask for less time, or for fewer samples")]
    Late {
        /// How many there are.
        windows: usize,
    },
    /// The sum would have had more parts than it may.
    #[error(
        "the sum of {windows} windows has more than {limit} distinct stacks; ask for less time, or for fewer samples"
    )]
    Large {
        /// How many there are.
        windows: usize,
        /// The limit.
        limit: usize,
    },
    /// Nobody waits for it any longer.
    #[error("the question was withdrawn")]
    Withdrawn,
    /// None of the files could be read.
    #[error("none of the {number} windows can be read: {first}")]
    Unreadable {
        /// How many there are.
        number: usize,
        /// What is wrong with the first.
        first: String,
    },
}

/// What an answer may cost; by default, whatever it takes. Limits are looked at between two windows.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// When it must be there.
    pub deadline: Option<Instant>,
    /// Distinct stacks (with distinct labels) that each worker may hold.
    pub stacks: Option<usize>,
    /// Set by whoever no longer waits.
    pub withdrawn: Option<Arc<AtomicBool>>,
}

impl Limits {
    /// Whether work on so many windows may go on, that holds so many stacks.
    ///
    /// # Errors
    /// [`QueryError`] with the limit that was reached.
    pub(super) fn check(&self, windows: usize, stacks: usize) -> Result<(), QueryError> {
        if self.withdrawn.as_ref().is_some_and(|withdrawn| withdrawn.load(Ordering::Relaxed)) {
            return Err(QueryError::Withdrawn);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Late { windows });
        }
        match self.stacks {
            Some(limit) if stacks > limit => Err(QueryError::Large { windows, limit }),
            _ => Ok(()),
        }
    }
}

/// Where the windows' profiles are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In files below a folder.
    Folder(&'a Path),
    /// In memory: one profile, which is every row's.
    Memory(&'a Profile),
}

/// What is done with each profile before it is added.
pub type Prepare<'a> = dyn Fn(&mut Profile) + Sync + 'a;

impl Query {
    /// Reads windows and adds them up. A file that cannot be read is told and not counted. `prepare` changes each profile before its
    /// total is taken, `filter` after that; they see the labels that `read` keeps.
    ///
    /// # Errors
    /// [`QueryError`] if windows count different things, or none can be read.
    pub fn merge(
        &self,
        rows: &[Row],
        directory: &Path,
        options: &MergeOptions,
        read: &ReadOptions,
        prepare: &Prepare<'_>,
        filter: &Prepare<'_>,
    ) -> Result<Answer, QueryError> {
        let limits = &Limits::default();
        self.run(&Job { query: self, rows, place: Place::Folder(directory), options, read, prepare, filter, limits })
    }

    /// Reads and adds up what a job says.
    pub(super) fn run(&self, job: &Job<'_>) -> Result<Answer, QueryError> {
        let rows = job.rows;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let workers = cores.min(MAX_WORKERS).min(rows.len()).max(1);
        let parts = in_threads(workers, |worker| job.part(worker, workers));
        join(parts, rows.len())
    }
}

/// What all workers share.
pub(super) struct Job<'a> {
    pub(super) query: &'a Query,
    pub(super) rows: &'a [Row],
    pub(super) place: Place<'a>,
    pub(super) options: &'a MergeOptions,
    pub(super) read: &'a ReadOptions,
    pub(super) prepare: &'a Prepare<'a>,
    pub(super) filter: &'a Prepare<'a>,
    pub(super) limits: &'a Limits,
}

/// What one worker has.
#[derive(Default)]
struct Part {
    merger: Merger,
    totals: Vec<i128>,
    cut: usize,
    cut_nanos: i64,
    unreadable: Vec<String>,
    last: String,
}

impl Job<'_> {
    /// Every `workers`-th window: neighbours are alike in size, so each worker has its share, and always the same one, which makes the
    /// order of the sum's tables the same too.
    fn part(&self, worker: usize, workers: usize) -> Result<Part, QueryError> {
        let mut part = Part { merger: Merger::new(self.options.clone()), ..Part::default() };
        let mut reader = FileReader::of_folder();
        let whole = ReadOptions { labels: KeptLabels::All };
        for row in self.rows.iter().skip(worker).step_by(workers) {
            self.limits.check(self.rows.len(), part.merger.len())?;
            let folder = match self.place {
                Place::Folder(folder) => folder,
                Place::Memory(profile) => {
                    self.add(row, &mut profile.clone(), &mut part)?;
                    continue;
                }
            };
            let path = folder.join(&row.path);
            // The samples of a window that is to be cut tell their times by a label.
            let by_label = self.query.sticks_out(row) || self.query.selector.reads_labels();
            match reader.read(&path, if by_label { &whole } else { self.read }) {
                Ok(profile) => self.add(row, profile, &mut part)?,
                Err(error) => part.unreadable.push(FileError::to_string(&error)),
            }
        }
        Ok(part)
    }

    fn add(&self, row: &Row, profile: &mut Profile, part: &mut Part) -> Result<(), QueryError> {
        if let Some(nanos) = self.query.narrow(row, profile) {
            part.cut += 1;
            part.cut_nanos = part.cut_nanos.saturating_add(nanos);
        }
        (self.prepare)(profile);
        for column in 0..profile.sample_types.len() {
            let total = profile.total(column);
            match part.totals.get_mut(column) {
                Some(sum) => *sum += total,
                None => part.totals.push(total),
            }
        }
        (self.filter)(profile);
        part.last = row.path.display().to_string();
        part.merger.add(profile).map_err(|source| QueryError::Merge { path: part.last.clone(), source })
    }
}

fn join(parts: Vec<Result<Part, QueryError>>, number: usize) -> Result<Answer, QueryError> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| Ok(Part::default()))?;
    for part in parts {
        let part = part?;
        sum.merger.absorb(part.merger).map_err(|source| QueryError::Merge { path: part.last, source })?;
        let columns = sum.totals.len().max(part.totals.len());
        sum.totals.resize(columns, 0);
        sum.totals.iter_mut().zip(part.totals).for_each(|(sum, total)| *sum += total);
        sum.cut += part.cut;
        sum.cut_nanos = sum.cut_nanos.saturating_add(part.cut_nanos);
        sum.unreadable.extend(part.unreadable);
    }
    if number > 0 && sum.unreadable.len() == number {
        let first = sum.unreadable.swap_remove(0);
        return Err(QueryError::Unreadable { number, first });
    }
    let Part { merger, totals, cut, cut_nanos, unreadable, .. } = sum;
    Ok(Answer { profile: merger.finish(), totals, cut, cut_nanos, unreadable })
}

/// Cuts a profile of a span, whose samples tell their times, to a time, and its duration to the same share.
pub(super) fn cut(profile: &mut Profile, span: &Range<UnixNanos>, range: &Range<UnixNanos>) {
    if let Some(key) = profile.strings.find(TIMESTAMP) {
        profile.retain_samples(|_, sample| time_of(sample, key).is_some_and(|time| range.contains(&time)));
    }
    let (part, whole) = (overlap(span, range), span.end.0 - span.start.0);
    let duration = i128::from(profile.duration_nanos) * i128::from(part) / i128::from(whole.max(1));
    profile.duration_nanos = i64::try_from(duration).unwrap_or(i64::MAX);
    profile.time_nanos = profile.time_nanos.max(range.start.0);
}

/// Whether every sample tells its time.
pub(super) fn has_times(profile: &Profile) -> bool {
    let key = profile.strings.find(TIMESTAMP);
    profile.samples.iter().all(|sample| key.is_some_and(|key| time_of(sample, key).is_some()))
}

/// The time of a sample, by its label of this key.
pub(super) fn time_of(sample: &Sample, key: StringId) -> Option<UnixNanos> {
    let label = sample.labels.iter().find(|label| label.key == key)?;
    match label.value {
        LabelValue::Number(time, _) => Some(UnixNanos(time)),
        LabelValue::Text(_) => None,
    }
}
