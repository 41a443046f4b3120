//! The read side of Pyroscope's API: requests as Grafana's data source and `profilecli` send them, in protobuf and in JSON, and the
//! same totals as from everywhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "web_support/nonsense.rs"]
mod nonsense;
#[path = "web_support/mod.rs"]
mod support;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use rprof::encode::decode;
use rprof::profile::{Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile, Sample, StringId};
use serde_json::{Value, json};
use support::{START, Server, TIME, TOTAL, directory, processes, serve, versioned, window, write};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const MILLISECONDS: i64 = START * 1000;

/// The fields of a flame graph that the totals are in.
#[derive(Clone, PartialEq, Message)]
struct Flame {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    levels: Vec<Level>,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(int64, tag = "4")]
    max_self: i64,
    #[prost(int64, tag = "5")]
    left: i64,
    #[prost(int64, tag = "6")]
    right: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Level {
    #[prost(int64, repeated, tag = "1")]
    values: Vec<i64>,
}

/// `SelectMergeStacktracesResponse`; `pprof` holds one field, the profile.
#[derive(Clone, PartialEq, Message)]
struct Stacktraces {
    #[prost(message, optional, tag = "1")]
    flamegraph: Option<Flame>,
    #[prost(bytes = "vec", tag = "2")]
    tree: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pprof: Option<Inner>,
}

#[derive(Clone, PartialEq, Message)]
struct Inner {
    #[prost(bytes = "vec", tag = "1")]
    profile: Vec<u8>,
}

/// The recorded beginning of a request about the ten minutes: the type, and a selector.
fn request(selector: &str) -> Vec<u8> {
    let mut bytes = vec![0x0a, u8::try_from(CPU.len()).unwrap()];
    bytes.extend(CPU.as_bytes());
    bytes.extend([0x12, u8::try_from(selector.len()).unwrap()]);
    bytes.extend(selector.as_bytes());
    // 1795305600000 to 1795306200000.
    bytes.extend(hex("1880e8b584a03420c0b7da84a034"));
    bytes
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn proto<T: Message + Default>(server: &Server, method: &str, body: &[u8]) -> T {
    let answer = server.call(method, "proto", body);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/proto")), "{}", answer.text());
    T::decode(&*answer.body).unwrap()
}

fn ask(server: &Server, method: &str, request: &Value) -> Value {
    let answer = server.call(method, "json", request.to_string().as_bytes());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.text());
    answer.json()
}

fn about(selector: &str) -> Value {
    json!({ "profileTypeID": CPU, "labelSelector": selector, "start": MILLISECONDS.to_string(), "end": MILLISECONDS + 600_000 })
}

fn with(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

#[test]
fn totals_are_those_of_every_other_way_to_ask() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let worker = TOTAL / 100 * 6;
    for (selector, total) in
        [("{}", TOTAL), ("{service_name=\"node\"}", worker), ("{pid=\"77\",host=~\"he.*\"}", worker)]
    {
        let flame: Stacktraces = proto(&server, "SelectMergeStacktraces", &request(selector));
        let flame = flame.flamegraph.unwrap();
        assert_eq!(flame.total, total, "{selector}");
        assert_eq!(flame.names[0], "total");
        let own: i64 = flame.levels.iter().flat_map(|level| level.values.chunks(4)).map(|chunk| chunk[2]).sum();
        assert_eq!(own, total);

        let merged = server.call("SelectMergeProfile", "proto", &request(selector));
        let profile = decode(&merged.body).unwrap();
        assert_eq!((profile.sample_types.len(), profile.total(0)), (1, total.into()));
        let inner: Stacktraces = proto(&server, "SelectMergeStacktraces", &[request(selector), vec![0x30, 4]].concat());
        assert_eq!(decode(&inner.pprof.unwrap().profile).unwrap().total(0), total.into());
        let tree: Stacktraces = proto(&server, "SelectMergeStacktraces", &[request(selector), vec![0x30, 2]].concat());
        assert_eq!(own_of_tree(&tree.tree), total);

        let series = ask(&server, "SelectSeries", &with(about(selector), "step", json!(60)));
        let points = series["series"][0]["points"].as_array().unwrap();
        if selector == "{}" {
            assert_eq!(points.len(), 9);
        }
        let sum: f64 = points.iter().map(|point| point["value"].as_f64().unwrap()).sum();
        assert_eq!(sum.round() as i64, total, "{selector}");
    }
    let samples = with(about("{}"), "profileTypeID", json!("process_cpu:samples:count:cpu:nanoseconds"));
    assert_eq!(ask(&server, "SelectMergeStacktraces", &samples)["flamegraph"]["total"], "4900");
}

/// The own values in the bytes of a tree: a name, a value and a number of children for each node.
fn own_of_tree(mut bytes: &[u8]) -> i64 {
    let mut sum = 0;
    while !bytes.is_empty() {
        let length = prost::encoding::decode_varint(&mut bytes).unwrap();
        bytes = &bytes[usize::try_from(length).unwrap()..];
        sum += prost::encoding::decode_varint(&mut bytes).unwrap().cast_signed();
        prost::encoding::decode_varint(&mut bytes).unwrap();
    }
    sum
}

#[test]
fn recorded_requests_of_profilecli_are_answered() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    // query label-values-cardinality: LabelNames of {} in the ten minutes.
    let names = server.call("LabelNames", "proto", &hex("0a027b7d1080e8b584a03418c0b7da84a034"));
    assert!(names.status == 200 && names.body.windows(12).any(|name| name == b"service_name"), "{}", names.text());
    // query go-pgo: five locations of each stack, the leaf without its line.
    let asked = "0a2b70726f636573735f6370753a6370753a6e616e6f7365636f6e64733a6370753a6e616e6f7365636f6e6473\
                 12027b7d1880e8b584a03420c0b7da84a03430043a06120408051001";
    let pgo: Stacktraces = proto(&server, "SelectMergeStacktraces", &hex(&asked.replace(' ', "")));
    let profile = decode(&pgo.pprof.unwrap().profile).unwrap();
    assert_eq!(profile.total(0), TOTAL.into());
    for sample in &profile.samples {
        assert!(sample.stack.len() <= 5);
        let leaf = &profile.locations[sample.stack[0].0 as usize];
        assert!(leaf.lines.iter().all(|line| line.line == 0));
    }
}

#[test]
fn labels_and_series_are_told_by_the_index() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let types = ask(&server, "ProfileTypes", &json!({}));
    let ids: Vec<&str> =
        types["profileTypes"].as_array().unwrap().iter().map(|of| of["ID"].as_str().unwrap()).collect();
    assert_eq!(ids, [CPU, "process_cpu:samples:count:cpu:nanoseconds"]);
    assert_eq!(ask(&server, "ProfileTypes", &json!({ "start": "1000", "end": "2000" })), json!({}));
    let names = ask(&server, "LabelNames", &json!({}));
    let names: Vec<&str> = names["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(
        ["__profile_type__", "host", "pid", "process", "service_name"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    let values = |name: &str, matcher: &str| {
        ask(&server, "LabelValues", &json!({ "name": name, "matchers": [matcher] }))["names"].clone()
    };
    assert_eq!(values("service_name", "{}"), json!(["node", "server"]));
    assert_eq!(values("service_name", "{pid=\"77\"}"), json!(["node"]));
    assert_eq!(
        values("__profile_type__", "{service_name=\"node\"}"),
        json!([CPU, "process_cpu:samples:count:cpu:nanoseconds"])
    );
    assert_eq!(values("service_name", "{__profile_type__=\"memory:x:y:z:w\"}"), Value::Null);
    let labels = json!({ "labelNames": ["service_name", "__type__"], "matchers": ["{__type__=\"cpu\"}"] });
    let pair = |name: &str, value: &str| json!({ "name": name, "value": value });
    assert_eq!(
        ask(&server, "Series", &labels)["labelsSet"],
        json!([
            { "labels": [pair("__type__", "cpu"), pair("service_name", "node")] },
            { "labels": [pair("__type__", "cpu"), pair("service_name", "server")] },
        ])
    );
    let grouped = with(with(about("{}"), "groupBy", json!(["service_name"])), "step", json!(600));
    let series = ask(&server, "SelectSeries", &grouped);
    assert_eq!(series["series"][0]["labels"], json!([pair("service_name", "server")]));
    assert_eq!(
        series["series"][1]["points"],
        json!([{ "value": (TOTAL / 100 * 6) as f64, "timestamp": (MILLISECONDS + 600_000).to_string() }])
    );
    let limited = ask(&server, "SelectSeries", &with(grouped, "limit", json!(1)));
    assert_eq!(limited["series"].as_array().unwrap().len(), 1);
    let stats = ask(&server, "GetProfileStats", &json!({}));
    let end = (MILLISECONDS + 600_000).to_string();
    assert_eq!(
        stats,
        json!({ "dataIngested": true, "oldestProfileTime": MILLISECONDS.to_string(), "newestProfileTime": end })
    );
}

/// Four minutes: of one version, of another, of both, and of none.
fn versions() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (minute, versions) in (0..).zip([&["v1"][..], &["v2"], &["v1", "v2"]]) {
        write(folder.path(), minute, &versioned(minute, versions));
    }
    write(folder.path(), 3, &window(3, 1));
    folder
}

fn graph_total(server: &Server, request: &Value) -> i64 {
    ask(server, "SelectMergeStacktraces", request)["flamegraph"]["total"].as_str().unwrap().parse().unwrap()
}

fn series_total(server: &Server, request: &Value) -> i64 {
    let series = ask(server, "SelectSeries", &with(request.clone(), "step", json!(60)));
    let lines = series["series"].as_array().into_iter().flatten();
    let points = lines.flat_map(|line| line["points"].as_array().unwrap());
    points.map(|point| point["value"].as_f64().unwrap()).sum::<f64>().round() as i64
}

#[test]
fn labels_that_were_given_are_told() {
    let folder = versions();
    let server = serve(folder.path(), &[]);
    let names = ask(&server, "LabelNames", &json!({}));
    assert!(names["names"].as_array().unwrap().contains(&json!("version")), "{names}");
    let values = |name: &str, matcher: &str| {
        ask(&server, "LabelValues", &json!({ "name": name, "matchers": [matcher] }))["names"].clone()
    };
    assert_eq!(values("version", "{}"), json!(["v1", "v2"]));
    assert_eq!(values("version", "{version=\"v1\"}"), json!(["v1"]));
    assert_eq!(values("version", "{service_name=\"node\"}"), json!(["v1", "v2"]));
    assert_eq!(values("service_name", "{version=\"v1\"}"), json!(["node", "server"]));
    assert_eq!(values("service_name", "{version=\"v3\"}"), Value::Null);
    let pair = |value: &str| json!({ "labels": [{ "name": "version", "value": value }] });
    let sets = ask(&server, "Series", &json!({ "labelNames": ["version"] }));
    assert_eq!(sets["labelsSet"], json!([pair("v1"), pair("v2")]));
    let sets = ask(&server, "Series", &json!({ "matchers": ["{version=\"v2\"}"] }));
    assert!(sets.to_string().contains(&json!({ "name": "version", "value": "v2" }).to_string()), "{sets}");
}

#[test]
fn series_are_selected_by_labels_that_were_given() {
    let folder = versions();
    let server = serve(folder.path(), &[]);
    for selector in ["{version=\"v1\"}", "{version!=\"v1\"}", "{version=~\"v.\"}", "{version=\"\"}", "{mood!=\"x\"}"] {
        let total = graph_total(&server, &about(selector));
        assert!(total > 0, "{selector}");
        assert_eq!(series_total(&server, &about(selector)), total, "{selector}");
    }
    assert_eq!(series_total(&server, &about("{mood=\"x\"}")), 0);
    let two_minutes = with(about("{version=\"v1\",service_name=\"node\"}"), "end", json!(MILLISECONDS + 120_000));
    assert_eq!(series_total(&server, &two_minutes), graph_total(&server, &two_minutes));

    let grouped = with(with(about("{}"), "groupBy", json!(["version"])), "step", json!(600));
    let series = ask(&server, "SelectSeries", &grouped);
    let lines = series["series"].as_array().unwrap();
    let of = |version: Option<&str>| {
        let line = lines.iter().find(|line| line["labels"][0]["value"].as_str() == version).unwrap();
        line["points"][0]["value"].as_f64().unwrap().round() as i64
    };
    assert_eq!(lines.len(), 3, "{series}");
    assert_eq!(of(Some("v1")), graph_total(&server, &about("{version=\"v1\"}")));
    assert_eq!(of(None), graph_total(&server, &about("{version=\"\"}")));

    // Of the minute of both versions the index does not tell which process has which.
    for request in [
        with(about("{version=\"v1\",service_name=\"node\"}"), "step", json!(60)),
        with(grouped, "groupBy", json!(["service_name", "version"])),
    ] {
        let refused = server.call("SelectSeries", "json", request.to_string().as_bytes());
        assert!(refused.status == 400 && refused.text().contains("not version"), "{}", refused.text());
    }
}

#[test]
fn a_time_line_is_empty_where_the_index_does_not_tell_it() {
    let folder = versions();
    let server = serve(folder.path(), &[]);
    let render = |query: &str| {
        let query = query.replace('{', "%7B").replace('}', "%7D").replace('=', "%3D").replace('"', "%22");
        let answer = server.json(&format!("/pyroscope/render?query={query}&from={START}&until={}", START + 240));
        let samples = answer["timeline"]["samples"].as_array().unwrap();
        let sum: i64 = samples.iter().map(|sample| sample.as_i64().unwrap()).sum();
        (answer["flamebearer"]["numTicks"].as_i64().unwrap(), sum)
    };
    let (ticks, sum) = render(&format!("{CPU}{{version=\"v1\"}}"));
    assert_eq!(ticks, graph_total(&server, &about("{version=\"v1\"}")));
    assert!((sum - ticks).abs() <= 16, "{sum} and {ticks}");
    assert_eq!(render(&format!("{{__profile_type__=\"{CPU}\",version=\"v1\"}}")), (ticks, sum));
    for selector in ["{tid=\"77\"}", "{version=\"v1\",pid=\"42\"}"] {
        let (ticks, sum) = render(&format!("{CPU}{selector}"));
        assert!(ticks > 0 && sum == 0, "{selector}: {ticks} and {sum}");
    }
    assert_eq!(server.get("/pyroscope/render?query=%7Bversion%3D%22v1%22%7D").status, 400);
}

#[test]
fn what_costs_too_much_is_refused_in_connects_words() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &processes(50));
    let server = serve(folder.path(), &[]);
    let asked = with(with(about("{}"), "end", json!(MILLISECONDS + 99_000_000)), "step", json!(1));
    let large = server.call("SelectSeries", "json", with(asked, "groupBy", json!(["pid"])).to_string().as_bytes());
    assert_eq!((large.status, &large.json()["code"]), (429, &json!("resource_exhausted")), "{}", large.text());
    assert!(large.text().contains("a larger step"), "{}", large.text());

    let server = serve(folder.path(), &["--timeout", "1ns"]);
    for method in ["SelectSeries", "SelectMergeStacktraces"] {
        let late = server.call(method, "json", with(about("{}"), "step", json!(60)).to_string().as_bytes());
        assert_eq!((late.status, &late.json()["code"]), (503, &json!("unavailable")), "{method}: {}", late.text());
    }
}

#[test]
fn two_times_beside_each_other() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let side = |minute: i64| {
        with(
            with(about("{}"), "start", json!(MILLISECONDS + minute * 60_000)),
            "end",
            json!(MILLISECONDS + (minute + 1) * 60_000),
        )
    };
    let diff = ask(&server, "Diff", &json!({ "left": side(0), "right": side(9) }));
    let graph = &diff["flamegraph"];
    assert_eq!(
        (&graph["leftTicks"], &graph["rightTicks"], &graph["total"]),
        (&json!("100000000"), &json!("1000000000"), &json!("1100000000"))
    );
    let rendered = server.json(&format!(
        "/pyroscope/render-diff?leftQuery={CPU}%7B%7D&leftFrom={}&leftUntil={}&rightQuery={CPU}&rightFrom={}&rightUntil={}",
        START, START + 60, START + 540, START + 600
    ));
    assert_eq!(
        (rendered["leftTicks"].as_i64(), rendered["rightTicks"].as_i64()),
        (Some(100_000_000), Some(1_000_000_000))
    );
    assert_eq!(rendered["metadata"]["format"], "double");
    assert!(
        rendered["flamebearer"]["levels"]
            .as_array()
            .unwrap()
            .iter()
            .all(|level| level.as_array().unwrap().len() % 7 == 0)
    );
}

#[test]
fn render_tells_a_flame_graph_and_a_time_line() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let answer = server.json(&format!(
        "/pyroscope/render?query={CPU}%7Bpid%3D%2242%22%7D&from={START}&until={}&groupBy=pid",
        START + 600
    ));
    let total = TOTAL / 100 * 94;
    assert_eq!(answer["flamebearer"]["numTicks"], total);
    assert_eq!(
        (&answer["metadata"]["units"], &answer["metadata"]["sampleRate"]),
        (&json!("samples"), &json!(1_000_000_000))
    );
    let samples = answer["timeline"]["samples"].as_array().unwrap();
    let sum: i64 = samples.iter().map(|sample| sample.as_i64().unwrap()).sum();
    assert!((sum - total).abs() <= samples.len() as i64, "{sum}");
    assert_eq!(answer["groups"].as_object().unwrap().keys().collect::<Vec<_>>(), ["42"]);
    // By services, all of it, in the graph as in the time line.
    let services = ask(&server, "LabelValues", &json!({ "name": "service_name" }));
    let mut all = 0;
    for service in services["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        let target = format!(
            "/pyroscope/render?query={CPU}%7Bservice_name%3D%22{service}%22%7D&from={START}&until={}",
            START + 600
        );
        let answer = server.json(&target);
        let ticks = answer["flamebearer"]["numTicks"].as_i64().unwrap();
        let samples = answer["timeline"]["samples"].as_array().unwrap();
        let sum: i64 = samples.iter().map(|sample| sample.as_i64().unwrap()).sum();
        assert!((sum - ticks).abs() <= samples.len() as i64, "{service}: {sum} and {ticks}");
        all += ticks;
    }
    assert_eq!(all, TOTAL);
    for (target, status) in [
        ("/pyroscope/render", 400),
        ("/pyroscope/render?query=cpu", 400),
        (&*format!("/pyroscope/render?query={CPU}&format=dot"), 501),
        (&*format!("/pyroscope/render?query={CPU}&{TIME}"), 400),
    ] {
        assert_eq!(server.get(target).status, status, "{target}");
    }
}

#[test]
fn a_flame_graph_has_as_many_nodes_as_are_asked_for() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let small = ask(&server, "SelectMergeStacktraces", &with(about("{}"), "maxNodes", json!(3)));
    assert_eq!(small["flamegraph"]["total"], TOTAL.to_string());
    assert!(small["flamegraph"]["names"].as_array().unwrap().contains(&json!("other")), "{small}");
    let site = json!({ "callSite": [{ "name": "main" }] });
    let below = ask(&server, "SelectMergeStacktraces", &with(about("{}"), "stackTraceSelector", site));
    let total: i64 = below["flamegraph"]["total"].as_str().unwrap().parse().unwrap();
    assert!(total > 0 && total < TOTAL, "{total}");
    let none =
        ask(&server, "SelectMergeStacktraces", &with(about("{}"), "profileTypeID", json!("wall:wall:nanoseconds::")));
    assert_eq!(none, json!({}));
}

#[test]
fn what_cannot_be_answered_is_refused_in_connects_words() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let refused = |method: &str, request: &Value| {
        let answer = server.call(method, "json", request.to_string().as_bytes());
        let error = answer.json();
        (answer.status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    for (method, request, status, code, said) in [
        (
            "SelectMergeStacktraces",
            with(about("{}"), "profileTypeID", json!("cpu")),
            400,
            "invalid_argument",
            "a profile type is",
        ),
        ("SelectMergeStacktraces", with(about("{}"), "end", json!(0)), 400, "invalid_argument", "is empty"),
        ("SelectMergeStacktraces", about("{service_name=}"), 400, "invalid_argument", "a value is missing"),
        (
            "SelectMergeStacktraces",
            with(about("{}"), "spanSelector", json!(["9a517183f26a089d"])),
            400,
            "invalid_argument",
            "no span ids",
        ),
        (
            "SelectMergeStacktraces",
            with(about("{}"), "format", json!("PROFILE_FORMAT_DOT")),
            501,
            "unimplemented",
            "Graphviz",
        ),
        (
            "SelectMergeStacktraces",
            with(about("{}"), "start", json!("soon")),
            400,
            "invalid_argument",
            "no whole number",
        ),
        ("SelectSeries", with(about("{}"), "step", json!(0)), 400, "invalid_argument", "a step of 0"),
        (
            "SelectSeries",
            with(with(about("{}"), "step", json!(60)), "groupBy", json!(["mood"])),
            400,
            "invalid_argument",
            "not mood",
        ),
        ("SelectHeatmap", json!({}), 404, "unimplemented", "SelectHeatmap is not answered"),
    ] {
        let (got, name, message) = refused(method, &request);
        assert!(got == status && name == code && message.contains(said), "{method} {request}: {got} {name} {message}");
    }
    assert_eq!(server.call("Series", "grpc", b"").status, 415);
    assert_eq!(server.call("Series", "proto", b"\xff\xff").status, 400);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(about("{}").to_string().as_bytes()).unwrap();
    let headers = ["Content-Type: application/json; charset=utf-8", "Content-Encoding: gzip", "Accept-Encoding: gzip"];
    let zipped =
        server.ask("POST", "/querier.v1.QuerierService/SelectMergeStacktraces", &headers, &gzip.finish().unwrap());
    assert_eq!((zipped.status, zipped.header("content-encoding")), (200, Some("gzip")));
    // A bomb.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = server.ask("POST", "/querier.v1.QuerierService/Series", &headers, &bomb.finish().unwrap());
    assert_eq!((bomb.status, bomb.json()["code"].as_str()), (429, Some("resource_exhausted")));
}

/// What the index rules out is not read: an answer of nothing has no columns either.
#[test]
fn a_selection_of_nothing_is_an_empty_answer() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let nobody = "{service_name=\"nobody\"}";
    let merged = server.call("SelectMergeProfile", "proto", &request(nobody));
    assert_eq!((merged.status, decode(&merged.body).unwrap().samples.len()), (200, 0));
    let merged = ask(&server, "SelectMergeProfile", &about(nobody));
    assert_eq!(merged["sample"], json!([]));
    let inner: Stacktraces = proto(&server, "SelectMergeStacktraces", &[request(nobody), vec![0x30, 4]].concat());
    assert_eq!(decode(&inner.pprof.unwrap().profile).unwrap().samples.len(), 0);
    let with_form = |form: &str| ask(&server, "SelectMergeStacktraces", &with(about(nobody), "format", json!(form)));
    assert_eq!(with_form("PROFILE_FORMAT_PPROF")["pprof"]["profile"]["sample"], json!([]));
    for form in ["PROFILE_FORMAT_FLAMEGRAPH", "PROFILE_FORMAT_TREE"] {
        assert_eq!(with_form(form), json!({}), "{form}");
    }
    let diff = ask(&server, "Diff", &json!({ "left": about(nobody), "right": about("{}") }));
    assert_eq!(diff["flamegraph"]["rightTicks"], TOTAL.to_string());
    assert_eq!(server.get(&format!("/export?{TIME}&where=pid=1")).status, 200);
    assert_eq!(server.get(&format!("/api/profile?{TIME}&where=pid=1")).status, 200);
}

/// `other` runs in the first of two minutes alone.
fn idle_in_a_minute() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &with_program("/opt/other"));
    write(folder.path(), 1, &window(1, 1));
    folder
}

/// A minute in which a thread named `other`, of a process of that name, runs a program of its own.
fn with_program(path: &str) -> Profile {
    let mut profile = window(0, 1);
    let (file, comm, other, pid) = (
        profile.strings.intern(path),
        profile.strings.intern("comm"),
        profile.strings.intern("other"),
        profile.strings.intern("pid"),
    );
    let main = profile.mappings[0];
    profile.mappings.push(Mapping {
        start: 0x70_0000,
        limit: 0x71_0000,
        file,
        build_id: StringId::EMPTY,
        has: Default::default(),
        ..main
    });
    let mapping = Some(MappingId(u32::try_from(profile.mappings.len() - 1).unwrap()));
    profile.locations.push(Location { mapping, address: 0x70_0100, ..Location::default() });
    let location = LocationId(u32::try_from(profile.locations.len() - 1).unwrap());
    let labels = vec![
        Label { key: pid, value: LabelValue::Number(4000, StringId::EMPTY) },
        Label { key: comm, value: LabelValue::Text(other) },
    ];
    profile.samples.push(Sample { stack: vec![location], values: vec![3, 3_000_000], labels });
    profile
}

#[test]
fn a_selection_has_the_time_of_all_windows_and_its_own_program_first() {
    let folder = idle_in_a_minute();
    let server = serve(folder.path(), &[]);
    let other = server.call("SelectMergeProfile", "proto", &request("{service_name=\"other\"}"));
    let profile = decode(&other.body).unwrap();
    let first = |profile: &Profile| profile.text(profile.mappings[0].file).to_owned();
    assert_eq!((profile.total(0), profile.duration_nanos), (3_000_000, 120_000_000_000));
    assert_eq!(first(&profile), "/opt/other");
    for target in [format!("/export?{TIME}&where=comm=other"), format!("/profile?{TIME}&where=comm=other")] {
        let profile = decode(&server.get(&target).body).unwrap();
        assert_eq!((first(&profile), profile.duration_nanos), ("/opt/other".into(), 120_000_000_000), "{target}");
    }
    let whole = decode(&server.call("SelectMergeProfile", "proto", &request("{}")).body).unwrap();
    assert_eq!((first(&whole), whole.duration_nanos), (first(&window(0, 1)), 120_000_000_000));
}

#[test]
fn a_profile_has_the_period_that_its_type_names() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, unit) in [("lock_wait", "nanoseconds"), ("alloc_space", "bytes")] {
        let mut profile = window(0, 1);
        profile.sample_types[1] = profile.value_type(kind, unit);
        profile.default_sample_type = profile.sample_types[1].name;
        profile.period_type = Some(profile.sample_types[1]);
        profile.period = 7;
        let mut writer = rprof::store::Writer::open(folder.path(), rprof::store::Source::Recorder).unwrap();
        let name = rprof::store::WindowName { kind: kind.into(), ..support::name(0) };
        writer.write(&name, &profile, rprof::encode::Format::by_name("pprof").unwrap()).unwrap();
    }
    let server = serve(folder.path(), &[]);
    for (id, period_type, period) in [
        ("lock_wait:lock_wait:nanoseconds::", None, 0),
        ("memory:alloc_space:bytes:space:bytes", Some(("space".to_owned(), "bytes".to_owned())), 7),
    ] {
        let asked = with(about("{}"), "profileTypeID", json!(id));
        let answer = ask(&server, "SelectMergeProfile", &asked);
        let strings = answer["stringTable"].as_array().unwrap();
        let text = |id: &Value| strings[id.as_str().unwrap().parse::<usize>().unwrap()].as_str().unwrap().to_owned();
        let told = answer["periodType"].as_object().map(|of| (text(&of["type"]), text(&of["unit"])));
        assert_eq!((told, &answer["period"]), (period_type, &json!(period.to_string())), "{id}");
    }
}
