//! `rprof diff`: the same totals as `go tool pprof -diff_base`, files that other tools read, and sides of every kind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "store_support/mod.rs"]
mod store_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::programs;
use common::recording::rprof;
use rprof::encode::{Format, read_file, write_file};
use rprof::profile::{Function, FunctionId, Label, LabelValue, Location, LocationId, Profile, Sample, SourceLine};
use store_support::{START, at, name, open, pprof};

/// A profile of a value: stacks root first, with what was counted.
fn profile(value: &str, stacks: &[(&[&str], i64)]) -> Profile {
    let mut profile = Profile::default();
    let types = [("samples", "count"), (value, "nanoseconds")].map(|(name, unit)| profile.value_type(name, unit));
    profile.sample_types = types.to_vec();
    profile.period_type = Some(types[1]);
    profile.period = 1_000_000;
    (profile.time_nanos, profile.duration_nanos) = (START * 1_000_000_000, 60_000_000_000);
    for (stack, count) in stacks {
        let ids = stack.iter().rev().map(|name| {
            let name = profile.strings.intern(name);
            let known = profile.functions.iter().position(|function| function.name == name);
            let id = known.unwrap_or_else(|| {
                profile.functions.push(Function { name, ..Function::default() });
                let function = FunctionId(u32::try_from(profile.functions.len() - 1).unwrap());
                let lines = vec![SourceLine { function, line: 0, column: 0 }];
                profile.locations.push(Location { lines, ..Location::default() });
                profile.functions.len() - 1
            });
            LocationId(u32::try_from(id).unwrap())
        });
        let stack = ids.collect();
        profile.samples.push(Sample { stack, values: vec![*count, *count * 1_000_000], labels: Vec::new() });
    }
    profile
}

fn written(folder: &Path, name: &str, profile: &Profile) -> PathBuf {
    let path = folder.join(name);
    write_file(&path, Format::by_name("pprof").unwrap(), profile).unwrap();
    path
}

fn old() -> Profile {
    profile(
        "cpu",
        &[
            (&["main", "serve", "parse"], 300),
            (&["main", "serve", "hash"], 200),
            (&["main", "gone_one"], 100),
            (&["main"], 50),
        ],
    )
}

fn new() -> Profile {
    profile(
        "cpu",
        &[
            (&["main", "serve", "parse"], 310),
            (&["main", "serve", "hash"], 420),
            (&["main", "fresh"], 80),
            (&["main"], 45),
        ],
    )
}

/// What `rprof diff` prints; fails if it fails.
fn diff(arguments: &[&str]) -> String {
    let output = rprof().arg("diff").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let output = rprof().arg("diff").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&diff(&[arguments, &["--json", "-n", "0"]].concat())).unwrap()
}

fn function<'a>(document: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let functions = document["functions"].as_array().unwrap();
    functions.iter().find(|of| of["function"] == name).unwrap_or_else(|| panic!("no {name} in {document}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Self and total of each function by `go tool pprof -top`, in milliseconds.
fn go_top(arguments: &[&str]) -> BTreeMap<String, (i64, i64)> {
    let output = Command::new("go")
        .args(["tool", "pprof", "-top", "-unit=ms", "-nodecount=0", "-nodefraction=0"])
        .args(arguments)
        .env("PPROF_TMPDIR", std::env::temp_dir())
        .output()
        .expect("go tool pprof runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let table = output.lines().skip_while(|line| !line.trim_start().starts_with("flat"));
    table
        .skip(1)
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| word.trim_end_matches("ms").parse().unwrap();
            (words[5..].join(" "), (number(words[0]), number(words[3])))
        })
        .collect()
}

#[test]
fn totals_are_those_of_go_tool_pprof() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = (written(folder.path(), "base.pb.gz", &old()), written(folder.path(), "new.pb.gz", &new()));
    let theirs = go_top(&[&format!("-diff_base={}", text(&base)), text(&new)]);
    assert_eq!(theirs["hash"], (220, 220));
    let document = json(&[text(&base), text(&new), "--normalize", "samples"]);
    for (name, (own, total)) in &theirs {
        let of = function(&document, name);
        let milliseconds = |of: &serde_json::Value| (of["difference"].as_f64().unwrap() / 1e6).round() as i64;
        assert_eq!((milliseconds(&of["self"]), milliseconds(&of["total"])), (*own, *total), "{name}");
    }
    // The file that holds both sides gives them the same table, and shares of the base's sum.
    let both = folder.path().join("both.pb.gz");
    diff(&[text(&base), text(&new), "--normalize", "samples", "-o", text(&both)]);
    assert_eq!(go_top(&[text(&both)]), theirs);
    let raw = Command::new("go").args(["tool", "pprof", "-raw", text(&both)]).output().unwrap();
    assert!(String::from_utf8_lossy(&raw.stdout).contains("pprof::base:[true]"));
    // Filters mean the same.
    let theirs = go_top(&["-focus=serve", "-ignore=parse", &format!("-diff_base={}", text(&base)), text(&new)]);
    let document = json(&[text(&base), text(&new), "--normalize", "samples", "-focus=serve", "-ignore=parse"]);
    assert_eq!(theirs["serve"].1, (function(&document, "serve")["total"]["difference"].as_f64().unwrap() / 1e6) as i64);
    assert!(!document["functions"].as_array().unwrap().iter().any(|of| of["function"] == "fresh"));
}

#[test]
fn each_function_has_its_verdict_and_interval() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = (written(folder.path(), "base.pb.gz", &old()), written(folder.path(), "new.pb.gz", &new()));
    let document = json(&[text(&base), text(&new)]);
    for (name, verdict, significant) in
        [("hash", "up", true), ("parse", "same", false), ("fresh", "new", true), ("gone_one", "gone", true)]
    {
        let of = function(&document, name);
        assert_eq!(
            (of["verdict"].as_str().unwrap(), of["significant"].as_bool().unwrap()),
            (verdict, significant),
            "{of}"
        );
        let number = |key: &str| of["total"][key].as_f64().unwrap();
        assert!(number("low") <= number("difference") && number("difference") <= number("high"), "{of}");
        assert_eq!(number("low") > 0.0 || number("high") < 0.0, significant, "{of}");
    }
    assert_eq!(document["variance"], "assumed");
    let table = diff(&[text(&base), text(&new)]);
    assert!(table.contains("fewer than 12 sub-windows"), "{table}");
    let row = |name: &str| table.lines().find(|line| line.trim_end().ends_with(name)).unwrap().to_owned();
    assert!(row("  hash").starts_with("up ") && row("  fresh").starts_with("new ") && row("  parse").starts_with("  "));
    assert!(!diff(&[text(&base), text(&new), "--significant"]).contains("parse"));
    let tree = diff(&[text(&base), text(&new), "--tree"]);
    assert!(tree.contains("gone: gone_one") && tree.contains("up: hash"), "{tree}");
    let markdown = diff(&[text(&base), text(&new), "--markdown"]);
    assert!(markdown.contains("| up | ") && markdown.contains("`hash`"), "{markdown}");
}

#[test]
fn sides_are_compared_by_time_share_or_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut long = old();
    long.samples.iter_mut().for_each(|sample| sample.values.iter_mut().for_each(|value| *value *= 2));
    long.duration_nanos *= 2;
    let (base, new) = (written(folder.path(), "base.pb.gz", &old()), written(folder.path(), "new.pb.gz", &long));
    let sides = [text(&base), text(&new)];
    let ratio = |more: &[&str]| {
        let document = json(&[&sides[..], more].concat());
        (function(&document, "hash")["total"]["ratio"].as_f64().unwrap() * 100.0).round()
    };
    assert_eq!(ratio(&[]), 100.0);
    assert_eq!(ratio(&["--normalize", "share"]), 100.0);
    assert_eq!(ratio(&["--normalize", "samples"]), 200.0);
    assert_eq!(ratio(&["--work", "100", "400"]), 50.0);
    let document = json(&sides);
    // 200 ms of a minute.
    assert!((function(&document, "hash")["total"]["base"].as_f64().unwrap() - 0.2 / 60.0).abs() < 1e-9);
    assert_eq!(document["rate_unit"], "CPUs per CPU");
    // Without a duration, only shares can be compared, and that is said.
    long.duration_nanos = 0;
    let timeless = written(folder.path(), "timeless.pb.gz", &long);
    let document = json(&[text(&base), text(&timeless)]);
    assert_eq!(document["normalize"], "share");
    assert!(document["remarks"][0].as_str().unwrap().contains("does not tell how long"));
    let (code, error) = fails(&[text(&base), text(&timeless), "--normalize", "cpus"]);
    assert!(code == Some(255) && error.contains("--normalize share"), "{error}");
}

#[test]
fn folded_stacks_and_pictures_hold_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = (written(folder.path(), "base.pb.gz", &old()), written(folder.path(), "new.pb.gz", &new()));
    let folded = diff(&[text(&base), text(&new), "--folded"]);
    let lines: Vec<&str> = folded.lines().collect();
    assert_eq!(
        lines,
        ["main 50 45", "main;fresh 0 80", "main;gone_one 100 0", "main;serve;hash 200 420", "main;serve;parse 300 310"]
    );
    let svg = folder.path().join("diff.svg");
    diff(&[text(&base), text(&new), "--svg", text(&svg)]);
    let picture = std::fs::read_to_string(&svg).unwrap();
    let colour = |name: &str| {
        let from = picture.find(&format!("<title>{name} (")).unwrap_or_else(|| panic!("no {name} in {picture}"));
        let colour = picture[from..].split("fill=\"rgb(").nth(1).unwrap().split(')').next().unwrap();
        colour.split(',').map(|part| part.parse().unwrap()).collect::<Vec<u8>>()
    };
    let is_red = |colour: &[u8]| colour[0] > colour[1] && colour[1] == colour[2];
    let is_blue = |colour: &[u8]| colour[2] > colour[1] && colour[1] == colour[0];
    assert!(is_blue(&colour("gone_one (gone)")), "{:?}", colour("gone_one (gone)"));
    assert!(is_red(&colour("fresh (new)")) && is_red(&colour("hash (+110 %)")));
    // What changed no more than chance makes.
    assert_eq!([colour("parse"), colour("main")], [[220; 3], [220; 3]]);
}

#[test]
fn names_of_two_builds_meet_and_hostile_ones_harm_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "</text><script>alert(1)</script>;\u{1b}[2J 7";
    let of = |hash: &str, cold: &str, count| {
        profile("cpu", &[(&["main", hash], 500), (&["main", cold], 300), (&["main", hostile], count)])
    };
    let base = of("app::run::h0123456789abcdef", "work.cold", 100);
    let new = of("app::run::hfedcba9876543210", "work.part.0", 400);
    let (base, new) = (written(folder.path(), "base.pb.gz", &base), written(folder.path(), "new.pb.gz", &new));
    let document = json(&[text(&base), text(&new)]);
    for name in ["app::run", "work"] {
        assert_eq!(function(&document, name)["verdict"], "same");
    }
    for more in [&[][..], &["--tree"], &["--markdown"], &["--folded"]] {
        let output = diff(&[&[text(&base), text(&new)], more].concat());
        assert!(!output.contains('\u{1b}'), "{more:?}: {output}");
    }
    let svg = folder.path().join("x.svg");
    diff(&[text(&base), text(&new), "-o", text(&svg)]);
    assert!(!std::fs::read_to_string(&svg).unwrap().contains("<script>alert"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = written(folder.path(), "base.pb.gz", &old());
    let other = written(folder.path(), "other.pb.gz", &profile("off_cpu", &[(&["main"], 5)]));
    let empty = written(folder.path(), "empty.pb.gz", &profile("cpu", &[]));
    let nothing = folder.path().join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    for (arguments, status, says) in [
        (vec![text(&base), text(&other)], 255, "they count different things"),
        (vec![text(&base), "--normalize", "share"], 129, "name both sides"),
        (vec![text(&base), "/nowhere"], 255, "there is no file, folder or pattern"),
        (vec![text(&base), text(&nothing)], 255, "no window that was asked for"),
        (vec![text(&base), text(&base), "--value", "bytes"], 255, "no value named \"bytes\""),
        (vec![text(&base), text(&base), "--work", "0", "1"], 129, "two numbers above zero"),
        (vec![text(&base), text(&base), "--kind", "cpu"], 129, "--kind chooses windows"),
        (vec![text(&base), text(&base), "--where", "host=\"x\""], 129, "files have no host"),
        (vec![text(&base), text(&base), "-o", "x.html"], 129, "a comparison is written as"),
        (vec![text(&base), text(&base), "--json", "--svg", "x.svg"], 129, "exclude one another"),
        (vec![text(&base), text(&base), "--label", "version", "1", "2", "--fdr", "7"], 129, "is no share"),
    ] {
        let (code, error) = fails(&arguments);
        assert_eq!(code, Some(status), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    // A side without samples is no error: everything is new, or gone.
    assert_eq!(function(&json(&[text(&empty), text(&base)]), "hash")["verdict"], "new");
    assert_eq!(function(&json(&[text(&base), text(&empty)]), "hash")["verdict"], "gone");
    assert!(diff(&[text(&empty), text(&empty)]).contains("0 samples"));
}

/// Windows of a minute from 14:00 on: version 1 before 14:15, then version 2.
fn directory(folder: &Path) -> PathBuf {
    let directory = folder.join("profiles");
    let mut writer = open(&directory);
    for minute in 0..30_i64 {
        let count = if minute < 15 { 200 } else { 400 } + minute % 3;
        let mut window = profile("cpu", &[(&["main", "hash"], count), (&["main", "parse"], 500 + minute % 4)]);
        window.time_nanos = at(60 * minute).0;
        let [key, value] = ["version", if minute < 15 { "v1" } else { "v2" }].map(|text| window.strings.intern(text));
        window.samples.iter_mut().for_each(|sample| sample.labels.push(Label { key, value: LabelValue::Text(value) }));
        writer.write(&name(60 * minute, 60 * (minute + 1)), &window, pprof()).unwrap();
    }
    directory
}

#[test]
fn times_and_labels_of_a_directory_are_sides() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path());
    let times = |from: i64, to: i64| format!("{}@@{}..@{}", text(&directory), START + from * 60, START + to * 60);
    let checks = |document: &serde_json::Value| {
        assert_eq!(function(document, "hash")["verdict"], "up", "{document}");
        assert_eq!(function(document, "parse")["verdict"], "same");
        assert_eq!((&document["base"]["sub_windows"], &document["variance"]), (&15.into(), &"measured".into()));
    };
    checks(&json(&[&times(0, 15), &times(15, 30)]));
    let labelled = json(&[text(&directory), "--label", "version", "v1", "v2"]);
    // Windows of the other version are time too: the rate is of all of it.
    assert_eq!(function(&labelled, "hash")["verdict"], "up");
    checks(&json(&[&times(0, 15), &times(15, 30), "--label", "version=v1", "v2"]));
    let (code, error) = fails(&[text(&directory), "--label", "version", "v1", "v9"]);
    assert!(code == Some(255) && error.contains("the new side"), "{error}");
    let gate = |arguments: &[&str]| rprof().arg("gate").args(arguments).output().unwrap();
    assert_eq!(gate(&[&times(0, 15), &times(15, 30)]).status.code(), Some(1));
    assert_eq!(gate(&[&times(0, 7), &times(7, 15)]).status.code(), Some(3));
    assert_eq!(gate(&[&times(0, 13), &times(2, 15)]).status.code(), Some(0));
    // Its files, as a pattern, and in a folder of their own.
    let plain = folder.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    for (number, entry) in glob::glob(&format!("{}/*/*/*.pb.gz", text(&directory))).unwrap().flatten().enumerate() {
        std::fs::copy(entry, plain.join(format!("{number:02}.pb.gz"))).unwrap();
    }
    let pattern = |of: &str| format!("{}/{of}.pb.gz", text(&plain));
    let document = json(&[&pattern("0*"), &pattern("2*")]);
    assert_eq!((&document["base"]["recordings"], &function(&document, "hash")["verdict"]), (&10.into(), &"up".into()));
    assert_eq!(json(&[text(&plain), text(&plain)])["base"]["profiles"], 30);
}

#[test]
fn labels_that_were_recorded_tell_sides_apart() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("profiles");
    let chain = programs::c("steps.c", &["-O1"]);
    let slow = programs::c("steps.c", &["-O1", "-DSLOW=3"]);
    for (program, version) in [(&chain, "v 1"), (&slow, "v2")] {
        let label = format!("version={version}");
        let arguments =
            ["snapshot", "-q", "-F", "999", "--label", &label, "--label", "tier=web", "-o", text(&directory), "--"];
        let output = rprof().args(arguments).arg(program).arg("1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let document =
        json(&[text(&directory), "--label", "version", "v 1", "v2", "--where", "tier=\"web\"", "--normalize", "share"]);
    let hash = function(&document, "hash");
    assert_eq!(hash["verdict"], "up", "{hash}");
    let rows = rprof::store::Store::open(&directory).unwrap().rows(store_support::EVER).unwrap();
    let labels = |row: &rprof::store::Row| {
        let labels = row.summary.labels.clone().unwrap();
        labels.into_iter().map(|of| format!("{}={}", of.key, of.text)).collect::<Vec<_>>()
    };
    assert_eq!(rows.iter().map(labels).collect::<Vec<_>>(), [["tier=web", "version=v 1"], ["tier=web", "version=v2"]]);
    let file = glob::glob(&format!("{}/*/*/*.pb.gz", text(&directory))).unwrap().flatten().next().unwrap();
    let profile = read_file(&file).unwrap();
    assert!(profile.samples.iter().all(|sample| profile.label(sample, "tier") == Some("web")));
    for (options, says) in [
        (vec!["--label", "pid=7", "-o", "x.pb.gz"], "a label of its own already"),
        (vec!["--label", "version", "-o", "x.pb.gz"], "write KEY=VALUE"),
        (vec!["--label", "a=b", "-o", "x.svg"], "has no place for a label"),
        (vec!["--label", "a=b", "-o", "x.data"], "has no place for a label"),
    ] {
        let output = rprof().arg("record").args(&options).args(["--", "true"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(says), "{options:?}: {error}");
    }
}

/// A recording of 20 s at 100 Hz that spends its first 5 s in another function.
fn starts_slowly(function: &str) -> Profile {
    let mut profile = profile("cpu", &[(&["main", "prepare"], 1), (&["main", function], 1)]);
    profile.duration_nanos = 20_000_000_000;
    let (time, unit) = (profile.strings.intern("timestamp_ns"), profile.strings.intern("nanoseconds"));
    let stacks: Vec<Sample> = std::mem::take(&mut profile.samples);
    for tick in 0..2000_i64 {
        let value = LabelValue::Number(profile.time_nanos + tick * 10_000_000, unit);
        let stack = stacks[usize::from(tick >= 500)].clone();
        profile.samples.push(Sample { labels: vec![Label { key: time, value }], ..stack });
    }
    profile
}

#[test]
fn the_start_of_recordings_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let recordings = [("base.pb.gz", "serve"), ("new.pb.gz", "answer")];
    let [base, new] = recordings.map(|(name, function)| written(folder.path(), name, &starts_slowly(function)));
    let sides = [text(&base), text(&new)];
    let told = json(&[&sides[..], &["--normalize", "cpus", "--warm-up", "5s"]].concat());
    assert!(told["functions"].as_array().unwrap().iter().all(|of| of["function"] != "prepare"), "{told}");
    let all = json(&[&sides[..], &["--normalize", "cpus"]].concat());
    // By time: a fourth of it is gone, with all of the samples in it.
    let serve = |document: &serde_json::Value| function(document, "serve")["total"]["base"].as_f64().unwrap();
    assert!((serve(&told) / serve(&all) - 20.0 / 15.0).abs() < 1e-6, "{told}");
    // Neither what is added up of both sides nor a filter brings it back.
    let picture = folder.path().join("diff.svg");
    diff(&[&sides[..], &["--warm-up", "5s", "--svg", text(&picture)]].concat());
    assert!(!std::fs::read_to_string(&picture).unwrap().contains("prepare"));
    let share = json(&[&sides[..], &["--normalize", "share", "--warm-up", "5s", "--focus", "serve|answer"]].concat());
    assert!((serve(&share) - 1.0).abs() < 1e-6, "{share}");

    let begun_never = Profile { time_nanos: 0, ..starts_slowly("serve") };
    let begun_never = written(folder.path(), "never.pb.gz", &begun_never);
    for (options, why) in [
        (&[sides[0], sides[1], "--warm-up", "20s"][..], "no longer than that"),
        (&[sides[0], text(&begun_never), "--warm-up", "1s"], "when it began"),
        (&[sides[0], text(&written(folder.path(), "untimed.pb.gz", &self::new())), "--warm-up", "1s"], "--timestamps"),
    ] {
        let (status, said) = fails(options);
        assert!(status != Some(0) && said.contains(why) && said.contains("--warm-up"), "{options:?}: {said}");
    }
    let store = folder.path().join("store");
    let mut writer = open(&store);
    writer.write(&name(0, 60), &old(), pprof()).unwrap();
    drop(writer);
    let (status, said) = fails(&[text(&store), text(&store), "--warm-up", "1s"]);
    assert!(status == Some(129) && said.contains("DIR@FROM..TO"), "{status:?} {said}");
}

/// Twice the stack of a recursion, beside one that stays: its functions all rose, and each lies below all others of them.
#[test]
fn a_deep_stack_is_compared_in_every_form() {
    const FRAMES: usize = 50_000;
    let folder = tempfile::tempdir().unwrap();
    let side = |name: &str, count: i64| {
        let deep: Vec<String> = (0..FRAMES).map(|at| format!("f{at}")).collect();
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{} {count}\nf0;same 5000\nf0;other 5000\nf0;third 5000\n", deep.join(";")))
            .unwrap();
        path
    };
    let (base, new) = (side("base.folded", 1000), side("new.folded", 4000));
    let leaf = format!("f{}", FRAMES - 1);
    for more in [&[][..], &["--tree"]] {
        let out = rprof().arg("diff").args([&base, &new]).args(more).output().unwrap();
        assert!(out.status.success(), "{more:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(String::from_utf8_lossy(&out.stdout).contains(&leaf), "{more:?}");
    }
}
