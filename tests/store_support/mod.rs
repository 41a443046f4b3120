//! Windows for a directory.
#![allow(dead_code, clippy::expect_used, reason = "each test uses a part, and one that cannot write a window fails")]

#[path = "../encode_support/mod.rs"]
mod encode_support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rprof::encode::Format;
use rprof::ids::UnixNanos;
use rprof::profile::{Profile, cpus_comment};
use rprof::store::{Level, Policy, Row, Source, Store, StoreError, WindowName, Writer, Written};

/// 2026-11-23 14:00:00 UTC.
pub(crate) const START: i64 = 1_795_442_400;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const EVER: std::ops::Range<UnixNanos> = UnixNanos(i64::MIN)..UnixNanos(i64::MAX);

/// A time of that afternoon, in seconds after 14:00.
pub(crate) fn at(seconds: i64) -> UnixNanos {
    UnixNanos((START + seconds) * SECOND)
}

pub(crate) fn name(from: i64, to: i64) -> WindowName {
    WindowName {
        host: "web1".into(),
        kind: "cpu".into(),
        source: Source::Recorder,
        level: Level::Window,
        start: at(from),
        end: at(to),
    }
}

pub(crate) fn pprof() -> &'static Format {
    Format::by_name("pprof").expect("there is pprof")
}

/// What a window from and to these seconds holds: 100 samples and as many more as its number, so that no two are equal.
pub(crate) fn profile(from: i64, to: i64) -> Profile {
    let mut profile = encode_support::server_profile();
    profile.time_nanos = at(from).0;
    profile.duration_nanos = (to - from).max(0) * SECOND;
    profile.comment(&cpus_comment(2));
    profile.samples[0].values[0] += from.abs();
    profile.samples[0].values[1] += from.abs() * 1_000_003;
    profile
}

pub(crate) fn open(directory: &Path) -> Writer {
    Writer::open(directory, Source::Recorder).expect("open the directory")
}

/// Writes a window of an hour's seconds.
pub(crate) fn write(writer: &mut Writer, from: i64, to: i64) -> Written {
    try_write(writer, from, to).expect("write a window")
}

pub(crate) fn try_write(writer: &mut Writer, from: i64, to: i64) -> Result<Written, StoreError> {
    writer.write(&name(from, to), &profile(from, to), pprof())
}

/// Writes minutes.
pub(crate) fn write_minutes(writer: &mut Writer, minutes: std::ops::Range<i64>) -> Vec<Written> {
    minutes.map(|minute| write(writer, minute * 60, minute * 60 + 60)).collect()
}

pub(crate) fn rows(directory: &Path) -> Vec<Row> {
    Store::open(directory).and_then(|store| store.rows(EVER)).expect("read the directory")
}

/// Samples and nanoseconds of all windows.
pub(crate) fn totals(directory: &Path) -> (i64, i64) {
    let rows = rows(directory);
    (rows.iter().map(|row| row.summary.samples).sum(), rows.iter().map(|row| row.summary.value).sum())
}

/// Tends until nothing is left to do.
pub(crate) fn tend(writer: &mut Writer, now: UnixNanos, policy: &Policy) {
    while {
        let tended = writer.tend(now, policy).expect("tend the directory");
        assert!(tended.problems.is_empty(), "{:?}", tended.problems);
        tended.more
    } {}
}

pub(crate) fn minutes(number: u64) -> Duration {
    Duration::from_secs(number * 60)
}

/// All files below a folder, by their path in it, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("list a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("it is below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The windows' files below a folder.
pub(crate) fn windows(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "gz")).collect()
}

/// The index of the day of all these windows.
pub(crate) fn index(directory: &Path) -> PathBuf {
    directory.join("2026-11-23/index")
}
