//! Two sides compared: windows of a directory, or files. What `rprof diff`, `rprof gate` and the page show comes from here.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use super::query::{MAX_WORKERS, cut, has_times};
use super::{Limits, Plan, Query, QueryError, Row, Selector, Store, StoreError};
use crate::encode::{FileReader, ReadOptions};
use crate::ids::UnixNanos;
use crate::profile::compare::{
    CompareError, CompareOptions, Comparison, ENOUGH_WINDOWS, Evidence, EvidenceOptions, SIDES, Stretch,
};
use crate::profile::{Filter, KeptLabels, MergeError, MergeOptions, Merger, Profile, TIME_LABEL};
use crate::sys::in_threads;

/// Sub-windows that a side is cut into where its samples tell their times: more tell the variance better, and each must hold more than one
/// burst.
const WANTED_WINDOWS: usize = 2 * ENOUGH_WINDOWS;

/// Reads one file; the error is told as it is.
pub type ReadFile<'a> = dyn Fn(&Path) -> Result<Profile, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// One side of a comparison.
pub enum Side<'a> {
    /// What a directory tells of a query.
    Windows(&'a Store, &'a Query),
    /// Files, each a recording of its own, in the order of time.
    Files {
        /// Where they are.
        paths: Vec<PathBuf>,
        /// Which of their samples.
        selector: Selector,
        /// How each is read.
        read: &'a ReadFile<'a>,
    },
}

/// What is compared, and how.
#[derive(Clone, Debug, Default)]
pub struct SideOptions {
    /// How it is compared.
    pub compare: CompareOptions,
    /// The value (`cpu`); `None` for each profile's own.
    pub value: Option<String>,
    /// Which stacks and frames.
    pub filter: Filter,
    /// Nanoseconds that are left out from the start of each file, the samples of which have to tell their times.
    pub warm_up: i64,
    /// Whether the sum of each side is wanted too, and what it keeps apart.
    pub sums: Option<MergeOptions>,
    /// What the windows of each side may cost.
    pub limits: Limits,
}

/// Two sides compared, and what each was made of.
#[derive(Debug)]
pub struct Compared {
    /// The comparison.
    pub comparison: Comparison,
    /// Base and new.
    pub sides: [Read; 2],
}

/// What was read of one side.
#[derive(Debug, Default)]
pub struct Read {
    /// The windows, where it is a directory.
    pub plan: Option<Plan>,
    /// Windows that were cut to the asked time by the times of their samples.
    pub cut: usize,
    /// Files that could not be read, with the cause.
    pub unreadable: Vec<String>,
    /// The sum, if it was asked for.
    pub sum: Option<Profile>,
}

/// Why two sides could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareSidesError {
    /// They do not fit together.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The directory cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Windows do not fit together, or none can be read.
    #[error("the {side} side: {source}")]
    Query {
        /// Which side.
        side: &'static str,
        /// The cause.
        source: QueryError,
    },
    /// A directory has no window of the asked time.
    #[error("the {side} side has no window that was asked for in {}; rprof ls {} shows what there is", .directory.display(), .directory.display())]
    NoWindow {
        /// Which side.
        side: &'static str,
        /// The directory.
        directory: PathBuf,
        /// What there is, as far as the time and the selector allow.
        plan: Box<Plan>,
    },
    /// A file is no profile.
    #[error("the {side} side: {source}")]
    File {
        /// Which side.
        side: &'static str,
        /// The cause, which names the file.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file counts something else than those before it.
    #[error("the {side} side: {}: {source}", .path.display())]
    Differs {
        /// Which side.
        side: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: CompareError,
    },
    /// The start of a file cannot be left out.
    #[error("the {side} side: {}: its start cannot be left out with --warm-up: {why}", .path.display())]
    WarmUp {
        /// Which side.
        side: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause, and what mends it.
        why: &'static str,
    },
    /// The sum of a side cannot be made.
    #[error("the {side} side: {source}")]
    Merge {
        /// Which side.
        side: &'static str,
        /// The cause.
        source: MergeError,
    },
}

/// Reads two sides and compares them.
///
/// # Errors
/// [`CompareSidesError`] if a side has nothing, cannot be read, or counts something else than the other.
pub fn compare(base: &Side<'_>, new: &Side<'_>, options: &SideOptions) -> Result<Compared, CompareSidesError> {
    let [(base, base_read), (new, new_read)] = [gather(base, SIDES[0], options)?, gather(new, SIDES[1], options)?];
    Ok(Compared { comparison: Comparison::of(base, new, &options.compare)?, sides: [base_read, new_read] })
}

fn gather(side: &Side<'_>, name: &'static str, options: &SideOptions) -> Result<(Evidence, Read), CompareSidesError> {
    match side {
        Side::Windows(store, query) => windows(store, query, name, options),
        Side::Files { paths, selector, read } => files(paths, selector, read, name, options),
    }
}

/// What is gathered of one side, or of a part of it.
struct Gathering<'a> {
    options: &'a SideOptions,
    evidence: Evidence,
    merger: Option<Merger>,
    cut: usize,
    unreadable: Vec<String>,
}

/// Why a profile could not be added.
enum AddError {
    Compare(CompareError),
    Merge(MergeError),
}

impl<'a> Gathering<'a> {
    fn new(options: &'a SideOptions, parts: usize) -> Gathering<'a> {
        let evidence = EvidenceOptions { value: options.value.clone(), parts };
        Gathering {
            options,
            evidence: Evidence::new(evidence),
            merger: options.sums.clone().map(Merger::new),
            cut: 0,
            unreadable: Vec::new(),
        }
    }

    /// Adds a profile after filters.
    fn add(&mut self, profile: &mut Profile, run: u32) -> Result<(), AddError> {
        let filter = &self.options.filter;
        filter.add_tag_frames(profile, None);
        let column = profile.column(self.options.value.as_deref()).map_err(|error| AddError::Compare(error.into()))?;
        let all = filter.selects().then(|| profile.total(column));
        filter.apply_to_samples(profile);
        filter.apply_to_frames(profile);
        self.evidence.add(profile, run, all).map_err(AddError::Compare)?;
        self.merger.as_mut().map_or(Ok(()), |merger| merger.add(profile)).map_err(AddError::Merge)
    }

    fn absorb(&mut self, other: Gathering<'_>) -> Result<(), AddError> {
        self.evidence.absorb(other.evidence).map_err(AddError::Compare)?;
        if let (Some(merger), Some(more)) = (&mut self.merger, other.merger) {
            merger.absorb(more).map_err(AddError::Merge)?;
        }
        self.cut += other.cut;
        self.unreadable.extend(other.unreadable);
        Ok(())
    }

    fn finish(self, plan: Option<Plan>) -> (Evidence, Read) {
        let sum = self.merger.map(Merger::finish);
        (self.evidence, Read { plan, cut: self.cut, unreadable: self.unreadable, sum })
    }
}

impl AddError {
    fn of_side(self, side: &'static str) -> CompareSidesError {
        match self {
            AddError::Compare(error) => error.into(),
            AddError::Merge(source) => CompareSidesError::Merge { side, source },
        }
    }
}

fn files(
    paths: &[PathBuf],
    selector: &Selector,
    read: &ReadFile<'_>,
    side: &'static str,
    options: &SideOptions,
) -> Result<(Evidence, Read), CompareSidesError> {
    let parts = WANTED_WINDOWS.div_ceil(paths.len().max(1));
    let mut gathering = Gathering::new(options, parts);
    for (run, path) in (0..).zip(paths) {
        let mut profile = read(path).map_err(|source| CompareSidesError::File { side, source })?;
        if selector.lacks_version(&profile) {
            continue;
        }
        selector.apply(&mut profile);
        skip_start(&mut profile, options.warm_up).map_err(|why| CompareSidesError::WarmUp {
            side,
            path: path.clone(),
            why,
        })?;
        gathering.add(&mut profile, run).map_err(|error| match error {
            AddError::Compare(source) => CompareSidesError::Differs { side, path: path.clone(), source },
            merge @ AddError::Merge(_) => merge.of_side(side),
        })?;
    }
    Ok(gathering.finish(None))
}

/// Cuts so many nanoseconds off the start of a recording.
fn skip_start(profile: &mut Profile, warm_up: i64) -> Result<(), &'static str> {
    if warm_up == 0 {
        return Ok(());
    }
    if !has_times(profile) {
        return Err("its samples do not tell their times; record with --timestamps, or to a perf.data");
    }
    if profile.time_nanos <= 0 {
        return Err("it does not tell when it began");
    }
    if profile.duration_nanos <= warm_up {
        return Err("it is no longer than that");
    }
    let start = profile.time_nanos;
    let span = UnixNanos(start)..UnixNanos(start.saturating_add(profile.duration_nanos));
    // Times are a little inexact: what lies behind the end is of it.
    cut(profile, &span, &(UnixNanos(start.saturating_add(warm_up))..UnixNanos(i64::MAX)));
    Ok(())
}

fn windows(
    store: &Store,
    query: &Query,
    side: &'static str,
    options: &SideOptions,
) -> Result<(Evidence, Read), CompareSidesError> {
    let mut plan = query.plan(&store.rows(query.range.clone())?);
    if plan.rows.is_empty() {
        let directory = store.directory().to_owned();
        return Err(CompareSidesError::NoWindow { side, directory, plan: Box::new(plan) });
    }
    let rows = plan.rows.clone();
    let parts = WANTED_WINDOWS.div_ceil(rows.len().max(1));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    // Neighbours in time stay together, so that a worker's sub-windows follow each other.
    let stretches: Vec<&[Row]> = rows.chunks(rows.len().div_ceil(cores.min(MAX_WORKERS)).max(1)).collect();
    let gathered = in_threads(stretches.len(), |at| stretch(store, query, stretches[at], side, options, parts));
    let mut sum = Gathering::new(options, parts);
    for gathered in gathered {
        sum.absorb(gathered?).map_err(|error| error.of_side(side))?;
    }
    if sum.unreadable.len() == rows.len() && !rows.is_empty() {
        let source = QueryError::Unreadable { number: rows.len(), first: sum.unreadable.swap_remove(0) };
        return Err(CompareSidesError::Query { side, source });
    }
    plan.rows.retain(|row| !sum.unreadable.iter().any(|line| line.contains(&*row.path.to_string_lossy())));
    Ok(sum.finish(Some(plan)))
}

/// Reads some windows, one by one, into the same room.
fn stretch<'a>(
    store: &Store,
    query: &Query,
    rows: &[Row],
    side: &'static str,
    options: &'a SideOptions,
    parts: usize,
) -> Result<Gathering<'a>, CompareSidesError> {
    let mut gathering = Gathering::new(options, parts);
    let mut reader = FileReader::of_folder();
    let whole = ReadOptions { labels: KeptLabels::All };
    let bare =
        ReadOptions { labels: options.sums.as_ref().map_or(KeptLabels::Only([].into()), |of| of.labels.clone()) };
    let timed = ReadOptions { labels: KeptLabels::Only([TIME_LABEL.to_owned()].into()) };
    for row in rows {
        let stacks = gathering.merger.as_ref().map_or(0, Merger::len);
        options.limits.check(rows.len(), stacks).map_err(|source| CompareSidesError::Query { side, source })?;
        if !query.selector.may_match(row) && gathering.evidence.has_profiles() {
            // Nothing of it was asked for, but the time passed. The first is read all the same: it tells what was counted, and how.
            gathering.evidence.add_nothing(&stretch_of(query, row));
            continue;
        }
        let by_label = query.selector.reads_labels() || options.filter.reads_labels() || query.sticks_out(row);
        let read = match () {
            () if by_label || (options.sums.is_some() && parts > 1) => &whole,
            () if parts > 1 => &timed,
            () => &bare,
        };
        match reader.read(&store.path(row), read) {
            Ok(profile) => {
                if query.selector.lacks_version(profile) {
                    continue;
                }
                gathering.cut += usize::from(query.narrow(row, profile).is_some());
                gathering.add(profile, 0).map_err(|error| error.of_side(side))?;
            }
            Err(error) => gathering.unreadable.push(error.to_string()),
        }
    }
    Ok(gathering)
}

/// The part of a window's time that was asked for, without any sample.
fn stretch_of(query: &Query, row: &Row) -> Stretch {
    let (start, end) = (row.name.start.0.max(query.range.start.0), row.name.end.0.min(query.range.end.0));
    #[allow(clippy::cast_precision_loss, reason = "shares of time and of samples")]
    let share = |part: i64, whole: i64| if whole > 0 { (part as f64 / whole as f64).clamp(0.0, 1.0) } else { 1.0 };
    let summary = &row.summary;
    let kept = share(summary.samples, summary.samples.saturating_add_unsigned(summary.lost));
    let asked = share(end.saturating_sub(start), row.name.end.0.saturating_sub(row.name.start.0));
    #[allow(clippy::cast_precision_loss, reason = "seconds, of which some digits are needed")]
    let seconds = summary.covered.max(0) as f64 / 1e9 * asked;
    Stretch { start, seconds, cpus: summary.cpus, kept }
}
