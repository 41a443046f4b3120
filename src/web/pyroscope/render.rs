//! Pyroscope's older way to ask: `/pyroscope/render` and `/pyroscope/render-diff`, answered in the JSON that its flame graphs read
//! ("flamebearer", <https://github.com/grafana/pyroscope/blob/main/pkg/og/structs/flamebearer/flamebearer.go>).

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::labels::Conditions;
use super::merge::{self, Question};
use super::messages::{FlameGraph, Level, SelectSeriesRequest, Series};
use super::tree::Tree;
use super::types::check_id;
use crate::encode::EncodeError;
use crate::ids::UnixNanos;
use crate::store::series;
use crate::web::app::{Answer, App, Work};
use crate::web::error::WebError;
use crate::web::params::Params;
use crate::when;

/// Values of a time line at most, and the least time between two.
const VALUES: i64 = 1500;
const MIN_STEP: i64 = 15_000_000_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

pub(super) async fn render(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, WebError> {
    params.expect_only(&["query", "from", "until", "format", "maxNodes", "max-nodes", "groupBy", "aggregation"])?;
    json_only(&params)?;
    let question = question(&params, ["query", "from", "until"])?;
    let group = params.get("groupBy").map(str::to_owned);
    let average = match params.get("aggregation") {
        None | Some("sum") => false,
        Some("avg") => true,
        Some(other) => return Err(WebError::bad(format!("aggregation is sum or avg, not {other:?}"))),
    };
    let asked = format!("render {question:?} {group:?} {average}");
    let about = vec![question.range.clone()];
    app.answer(&headers, asked, about, move |work| json_answer(&single(work, &question, group, average)?)).await
}

pub(super) async fn render_diff(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, WebError> {
    let of_side = ["leftQuery", "leftFrom", "leftUntil", "rightQuery", "rightFrom", "rightUntil"];
    params.expect_only(&[&of_side[..], &["format", "maxNodes", "max-nodes"]].concat())?;
    json_only(&params)?;
    let side = |names: &[&'static str]| question(&params, [names[0], names[1], names[2]]);
    let sides = [side(&of_side[..3])?, side(&of_side[3..])?];
    if sides[0].type_id != sides[1].type_id {
        return Err(WebError::bad("both sides are of one profile type"));
    }
    let about = vec![sides[0].range.clone(), sides[1].range.clone()];
    app.answer(&headers, format!("render-diff {sides:?}"), about, move |work| {
        let graph = merge::diff(work, &sides)?.flamegraph.unwrap_or_default();
        let (left, right) = (graph.left_ticks, graph.right_ticks);
        let shown =
            FlameGraph { names: graph.names, levels: graph.levels, total: graph.total, max_self: graph.max_self };
        let mut document = flamebearer(&shown, &sides[0].type_id, "double");
        document["leftTicks"] = json!(left);
        document["rightTicks"] = json!(right);
        json_answer(&document)
    })
    .await
}

fn json_only(params: &Params) -> Result<(), WebError> {
    match params.get("format") {
        None | Some("json") => Ok(()),
        Some(other) => {
            let message = format!("the format {other:?} is not written; take json, or /export for files");
            Err(WebError::new(StatusCode::NOT_IMPLEMENTED, message))
        }
    }
}

fn json_answer(document: &Value) -> Result<Answer, WebError> {
    Answer::json(|out| serde_json::to_writer(out, document).map_err(|error| EncodeError::Io(error.into()).into()))
}

/// Reads `TYPE{SELECTOR}` or `{__profile_type__="TYPE",…}`, and the time, of these parameters.
fn question(params: &Params, [query, from, until]: [&str; 3]) -> Result<Question, WebError> {
    let text = params.get(query).ok_or_else(|| WebError::bad(format!("the parameter {query:?} is missing")))?;
    let (id, selector) = text.split_at(text.find('{').unwrap_or(text.len()));
    let conditions = Conditions::parse(selector)?;
    let id = if id.trim().is_empty() { conditions.types.text("__profile_type__").unwrap_or_default() } else { id };
    check_id(id)?;
    let now = UnixNanos::from(SystemTime::now());
    let time = |name: &str| params.get(name).map(|text| time(text, now)).transpose().map_err(WebError::bad);
    let (from, until) = (time(from)?, time(until)?.unwrap_or(now));
    let from = from.unwrap_or(UnixNanos(until.0.saturating_sub(3600 * SECOND)));
    if from >= until {
        return Err(WebError::bad(format!(
            "the asked time is empty: it begins at {} and ends at {}",
            when::show(from),
            when::show(until)
        )));
    }
    let nodes = params.get("maxNodes").or(params.get("max-nodes")).unwrap_or("8192");
    let nodes = nodes.parse().map_err(|_| WebError::bad(format!("maxNodes is a number, not {nodes:?}")))?;
    Ok(Question { type_id: id.to_owned(), selector: selector.to_owned(), range: from..until, nodes, stacks: None })
}

/// A time as we read it, or as Pyroscope does: digits are seconds, milliseconds, microseconds or nanoseconds since 1970, by their number.
fn time(text: &str, now: UnixNanos) -> Result<UnixNanos, String> {
    let bare = text.len() >= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !bare {
        return when::parse(text, now);
    }
    let scale = match text.len() {
        ..=11 => SECOND,
        12..=14 => MILLISECOND,
        15..=17 => 1000,
        _ => 1,
    };
    let number: Option<i64> = text.parse().ok();
    number.and_then(|number| number.checked_mul(scale)).map(UnixNanos).ok_or_else(|| format!("{text:?} is no time"))
}

fn single(work: &Work, question: &Question, group: Option<String>, average: bool) -> Result<Value, WebError> {
    let tree = merge::tree(work, question)?;
    let graph = tree.as_ref().map(Tree::flame_graph).unwrap_or_default();
    let mut document = flamebearer(&graph, &question.type_id, "single");
    let step = series::step(&question.range, VALUES).max(MIN_STEP);
    let range = series::whole_steps(&question.range, step);
    document["timeline"] = match &over_time(work, question, &range, step, None, average)?[..] {
        [series] => timeline(series, &range, step),
        _ => timeline(&Series::default(), &range, step),
    };
    if let Some(group) = group {
        let mut groups = serde_json::Map::new();
        for series in over_time(work, question, &range, step, Some(group), average)? {
            let name = series.labels.first().map(|label| label.value.clone()).filter(|value| !value.is_empty());
            groups.insert(name.unwrap_or_else(|| "*".into()), timeline(&series, &range, step));
        }
        document["groups"] = groups.into();
    }
    Ok(document)
}

/// Values over time; none where the index does not tell what the flame graph, which is made of samples, is selected by.
#[allow(clippy::cast_precision_loss, reason = "whole seconds")]
fn over_time(
    work: &Work,
    question: &Question,
    range: &Range<UnixNanos>,
    step: i64,
    group: Option<String>,
    average: bool,
) -> Result<Vec<Series>, WebError> {
    let request = SelectSeriesRequest {
        profile_type_id: question.type_id.clone(),
        label_selector: question.selector.clone(),
        start: range.start.0.div_euclid(MILLISECOND),
        end: range.end.0.div_euclid(MILLISECOND) + i64::from(range.end.0.rem_euclid(MILLISECOND) > 0),
        group_by: group.into_iter().collect(),
        step: (step / SECOND) as f64,
        aggregation: Some(i32::from(average)),
        ..SelectSeriesRequest::default()
    };
    Ok(merge::series_if_told(work, &request)?.unwrap_or_default().series)
}

/// Values of each step, 0 without data.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of samples")]
fn timeline(series: &Series, range: &Range<UnixNanos>, step: i64) -> Value {
    let asked = range.end.0.saturating_sub(range.start.0);
    let steps = usize::try_from(asked / step + i64::from(asked % step > 0)).unwrap_or(0);
    let mut samples = vec![0_u64; steps];
    for point in &series.points {
        // A point stands at the end of its step.
        let at = point.timestamp.saturating_mul(MILLISECOND).saturating_sub(1).saturating_sub(range.start.0) / step;
        if let Some(sample) = usize::try_from(at).ok().and_then(|at| samples.get_mut(at)) {
            *sample = point.value.max(0.0).round() as u64;
        }
    }
    json!({
        "startTime": range.start.0.div_euclid(SECOND),
        "samples": samples,
        "durationDelta": step / SECOND,
        "watermarks": {},
    })
}

fn flamebearer(graph: &FlameGraph, type_id: &str, format: &str) -> Value {
    let mut parts = type_id.split(':').skip(1);
    let (name, unit) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // Of what Pyroscope calls samples, so many are a second.
    let (units, rate) = match (name, unit) {
        ("cpu", _) => ("samples", 1_000_000_000),
        (_, "count") => ("objects", 100),
        (_, "nanoseconds") => ("lock_nanoseconds", 100),
        _ => (unit, 100),
    };
    let levels: Vec<&[i64]> = graph.levels.iter().map(|Level { values }| &**values).collect();
    json!({
        "version": 1,
        "flamebearer": { "names": graph.names, "levels": levels, "numTicks": graph.total, "maxSelf": graph.max_self },
        "metadata": { "format": format, "spyName": "rprof", "sampleRate": rate, "units": units, "name": name },
        "timeline": null,
        "groups": null,
        "heatmap": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_times_by_their_number() {
        let now = UnixNanos(1_795_431_600_000_000_000);
        for text in ["1795431600", "1795431600000", "1795431600000000", "1795431600000000000", "now", "@1795431600"] {
            assert_eq!(time(text, now), Ok(now), "{text}");
        }
        assert_eq!(time("now-1h", now), Ok(UnixNanos(now.0 - 3600 * SECOND)));
        assert!(time("99999999999999999999", now).is_err());
    }
}
