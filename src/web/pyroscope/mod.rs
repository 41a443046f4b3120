//! The read side of Pyroscope's API, so that Grafana's data source and `profilecli` read local files. docs/serve.md tells what of it is
//! answered, and how its labels and types are ours.

mod connect;
mod labels;
mod merge;
mod messages;
mod pprof_json;
mod render;
mod tree;
mod types;

use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use self::connect::{Codec, ConnectError};
use self::merge::Question;
use self::messages::{
    DiffRequest, GetProfileStatsRequest, GetProfileStatsResponse, LabelNamesRequest, LabelValuesRequest, PprofProfile,
    ProfileTypesRequest, ProfileTypesResponse, SelectMergeProfileRequest, SelectMergeSpanProfileRequest,
    SelectMergeStacktracesRequest, SelectMergeStacktracesResponse, SelectSeriesRequest, SeriesRequest, format,
};
use self::types::Type;
use super::app::{Answer, App, Work};
use super::error::WebError;
use super::info::{EVER, Info};
use crate::encode::{EncodeError, pprof_message};
use crate::ids::UnixNanos;
use crate::profile::Profile;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/querier.v1.QuerierService/{method}", post(call))
        .route("/pyroscope/render", get(render::render))
        .route("/pyroscope/render-diff", get(render::render_diff))
}

async fn call(State(app): State<Arc<App>>, headers: HeaderMap, Path(method): Path<String>, body: Bytes) -> Response {
    let answered = match Codec::of(&headers) {
        Ok(codec) => Call { app: &app, headers: &headers, codec }.answer(&method, body).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

/// A call that is answered.
struct Call<'a> {
    app: &'a Arc<App>,
    headers: &'a HeaderMap,
    codec: Codec,
}

impl Call<'_> {
    async fn answer(&self, method: &str, body: Bytes) -> Result<Response, ConnectError> {
        let (headers, codec) = (self.headers, self.codec);
        match method {
            "ProfileTypes" => {
                let request: ProfileTypesRequest = codec.read(headers, body)?;
                let asked = format!("{request:?}");
                self.ever(asked, move |work| codec.write(&profile_types(work, &request)?)).await
            }
            "LabelNames" => {
                let request: LabelNamesRequest = codec.read(headers, body)?;
                self.ever(format!("{request:?}"), move |work| codec.write(&labels::names(work, &request)?)).await
            }
            "LabelValues" => {
                let request: LabelValuesRequest = codec.read(headers, body)?;
                self.ever(format!("{request:?}"), move |work| codec.write(&labels::values(work, &request)?)).await
            }
            "Series" => {
                let request: SeriesRequest = codec.read(headers, body)?;
                self.ever(format!("{request:?}"), move |work| codec.write(&labels::series(work, &request)?)).await
            }
            "GetProfileStats" => {
                let GetProfileStatsRequest {} = codec.read(headers, body)?;
                self.ever("GetProfileStats".into(), move |work| codec.write(&stats(work)?)).await
            }
            "SelectSeries" => {
                let request: SelectSeriesRequest = codec.read(headers, body)?;
                let range = labels::milliseconds(request.start, request.end)?;
                let asked = format!("{request:?}");
                self.of(asked, vec![range], move |work| codec.write(&merge::select_series(work, &request)?)).await
            }
            "SelectMergeStacktraces" => {
                let request: SelectMergeStacktracesRequest = codec.read(headers, body)?;
                self.stacktraces(&request).await
            }
            "SelectMergeSpanProfile" => {
                let request: SelectMergeSpanProfileRequest = codec.read(headers, body)?;
                let spans = request.span_selector.len();
                Err(WebError::bad(format!(
                    "windows hold no spans, and {spans} were asked for; select samples by labels"
                ))
                .into())
            }
            "SelectMergeProfile" => {
                let request: SelectMergeProfileRequest = codec.read(headers, body)?;
                let question = Question::of_profile(&request)?;
                let about = vec![question.range.clone()];
                let asked = format!("SelectMergeProfile {question:?}");
                self.of(asked, about, move |work| whole_profile(codec, &merge::profile(work, &question)?)).await
            }
            "Diff" => {
                let request: DiffRequest = codec.read(headers, body)?;
                let sides = merge::diff_sides(&request)?;
                let about = vec![sides[0].range.clone(), sides[1].range.clone()];
                let asked = format!("Diff {sides:?}");
                self.of(asked, about, move |work| codec.write(&merge::diff(work, &sides)?)).await
            }
            _ => Err(ConnectError::unknown_procedure(method)),
        }
    }

    async fn stacktraces(&self, request: &SelectMergeStacktracesRequest) -> Result<Response, ConnectError> {
        let codec = self.codec;
        let mut question = Question::new(request)?;
        let form = request.format;
        if form == format::DOT || !(format::UNSPECIFIED..=format::PPROF).contains(&form) {
            let message = "graphs for Graphviz are not written; ask for FLAMEGRAPH, TREE or PPROF";
            return Err(WebError::new(StatusCode::NOT_IMPLEMENTED, message).into());
        }
        if form == format::PPROF && request.max_nodes.unwrap_or(0) == 0 {
            question.nodes = 0;
        }
        let about = vec![question.range.clone()];
        let asked = format!("SelectMergeStacktraces {form} {question:?}");
        self.of(asked, about, move |work| match form {
            format::PPROF => pprof(codec, &merge::profile(work, &question)?),
            _ => {
                let Some(tree) = merge::tree(work, &question)? else {
                    return codec.write(&SelectMergeStacktracesResponse::default());
                };
                let mut answer = SelectMergeStacktracesResponse::default();
                if form == format::TREE {
                    answer.tree = tree.bytes();
                } else {
                    debug_assert!(matches!(form, format::UNSPECIFIED | format::FLAMEGRAPH));
                    answer.flamegraph = Some(tree.flame_graph());
                }
                codec.write(&answer)
            }
        })
        .await
    }

    /// Answers a question about some times.
    async fn of(
        &self,
        asked: String,
        about: Vec<Range<UnixNanos>>,
        work: impl FnOnce(&Work) -> Result<Answer, WebError> + Send + 'static,
    ) -> Result<Response, ConnectError> {
        Ok(self.app.answer(self.headers, format!("{:?} {asked}", self.codec), about, work).await?)
    }

    /// Answers a question that names of windows decide.
    async fn ever(
        &self,
        asked: String,
        work: impl FnOnce(&Work) -> Result<Answer, WebError> + Send + 'static,
    ) -> Result<Response, ConnectError> {
        let asked = format!("{:?} {asked}", self.codec);
        Ok(self.app.answer_unbounded(self.headers, asked, vec![EVER], work).await?)
    }
}

/// The types of which there are windows in a time; all, if none is asked for.
fn profile_types(work: &Work, request: &ProfileTypesRequest) -> Result<ProfileTypesResponse, WebError> {
    let info = Info::of(work)?;
    let mut types = Type::all(&info);
    if request.start != 0 || request.end != 0 {
        let range = labels::milliseconds(request.start, request.end)?;
        let in_time: std::collections::BTreeSet<String> =
            work.windows().names(&range)?.into_iter().map(|name| name.kind).collect();
        types.retain(|of| in_time.contains(&of.kind));
    }
    Ok(ProfileTypesResponse { profile_types: types.into_iter().map(|of| of.shown).collect() })
}

fn stats(work: &Work) -> Result<GetProfileStatsResponse, WebError> {
    let span = Info::of(work)?.span();
    let milliseconds = |time: UnixNanos| time.0.div_euclid(1_000_000);
    Ok(GetProfileStatsResponse {
        data_ingested: span.is_some(),
        oldest_profile_time: span.map_or(0, |(start, _)| milliseconds(start)),
        newest_profile_time: span.map_or(0, |(_, end)| milliseconds(end)),
    })
}

/// A profile as a whole answer: the message of `google.v1`.
fn whole_profile(codec: Codec, profile: &Profile) -> Result<Answer, WebError> {
    match codec {
        Codec::Proto => codec.bytes(&pprof_message(profile)?),
        Codec::Json => codec.bytes(&text(&pprof_json::of(profile))?),
    }
}

/// A profile within the answer of `SelectMergeStacktraces`.
fn pprof(codec: Codec, profile: &Profile) -> Result<Answer, WebError> {
    match codec {
        Codec::Proto => {
            let pprof = Some(PprofProfile { profile: pprof_message(profile)? });
            codec.write(&SelectMergeStacktracesResponse { pprof, ..SelectMergeStacktracesResponse::default() })
        }
        Codec::Json => codec.bytes(&text(&json!({ "pprof": { "profile": pprof_json::of(profile) } }))?),
    }
}

fn text(value: &serde_json::Value) -> Result<Vec<u8>, WebError> {
    serde_json::to_vec(value).map_err(|error| EncodeError::Io(error.into()).into())
}
