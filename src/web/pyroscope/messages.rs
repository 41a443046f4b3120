//! The messages of `querier/v1/querier.proto` and `types/v1/types.proto` that are answered here, with their field numbers.
//! Source: <https://github.com/grafana/pyroscope/tree/main/api>. In JSON they have proto3's names and forms
//! (<https://protobuf.dev/programming-guides/json/>): numbers of 64 bits are texts, and what is empty is left away.

use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// `ProfileFormat`: how a merged profile is told.
pub(super) mod format {
    pub(in super::super) const UNSPECIFIED: i32 = 0;
    pub(in super::super) const FLAMEGRAPH: i32 = 1;
    pub(in super::super) const TREE: i32 = 2;
    pub(in super::super) const DOT: i32 = 3;
    pub(in super::super) const PPROF: i32 = 4;
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ProfileTypesRequest {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "2")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProfileTypesResponse {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) profile_types: Vec<ProfileType>,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProfileType {
    #[prost(string, tag = "1")]
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) sample_type: String,
    #[prost(string, tag = "5")]
    pub(super) sample_unit: String,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) period_type: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) period_unit: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct LabelNamesRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) matchers: Vec<String>,
    #[prost(int64, tag = "2")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct LabelValuesRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) matchers: Vec<String>,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
}

/// The answer of `LabelNames` and of `LabelValues`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct NamesResponse {
    #[prost(string, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SeriesRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) matchers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    #[serde(alias = "label_names")]
    pub(super) label_names: Vec<String>,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeriesResponse {
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) labels_set: Vec<Labels>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Labels {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<LabelPair>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize)]
pub(super) struct LabelPair {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SelectMergeStacktracesRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID")]
    pub(super) profile_type_id: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector")]
    pub(super) label_selector: String,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
    #[prost(int64, optional, tag = "5")]
    #[serde(deserialize_with = "optional_int64", alias = "max_nodes")]
    pub(super) max_nodes: Option<i64>,
    #[prost(int32, tag = "6")]
    #[serde(deserialize_with = "format_name")]
    pub(super) format: i32,
    #[prost(message, optional, tag = "7")]
    #[serde(alias = "stack_trace_selector")]
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    #[prost(string, repeated, tag = "8")]
    #[serde(alias = "profile_id_selector")]
    pub(super) profile_id_selector: Vec<String>,
    #[prost(message, optional, tag = "9")]
    #[serde(rename = "async")]
    pub(super) later: Option<AsyncQueryRequest>,
    #[prost(string, repeated, tag = "10")]
    #[serde(alias = "trace_id_selector")]
    pub(super) trace_id_selector: Vec<String>,
    #[prost(string, repeated, tag = "11")]
    #[serde(alias = "span_selector")]
    pub(super) span_selector: Vec<String>,
}

/// `AsyncQueryRequest`; its `type` is a name in JSON and a number on the wire.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(super) struct AsyncQueryRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "requestId", alias = "request_id")]
    pub(super) request_id: String,
    #[prost(int32, tag = "2")]
    #[serde(rename = "type", deserialize_with = "async_name")]
    pub(super) kind: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SelectMergeSpanProfileRequest {
    #[prost(string, repeated, tag = "3")]
    #[serde(alias = "span_selector")]
    pub(super) span_selector: Vec<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SelectMergeProfileRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID")]
    pub(super) profile_type_id: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector")]
    pub(super) label_selector: String,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
    #[prost(int64, optional, tag = "5")]
    #[serde(deserialize_with = "optional_int64", alias = "max_nodes")]
    pub(super) max_nodes: Option<i64>,
    #[prost(message, optional, tag = "6")]
    #[serde(alias = "stack_trace_selector")]
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    #[prost(string, repeated, tag = "7")]
    #[serde(alias = "profile_id_selector")]
    pub(super) profile_id_selector: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    #[serde(alias = "trace_id_selector")]
    pub(super) trace_id_selector: Vec<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct StackTraceSelector {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "call_site")]
    pub(super) call_site: Vec<Location>,
    #[prost(message, optional, tag = "2")]
    #[serde(alias = "go_pgo")]
    pub(super) go_pgo: Option<GoPgo>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(super) struct Location {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, Copy, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GoPgo {
    #[prost(uint32, tag = "1")]
    #[serde(alias = "keep_locations")]
    pub(super) keep_locations: u32,
    #[prost(bool, tag = "2")]
    #[serde(alias = "aggregate_callees")]
    pub(super) aggregate_callees: bool,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SelectMergeStacktracesResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flamegraph: Option<FlameGraph>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(skip_serializing_if = "is_default", serialize_with = "base64")]
    pub(super) tree: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pprof: Option<PprofProfile>,
}

/// `PprofProfile`. The profile is a message of `google.v1`, which looks on the wire as its bytes do.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct PprofProfile {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(skip)]
    pub(super) profile: Vec<u8>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FlameGraph {
    #[prost(string, repeated, tag = "1")]
    pub(super) names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) levels: Vec<Level>,
    #[prost(int64, tag = "3")]
    #[serde(serialize_with = "text")]
    pub(super) total: i64,
    #[prost(int64, tag = "4")]
    #[serde(serialize_with = "text")]
    pub(super) max_self: i64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FlameGraphDiff {
    #[prost(string, repeated, tag = "1")]
    pub(super) names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) levels: Vec<Level>,
    #[prost(int64, tag = "3")]
    #[serde(serialize_with = "text")]
    pub(super) total: i64,
    #[prost(int64, tag = "4")]
    #[serde(serialize_with = "text")]
    pub(super) max_self: i64,
    #[prost(int64, tag = "5")]
    #[serde(serialize_with = "text")]
    pub(super) left_ticks: i64,
    #[prost(int64, tag = "6")]
    #[serde(serialize_with = "text")]
    pub(super) right_ticks: i64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Level {
    #[prost(int64, repeated, tag = "1")]
    #[serde(serialize_with = "texts")]
    pub(super) values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(super) struct DiffRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) left: Option<SelectMergeStacktracesRequest>,
    #[prost(message, optional, tag = "2")]
    pub(super) right: Option<SelectMergeStacktracesRequest>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct DiffResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flamegraph: Option<FlameGraphDiff>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SelectSeriesRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID")]
    pub(super) profile_type_id: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector")]
    pub(super) label_selector: String,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "int64")]
    pub(super) end: i64,
    #[prost(string, repeated, tag = "5")]
    #[serde(alias = "group_by")]
    pub(super) group_by: Vec<String>,
    #[prost(double, tag = "6")]
    pub(super) step: f64,
    #[prost(int32, optional, tag = "7")]
    #[serde(deserialize_with = "aggregation_name")]
    pub(super) aggregation: Option<i32>,
    #[prost(message, optional, tag = "8")]
    #[serde(alias = "stack_trace_selector")]
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    #[prost(int64, optional, tag = "9")]
    #[serde(deserialize_with = "optional_int64")]
    pub(super) limit: Option<i64>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SelectSeriesResponse {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Series {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Copy, PartialEq, Message, Serialize)]
pub(super) struct Point {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    #[serde(serialize_with = "text")]
    pub(super) timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message, Deserialize)]
pub(super) struct GetProfileStatsRequest {}

#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetProfileStatsResponse {
    #[prost(bool, tag = "1")]
    pub(super) data_ingested: bool,
    #[prost(int64, tag = "2")]
    #[serde(serialize_with = "text")]
    pub(super) oldest_profile_time: i64,
    #[prost(int64, tag = "3")]
    #[serde(serialize_with = "text")]
    pub(super) newest_profile_time: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn text<S: Serializer>(number: &i64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(number)
}

fn texts<S: Serializer>(numbers: &[i64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(numbers.iter().map(ToString::to_string))
}

fn base64<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    use base64::Engine;
    to.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A number, or a text that is one.
fn int64<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    optional_int64(from).map(Option::unwrap_or_default)
}

fn optional_int64<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let value = Value::deserialize(from)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::String(text) => text.parse().ok(),
        number => number.as_i64(),
    };
    number.map(Some).ok_or_else(|| serde::de::Error::custom(format!("{value} is no whole number")))
}

fn format_name<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    named(from, "PROFILE_FORMAT_", &["UNSPECIFIED", "FLAMEGRAPH", "TREE", "DOT", "PPROF"])
}

fn aggregation_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
    named(from, "TIME_SERIES_AGGREGATION_TYPE_", &["SUM", "AVERAGE"]).map(Some)
}

fn async_name<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    named(from, "ASYNC_QUERY_TYPE_", &["DISABLED", "FORCE"])
}

/// The number of an enumeration's value, which JSON names.
fn named<'de, D: Deserializer<'de>>(from: D, prefix: &str, names: &[&str]) -> Result<i32, D::Error> {
    let value = Value::deserialize(from)?;
    let number = match &value {
        Value::Null => Some(0),
        Value::String(name) => names.iter().position(|known| name.strip_prefix(prefix) == Some(known)),
        number => number.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|&at| at < names.len()),
    };
    let number = number.and_then(|number| i32::try_from(number).ok());
    number.ok_or_else(|| serde::de::Error::custom(format!("{value} is none of {prefix}{}", names.join(", "))))
}
