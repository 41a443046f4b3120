//! A directory of windows: what is written is read back, what the policy says goes, and what is merged is exact.

mod store_support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rprof::encode::Format;
use rprof::ids::UnixNanos;
use rprof::profile::Profile;
use rprof::store::{Level, Policy, Source, Store, StoreError, Summary, WindowName, Writer};
use store_support::*;

#[test]
fn windows_are_read_back_with_their_totals() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/when/needed");
    let mut writer = open(&directory);
    let written = write_minutes(&mut writer, 58..62);
    let rows = rows(&directory);
    assert_eq!(rows.len(), 4);
    for ((row, written), minute) in rows.iter().zip(&written).zip(58..) {
        assert!(written.indexed && written.path == directory.join(&row.path), "{written:?}");
        assert_eq!(row.name, name(minute * 60, minute * 60 + 60));
        assert_eq!(row.bytes, fs::metadata(&written.path).unwrap().len());
        assert_eq!(row.summary, Summary::of(&profile(minute * 60, minute * 60 + 60)));
        assert_eq!((row.summary.cpus, row.summary.frequency, row.summary.covered), (2, 1000, 60 * SECOND));
        let store = Store::open(&directory).unwrap();
        assert_eq!(store.load(row).unwrap(), profile(minute * 60, minute * 60 + 60));
    }
    assert_eq!(rows[1].path, Path::new("2026-11-23/14/web1.cpu.20261123T145900Z-20261123T150000Z.pb.gz"));
    assert_eq!(rows[2].path, Path::new("2026-11-23/15/web1.cpu.20261123T150000Z-20261123T150100Z.pb.gz"));
    let usage = writer.usage();
    assert_eq!((usage.windows, usage.bytes), (4, rows.iter().map(|row| row.bytes).sum()));
}

#[test]
fn a_time_has_the_windows_that_overlap_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..10);
    // One that began days before, because the machine slept.
    write(&mut writer, -200_000, -30);
    let store = Store::open(folder.path()).unwrap();
    let starts = |from, to| -> Vec<i64> {
        let rows = store.rows(at(from)..at(to)).unwrap();
        rows.iter().map(|row| row.name.start.0 / SECOND - START).collect()
    };
    assert_eq!(starts(60, 120), [60]);
    assert_eq!(starts(59, 121), [0, 60, 120]);
    assert_eq!(starts(-60, 1), [-200_000, 0]);
    assert!(starts(600, 700).is_empty());
}

#[test]
fn an_index_made_again_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..20);
    tend(&mut writer, at(900), &Policy { five_minutes_after: Some(minutes(0)), ..Policy::default() });
    let before = rows(folder.path());
    assert!(before.iter().any(|row| row.name.level == Level::FiveMinutes), "{before:?}");
    fs::remove_file(index(folder.path())).unwrap();
    assert_eq!(rows(folder.path()), before, "without an index");
    assert!(!index(folder.path()).exists(), "a reader wrote");
    drop(writer);
    let mut writer = open(folder.path());
    assert!(index(folder.path()).exists());
    assert_eq!(rows(folder.path()), before);
    assert_eq!(writer.rebuild_index().unwrap(), before.len());
    assert_eq!(rows(folder.path()), before);
}

#[test]
fn a_torn_index_hides_no_window() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..3);
    drop(writer);
    let (before, whole) = (rows(folder.path()), fs::read(index(folder.path())).unwrap());
    for cut in (0..=whole.len()).step_by(7).chain([whole.len()]) {
        fs::write(index(folder.path()), &whole[..cut]).unwrap();
        assert_eq!(rows(folder.path()), before, "cut at {cut}");
        drop(open(folder.path()));
        assert_eq!(rows(folder.path()), before, "mended at {cut}");
        assert_eq!(fs::read(index(folder.path())).unwrap().len(), whole.len(), "mended at {cut}");
    }
    let mut newer = whole.clone();
    newer[7] = 99;
    fs::write(index(folder.path()), newer).unwrap();
    drop(open(folder.path()));
    assert_eq!(fs::read(index(folder.path())).unwrap().len(), whole.len());
    assert_eq!(rows(folder.path()), before, "of another version");
}

#[test]
fn readers_need_no_right_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let everybody = Some("644".parse().unwrap());
    write_minutes(&mut Writer::open_with(folder.path(), Source::Recorder, everybody).unwrap(), 0..3);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let listed = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_rprof"), "ls", "-l"])
        .arg(folder.path())
        .output()
        .expect("run setpriv");
    let printed = String::from_utf8_lossy(&listed.stdout);
    assert_eq!(printed.matches(".pb.gz").count(), 3, "{printed}{}", String::from_utf8_lossy(&listed.stderr));
}

/// The rights of all files and folders below a folder, each once.
#[allow(clippy::unwrap_used)] // a folder that cannot be listed fails its test
fn modes(folder: &Path) -> BTreeSet<(bool, u32)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        found.insert((meta.is_dir(), meta.permissions().mode() & 0o777));
        if meta.is_dir() {
            found.extend(modes(&entry.path()));
        }
    }
    found
}

#[test]
fn files_are_their_owners_alone_unless_somebody_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let policy = Policy { five_minutes_after: Some(minutes(1)), ..Policy::default() };
    let fill = |directory: &Path, mode: Option<&str>| {
        let mode = mode.map(|mode| mode.parse().unwrap());
        write_minutes(&mut Writer::open_with(directory, Source::Recorder, mode).unwrap(), 0..12);
        // Another writer, which is not told.
        let mut writer = open(directory);
        write_minutes(&mut writer, 20..22);
        tend(&mut writer, at(3600), &policy);
        writer.rebuild_index().unwrap();
        let row = rows(directory).remove(0);
        Store::open(directory).unwrap().pin(&row.path, "why").unwrap();
    };
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    fill(&alone, None);
    assert_eq!(modes(&alone), [(false, 0o600), (true, 0o700)].into());
    fill(&shared, Some("640"));
    assert_eq!(modes(&shared), [(false, 0o640), (true, 0o750)].into());
}

#[test]
fn two_recorders_are_refused_and_a_snapshot_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = open(folder.path());
    let error = Writer::open(folder.path(), Source::Recorder).unwrap_err().to_string();
    let expected = [format!("PID {}: ", std::process::id()), "choose another directory with -o".into()];
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    let mut snapshot = Writer::open(folder.path(), Source::Snapshot).unwrap();
    assert!(Writer::open(folder.path(), Source::Snapshot).unwrap_err().to_string().contains("another snapshot"));
    for minute in 0..3 {
        write(&mut recorder, minute * 60, minute * 60 + 60);
        write(&mut snapshot, minute * 60, minute * 60 + 60);
    }
    let rows = rows(folder.path());
    let of = |source| rows.iter().filter(|row| row.name.source == source).count();
    assert_eq!((of(Source::Recorder), of(Source::Snapshot)), (3, 3));
    drop(recorder);
    open(folder.path());
}

/// Each clears what it left itself when it was killed, and nothing of the other, which may be writing.
#[test]
fn only_the_own_temporary_files_are_cleared() {
    let folder = tempfile::tempdir().unwrap();
    write_minutes(&mut open(folder.path()), 0..1);
    let hour = folder.path().join("2026-11-23/14");
    for name in [".abc.recorder.tmp", ".def.snapshot.tmp", ".mine", "notes.txt", "core"] {
        fs::write(hour.join(name), "x").unwrap();
    }
    fs::create_dir_all(folder.path().join("lost+found/14")).unwrap();
    open(folder.path());
    let left: Vec<String> = files(&hour).iter().map(|path| path.display().to_string()).collect();
    assert_eq!(left[..4], [".def.snapshot.tmp", ".mine", "core", "notes.txt"]);
    assert!(folder.path().join("lost+found/14").exists());
    assert_eq!(rows(folder.path()).len(), 1);
}

/// After the clock was set back a name may be taken; what is there stays as it is.
#[test]
fn a_name_that_is_taken_gets_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let first = write(&mut writer, 0, 60);
    let bytes = fs::read(&first.path).unwrap();
    let second = writer.write(&name(0, 60), &profile(7, 60), pprof()).unwrap();
    assert!(second.path.to_string_lossy().ends_with("Z.2.pb.gz"), "{second:?}");
    assert_eq!(fs::read(&first.path).unwrap(), bytes);
    // A window that ends before it begins is one of no length.
    write(&mut writer, 120, 60);
    assert_eq!(rows(folder.path()).len(), 3);
    assert_eq!(Store::open(folder.path()).unwrap().rows(at(120)..at(121)).unwrap().len(), 1);
    tend(&mut writer, at(9000), &Policy { hours_after: Some(minutes(1)), ..Policy::default() });
    assert_eq!(rows(folder.path()).len(), 1);
}

#[test]
fn a_damaged_window_is_told_and_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let written = write_minutes(&mut writer, 0..5);
    drop(writer);
    fs::remove_file(index(folder.path())).unwrap();
    fs::write(&written[2].path, &fs::read(&written[2].path).unwrap()[..100]).unwrap();
    for round in ["read", "indexed"] {
        let listing = Store::open(folder.path()).unwrap().list(EVER).unwrap();
        assert_eq!((listing.rows.len(), listing.damaged.len()), (4, 1), "{round}");
        assert!(listing.damaged[0].reason.contains("gzip"), "{}", listing.damaged[0].reason);
        open(folder.path());
    }
    // Its five minutes stay as they are, and others do not.
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 5..10);
    let policy = Policy { five_minutes_after: Some(minutes(0)), ..Policy::default() };
    let problems: Vec<StoreError> = (0..3).flat_map(|_| writer.tend(at(3600), &policy).unwrap().problems).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(rows(folder.path()).len(), 5, "four, and five as one");
}

#[test]
fn the_oldest_go_first_and_pinned_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let written = write_minutes(&mut writer, 0..150);
    let store = Store::open(folder.path()).unwrap();
    let pinned = &rows(folder.path())[3].path;
    store.pin(pinned, "the outage").unwrap();
    assert_eq!(store.pin_reason(pinned).unwrap().as_deref(), Some("the outage"));
    let starts =
        || -> Vec<i64> { rows(folder.path()).iter().map(|row| (row.name.start.0 / SECOND - START) / 60).collect() };
    let now = at(150 * 60);

    let tended = writer.tend(now, &Policy { max_files: Some(141), ..Policy::default() }).unwrap();
    assert_eq!((tended.removed, tended.over), (9, false));
    assert_eq!(starts(), std::iter::once(3).chain(10..150).collect::<Vec<_>>());

    let bytes: u64 = written[100..].iter().map(|written| written.bytes).sum::<u64>() + written[3].bytes;
    let tended = writer.tend(now, &Policy { max_bytes: Some(bytes), ..Policy::default() }).unwrap();
    assert_eq!(
        (tended.removed, tended.removed_bytes),
        (90, written[10..100].iter().map(|written| written.bytes).sum())
    );
    assert_eq!(starts(), std::iter::once(3).chain(100..150).collect::<Vec<_>>());
    assert_eq!(writer.usage().bytes, bytes);

    writer.tend(now, &Policy { max_age: Some(minutes(20)), ..Policy::default() }).unwrap();
    assert_eq!(starts(), std::iter::once(3).chain(129..150).collect::<Vec<_>>());
    assert!(folder.path().join("2026-11-23/14").exists() && !folder.path().join("2026-11-23/15").exists());

    let tended = writer.tend(now, &Policy { max_files: Some(0), ..Policy::default() }).unwrap();
    assert_eq!((tended.removed, tended.over), (21, true));
    assert_eq!(starts(), [3]);
    assert!(store.unpin(pinned).unwrap() && !store.unpin(pinned).unwrap());
    writer.tend(now, &Policy { max_files: Some(0), ..Policy::default() }).unwrap();
    let left: Vec<String> = files(folder.path()).iter().map(|path| path.display().to_string()).collect();
    assert_eq!(left, ["index.lock", "recorder.lock"], "no folder is left behind");
    assert!(!folder.path().join("2026-11-23").exists());
}

#[test]
fn merged_windows_hold_exactly_what_they_are_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..60);
    let before = totals(folder.path());
    let lost: u64 = rows(folder.path()).iter().map(|row| row.summary.lost).sum();
    let five = Policy { five_minutes_after: Some(minutes(10)), ..Policy::default() };

    let tended = writer.tend(at(15 * 60), &five).unwrap();
    assert_eq!((tended.compacted, tended.more), (5, true), "one step, one merge");
    tend(&mut writer, at(15 * 60 - 1), &five);
    assert_eq!(rows(folder.path()).len(), 56, "what ended ten minutes ago, and no more");
    tend(&mut writer, at(70 * 60), &five);
    let rows_of = rows(folder.path());
    assert!(rows_of.len() == 12 && rows_of.iter().all(|row| row.name.level == Level::FiveMinutes), "{rows_of:?}");
    assert_eq!(totals(folder.path()), before);
    assert_eq!(rows_of[2].path, Path::new("2026-11-23/14/web1.cpu.20261123T141000Z-20261123T141500Z.5m.pb.gz"));
    assert_eq!((rows_of[2].summary.covered, rows_of[2].summary.cpus), (300 * SECOND, 2));

    tend(&mut writer, at(120 * 60), &Policy { hours_after: Some(minutes(60)), ..five.clone() });
    let rows_of = rows(folder.path());
    assert_eq!((rows_of.len(), rows_of[0].name.level), (1, Level::Hour));
    assert_eq!((totals(folder.path()), rows_of[0].summary.lost), (before, lost));
    assert_eq!((rows_of[0].summary.covered, rows_of[0].summary.frequency), (3600 * SECOND, 1000));
    let merged = Store::open(folder.path()).unwrap().load(&rows_of[0]).unwrap();
    assert_eq!(merged.total(1), before.1.into());
    assert!(merged.strings.find("pid").is_some() && merged.strings.find("tid").is_none());
    assert_eq!(windows(folder.path()).len(), 1);
    assert_eq!(writer.usage().windows, 1);
}

/// Killed between the merged window's rename and the end of its inputs.
#[test]
fn a_window_and_the_one_it_was_merged_into_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let written = write_minutes(&mut writer, 0..5);
    let (before, kept) = (totals(folder.path()), tempfile::tempdir().unwrap());
    for written in &written {
        fs::copy(&written.path, kept.path().join(written.path.file_name().unwrap())).unwrap();
    }
    tend(&mut writer, at(3600), &Policy { five_minutes_after: Some(minutes(0)), ..Policy::default() });
    for written in &written {
        fs::copy(kept.path().join(written.path.file_name().unwrap()), &written.path).unwrap();
    }
    assert_eq!((windows(folder.path()).len(), totals(folder.path())), (6, before));
    fs::remove_file(index(folder.path())).unwrap();
    assert_eq!(totals(folder.path()), before, "without an index");
    // The hour that is made of it now must not hold them twice either.
    tend(&mut writer, at(8000), &Policy { hours_after: Some(minutes(0)), ..Policy::default() });
    assert_eq!(totals(folder.path()), before, "as hours");
    drop(writer);
    open(folder.path());
    assert_eq!((windows(folder.path()).len(), totals(folder.path())), (1, before));
}

/// The clock was set back into time that was merged already: what is recorded then is new.
#[test]
fn a_window_within_the_time_of_a_merged_one_is_not_taken_for_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..5);
    let policy = Policy { five_minutes_after: Some(minutes(0)), ..Policy::default() };
    tend(&mut writer, at(3600), &policy);
    let before = totals(folder.path());
    let again = write(&mut writer, 60, 120);
    assert!(again.path.to_string_lossy().ends_with(".2.pb.gz"), "the first of this name is merged: {again:?}");
    let more = Summary::of(&profile(60, 120));
    let sum = (before.0 + more.samples, before.1 + more.value);
    assert_eq!(totals(folder.path()), sum);
    drop(writer);
    let mut writer = open(folder.path());
    assert_eq!(totals(folder.path()), sum);
    tend(&mut writer, at(3600), &policy);
    assert_eq!((rows(folder.path()).len(), totals(folder.path())), (1, sum));
}

#[test]
fn hosts_kinds_and_snapshots_are_merged_apart_and_pinned_ones_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let mut snapshot = Writer::open(folder.path(), Source::Snapshot).unwrap();
    for minute in 0..10 {
        let (from, to) = (minute * 60, minute * 60 + 60);
        write(&mut writer, from, to);
        write(&mut snapshot, from, to);
        for (host, kind) in [("web2", "cpu"), ("web1", "page_faults")] {
            let name = WindowName { host: host.into(), kind: kind.into(), ..name(from, to) };
            writer.write(&name, &profile(from, to), pprof()).unwrap();
        }
    }
    let before = totals(folder.path());
    let pinned = rows(folder.path()).into_iter().find(|row| row.name == name(0, 60)).unwrap();
    Store::open(folder.path()).unwrap().pin(&pinned.path, "").unwrap();
    tend(&mut writer, at(7200), &Policy { hours_after: Some(minutes(0)), ..Policy::default() });
    let rows = rows(folder.path());
    let count = |source, level| rows.iter().filter(|row| (row.name.source, row.name.level) == (source, level)).count();
    assert_eq!(count(Source::Snapshot, Level::Window), 10, "another writer's");
    assert_eq!(count(Source::Recorder, Level::Hour), 2);
    assert_eq!(count(Source::Recorder, Level::Window), 10, "those with the pinned one");
    assert_eq!(rows.iter().filter(|row| row.pinned).count(), 1);
    assert_eq!(totals(folder.path()), before);
}

#[test]
fn folded_windows_are_kept_and_other_formats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let folded = Format::by_name("folded").unwrap();
    let written = writer.write(&name(0, 60), &profile(0, 60), folded).unwrap();
    assert!(written.path.to_string_lossy().ends_with("Z.folded"), "{written:?}");
    assert_eq!(rows(folder.path())[0].summary.totals.len(), 2);
    fs::remove_file(index(folder.path())).unwrap();
    let row = rows(folder.path()).remove(0);
    assert_eq!((row.summary.samples, row.summary.covered), (100, 60 * SECOND));
    let error = writer.write(&name(0, 60), &profile(0, 60), Format::by_name("flamegraph").unwrap()).unwrap_err();
    assert!(error.to_string().contains("--format"), "{error}");
}

#[test]
fn an_empty_profile_is_a_window_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    writer.write(&name(0, 60), &Profile::default(), pprof()).unwrap();
    let rows = rows(folder.path());
    assert_eq!((rows.len(), rows[0].summary.samples, rows[0].summary.covered), (1, 0, 60 * SECOND));
    assert_eq!(Store::open(folder.path()).unwrap().rows(UnixNanos(0)..UnixNanos(1)).unwrap(), []);
}

#[test]
fn whoever_reads_while_windows_are_merged_sees_all_of_them_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..60);
    let before = totals(folder.path());
    let merging = std::thread::spawn(move || {
        tend(&mut writer, at(7200), &Policy { five_minutes_after: Some(minutes(0)), ..Policy::default() });
        tend(&mut writer, at(7200), &Policy { hours_after: Some(minutes(0)), ..Policy::default() });
    });
    let mut reads = 0;
    while !merging.is_finished() || reads == 0 {
        assert_eq!(totals(folder.path()), before, "after {reads} reads");
        reads += 1;
    }
    merging.join().unwrap();
    assert_eq!((rows(folder.path()).len(), totals(folder.path())), (1, before));
}

#[test]
fn files_of_others_stay_when_windows_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..3);
    let hour = folder.path().join("2026-11-23/14");
    let others = [
        "notes.txt",
        "web1.cpu.20261123T140000Z-20261123T140100Z.svg",
        "web1.cpu.20261123T150000Z-20261123T150100Z.pb.gz",
    ];
    others.iter().for_each(|name| fs::write(hour.join(name), "mine").unwrap());
    let tended = writer.tend(at(7200), &Policy { max_age: Some(minutes(1)), ..Policy::default() }).unwrap();
    assert_eq!((tended.removed, writer.usage().windows), (3, 0));
    assert_eq!(files(&hour).len(), 3);
    others.iter().for_each(|name| assert_eq!(fs::read(hour.join(name)).unwrap(), b"mine"));
}
