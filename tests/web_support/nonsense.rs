//! What is asked is nothing, everything, or nonsense: whatever it is, no handler may fail.

use serde_json::{Value, json};

use super::support::{START, TIME, directory, serve};
use super::{CPU, MILLISECONDS, idle_in_a_minute, request, with};

/// All procedures of the service, and one that there is not.
const METHODS: [&str; 11] = [
    "ProfileTypes",
    "LabelNames",
    "LabelValues",
    "Series",
    "GetProfileStats",
    "SelectSeries",
    "SelectMergeStacktraces",
    "SelectMergeSpanProfile",
    "SelectMergeProfile",
    "Diff",
    "NoSuchProcedure",
];

/// A request with every field of every message, each with a value that means something.
fn everything() -> Value {
    let mut all = json!({
        "profileTypeID": CPU, "labelSelector": "{service_name=\"node\"}", "start": MILLISECONDS, "end": MILLISECONDS + 600_000,
        "matchers": ["{pid=\"77\"}", "{}"], "name": "service_name", "labelNames": ["service_name", "pid"], "groupBy": ["pid"],
        "step": 60, "aggregation": "TIME_SERIES_AGGREGATION_TYPE_AVERAGE", "limit": 2, "maxNodes": 5,
        "format": "PROFILE_FORMAT_PPROF",
        "stackTraceSelector": { "callSite": [{ "name": "main" }], "goPgo": { "keepLocations": 1, "aggregateCallees": true } },
    });
    all["left"] = all.clone();
    all["right"] = all["left"].clone();
    all
}

/// Each field of [`everything`] with values that mean nothing, one at a time.
fn nonsense() -> Vec<Value> {
    let values = [
        json!(null),
        json!(-1),
        json!(0),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(1e300),
        json!(""),
        json!("}{=~\"("),
        json!("{a=~\"[\"}"),
        json!("::::"),
        json!([]),
        json!([[[]]]),
        json!({}),
        json!({ "callSite": [{}] }),
        json!(true),
        json!(["\u{0}", "{pid!~\".*\"}"]),
    ];
    let all = everything();
    let fields: Vec<String> = all.as_object().unwrap().keys().cloned().collect();
    let mut requests = vec![json!([]), json!("x"), json!(7)];
    for field in &fields {
        requests.extend(values.iter().map(|value| with(all.clone(), field, value.clone())));
    }
    requests
}

/// Whatever is asked, a handler answers or refuses; none fails, and what is refused is told in Connect's words.
#[test]
fn no_procedure_fails_whatever_is_asked() {
    let (full, mixed, empty) = (directory(), idle_in_a_minute(), tempfile::tempdir().unwrap());
    std::fs::create_dir(empty.path().join("2026-11-22")).unwrap();
    for folder in [&full, &mixed, &empty] {
        let server = serve(folder.path(), &[]);
        for method in METHODS {
            let mut bodies: Vec<(&str, Vec<u8>)> = vec![("json", vec![]), ("json", b"{}".to_vec()), ("proto", vec![])];
            bodies.push(("json", everything().to_string().into_bytes()));
            bodies.extend(broken_messages().into_iter().map(|body| ("proto", body)));
            if folder.path() == full.path() {
                bodies.extend(nonsense().into_iter().map(|request| ("json", request.to_string().into_bytes())));
            }
            for (kind, body) in bodies {
                let answer = server.call(method, kind, &body);
                let asked = || format!("{method} {}: {}", String::from_utf8_lossy(&body), answer.text());
                assert_ne!(answer.status, 500, "{}", asked());
                assert_eq!(
                    answer.status == 200,
                    answer.header("content-type") == Some(&*format!("application/{kind}"))
                        && answer.json_code().is_none(),
                    "{}",
                    asked()
                );
                if method == "NoSuchProcedure" {
                    assert_eq!(
                        (answer.status, answer.json_code().as_deref()),
                        (404, Some("unimplemented")),
                        "{}",
                        asked()
                    );
                }
            }
        }
    }
}

/// A request in protobuf, cut and changed at each byte in turn.
fn broken_messages() -> Vec<Vec<u8>> {
    let whole = request("{}");
    let cut = (0..whole.len()).step_by(5).map(|at| whole[..at].to_vec());
    let changed = (0..whole.len()).step_by(7).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x85;
        bytes
    });
    cut.chain(changed).collect()
}

#[test]
fn no_other_address_fails_whatever_is_asked() {
    let full = directory();
    let server = serve(full.path(), &[]);
    let values = [
        "",
        "0",
        "-1",
        "now",
        "@0",
        "@9223372036",
        "-99999999999h",
        "99999999999999999999",
        "1ns",
        "0s",
        "1e9",
        "%00",
        "%7B%7D",
        "%7Bpid%3D%2242%22%7D",
        "pid=~%22%28%22",
        "pid=1",
        "cpu",
        "nothing",
        "%F0%9F%A6%80",
        "json",
        "pprof",
        "lines",
    ];
    let names = [
        ("/api/info", &[][..]),
        ("/api/series", &["from", "to", "around", "width", "kind", "where", "by", "step"]),
        ("/api/heatmap", &["from", "to", "around", "width", "kind", "where"]),
        ("/api/profile", &["from", "to", "around", "width", "kind", "where", "detail"]),
        ("/api/diff", &["from", "to", "kind", "where", "base_from", "base_to", "by", "detail"]),
        ("/profile", &["from", "to", "kind", "where", "seconds"]),
        ("/export", &["from", "to", "kind", "where", "format"]),
        ("/pyroscope/render", &["query", "from", "until", "format", "maxNodes", "groupBy", "aggregation"]),
        ("/pyroscope/render-diff", &["leftQuery", "leftFrom", "leftUntil", "rightQuery", "rightFrom", "rightUntil"]),
    ];
    let query = format!("query={CPU}&from={START}&until={}", START + 600);
    for (path, names) in names {
        let mut targets =
            vec![path.to_owned(), format!("{path}?{TIME}"), format!("{path}?{query}"), format!("{path}?=&=")];
        for name in names {
            targets.extend(values.iter().map(|value| format!("{path}?{name}={value}")));
            targets.extend(values.iter().map(|value| format!("{path}?{TIME}&{name}={value}")));
            targets.extend(values.iter().map(|value| format!("{path}?{query}&{name}={value}")));
        }
        for target in targets {
            let answer = server.get(&target);
            assert_ne!(answer.status, 500, "{target}: {}", answer.text());
        }
    }
}
