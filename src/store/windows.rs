//! Where answers come from: a directory of windows, or one profile that is a window by itself.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::name::safe_part;
use super::query::{Job, Place, TIMESTAMP, time_of};
use super::{
    Answer, CompareSidesError, Compared, Level, Limits, Plan, Prepare, Query, QueryError, ReadFile, Row, Selector,
    Side, SideOptions, Source, Store, StoreError, Summary, WindowName, compare,
};
use crate::encode::{FileError, ReadOptions, read_file};
use crate::ids::UnixNanos;
use crate::profile::{KindQuality, MergeOptions, Profile, Quality, Sample};
use crate::when;

/// A directory of windows, or one profile.
#[derive(Clone, Debug)]
pub enum Windows {
    /// A directory.
    Directory(Store),
    /// A profile, in memory.
    Profile(Arc<Single>),
}

/// A profile as windows: one for each value that it holds.
#[derive(Debug)]
pub struct Single {
    name: String,
    profile: Profile,
    /// The value that it shows at first stands first.
    rows: Vec<Row>,
    /// The same cut into equal parts of its time, if its samples tell theirs; else the same.
    parts: Vec<Row>,
}

/// Parts that a profile is cut into for series.
const PARTS: usize = 300;

/// Why a path holds no windows.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory that cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A sum of windows and what it is of.
#[derive(Debug)]
pub struct Sum {
    /// The windows that were counted.
    pub plan: Plan,
    /// The sum.
    pub answer: Answer,
    /// Nanoseconds that were sampled; of several hosts the mean, so that a value divided by it is the CPUs of all together.
    pub covered: i64,
}

impl Sum {
    /// The column of the kind that was asked for; that which a profile shows at first, if none is named so.
    #[must_use]
    pub fn column(&self) -> usize {
        column_of(&self.answer.profile, &self.plan.kind).unwrap_or(0)
    }

    /// How good a column of the sum is: of all samples of the windows that were added up, also of those that were not selected. Where a
    /// selection left no window to be read, of all windows of the plan.
    #[must_use]
    pub fn counted(&self, column: usize) -> KindQuality {
        let profile = &self.answer.profile;
        Quality::of(profile).map_or_else(|| self.plan.counted(), |quality| quality.of_column(profile, column))
    }
}

impl Windows {
    /// Opens a directory, or reads a file.
    ///
    /// # Errors
    /// [`OpenError`] if it is not there, or is no profile.
    pub fn open(path: &Path) -> Result<Windows, OpenError> {
        if path.is_file() {
            return Ok(Windows::of(&path.display().to_string(), read_file(path)?));
        }
        Ok(Windows::Directory(Store::open(path)?))
    }

    /// A profile that was read already.
    #[must_use]
    pub fn of(name: &str, profile: Profile) -> Windows {
        let rows = rows_of(name, &profile);
        let parts = rows.iter().flat_map(|row| parts_of(row, &profile)).collect();
        Windows::Profile(Arc::new(Single { name: name.to_owned(), profile, rows, parts }))
    }

    /// The time of a file; `None` for a directory.
    #[must_use]
    pub fn file_range(&self) -> Option<Range<UnixNanos>> {
        match self {
            Windows::Directory(_) => None,
            Windows::Profile(single) => single.rows.first().map(|row| row.name.start..row.name.end),
        }
    }

    /// The windows of a time. Of a file these are that of the asked kind, or else of the value that it shows at first.
    ///
    /// # Errors
    /// [`StoreError`] if a folder or an index cannot be read.
    pub fn rows(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        match self {
            Windows::Directory(store) => store.rows(query.range.clone()),
            Windows::Profile(single) => {
                let kind = query.kind.as_deref();
                let asked = single.rows.iter().find(|row| kind == Some(&*row.name.kind));
                Ok(asked.or(single.rows.first()).cloned().into_iter().collect())
            }
        }
    }

    /// What a series of a query is made of. Of a file whose samples tell their times these are parts of it.
    ///
    /// # Errors
    /// [`StoreError`] if a folder or an index cannot be read.
    pub fn rows_for_series(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        match self {
            Windows::Directory(_) => self.rows(query),
            Windows::Profile(single) => {
                let kind = self.rows(query)?.first().map(|row| row.name.kind.clone());
                Ok(single.parts.iter().filter(|row| Some(&row.name.kind) == kind.as_ref()).cloned().collect())
            }
        }
    }

    /// All windows of a time and of every kind; of a file one for each value.
    ///
    /// # Errors
    /// [`StoreError`] if a folder or an index cannot be read.
    pub fn all_rows(&self, range: Range<UnixNanos>) -> Result<Vec<Row>, StoreError> {
        match self {
            Windows::Directory(store) => store.rows(range),
            Windows::Profile(single) => Ok(single.rows.clone()),
        }
    }

    /// The names of the windows that have a part in a time, by their start. Nothing is opened for it.
    ///
    /// # Errors
    /// [`StoreError`] if a folder cannot be read.
    pub fn names(&self, range: &Range<UnixNanos>) -> Result<Vec<WindowName>, StoreError> {
        match self {
            Windows::Directory(store) => store.names(range),
            Windows::Profile(single) => Ok(single.rows.iter().map(|row| row.name.clone()).collect()),
        }
    }

    /// The path of the directory or the file.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Windows::Directory(store) => store.directory().display().to_string(),
            Windows::Profile(single) => single.name.clone(),
        }
    }

    /// Reads a window.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load(&self, row: &Row) -> Result<Profile, StoreError> {
        match self {
            Windows::Directory(store) => store.load(row),
            Windows::Profile(single) => Ok(single.profile.clone()),
        }
    }

    /// Why a plan without windows has none, and what there is instead.
    #[must_use]
    pub fn nothing(&self, query: &Query, plan: &Plan) -> String {
        let span = when::show_span(query.range.start, query.range.end);
        let (name, kind) = (self.name(), &plan.kind);
        if !plan.kinds.is_empty() {
            let kinds = plan.kinds.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return format!("{name} has no window of the kind {kind:?} in {span}; there are {kinds}");
        }
        let mend = match self {
            Windows::Directory(_) => "rprof ls shows what there is; --from and --to ask for another time",
            Windows::Profile(_) => "without a time the whole file is shown",
        };
        format!("{name} has no window in {span} that was asked for; {mend}")
    }

    /// Adds up the windows of a plan, as [`Query::merge`] does, without those that have no sample of what is selected.
    ///
    /// # Errors
    /// [`QueryError`] if windows count different things, none can be read, or it costs more than it may.
    #[expect(clippy::too_many_arguments, reason = "the parts of one question")]
    pub fn sum(
        &self,
        query: &Query,
        mut plan: Plan,
        options: &MergeOptions,
        read: &ReadOptions,
        prepare: &Prepare<'_>,
        filter: &Prepare<'_>,
        limits: &Limits,
    ) -> Result<Sum, QueryError> {
        let place = match self {
            Windows::Directory(store) => Place::Folder(store.directory()),
            Windows::Profile(single) => Place::Memory(&single.profile),
        };
        let rows: Vec<Row> = plan.rows.iter().filter(|row| query.selector.may_match(row)).cloned().collect();
        let job = Job { query, rows: &rows, place, options, read, prepare, filter, limits };
        let mut answer = query.run(&job)?;
        plan.rows.retain(|row| !answer.unreadable.iter().any(|line| line.contains(&*row.path.to_string_lossy())));
        let duration = duration(&plan, answer.cut_nanos);
        // A selection that was idle in a window has no sample there, and the time counts all the same.
        answer.profile.duration_nanos = duration;
        if query.selector.reads_labels() {
            answer.profile.lead_with_used_mapping();
        }
        let covered = duration / i64::try_from(plan.hosts.len().max(1)).unwrap_or(1);
        Ok(Sum { plan, answer, covered })
    }
}

impl Windows {
    /// Compares what two questions ask for. Of a file these are parts, where its samples tell their times.
    ///
    /// # Errors
    /// [`CompareSidesError`] if a side has nothing, cannot be read, or counts something else than the other.
    pub fn compare(&self, base: &Query, new: &Query, options: &SideOptions) -> Result<Compared, CompareSidesError> {
        match self {
            Windows::Directory(store) => compare(&Side::Windows(store, base), &Side::Windows(store, new), options),
            Windows::Profile(single) => {
                let part = |query: &Query| {
                    let mut profile = single.profile.clone();
                    single.rows.iter().take(1).for_each(|row| _ = query.narrow(row, &mut profile));
                    profile
                };
                let (read_base, read_new) = (|_: &Path| Ok(part(base)), |_: &Path| Ok(part(new)));
                let paths = vec![PathBuf::from(&single.name)];
                let side = |read| Side::Files { paths: paths.clone(), selector: Selector::default(), read };
                compare(&side(&read_base as &ReadFile<'_>), &side(&read_new as &ReadFile<'_>), options)
            }
        }
    }
}

/// Nanoseconds that the windows of a plan lasted together, those that were not read as well, but for what was cut off.
fn duration(plan: &Plan, cut: i64) -> i64 {
    let sum: i64 = plan.rows.iter().fold(0, |sum, row| sum.saturating_add(row.summary.covered));
    sum.saturating_sub(cut).max(0)
}

/// The column of a profile that a kind of windows names; that which it shows at first, if none is named so.
#[must_use]
pub fn column_of(profile: &Profile, kind: &str) -> Option<usize> {
    let named = |same: &dyn Fn(&str) -> bool| profile.sample_types.iter().position(|of| same(profile.text(of.name)));
    let exact = named(&|name| name == kind);
    exact.or_else(|| named(&|name| safe_part(name) == kind)).or_else(|| profile.column(None).ok())
}

/// A file as windows. The count that stands beside a value is no kind of its own.
fn rows_of(name: &str, profile: &Profile) -> Vec<Row> {
    let first = profile.column(None).ok();
    let is_count = |&at: &usize| profile.count_column() == Some(at);
    let others = (0..profile.sample_types.len()).filter(|at| Some(*at) != first && !is_count(at));
    let start = UnixNanos(profile.time_nanos);
    let row = |column: usize| {
        let kind = WindowName {
            host: String::new(),
            kind: profile.text(profile.sample_types[column].name).to_owned(),
            source: Source::Recorder,
            level: Level::Window,
            start,
            end: UnixNanos(start.0.saturating_add(profile.duration_nanos.max(1))),
        };
        let path = PathBuf::from(name);
        Row { name: kind, path, bytes: 0, pinned: false, summary: Summary::of_column(profile, Some(column)) }
    };
    first.into_iter().chain(others).map(row).collect()
}

/// A row cut into equal parts of its time, each with the samples of that time; the row itself, if samples do not tell theirs.
fn parts_of(row: &Row, profile: &Profile) -> Vec<Row> {
    let (start, length) = (row.name.start.0, row.name.end.0 - row.name.start.0);
    let key = profile.strings.find(TIMESTAMP);
    let times: Option<Vec<i64>> =
        key.and_then(|key| profile.samples.iter().map(|sample| time_of(sample, key).map(|time| time.0)).collect());
    let Some(times) = times.filter(|times| !times.is_empty() && length >= PARTS as i64) else {
        return vec![row.clone()];
    };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); PARTS];
    for (sample, time) in profile.samples.iter().zip(times) {
        // What was sampled a moment before the beginning, or after the end, is of the first or the last part.
        let at = i128::from(time.saturating_sub(start)) * PARTS as i128 / i128::from(length);
        samples[usize::try_from(at).unwrap_or(0).min(PARTS - 1)].push(sample.clone());
    }
    let mut part = Profile { samples: Vec::new(), ..profile.clone() };
    let column = column_of(profile, &row.name.kind);
    let edge = |at: usize| {
        start.saturating_add(i64::try_from(i128::from(length) * at as i128 / PARTS as i128).unwrap_or(length))
    };
    let row_of = |(at, samples): (usize, Vec<Sample>)| {
        part.samples = samples;
        let mut of_part = Row { summary: Summary::of_column(&part, column), ..row.clone() };
        (of_part.name.start, of_part.name.end) = (UnixNanos(edge(at)), UnixNanos(edge(at + 1)));
        of_part.summary.covered = row.summary.covered / PARTS as i64;
        of_part.summary.lost = if at == 0 { row.summary.lost } else { 0 };
        of_part
    };
    samples.into_iter().enumerate().map(row_of).collect()
}
