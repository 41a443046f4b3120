//! Questions to a directory of windows, answered by the real program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rprof::encode::{Format, read_file};
use rprof::ids::UnixNanos;
use rprof::profile::{Label, LabelValue, Profile, StringId};
use rprof::store::{Level, Source, WindowName, Writer};
use serde_json::Value;
use support::server_profile;
use tempfile::TempDir;

const SECOND: i64 = 1_000_000_000;
/// 2026-11-22 00:00 UTC.
const START: i64 = 1_795_305_600;

fn name(minute: i64, source: Source, kind: &str) -> WindowName {
    let start = (START + minute * 60) * SECOND;
    let (start, end) = (UnixNanos(start), UnixNanos(start + 60 * SECOND));
    WindowName { host: "here".into(), kind: kind.into(), source, level: Level::Window, start, end }
}

/// 0.1 s of CPU in a minute, `times` over.
fn window(minute: i64, times: i64) -> Profile {
    let mut profile = server_profile();
    (profile.time_nanos, profile.duration_nanos) = ((START + minute * 60) * SECOND, 60 * SECOND);
    support::multiply(&mut profile, times);
    profile
}

/// Minutes 0 to 9 without the fifth, each with as many times 0.1 s as its number and one.
fn directory() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), Source::Recorder).unwrap();
    for minute in (0..10).filter(|&minute| minute != 5) {
        let format = Format::by_name("pprof").unwrap();
        writer.write(&name(minute, Source::Recorder, "cpu"), &window(minute, minute + 1), format).unwrap();
    }
    folder
}

struct Output {
    status: Option<i32>,
    out: String,
    said: String,
}

fn query(folder: &Path, options: &[&str]) -> Output {
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    let output = rprof.arg("query").arg(folder).args(options).env("TZ", "UTC").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { status: output.status.code(), out: text(output.stdout), said: text(output.stderr) }
}

fn asked(folder: &Path, options: &[&str]) -> String {
    let output = query(folder, options);
    assert_eq!(output.status, Some(0), "{options:?}: {}", output.said);
    output.out
}

fn json(folder: &Path, options: &[&str]) -> Value {
    serde_json::from_str(&asked(folder, &[options, &["--json"]].concat())).unwrap()
}

#[test]
fn it_says_what_part_of_the_asked_time_has_data() {
    let folder = directory();
    let text = asked(folder.path(), &["--from", "2026-11-22T00:04:00", "--to", "2026-11-22T00:07:00"]);
    let head: Vec<&str> = text.lines().take(3).collect();
    // 5 + 7 times 100 samples, and 7 lost of each window.
    assert_eq!(
        head,
        [
            "# 2026-11-22 00:04:00–00:07:00 UTC: 2 windows of cpu cover 120 s of 180 s; 1.15 % lost",
            "# no data 2026-11-22 00:05:00–00:06:00 UTC",
            "# 0.0100 CPUs, cpu 1.20 s, 1,200 samples, complete stacks 96.0 %, 69.0 % in stacks with an unnamed frame",
        ]
    );
    let hash = text.lines().find(|line| line.contains("hash  ")).unwrap();
    assert_eq!(
        hash.split_whitespace().collect::<Vec<_>>(),
        ["40.00", "%", "0.0040", "65.00", "%", "0.0065", "780", "hash", "server"]
    );
}

#[test]
fn a_window_that_reaches_beyond_the_time_counts_whole_and_is_named() {
    let folder = directory();
    let text = asked(folder.path(), &["--around", "2026-11-22T00:02:00", "--width", "60s"]);
    assert!(text.contains(": 2 windows of cpu cover 60 s of 60 s"), "{text}");
    assert!(text.contains("# 2 windows reach beyond the asked time and count whole"), "{text}");
}

/// A window with a sample every ten seconds, which tells its time.
fn timed_window() -> Profile {
    let mut profile = window(0, 1);
    let key = profile.strings.intern("timestamp_ns");
    for (second, sample) in (0..).zip(&mut profile.samples) {
        let value = LabelValue::Number((START + second * 10) * SECOND, StringId::EMPTY);
        sample.labels.push(Label { key, value });
    }
    profile
}

#[test]
fn a_series_of_a_file_follows_the_times_of_its_samples() {
    let folder = tempfile::tempdir().unwrap();
    let (path, profile) = (folder.path().join("x.pb.gz"), timed_window());
    rprof::encode::write_file(&path, Format::by_name("pprof").unwrap(), &profile).unwrap();
    let values = |step: &str| -> Vec<f64> {
        let document = json(&path, &["--series", "--step", step]);
        let values = document["series"][0]["values"].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).collect()
    };
    let told = values("10s");
    let expected: Vec<f64> = profile.samples.iter().map(|sample| sample.values[1] as f64).collect();
    assert_eq!(told[..expected.len()], expected[..]);
    assert!(told[expected.len()..].iter().all(|value| *value == 0.0), "{told:?}");
    assert_eq!(values("1m"), [expected.iter().sum::<f64>()]);
    assert!(asked(&path, &["--series"]).contains("1 window"));
}

#[test]
fn samples_with_times_of_their_own_are_cut_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let profile = timed_window();
    let expected: i64 = profile.samples[1..3].iter().map(|sample| sample.values[1]).sum();
    let mut writer = Writer::open(folder.path(), Source::Recorder).unwrap();
    writer.write(&name(0, Source::Recorder, "cpu"), &profile, Format::by_name("pprof").unwrap()).unwrap();
    let time = ["--from", "2026-11-22T00:00:10", "--to", "2026-11-22T00:00:30"];
    let document = json(folder.path(), &time);
    assert_eq!(document["total"], expected);
    assert_eq!(document["covered_nanos"], 20 * SECOND);
    let text = asked(folder.path(), &time);
    assert!(text.contains("# 1 window cut to the asked time by the times of their samples"), "{text}");
    assert!(!text.contains("count whole"), "{text}");
}

#[test]
fn a_selector_chooses_samples_and_windows() {
    let folder = directory();
    let time = ["--from", "2026-11-22", "--width", "10m"];
    // 1 + … + 10 without 6, of which 29 samples in a hundred are of the worker.
    let total =
        |selector: &str| json(folder.path(), &[&time[..], &["--where", selector]].concat())["total"].as_i64().unwrap();
    let whole = 49 * 100_000_000;
    assert_eq!(total(""), whole);
    assert_eq!(total(r#"comm=~"worker.*""#), whole / 100 * 29);
    assert_eq!(total(r#"comm!="node",pid=42"#), whole / 100 * 94);
    assert_eq!(total("process=server"), whole / 100 * 94);
    assert_eq!(total("host=here,kind=cpu,source=recorder,pid=77"), whole / 100 * 6);
    let none = query(folder.path(), &[&time[..], &["--where", "host=there"]].concat());
    assert!(none.status == Some(255) && none.said.contains("no window"), "{}", none.said);
    let idle = query(folder.path(), &[&time[..], &["--where", "process=worker"]].concat());
    assert!(idle.status == Some(255) && idle.said.contains("process can be server, node"), "{}", idle.said);
    let wrong = query(folder.path(), &[&time[..], &["--where", "comm~x"]].concat());
    assert!(wrong.status == Some(129) && wrong.said.contains("at character 5"), "{}", wrong.said);
}

#[test]
fn a_series_has_a_value_for_each_step_and_none_for_a_gap() {
    let folder = directory();
    let time = ["--from", "2026-11-22", "--width", "10m", "--series", "--step", "1m"];
    let document = json(folder.path(), &[&time[..], &["--by", "process"]].concat());
    let lines = document["series"].as_array().unwrap();
    assert_eq!(lines.iter().map(|line| line["name"].as_str().unwrap()).collect::<Vec<_>>(), ["server", "node"]);
    let cpus: Vec<Option<f64>> = lines[0]["cpus"].as_array().unwrap().iter().map(Value::as_f64).collect();
    assert_eq!(cpus.len(), 10);
    for (minute, cpus) in (1..).zip(&cpus) {
        match cpus {
            None => assert_eq!(minute, 6),
            Some(cpus) => assert!((cpus - f64::from(minute) * 0.094 / 60.0).abs() < 1e-9, "{minute}: {cpus}"),
        }
    }
    let text = asked(folder.path(), &time);
    assert!(text.lines().any(|line| line.contains("▁▂▃▄▅") || line.contains("▂▃▄▅")), "{text}");
    let csv = asked(folder.path(), &[&time[..], &["--csv"]].concat());
    assert_eq!(csv.lines().count(), 11);
    let wrong = query(folder.path(), &[&time[..], &["--where", "tid=1"]].concat());
    assert!(wrong.said.contains("not tid"), "{}", wrong.said);
}

#[test]
fn a_series_is_by_a_label_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), Source::Recorder).unwrap();
    for (minute, version) in [(0, Some("v1")), (1, Some("v2")), (2, Some("v2")), (3, None)] {
        let mut profile = window(minute, 1);
        version.into_iter().for_each(|version| profile.add_labels(&[("version".to_owned(), version.to_owned())]));
        writer.write(&name(minute, Source::Recorder, "cpu"), &profile, Format::by_name("pprof").unwrap()).unwrap();
    }
    let time = ["--from", "2026-11-22", "--width", "4m", "--series", "--step", "1m"];
    let document = json(folder.path(), &[&time[..], &["--by", "version"]].concat());
    let lines = document["series"].as_array().unwrap();
    let line = |line: &Value| (line["name"].as_str().unwrap().to_owned(), line["values"].clone());
    let whole = 100_000_000.0;
    let expected = [
        ("v2".to_owned(), serde_json::json!([0.0, whole, whole, 0.0])),
        (String::new(), serde_json::json!([0.0, 0.0, 0.0, whole])),
        ("v1".to_owned(), serde_json::json!([whole, 0.0, 0.0, 0.0])),
    ];
    assert_eq!(lines.iter().map(line).collect::<Vec<_>>(), expected);
    let table = asked(folder.path(), &[&time[..], &["--by", "version"]].concat());
    assert!(table.lines().any(|line| line.ends_with(" [none]")), "{table}");
    let sources = json(folder.path(), &[&time[..], &["--by", "source"]].concat());
    assert_eq!(sources["series"][0]["name"], "recorder");
    let wrong = query(folder.path(), &[&time[..], &["--by", "mood"]].concat());
    let said =
        "a series is by process, pid, container, unit, host, or a label that record --label gave, not by \"mood\"";
    assert!(wrong.status == Some(129) && wrong.said.contains(said), "{:?} {}", wrong.status, wrong.said);
}

#[test]
fn a_series_has_a_bounded_number_of_values() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), Source::Recorder).unwrap();
    let mut profile = window(0, 1);
    let pid = profile.strings.intern("pid");
    let sample = profile.samples[0].clone();
    profile.samples = (1..=50)
        .map(|number| {
            let labels = vec![Label { key: pid, value: LabelValue::Number(number, StringId::EMPTY) }];
            rprof::profile::Sample { labels, ..sample.clone() }
        })
        .collect();
    writer.write(&name(0, Source::Recorder, "cpu"), &profile, Format::by_name("pprof").unwrap()).unwrap();
    let ask = |width: &str, step: &str, by: &str| {
        query(
            folder.path(),
            &["--from", "2026-11-22", "--width", width, "--series", "--csv", "--step", step, "--by", by],
        )
    };
    // 50 lines of 99,000 steps.
    for (width, step, by, said) in [
        (
            "99000s",
            "1s",
            "pid",
            Some("more than 4000000 values (lines times steps); ask for a larger step, for less time"),
        ),
        ("24h", "1ms", "process", Some("a step of 1ms gives more than 100000 values; make it longer")),
        ("24h", "0s", "process", Some("make it longer")),
        ("24h", "soon", "process", Some("\"soon\"")),
        ("99000s", "1m", "pid", None),
        ("90s", "1ms", "host", None),
    ] {
        let output = ask(width, step, by);
        let status = if said.is_some() { 129 } else { 0 };
        assert_eq!(output.status, Some(status), "{width} {step} {by}: {}", output.said);
        assert!(output.said.contains(said.unwrap_or_default()), "{width} {step} {by}: {}", output.said);
    }
}

#[test]
fn snapshots_of_recorded_time_do_not_count_twice() {
    let folder = directory();
    let mut writer = Writer::open(folder.path(), Source::Snapshot).unwrap();
    for minute in [1, 5] {
        writer
            .write(&name(minute, Source::Snapshot, "cpu"), &window(minute, 1000), Format::by_name("pprof").unwrap())
            .unwrap();
    }
    let time = ["--from", "2026-11-22", "--width", "10m"];
    let text = asked(folder.path(), &time);
    assert!(text.contains("# 1 snapshots of the same time are left out; --where source=snapshot shows them"), "{text}");
    let document = json(folder.path(), &time);
    assert_eq!(document["total"], 49 * 100_000_000 + 1000 * 100_000_000_i64, "the one of the gap counts");
    let document = json(folder.path(), &[&time[..], &["--where", "source=snapshot"]].concat());
    assert_eq!(document["total"], 2 * 1000 * 100_000_000_i64);
}

#[test]
fn the_sum_is_written_in_every_format() {
    let folder = directory();
    let time = ["--from", "2026-11-22", "--width", "10m"];
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (pprof, svg) = (file("sum.pb.gz"), file("sum.svg"));
    let output = query(folder.path(), &[&time[..], &["--pprof", &pprof, "--svg", &svg]].concat());
    assert!(output.status == Some(0) && output.said.contains("9 windows"), "{}", output.said);
    let sum = read_file(Path::new(&pprof)).unwrap();
    assert_eq!((sum.total(1), sum.duration_nanos), (49 * 100_000_000, 9 * 60 * SECOND));
    assert!(fs::read_to_string(&svg).unwrap().contains("<svg"));
    let folded = asked(folder.path(), &[&time[..], &["--folded", "-", "-focus=recurse"]].concat());
    assert_eq!(folded.lines().count(), 1, "{folded}");
    let go = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none", "-top", "-unit=ms", &pprof])
        .output()
        .expect("go tool pprof");
    assert!(String::from_utf8_lossy(&go.stdout).contains("of 4900ms total"), "{}", String::from_utf8_lossy(&go.stdout));
    // A file is a window by itself, and shown whole.
    let again = json(Path::new(&pprof), &[]);
    assert_eq!(again["total"], 49 * 100_000_000_i64);
}

#[test]
fn damaged_windows_are_told_and_the_others_counted() {
    let folder = directory();
    let day =
        fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
    let mut files = Vec::new();
    let mut folders = vec![day];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path)
            } else if path.to_string_lossy().ends_with(".pb.gz") {
                files.push(path)
            }
        }
    }
    files.sort();
    let whole = fs::read(&files[0]).unwrap();
    // As long as before, so that the index still knows it.
    fs::write(&files[0], [&whole[..40], &vec![0xff; whole.len() - 40]].concat()).unwrap();
    let text = asked(folder.path(), &["--from", "2026-11-22", "--width", "10m"]);
    assert!(text.contains("# not counted: cannot read") && text.contains("8 windows of cpu"), "{text}");
}

#[test]
fn a_question_without_an_answer_says_what_there_is() {
    let folder = directory();
    let time = ["--from", "2026-11-22", "--width", "10m"];
    for (options, status, said) in [
        (&["--kind", "page_faults"][..], 255, "there are cpu"),
        (&["--value", "wall"], 255, "it has samples, cpu"),
        (&["--peek", "nosuch"], 255, "no function's name matches"),
        (&["--mean", "--series"], 129, "--mean is for tables"),
    ] {
        let output = query(folder.path(), &[&time[..], options].concat());
        assert!(output.status == Some(status) && output.said.contains(said), "{options:?}: {}", output.said);
    }
    let empty = query(folder.path(), &["--from", "2020-01-01", "--width", "1h"]);
    assert!(empty.said.contains("rprof ls shows what there is"), "{}", empty.said);
    let backwards = query(folder.path(), &["--from", "2026-11-23", "--to", "2026-11-22"]);
    assert!(backwards.status == Some(129) && backwards.said.contains("is empty"), "{}", backwards.said);
}
