//! What a kill at any moment and a full disk cost: at most the window that is being written.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers that cannot do their part fail their test

mod common;
mod store_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::tmpfs::Tmpfs;
use rprof::encode;
use rprof::store::{Policy, Store, Writer};
use store_support::*;

const DIRECTORY: &str = "STORE_FAULTS_DIRECTORY";

/// Writes and merges windows until it is killed, where [`kills_cost_at_most_the_window_that_is_being_written`] starts it.
#[test]
#[ignore = "the process that another test kills"]
fn writes_until_it_is_killed() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("another test starts this one"));
    let mut writer = open(&directory);
    let done = directory.with_extension("done");
    let begun = fs::read_to_string(&done).map_or(0, |text| text.parse().expect("a number"));
    let policy = Policy { five_minutes_after: Some(minutes(1)), hours_after: Some(minutes(90)), ..Policy::default() };
    for minute in begun.. {
        write(&mut writer, minute * 60, minute * 60 + 60);
        // By rename, so that the number is never half written.
        let beside = directory.with_extension("next");
        fs::write(&beside, (minute + 1).to_string()).expect("count");
        fs::rename(&beside, &done).expect("count");
        tend(&mut writer, at(minute * 60 + 60), &policy);
    }
}

#[test]
fn kills_cost_at_most_the_window_that_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("windows");
    let done = || fs::read_to_string(directory.with_extension("done")).map_or(0, |text| text.parse::<i64>().unwrap());
    for round in 0..20 {
        let before = done();
        let mut child = start(&directory);
        while done() < before + 3 {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        // As it is, and as the next writer leaves it.
        check(&directory, done());
        drop(open(&directory));
        check(&directory, done());
        assert!(!files(&directory).iter().any(|path| path.to_string_lossy().ends_with(".tmp")), "round {round}");
    }
    assert!(
        rows(&directory).iter().any(|row| row.name.level == rprof::store::Level::FiveMinutes),
        "nothing was merged"
    );
}

fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_it_is_killed", "--ignored"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("run this test binary")
}

/// Each window that was written counts once, and one at most that was not told of yet. The same minute may then be written
/// anew by the next writer; it has another number.
fn check(directory: &Path, done: i64) {
    let store = Store::open(directory).unwrap();
    let listing = store.list(EVER).unwrap();
    assert_eq!(listing.damaged, []);
    for row in &listing.rows {
        assert_eq!(encode::read_file(&store.path(row)).unwrap().total(0), row.summary.samples.into());
    }
    let mut covered = vec![0; usize::try_from(done + 1).unwrap()];
    let seconds: i64 = listing.rows.iter().map(|row| row.summary.covered / SECOND).sum();
    for row in &listing.rows {
        let minute = |time: rprof::ids::UnixNanos| (time.0 / SECOND - START) / 60;
        (minute(row.name.start)..minute(row.name.end))
            .for_each(|minute| covered[usize::try_from(minute).unwrap()] += 1);
    }
    assert!(covered[..usize::try_from(done).unwrap()].iter().all(|&times| times >= 1), "a window is lost: {covered:?}");
    assert!(seconds / 60 >= done && seconds / 60 <= done + 21, "{seconds} s of {done} windows");
}

#[test]
fn a_full_disk_costs_new_windows_and_no_old_one() {
    let disk = Tmpfs::new("256k");
    let directory = disk.path().join("windows");
    let mut writer = open(&directory);
    let mut written = Vec::new();
    let error = loop {
        let minute = written.len() as i64;
        match try_write(&mut writer, minute * 60, minute * 60 + 60) {
            Ok(one) => written.push((fs::read(&one.path).unwrap(), one)),
            Err(error) => break error,
        }
    };
    assert!(error.is_full(), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    let unharmed = || {
        assert!(written.len() > 10, "{}", written.len());
        assert_eq!(rows(&directory).len(), written.len());
        assert_eq!(windows(&directory).len(), written.len());
        written.iter().for_each(|(bytes, one)| assert_eq!(fs::read(&one.path).unwrap(), *bytes));
    };
    unharmed();
    assert!(!files(&directory).iter().any(|path| path.to_string_lossy().ends_with(".tmp")));
    // Merging needs room that is not there: it is told, and nothing is lost.
    let policy = Policy { five_minutes_after: Some(minutes(0)), ..Policy::default() };
    fill(disk.path());
    let tended = writer.tend(at(36_000), &policy).unwrap();
    assert!(tended.problems.iter().all(|problem| problem.is_full()) && !tended.problems.is_empty(), "{tended:?}");
    unharmed();
    drop(writer);
    let mut writer =
        Writer::open(&directory, rprof::store::Source::Recorder).expect("a full disk is no reason not to start");
    unharmed();

    fs::remove_file(disk.path().join("ballast")).unwrap();
    let next = 60 * (written.len() as i64 + 5);
    for _ in 0..3 {
        // The policy makes room where the disk has none.
        writer.tend(at(next), &Policy { max_files: Some(written.len() / 2), ..Policy::default() }).unwrap();
    }
    write(&mut writer, next, next + 60);
    assert_eq!(rows(&directory).len(), written.len() / 2 + 1);
}

fn fill(disk: &Path) {
    use std::io::Write;
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
}

#[test]
fn a_floor_of_free_space_is_kept() {
    let disk = Tmpfs::new("1m");
    let mut writer = open(disk.path());
    write_minutes(&mut writer, 0..60);
    let free = || {
        let stat = nix::sys::statvfs::statvfs(disk.path()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    };
    let (before, floor) = (free(), free() + (64 << 10));
    let policy = Policy { min_free: floor, ..Policy::default() };
    let removed: usize = (0..3).map(|_| writer.tend(at(3600), &policy).unwrap().removed).sum();
    assert!(before < floor && free() >= floor, "{before} {} {floor}", free());
    let rows = rows(disk.path());
    assert!(
        (1..40).contains(&removed) && rows.len() == 60 - removed && rows.last().unwrap().name == name(3540, 3600),
        "{rows:?}"
    );
}

/// A row that there was no room for is added once there is.
#[test]
fn the_index_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write(&mut writer, 0, 60);
    let whole = fs::read(index(folder.path())).unwrap();
    fs::remove_file(index(folder.path())).unwrap();
    fs::create_dir(index(folder.path())).unwrap();
    let written = write(&mut writer, 60, 120);
    assert!(!written.indexed);
    fs::remove_dir(index(folder.path())).unwrap();
    assert_eq!(rows(folder.path()).len(), 2, "readers open the file");
    writer.tend(at(120), &Policy::default()).unwrap();
    assert!(fs::read(index(folder.path())).unwrap().len() > whole.len(), "both rows");
}
