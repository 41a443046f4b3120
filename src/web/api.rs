//! Our own JSON, which the page reads.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;
use serde::Serialize;

use super::app::{Answer, App, Work};
use super::error::WebError;
use super::heatmap;
use super::info::{EVER, Info};
use super::params::Params;
use crate::encode::page_json::{self, PageMeta};
use crate::encode::{EncodeError, ReadOptions};
use crate::profile::{KeptLabels, MergeOptions};
use crate::store::series::SeriesError;
use crate::store::{By, Query, Series, Sum, TIMESTAMP, series};

/// Beyond so many windows a profile is one of functions, without lines and threads, unless it is asked for.
const DETAILED: usize = 30;
/// Values of a series, if no step is asked for.
const VALUES: i64 = 1440;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/info", get(info))
        .route("/api/series", get(series))
        .route("/api/heatmap", get(heat))
        .route("/api/profile", get(profile))
}

async fn info(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Result<Response, WebError> {
    params.expect(&[])?;
    app.ever(&headers, "info", |work| json(&Info::of(work)?.to_json(work))).await
}

async fn series(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Result<Response, WebError> {
    params.expect(&["by", "step"])?;
    let query = params.query(&app.windows)?;
    let by = By::from(params.get("by").unwrap_or_default());
    let step = series::asked_step(params.get("step"), &query.range, VALUES)?;
    let asked = format!("series {by:?} {step} {query:?}");
    app.answer(&headers, asked, vec![query.range.clone()], move |work| {
        let plan = work.plan_of_series(&query)?;
        let range = series::whole_steps(&query.range, step);
        if let By::Label(key) = &by
            && !work.knows_label(&plan.rows, key)?
        {
            return Err(SeriesError::NotBy(key.clone()).into());
        }
        let series = Series::asked(&plan.rows, &range, step, &by, &query.selector, &work.limits)?;
        json(&series.to_json(&query, &plan))
    })
    .await
}

async fn heat(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Result<Response, WebError> {
    params.expect(&[])?;
    let query = params.query(&app.windows)?;
    let asked = format!("heatmap {query:?}");
    app.answer(&headers, asked, vec![query.range.clone()], move |work| json(&heatmap::of(work, &query)?)).await
}

async fn profile(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Result<Response, WebError> {
    params.expect(&["detail"])?;
    let query = params.query(&app.windows)?;
    let detail = detail(&params)?;
    let asked = format!("profile {detail:?} {query:?}");
    app.answer(&headers, asked, vec![query.range.clone()], move |work| {
        let sum = sum(work, &query, detail)?;
        let meta = meta(work, &query, &sum);
        Answer::json(|out| Ok(page_json::write(&sum.answer.profile, sum.column(), &meta, out)?))
    })
    .await
}

/// Adds up what a question asks for, with the labels that the page groups by.
pub(super) fn sum(work: &Work, query: &Query, detail: Option<bool>) -> Result<Sum, WebError> {
    let plan = work.plan(query)?;
    let detailed = detail.unwrap_or(plan.rows.len() <= DETAILED);
    let dropped = if detailed { vec![TIMESTAMP] } else { vec![TIMESTAMP, "tid"] };
    let labels = KeptLabels::AllBut(dropped.into_iter().map(str::to_owned).collect());
    let options = MergeOptions { labels: labels.clone(), functions_only: !detailed };
    Ok(work.windows().sum(query, plan, &options, &ReadOptions { labels }, &|_| {}, &|_| {}, &work.limits)?)
}

/// What the page is told of a sum besides its samples.
pub(super) fn meta(work: &Work, query: &Query, sum: &Sum) -> PageMeta {
    let rows = &sum.plan.rows;
    let hosts = sum.plan.hosts.iter().filter(|host| !host.is_empty()).cloned().collect::<Vec<_>>().join(", ");
    PageMeta {
        kind: sum.plan.kind.clone(),
        from_nanos: query.range.start.0,
        to_nanos: query.range.end.0,
        covered_nanos: sum.covered,
        cpus: rows.iter().map(|row| row.summary.cpus).max().unwrap_or(0),
        title: if hosts.is_empty() { work.windows().name() } else { hosts },
        gaps: sum.plan.gaps.iter().map(|gap| [gap.start.0, gap.end.0]).collect(),
        unreadable: sum.answer.unreadable.clone(),
        lost: Some(sum.counted(sum.column()).lost),
        times: false,
    }
}

fn json(value: &impl Serialize) -> Result<Answer, WebError> {
    Answer::json(|out| serde_json::to_writer(out, value).map_err(|error| EncodeError::Io(error.into()).into()))
}

impl App {
    /// Answers a question about all that there is.
    async fn ever(
        self: &Arc<App>,
        headers: &HeaderMap,
        asked: &str,
        work: impl FnOnce(&Work) -> Result<Answer, WebError> + Send + 'static,
    ) -> Result<Response, WebError> {
        self.answer_unbounded(headers, asked.to_owned(), vec![EVER], work).await
    }
}

/// Whether lines and threads are kept; by default, if there are few windows.
fn detail(params: &Params) -> Result<Option<bool>, WebError> {
    match params.get("detail") {
        None | Some("auto") => Ok(None),
        Some("lines") => Ok(Some(true)),
        Some("functions") => Ok(Some(false)),
        Some(other) => Err(WebError::bad(format!("detail is lines, functions or auto, not {other:?}"))),
    }
}
