//! Profiles as files: pprof for `go tool pprof http://…`, and every format that rprof writes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;

use super::app::{Answer, App, Work};
use super::error::WebError;
use super::params::Params;
use crate::encode::{Format, ReadOptions, WriteOptions};
use crate::profile::{KeptLabels, MergeOptions};
use crate::store::{Query, TIMESTAMP};

const PPROF: &str = "pprof";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/profile", get(profile)).route("/export", get(export))
}

/// pprof appends `seconds` to the address where `-seconds` is given: so much until now.
async fn profile(State(app): State<Arc<App>>, headers: HeaderMap, mut params: Params) -> Result<Response, WebError> {
    if let Some(seconds) = params.take("seconds") {
        params.set("width", format!("{seconds}s"));
    }
    params.expect(&[])?;
    answer(&app, &headers, &params, PPROF, false).await
}

async fn export(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Result<Response, WebError> {
    params.expect(&["format"])?;
    answer(&app, &headers, &params, params.get("format").unwrap_or(PPROF), true).await
}

async fn answer(
    app: &Arc<App>,
    headers: &HeaderMap,
    params: &Params,
    format: &str,
    as_file: bool,
) -> Result<Response, WebError> {
    let format = Format::by_name(format).map_err(|error| WebError::bad(error.to_string()))?;
    let query = params.query(&app.windows)?;
    let asked = format!("file {} {as_file} {query:?}", format.name);
    app.answer(headers, asked, vec![query.range.clone()], move |work| file(work, &query, format, as_file)).await
}

fn file(work: &Work, query: &Query, format: &'static Format, as_file: bool) -> Result<Answer, WebError> {
    let plan = work.plan(query)?;
    // Tracks of threads are what some formats show; a file by itself keeps all that it has.
    let keeps_all = matches!(format.name, "speedscope" | "firefox" | "html");
    let dropped = if keeps_all { vec![] } else { vec![TIMESTAMP.to_owned(), "tid".to_owned()] };
    let labels = KeptLabels::AllBut(dropped.into_iter().collect());
    let options = MergeOptions { labels: labels.clone(), functions_only: false };
    let sum = work.windows().sum(query, plan, &options, &ReadOptions { labels }, &|_| {}, &|_| {}, &work.limits)?;
    let profile = &sum.answer.profile;
    let value = profile.sample_types.get(sum.column()).map(|kind| profile.text(kind.name).to_owned());
    let options = WriteOptions { value };
    let answer = if format.name == PPROF {
        let mut bytes = Vec::new();
        (format.write)(profile, &options, &mut bytes)?;
        Answer::plain("application/octet-stream", bytes)
    } else {
        Answer::compressed(content_type(format), |out| Ok((format.write)(profile, &options, out)?))?
    };
    if !as_file {
        return Ok(answer);
    }
    let ending = if format.name == PPROF { "pb.gz" } else { format.endings.first().copied().unwrap_or("txt") };
    let kind: String =
        sum.plan.kind.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
    let start = query.range.start.0.div_euclid(1_000_000_000);
    Ok(answer.named(format!("rprof-{kind}-{start}.{ending}")))
}

fn content_type(format: &Format) -> &'static str {
    match format.name {
        "folded" => "text/plain; charset=utf-8",
        "flamegraph" => "image/svg+xml",
        "html" => "text/html; charset=utf-8",
        _ => "application/json",
    }
}
