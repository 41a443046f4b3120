//! Two times compared, as `rprof diff` compares them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;

use super::api;
use super::app::{Answer, App, Work};
use super::error::WebError;
use super::params::Params;
use crate::encode::page_json::{self, Change, Changes, PageMeta, Side};
use crate::profile::compare::{CompareError, CompareOptions, Comparison, ENOUGH_WINDOWS, Normalize, SideSummary};
use crate::profile::names::comparable;
use crate::profile::{KeptLabels, MergeOptions, Profile};
use crate::store::{CompareSidesError, Compared, Query, Read, SideOptions, TIMESTAMP, column_of};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/diff", get(diff))
}

async fn diff(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Result<Response, WebError> {
    params.expect(&["base_from", "base_to", "base_around", "base_width", "normalize"])?;
    let new = params.query(&app.windows)?;
    let base = params.query_of(&app.windows, ["base_from", "base_to", "base_around", "base_width"])?;
    let normalize = normalize(params.get("normalize"))?;
    let about = vec![base.range.clone(), new.range.clone()];
    let asked = format!("diff {normalize:?} {base:?} {new:?}");
    app.answer(&headers, asked, about, move |work| answer(work, &base, &new, normalize)).await
}

fn normalize(name: Option<&str>) -> Result<Option<Normalize>, WebError> {
    match name {
        None => Ok(None),
        Some("cpus") => Ok(Some(Normalize::Cpus)),
        Some("share") => Ok(Some(Normalize::Share)),
        Some("samples") => Ok(Some(Normalize::Samples)),
        Some(other) => Err(WebError::bad(format!("values are divided by cpus, share or samples, not by {other:?}"))),
    }
}

fn answer(work: &Work, base: &Query, new: &Query, normalize: Option<Normalize>) -> Result<Answer, WebError> {
    // The kind that is usual on the new side is that of both.
    let plan = work.plan(new)?;
    let kind = Some(plan.kind.clone());
    let [base, new] = [base, new].map(|query| Query { kind: kind.clone(), ..query.clone() });
    let labels = KeptLabels::AllBut([TIMESTAMP.to_owned(), "tid".to_owned()].into());
    let options = SideOptions {
        compare: CompareOptions { normalize, ..CompareOptions::default() },
        value: work.windows().file_range().and(kind),
        sums: Some(MergeOptions { labels, functions_only: true }),
        limits: work.limits.clone(),
        ..SideOptions::default()
    };
    let compared = work.windows().compare(&base, &new, &options);
    if let Err(CompareSidesError::Compare(CompareError::Nothing(side))) = &compared {
        return untested(work, [&base, &new], normalize, side);
    }
    let Compared { comparison, sides: [base_read, new_read] } = compared?;
    let (changes, remarks) = (changes(&comparison), remarks(&comparison));
    let about = Changes { normalize: comparison.normalize.name(), comparable, changes: &changes, remarks: &remarks };
    let [base_meta, new_meta] = [(&base, &base_read, 0), (&new, &new_read, 1)]
        .map(|(query, read, side)| meta(work, query, read, &plan.kind, &comparison.sides[side]));
    let empty = Profile::default();
    let [base, new] = [(&base_read, &base_meta), (&new_read, &new_meta)].map(|(read, meta)| {
        let profile = read.sum.as_ref().unwrap_or(&empty);
        Side { profile, column: column_of(profile, &plan.kind).unwrap_or(0), meta }
    });
    Answer::json(|out| Ok(page_json::write_diff(base, new, &about, out)?))
}

/// Both sums without any test: what is selected is on one side alone, as a process that began between the two times.
fn untested(
    work: &Work,
    [base, new]: [&Query; 2],
    normalize: Option<Normalize>,
    empty: &str,
) -> Result<Answer, WebError> {
    let (base_sum, new_sum) = (api::sum(work, base, Some(false))?, api::sum(work, new, Some(false))?);
    let (base_meta, new_meta) = (api::meta(work, base, &base_sum), api::meta(work, new, &new_sum));
    let remarks = [format!("the {empty} side has no process that was selected: nothing is tested")];
    let normalize = normalize.unwrap_or(Normalize::Cpus).name();
    let about = Changes { normalize, comparable, changes: &[], remarks: &remarks };
    let [base, new] = [(&base_sum, &base_meta), (&new_sum, &new_meta)].map(|(sum, meta)| Side {
        profile: &sum.answer.profile,
        column: sum.column(),
        meta,
    });
    Answer::json(|out| Ok(page_json::write_diff(base, new, &about, out)?))
}

/// What makes a comparison doubtful, as `rprof diff` tells it.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let few = format!(
        "fewer than {ENOUGH_WINDOWS} sub-windows a side do not tell how much values vary: a tenth is assumed (longer ranges, or record --timestamps)"
    );
    let unlike = comparison.unlike().into_iter().map(|unlike| format!("unlike: {}", unlike.0));
    let few = (!comparison.measured).then_some(few);
    few.into_iter().chain(comparison.remarks.iter().cloned()).chain(unlike).collect()
}

fn changes(comparison: &Comparison) -> Vec<Change<'_>> {
    let order = comparison.by_change(|change| &change.total);
    let change = |at: usize| {
        let change = &comparison.functions[at];
        Change {
            function: &change.function.name,
            module: &change.function.module,
            base_total: change.total.rate[0],
            new_total: change.total.rate[1],
            base_self: change.own.rate[0],
            new_self: change.own.rate[1],
            low: change.total.low,
            high: change.total.high,
            significant: change.is_significant(),
            significant_total: change.total.significant,
            significant_self: change.own.significant,
            verdict: change.verdict.name(),
        }
    };
    order.into_iter().map(change).collect()
}

/// What the page is told of a side besides its samples.
#[allow(clippy::cast_possible_truncation, reason = "whole nanoseconds of a number of seconds")]
fn meta(work: &Work, query: &Query, read: &Read, kind: &str, side: &SideSummary) -> PageMeta {
    let gaps = read.plan.iter().flat_map(|plan| &plan.gaps);
    let hosts: Vec<&str> = read.plan.iter().flat_map(|plan| &plan.hosts).map(String::as_str).collect();
    let hosts = hosts.join(", ");
    let number = i64::try_from(read.plan.as_ref().map_or(1, |plan| plan.hosts.len().max(1))).unwrap_or(1);
    PageMeta {
        kind: kind.to_owned(),
        from_nanos: query.range.start.0,
        to_nanos: query.range.end.0,
        covered_nanos: (side.seconds * 1e9) as i64 / number,
        cpus: side.about.cpus.iter().max().copied().unwrap_or(0),
        title: if hosts.is_empty() { work.windows().name() } else { hosts },
        gaps: gaps.map(|gap| [gap.start.0, gap.end.0]).collect(),
        unreadable: read.unreadable.clone(),
        lost: Some(side.about.lost),
        times: false,
    }
}
