//! Merging: exact sums over equal stacks, mappings and labels, however the work is shared out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rprof::encode::{FileReader, Format, ReadOptions, read_file, write_file};
use rprof::health::Count;
use rprof::profile::{KeptLabels, LabelValue, MergeError, MergeOptions, Merger, Profile, Quality};
use support::server_profile;

/// The profile of another time: its addresses in other places of the tables, its values scaled.
fn later(times: i64, start: i64) -> Profile {
    let mut profile = server_profile();
    profile.time_nanos = start;
    support::multiply(&mut profile, times);
    profile.samples.reverse();
    profile.locations.reverse();
    let last = profile.locations.len() as u32 - 1;
    profile.samples.iter_mut().for_each(|sample| sample.stack.iter_mut().for_each(|id| id.0 = last - id.0));
    profile
}

fn merge(profiles: &[Profile], labels: KeptLabels) -> Profile {
    let mut merger = Merger::new(MergeOptions { labels, functions_only: false });
    profiles.iter().for_each(|profile| merger.add(profile).unwrap());
    merger.finish()
}

/// What a profile says, whatever the order of its tables: stacks with addresses, modules and labels, and their values.
fn content(profile: &Profile) -> BTreeMap<String, Vec<i64>> {
    let mut content: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for sample in &profile.samples {
        let frames = sample.stack.iter().map(|id| {
            let location = &profile.locations[id.0 as usize];
            let names: Vec<_> =
                profile.frames_at(*id).map(|frame| format!("{}@{}", frame.name, frame.module)).collect();
            format!("{:#x} {}", location.address, names.join(" < "))
        });
        let mut labels: Vec<String> = sample
            .labels
            .iter()
            .map(|label| match label.value {
                LabelValue::Text(text) => format!("{}={}", profile.text(label.key), profile.text(text)),
                LabelValue::Number(number, _) => format!("{}={number}", profile.text(label.key)),
            })
            .collect();
        labels.sort();
        let key = format!("{} | {}", frames.collect::<Vec<_>>().join(";"), labels.join(","));
        assert!(content.insert(key, sample.values.clone()).is_none(), "a sample stands twice");
    }
    content
}

#[test]
fn sums_are_exact_and_what_is_equal_is_one() {
    let merged = merge(&[server_profile(), later(3, 1_600_000_000_000_000_000), later(5, 0)], KeptLabels::All);
    merged.check().unwrap();
    let once = server_profile();
    let nine = content(&once).into_iter().map(|(key, values)| (key, values.iter().map(|v| v * 9).collect()));
    assert_eq!(content(&merged), nine.collect());
    assert_eq!((merged.locations.len(), merged.functions.len()), (once.locations.len(), once.functions.len()));
    assert_eq!(merged.mappings.len(), once.mappings.len());
    assert_eq!(merged.text(merged.mappings[0].file), "/usr/bin/server");
    assert_eq!((merged.time_nanos, merged.duration_nanos), (1_600_000_000_000_000_000, 30_000_000_000));
    assert_eq!(merged.period, once.period);
}

#[test]
fn losses_add_up_and_remarks_stand_once() {
    let merged = merge(&[server_profile(), server_profile(), server_profile()], KeptLabels::All);
    let quality = Quality::of(&merged).unwrap();
    assert_eq!((quality.all().lost, quality.all().throttled), (21, 3));
    assert_eq!((quality.health.get(Count::Samples), quality.health.get(Count::StacksTruncated)), (300, 12));
    assert_eq!(merged.remarks().collect::<Vec<_>>(), ["rprof 0.1.0", "command: server --port 80"]);
    assert_eq!(merged.comments.len(), server_profile().comments.len());
}

#[test]
fn many_different_remarks_are_bounded_and_counted() {
    let profiles: Vec<Profile> = (0..200)
        .map(|number| {
            let mut profile = server_profile();
            profile.comment(&format!("host number {number}"));
            profile.comment(&format!("event e{number}: value=x unit=count frequency=1 period=0 lost=1 throttled=0"));
            profile
        })
        .collect();
    let merged = merge(&profiles, KeptLabels::All);
    assert!(merged.comments.len() < 110, "{} comments", merged.comments.len());
    assert_eq!(Quality::of(&merged).unwrap().all().lost, 200 * 8, "a loss counts whatever is left out");
    let left_out = merged.remarks().find_map(|line| line.strip_prefix("remarks left out: ")).unwrap();
    assert_eq!(left_out, "154");
    let again = merge(&[merged.clone(), merged], KeptLabels::All);
    assert!(again.remarks().any(|line| line == "remarks left out: 308"));
}

#[test]
fn labels_that_are_not_kept_tell_nothing_apart() {
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
    let none = merge(&[server_profile()], KeptLabels::Only(keys(&[])));
    assert!(none.samples.iter().all(|sample| sample.labels.is_empty()));
    let only = merge(&[server_profile(), server_profile()], KeptLabels::Only(keys(&["comm"])));
    let but = merge(&[server_profile(), server_profile()], KeptLabels::AllBut(keys(&["pid", "tid", "process"])));
    assert_eq!(content(&only), content(&but));
    assert_eq!(only.total(1), 2 * server_profile().total(1));
    assert!(only.samples.iter().all(|sample| sample.labels.len() == 1));
}

/// The server's samples twice: the second time with fewer labels.
fn with_fewer_labels() -> Profile {
    let mut profile = server_profile();
    let mut again = profile.samples.clone();
    again.iter_mut().for_each(|sample| sample.labels.truncate(1));
    profile.samples.extend(again);
    profile
}

fn written(folder: &Path, name: &str, profile: &Profile) -> std::path::PathBuf {
    let path = folder.join(name);
    write_file(&path, Format::by_name("pprof").unwrap(), profile).unwrap();
    path
}

#[test]
fn labels_left_out_while_reading_leave_the_sums_that_merging_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "twice.pb.gz", &with_fewer_labels());
    let labels = KeptLabels::Only([].into());
    let mut reader = FileReader::default();
    let read = reader.read(&path, &ReadOptions { labels: labels.clone() }).unwrap();
    assert_eq!(content(read), content(&merge(&[with_fewer_labels()], labels)));
    let all = read_file(&path).unwrap();
    assert_eq!(all.samples.len(), with_fewer_labels().samples.len(), "all labels are kept if nothing is said");
    assert!(read.samples.len() < all.samples.len());
    let keys: std::collections::BTreeSet<String> = ["pid".to_owned(), "tid".to_owned()].into();
    for labels in [KeptLabels::AllBut(keys.clone()), KeptLabels::Only(keys)] {
        let read = reader.read(&path, &ReadOptions { labels: labels.clone() }).unwrap();
        let merged = merge(&[with_fewer_labels()], labels);
        assert_eq!(content(&merge(std::slice::from_ref(read), KeptLabels::All)), content(&merged));
    }
}

#[test]
fn samples_whose_sum_is_too_large_stay_apart_while_reading() {
    let folder = tempfile::tempdir().unwrap();
    let mut large = server_profile();
    large.samples.truncate(1);
    large.samples[0].values.fill(i64::MAX);
    large.samples.push(large.samples[0].clone());
    let path = written(folder.path(), "large.pb.gz", &large);
    let mut reader = FileReader::default();
    let read = reader.read(&path, &ReadOptions { labels: KeptLabels::Only([].into()) }).unwrap();
    assert_eq!(read.total(0), 2 * i128::from(i64::MAX));
    assert_eq!(Merger::new(MergeOptions::default()).add(read), Err(MergeError::Overflow));
}

#[test]
fn a_file_read_into_the_room_of_another_is_as_if_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut empty = server_profile();
    (empty.samples, empty.locations) = (Vec::new(), Vec::new());
    empty.mappings.iter_mut().for_each(|mapping| mapping.has = rprof::profile::Known::default());
    let profiles = [with_fewer_labels(), empty, later(3, 5), with_fewer_labels(), server_profile()];
    let mut reader = FileReader::default();
    for (number, profile) in profiles.iter().enumerate() {
        let path = written(folder.path(), &format!("{number}.pb.gz"), profile);
        let alone = read_file(&path).unwrap();
        assert_eq!(*reader.read(&path, &ReadOptions::default()).unwrap(), alone);
        let damaged = folder.path().join("damaged.pb.gz");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
        reader.read(&damaged, &ReadOptions::default()).unwrap_err();
    }
}

#[test]
fn functions_alone_have_fewer_stacks_and_the_same_sums() {
    let mut elsewhere = server_profile();
    elsewhere.locations.iter_mut().for_each(|location| {
        location.address += 4;
        location.lines.iter_mut().for_each(|line| line.line += 1);
    });
    let mut merger = Merger::new(MergeOptions { functions_only: true, ..MergeOptions::default() });
    [server_profile(), elsewhere].iter().for_each(|profile| merger.add(profile).unwrap());
    let merged = merger.finish();
    merged.check().unwrap();
    assert_eq!(merged.samples.len(), server_profile().samples.len());
    assert_eq!(merged.total(1), 2 * server_profile().total(1));
    assert!(merged.locations.iter().all(|location| location.address == 0));
}

#[test]
fn parts_of_workers_make_the_same_whole() {
    let profiles: Vec<Profile> = (1..8).map(|times| later(times, times)).collect();
    let whole = merge(&profiles, KeptLabels::All);
    let mut parts: Vec<Merger> = (0..3).map(|_| Merger::new(MergeOptions::default())).collect();
    profiles.iter().enumerate().for_each(|(at, profile)| parts[at % 2].add(profile).unwrap());
    let mut sum = Merger::new(MergeOptions::default());
    parts.drain(..).for_each(|part| sum.absorb(part).unwrap());
    let sum = sum.finish();
    sum.check().unwrap();
    assert_eq!(content(&sum), content(&whole));
    assert_eq!((sum.time_nanos, sum.duration_nanos, sum.period), (1, whole.duration_nanos, whole.period));
    assert_eq!(Quality::of(&sum), Quality::of(&whole));
}

#[test]
fn different_periods_become_their_mean_weighted_by_samples() {
    let mut slow = server_profile();
    slow.period *= 4;
    slow.samples.truncate(1);
    let merged = merge(&[server_profile(), slow], KeptLabels::All);
    assert_eq!(merged.period, (100 * 1_000_000 + 40 * 4_000_000) / 140);
}

#[test]
fn profiles_that_count_different_things_are_refused() {
    let mut other = server_profile();
    other.sample_types[1] = other.value_type("page_faults", "count");
    let mut merger = Merger::new(MergeOptions::default());
    merger.add(&server_profile()).unwrap();
    let error = merger.add(&other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the profiles count different things: samples/count, cpu/nanoseconds and samples/count, page_faults/count"
    );
    let mut much = server_profile();
    much.samples[0].values[1] = i64::MAX;
    let mut merger = Merger::new(MergeOptions::default());
    merger.add(&much).unwrap();
    assert_eq!(merger.add(&much).unwrap_err(), MergeError::Overflow);
}

#[test]
fn a_label_that_is_text_here_and_number_there_can_be_written() {
    let mut texts = server_profile();
    let pid = texts.strings.find("pid").unwrap();
    let word = texts.strings.intern("forty-two");
    for label in texts.samples.iter_mut().flat_map(|sample| &mut sample.labels).filter(|label| label.key == pid) {
        label.value = LabelValue::Text(word);
    }
    merge(&[server_profile(), texts], KeptLabels::All).check().unwrap();
}

/// `go tool pprof` merges the files that it is given, and shows the sum.
#[test]
fn pprof_sees_the_same_sum() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, profile: &Profile| {
        let path = folder.path().join(name);
        write_file(&path, Format::by_name("pprof").unwrap(), profile).unwrap();
        path
    };
    let profiles = [server_profile(), later(3, 5), later(7, 9)];
    let files: Vec<_> =
        profiles.iter().enumerate().map(|(at, profile)| write(&format!("{at}.pb.gz"), profile)).collect();
    let mine = write("mine.pb.gz", &merge(&profiles, KeptLabels::All));
    let theirs = folder.path().join("theirs.pb.gz");
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-symbolize=none", "-proto", "-output"]).arg(&theirs).args(&files);
    let output = pprof.output().expect("go tool pprof; see scripts/install-test-tools");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path: &Path| content(&read_file(path).unwrap());
    assert_eq!(read(&mine), read(&theirs));
}
