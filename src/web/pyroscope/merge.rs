//! Sums of windows in Pyroscope's forms: flame graphs, pprof, series, differences of two.

use std::ops::Range;

use super::labels::{self, Conditions, milliseconds};
use super::messages::{
    DiffRequest, DiffResponse, LabelPair, Point, SelectMergeProfileRequest, SelectMergeStacktracesRequest,
    SelectSeriesRequest, SelectSeriesResponse, Series as SeriesMessage, StackTraceSelector,
};
use super::tree::{Tree, begins_with};
use super::types::Type;
use crate::encode::ReadOptions;
use crate::ids::UnixNanos;
use crate::profile::{Function, FunctionId, KeptLabels, Location, LocationId, MergeOptions, Profile, SourceLine};
use crate::store::series::{SEPARATOR, SeriesError};
use crate::store::{By, Query, Series, series};
use crate::web::app::Work;
use crate::web::error::WebError;

/// Nodes of a flame graph, if no number is asked for.
const NODES: i64 = 8192;
/// Nodes at most.
const MAX_NODES: i64 = 1 << 20;

/// What windows are added up, and which stacks of them count.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) type_id: String,
    pub(super) selector: String,
    pub(super) range: Range<UnixNanos>,
    /// Nodes at most; 0 for all.
    pub(super) nodes: usize,
    pub(super) stacks: Option<StackTraceSelector>,
}

impl Question {
    /// # Errors
    /// If the time is empty, or something is asked for that windows do not hold.
    pub(super) fn new(request: &SelectMergeStacktracesRequest) -> Result<Question, WebError> {
        refuse_ids("profile", &request.profile_id_selector)?;
        refuse_ids("trace", &request.trace_id_selector)?;
        refuse_ids("span", &request.span_selector)?;
        if request.later.as_ref().is_some_and(|later| later.kind != 0 || !later.request_id.is_empty()) {
            return Err(WebError::new(http::StatusCode::NOT_IMPLEMENTED, "questions are answered at once, not later"));
        }
        Ok(Question {
            type_id: request.profile_type_id.clone(),
            selector: request.label_selector.clone(),
            range: milliseconds(request.start, request.end)?,
            nodes: nodes(request.max_nodes, NODES)?,
            stacks: request.stack_trace_selector.clone(),
        })
    }

    /// As [`Question::new`]; pprof has all nodes, if no number is asked for.
    pub(super) fn of_profile(request: &SelectMergeProfileRequest) -> Result<Question, WebError> {
        refuse_ids("profile", &request.profile_id_selector)?;
        refuse_ids("trace", &request.trace_id_selector)?;
        Ok(Question {
            type_id: request.profile_type_id.clone(),
            selector: request.label_selector.clone(),
            range: milliseconds(request.start, request.end)?,
            nodes: nodes(request.max_nodes, 0)?,
            stacks: request.stack_trace_selector.clone(),
        })
    }

    fn call_site(&self) -> Vec<String> {
        let stacks = self.stacks.iter().filter(|stacks| stacks.go_pgo.is_none());
        stacks.flat_map(|stacks| &stacks.call_site).map(|location| location.name.clone()).collect()
    }

    /// The sum, and the column that holds the type's values; `None` if there is nothing of it.
    fn sum(&self, work: &Work, functions_only: bool) -> Result<Option<Summed>, WebError> {
        let conditions = Conditions::parse(&self.selector)?;
        let of = Type::by_id(work, &self.type_id)?.filter(|of| of.matches(&conditions.types));
        let Some(of) = of else { return Ok(None) };
        let query = Query { range: self.range.clone(), kind: Some(of.kind.clone()), selector: conditions.samples };
        let plan = work.plan_or_empty(&query)?;
        if plan.rows.is_empty() {
            return Ok(None);
        }
        let labels = KeptLabels::Only([].into());
        let options = MergeOptions { labels: labels.clone(), functions_only };
        let sum =
            work.windows().sum(&query, plan, &options, &ReadOptions { labels }, &|_| {}, &|_| {}, &work.limits)?;
        let column = of.column(&sum);
        let profile = sum.answer.profile;
        // Where the index rules every window out, nothing was read, and the sum has no column.
        Ok((column < profile.sample_types.len()).then_some(Summed { profile, column, of }))
    }
}

/// A sum of windows; `column` is one of the profile's.
struct Summed {
    profile: Profile,
    column: usize,
    of: Type,
}

fn refuse_ids(of: &str, ids: &[String]) -> Result<(), WebError> {
    if ids.is_empty() {
        return Ok(());
    }
    Err(WebError::bad(format!("windows hold no {of} ids; select samples by labels")))
}

fn nodes(asked: Option<i64>, default: i64) -> Result<usize, WebError> {
    let nodes = asked.filter(|&nodes| nodes != 0).unwrap_or(default);
    if !(0..=MAX_NODES).contains(&nodes) {
        return Err(WebError::bad(format!("max_nodes is 1 to {MAX_NODES}, not {nodes}")));
    }
    Ok(usize::try_from(nodes).unwrap_or(0))
}

/// The tree of a question; `None` if there is nothing of it.
pub(super) fn tree(work: &Work, question: &Question) -> Result<Option<Tree>, WebError> {
    let Some(Summed { profile, column, .. }) = question.sum(work, true)? else { return Ok(None) };
    let mut tree = Tree::new();
    tree.add(&profile, column, 0, &question.call_site());
    tree.truncate(question.nodes);
    Ok(Some(tree))
}

/// Two questions beside each other.
pub(super) fn diff(work: &Work, sides: &[Question; 2]) -> Result<DiffResponse, WebError> {
    let mut tree = Tree::new();
    for (at, side) in sides.iter().enumerate() {
        if let Some(Summed { profile, column, .. }) = side.sum(work, true)? {
            tree.add(&profile, column, at, &side.call_site());
        }
    }
    tree.truncate(sides[0].nodes.max(sides[1].nodes));
    Ok(DiffResponse { flamegraph: Some(tree.flame_graph_diff()) })
}

pub(super) fn diff_sides(request: &DiffRequest) -> Result<[Question; 2], WebError> {
    let side = |side: &Option<SelectMergeStacktracesRequest>, name: &str| {
        Question::new(side.as_ref().ok_or_else(|| WebError::bad(format!("the {name} side is missing")))?)
    };
    Ok([side(&request.left, "left")?, side(&request.right, "right")?])
}

/// The sum with its addresses and lines, of one value; empty if there is nothing of it.
pub(super) fn profile(work: &Work, question: &Question) -> Result<Profile, WebError> {
    let Some(Summed { mut profile, column, of }) = question.sum(work, false)? else { return Ok(Profile::default()) };
    let call_site = question.call_site();
    of.tell_period(&mut profile);
    let kind = profile.sample_types[column];
    profile.sample_types = vec![kind];
    profile.default_sample_type = kind.name;
    for sample in &mut profile.samples {
        sample.values = vec![sample.values[column]];
    }
    profile.retain_samples(|profile, sample| sample.values[0] > 0 && begins_with(profile, sample, &call_site));
    if let Some(pgo) = question.stacks.as_ref().and_then(|stacks| stacks.go_pgo) {
        keep_leaves(&mut profile, usize::try_from(pgo.keep_locations).unwrap_or(usize::MAX), pgo.aggregate_callees);
    }
    if question.nodes > 0 {
        cut_small(&mut profile, question.nodes);
    }
    profile.merge_equal_samples();
    profile.lead_with_used_mapping();
    Ok(profile)
}

/// What a compiler is guided by: the leaf and some callers of each stack, the leaf without its line if asked for.
fn keep_leaves(profile: &mut Profile, most: usize, without_lines: bool) {
    let mut bare: rustc_hash::FxHashMap<LocationId, LocationId> = rustc_hash::FxHashMap::default();
    let mut samples = std::mem::take(&mut profile.samples);
    for sample in &mut samples {
        sample.stack.truncate(most.max(1));
        let Some(leaf) = sample.stack.first_mut().filter(|_| without_lines) else { continue };
        *leaf = *bare.entry(*leaf).or_insert_with_key(|leaf| {
            let mut location = profile.locations[leaf.0 as usize].clone();
            location.lines.iter_mut().for_each(|line| (line.line, line.column) = (0, 0));
            location.address = 0;
            add_location(profile, location)
        });
    }
    profile.samples = samples;
}

/// Cuts stacks where their nodes become small: what is beyond is `other`.
fn cut_small(profile: &mut Profile, nodes: usize) {
    let mut tree = Tree::new();
    tree.add(profile, 0, 0, &[]);
    tree.truncate(nodes);
    let mut other = None;
    let mut samples = std::mem::take(&mut profile.samples);
    for sample in &mut samples {
        let kept = tree.kept_depth(profile, sample);
        let mut depth = 0;
        // Whole locations, the outermost first, while all of their frames are kept.
        let whole = sample.stack.iter().rev().take_while(|&&id| {
            depth += profile.frames_at(id).count();
            depth <= kept
        });
        let whole = whole.count();
        if whole < sample.stack.len() {
            sample.stack.drain(..sample.stack.len() - whole);
            let other = *other.get_or_insert_with(|| {
                let name = profile.strings.intern("other");
                profile.functions.push(Function { name, system_name: name, ..Function::default() });
                let function = FunctionId(number(profile.functions.len() - 1));
                let lines = vec![SourceLine { function, line: 0, column: 0 }];
                add_location(profile, Location { lines, ..Location::default() })
            });
            sample.stack.insert(0, other);
        }
    }
    profile.samples = samples;
}

fn add_location(profile: &mut Profile, location: Location) -> LocationId {
    profile.locations.push(location);
    LocationId(number(profile.locations.len() - 1))
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Values over time. A point tells of the step that ends there.
pub(super) fn select_series(work: &Work, request: &SelectSeriesRequest) -> Result<SelectSeriesResponse, WebError> {
    series_if_told(work, request)?.map_err(|key| labels::unknown(&key))
}

/// As [`select_series`]; what is no failure, but no series either, is the key of a label that the index does not tell.
pub(super) fn series_if_told(
    work: &Work,
    request: &SelectSeriesRequest,
) -> Result<Result<SelectSeriesResponse, String>, WebError> {
    let range = milliseconds(request.start, request.end)?;
    if request
        .stack_trace_selector
        .as_ref()
        .is_some_and(|stacks| !stacks.call_site.is_empty() || stacks.go_pgo.is_some())
    {
        let message = "a series is made of the index, which knows no stacks; ask without a stack trace selector";
        return Err(WebError::new(http::StatusCode::NOT_IMPLEMENTED, message));
    }
    let step = step_nanos(request.step, &range)?;
    let conditions = Conditions::parse(&request.label_selector)?;
    let of = Type::by_id(work, &request.profile_type_id)?.filter(|of| of.matches(&conditions.types));
    let Some(of) = of else { return Ok(Ok(SelectSeriesResponse::default())) };
    let query = Query { range: range.clone(), kind: Some(of.kind.clone()), selector: conditions.samples };
    let plan = query.plan(&work.windows().rows_for_series(&query)?);
    if plan.rows.is_empty() {
        return Ok(Ok(SelectSeriesResponse::default()));
    }
    for name in &request.group_by {
        labels::expect_told(work, &plan.rows, name)?;
    }
    let by = By::Labels(request.group_by.iter().map(|name| labels::ours(name).to_owned()).collect());
    let series = match Series::within(&plan.rows, &range, step, &by, &query.selector, &work.limits) {
        Ok(series) => series,
        Err(SeriesError::Undecided(key)) => return Ok(Err(key)),
        Err(error) => return Err(error.into()),
    };
    let windows =
        (request.aggregation == Some(1)).then(|| windows_a_step(&plan.rows, &range, step, series.covered.len()));
    let limit = request.limit.filter(|&limit| limit > 0).and_then(|limit| usize::try_from(limit).ok());
    let Series { lines, covered, .. } = series;
    // A line goes when it is told, so that there are never two of all.
    let lines = lines.into_iter().take(limit.unwrap_or(usize::MAX)).map(|line| {
        let pairs = request.group_by.iter().zip(line.name.split(SEPARATOR));
        let pair = |(name, value): (&String, &str)| LabelPair { name: name.clone(), value: value.to_owned() };
        let values = if of.counts { &line.samples } else { &line.values };
        let point = |(at, &value): (usize, &f64)| {
            let windows = windows.as_ref().map_or(1.0, |windows| windows[at].max(1.0));
            let end = range.start.0.saturating_add(step.saturating_mul(i64::try_from(at + 1).unwrap_or(i64::MAX)));
            Point { value: value / windows, timestamp: end.min(range.end.0) / 1_000_000 }
        };
        let with_data = values.iter().enumerate().filter(|&(at, _)| covered[at] > 0.0);
        SeriesMessage { labels: pairs.map(pair).collect(), points: with_data.map(point).collect() }
    });
    Ok(Ok(SelectSeriesResponse { series: lines.collect() }))
}

/// How many windows lie in each step.
fn windows_a_step(rows: &[crate::store::Row], range: &Range<UnixNanos>, step: i64, steps: usize) -> Vec<f64> {
    let mut windows = vec![0.0; steps];
    for row in rows {
        let at = |time: i64| usize::try_from(time.saturating_sub(range.start.0).max(0) / step).unwrap_or(usize::MAX);
        let (first, last) = (at(row.name.start.0), at(row.name.last().0.saturating_sub(1)));
        windows.iter_mut().take(last.saturating_add(1)).skip(first).for_each(|number| *number += 1.0);
    }
    windows
}

/// A step in seconds, as nanoseconds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "steps are checked to be within what is counted"
)]
pub(super) fn step_nanos(seconds: f64, range: &Range<UnixNanos>) -> Result<i64, WebError> {
    let asked = range.end.0.saturating_sub(range.start.0);
    let nanos = seconds * 1e9;
    if !(nanos >= 1e6 && nanos < i64::MAX as f64) || asked / (nanos as i64) > series::MAX_STEPS {
        let most = series::MAX_STEPS;
        return Err(WebError::bad(format!("a step of {seconds} seconds is none, or gives more than {most} values")));
    }
    Ok(nanos as i64)
}
