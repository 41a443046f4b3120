//! pprof's options mean here what they mean there: the same file and the same options give the same numbers as `go tool pprof -top`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rprof::encode::{Format, write_file};
use rprof::profile::{Label, LabelValue, Profile};
use support::server_profile;

/// The profile with a container at some samples and a number with a unit at others.
fn labelled_profile() -> Profile {
    let mut profile = server_profile();
    let [container, web, bytes, unit] =
        ["container", "web-1", "request", "bytes"].map(|text| profile.strings.intern(text));
    for (at, sample) in profile.samples.iter_mut().enumerate() {
        if at % 2 == 0 {
            sample.labels.push(Label { key: container, value: LabelValue::Text(web) });
        } else {
            sample.labels.push(Label { key: bytes, value: LabelValue::Number(1024 * (at as i64 + 1), unit) });
        }
    }
    profile
}

fn written(folder: &Path) -> PathBuf {
    let path = folder.join("profile.pb.gz");
    write_file(&path, Format::by_name("pprof").unwrap(), &labelled_profile()).unwrap();
    path
}

const GRANULARITIES: [&str; 5] = ["-functions", "-filefunctions", "-files", "-lines", "-addresses"];

/// Self and total in microseconds, and their shares, by function.
type Table = BTreeMap<String, (i64, i64, String, String)>;

/// `12.5ms`, `100us` or `3` as whole thousandths of a millisecond.
fn micros(text: &str) -> i64 {
    (text.trim_end_matches("us").parse::<f64>().unwrap_or_else(|_| panic!("{text} is no number"))).round() as i64
}

fn share(text: &str) -> String {
    let share: f64 = text.trim_end_matches('%').trim().parse().unwrap();
    format!("{share:.1}")
}

fn pprof(file: &Path, options: &[&str], unit: &str) -> Table {
    let mut command = Command::new("go");
    command.args(["tool", "pprof", "-symbolize=none", "-top", "-nodefraction=0"]).arg(format!("-unit={unit}"));
    let output = command.args(options).arg(file).output().expect("go tool pprof; see scripts/install-test-tools");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with("flat")).skip(1);
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words[5..].join(" ").replace(" (inline)", "").replace(" (partial-inline)", "");
            let name = name.replace("<unknown>", "[unknown]");
            (name, (micros(words[0]), micros(words[3]), share(words[1]), share(words[4])))
        })
        .collect()
}

fn rprof(command: &str, file: &Path, options: &[&str], unit: &str) -> Table {
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    rprof.arg(command).arg(file).args(["-n", "0", &format!("-unit={unit}")]).args(options);
    let output = rprof.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with("SELF %")).skip(1);
    lines
        .filter(|line| !line.starts_with('('))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Six words of shares and values, and the samples.
            let name = words[7..].join(" ").replace("<unknown>", "[unknown]");
            (name, (micros(words[2]), micros(words[5]), share(words[0]), share(words[3])))
        })
        .collect()
}

fn agree(options: &[&str]) -> Table {
    let folder = tempfile::tempdir().unwrap();
    agree_on(&written(folder.path()), options)
}

fn agree_on(file: &Path, options: &[&str]) -> Table {
    let granularity = ["-functions"];
    let asked = if options.iter().any(|option| GRANULARITIES.contains(option)) { &[][..] } else { &granularity[..] };
    let options = [asked, options].concat();
    let theirs = pprof(file, &options, "us");
    for command in ["report", "query"] {
        assert_eq!(rprof(command, file, &options, "us"), theirs, "{command} {options:?}");
    }
    theirs
}

#[test]
fn stacks_and_frames_are_filtered_as_pprof_does() {
    assert_eq!(agree(&[]).len(), 10);
    for options in [
        &["-focus=memcpy"][..],
        &["-focus", "lookup|recurse", "-ignore=memcpy"],
        &["-focus=hash.h"],
        &["-focus=libc"],
        &["-ignore=server.c"],
        &["-hide=hash"],
        &["-hide=libc.so"],
        &["-show=main|memcpy"],
        &["-show=server"],
        &["-show_from=lookup"],
        &["-show_from=hash"],
        &["-show_from=libc"],
        &["-prune_from=hash"],
        &["-prune_from=lookup"],
        &["-prune_from=recurse"],
        &["-focus=main", "-hide=lookup", "-show_from=hash|recurse"],
        &["-noinlines"],
        &["-focus=memcpy", "-relative_percentages"],
        &["--focus=memcpy", "--relative_percentages", "--cum"],
    ] {
        let table = agree(options);
        assert!(!table.is_empty(), "{options:?} left nothing to compare");
    }
}

#[test]
fn frames_that_a_file_drops_are_dropped_as_pprof_does() {
    let folder = tempfile::tempdir().unwrap();
    let all = agree(&[]);
    for (drop, keep, is_some) in [
        ("memcpy", "", true),
        ("memcpy|lookup", "", true),
        ("hash", "", true),
        ("lookup|hash|recurse", "recurse", true),
        (".*", "lookup|main", true),
        ("main", "", true),
        // Only whole names are dropped, and nothing from stacks of which nothing would stay.
        ("memcp", "", false),
        (".*", "", false),
        ("", "main", false),
    ] {
        let mut profile = labelled_profile();
        [profile.drop_frames, profile.keep_frames] = [drop, keep].map(|text| profile.strings.intern(text));
        let path = folder.path().join("drop.pb.gz");
        write_file(&path, Format::by_name("pprof").unwrap(), &profile).unwrap();
        let table = agree_on(&path, &[]);
        assert_eq!(table != all, is_some, "{drop} but {keep}");
    }
    let mut profile = labelled_profile();
    profile.drop_frames = profile.strings.intern("(");
    let path = folder.path().join("bad.pb.gz");
    write_file(&path, Format::by_name("pprof").unwrap(), &profile).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rprof")).arg("report").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("drop_frames"), "{said}");
}

#[test]
fn samples_are_filtered_by_labels_as_pprof_does() {
    for options in [
        &["-tagfocus=comm=server"][..],
        &["-tagfocus=worker"],
        &["-tagfocus=comm:s,container"],
        &["-tagfocus=comm=worker,node"],
        &["-tagignore=comm=^server$"],
        &["-tagfocus=request=2kb:"],
        &["-tagfocus=request=:4kb"],
        &["-tagfocus=request=2kb:4kb"],
        &["-tagfocus=pid=42"],
        &["-tagignore=77"],
        &["-tagroot=comm"],
        &["-tagroot=container,comm"],
        &["-tagleaf=container"],
        &["-tagleaf=comm,pid"],
        &["-tagroot=comm", "-focus=node"],
        &["-tagroot=request"],
    ] {
        let table = agree(options);
        assert!(!table.is_empty(), "{options:?} left nothing to compare");
    }
}

#[test]
fn rows_stand_for_what_pprof_says() {
    for option in GRANULARITIES {
        assert!(!agree(&[option]).is_empty());
        assert!(!agree(&[option, "-noinlines", "-focus=main"]).is_empty());
    }
}

#[test]
fn a_value_is_chosen_by_name_or_number() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path());
    for index in ["samples", "0", "1", "cpu"] {
        let option = format!("-sample_index={index}");
        let options = ["-functions", &option];
        let unit = if ["cpu", "1"].contains(&index) { "us" } else { "count" };
        let counts =
            |table: Table| -> BTreeMap<_, _> { table.into_iter().map(|(name, row)| (name, (row.2, row.3))).collect() };
        if unit == "us" {
            assert_eq!(rprof("report", &file, &options, unit), pprof(&file, &options, unit));
            let mean = [&options[..], &["-mean"]].concat();
            assert_eq!(counts(rprof("report", &file, &mean, unit)), counts(pprof(&file, &mean, unit)));
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path());
    for (options, problem) in [
        (&["-focus=("][..], "--focus: regex parse error"),
        (&["-tagfocus=comm=["], "--tagfocus: "),
        (&["-unit=kb"], "values in nanoseconds cannot be told in kb"),
        (&["-sample_index=7"], "the profile has no value named \"7\"; it has samples, cpu"),
        (&["-granularity=modules"], "invalid value 'modules'"),
        (&["-mean", "--tree"], "cannot be used with"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_rprof")).args(["report"]).arg(&file).args(options).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(problem), "{options:?}: {said}");
    }
}
