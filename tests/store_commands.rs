//! `rprof ls`, `pin` and `compact` over a directory of windows, and what other tools make of it.

#![allow(clippy::unwrap_used)] // helpers that cannot do their part fail their test

mod common;
mod store_support;

use std::path::Path;
use std::process::Command;

use common::recording::{Attempt, rprof};
use rprof::store::{Level, Source, Writer};
use serde_json::Value;
use store_support::*;

/// Runs rprof in UTC.
fn run(arguments: &[&str], directory: &Path, more: &[&str]) -> Attempt {
    Attempt::of(rprof().env("TZ", "UTC").args(arguments).arg(directory).args(more))
}

/// Minutes 0 to 90, without 20 to 25, and a snapshot.
fn directory() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    write_minutes(&mut writer, 0..20);
    write_minutes(&mut writer, 25..90);
    let mut snapshot = Writer::open(folder.path(), Source::Snapshot).unwrap();
    write(&mut snapshot, 600, 630);
    folder
}

/// Every command on every file that is made to hurt it; `scripts/hostile` tells what.
#[test]
fn no_file_hangs_kills_or_steers_a_command() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/hostile");
    let ran = Command::new(script).args(["--quick", "--rprof", env!("CARGO_BIN_EXE_rprof")]).output();
    let ran = ran.expect("python3 runs scripts/hostile");
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn ls_tells_hours_and_their_gaps() {
    let folder = directory();
    let listed = run(&["ls"], folder.path(), &[]);
    assert_eq!((listed.status, &*listed.said), (Some(0), ""));
    let lines: Vec<Vec<&str>> = listed
        .printed
        .lines()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(lines[0], ["TIME", "KIND", "HOST", "WINDOWS", "COVERED", "GAPS", "CPUS", "SIZE"]);
    assert_eq!(lines[1][..6], ["2026-11-23 14:00 UTC", "cpu", "web1", "55", "55m 0s", "1 (5m 0s)"]);
    assert_eq!(lines[2][..5], ["2026-11-23 14:00 UTC", "cpu snapshot", "web1", "1", "30.00 s"]);
    assert_eq!(lines[3][..5], ["2026-11-23 15:00 UTC", "cpu", "web1", "30", "30m 0s"]);
    assert_eq!(lines.len(), 4, "{}", listed.printed);
}

#[test]
fn ls_lists_files_of_a_time_and_a_kind() {
    let folder = directory();
    let listed = run(&["ls", "-l"], folder.path(), &["--from", "2026-11-23T14:09:30Z", "--to", "2026-11-23T14:10:10Z"]);
    assert_eq!(listed.printed.matches(".pb.gz").count(), 3, "{}{}", listed.printed, listed.said);
    let other = run(&["ls", "-l"], folder.path(), &["--kind", "off_cpu"]);
    assert!(other.printed.starts_with("no windows in"), "{}", other.printed);
    let wrong = run(&["ls"], folder.path(), &["--from", "lunch"]);
    assert!(wrong.status == Some(129) && wrong.said.contains("lunch"), "{}", wrong.said);
}

#[test]
fn ls_gives_programs_all_it_knows() {
    let folder = directory();
    let listed = run(&["ls", "--json"], folder.path(), &[]);
    let list: Value = serde_json::from_str(&listed.printed).expect("JSON");
    let rows = rows(folder.path());
    assert_eq!(list.as_array().unwrap().len(), rows.len());
    let sum: i64 = list.as_array().unwrap().iter().map(|row| row["value"].as_i64().unwrap()).sum();
    assert_eq!(sum, totals(folder.path()).1);
    assert_eq!(list[0]["start"], "2026-11-23T14:00:00Z");
    assert_eq!(list[0]["path"], "2026-11-23/14/web1.cpu.20261123T140000Z-20261123T140100Z.pb.gz");
    assert_eq!(
        (&list[0]["cpus"], &list[0]["frequency"], &list[0]["source"]),
        (&2.into(), &1000.into(), &"recorder".into())
    );
}

#[test]
fn ls_tells_damaged_files_and_a_directory_that_is_not_there() {
    let folder = directory();
    let first = folder.path().join(&windows(folder.path())[0]);
    std::fs::write(&first, "not a profile").unwrap();
    std::fs::remove_file(index(folder.path())).unwrap();
    let listed = run(&["ls"], folder.path(), &[]);
    assert_eq!(listed.status, Some(0));
    assert!(listed.printed.contains("1 files cannot be read"), "{}", listed.printed);
    let missing = run(&["ls"], &folder.path().join("nowhere"), &[]);
    assert!(missing.status == Some(255) && missing.said.contains("rprof record --continuous -o"), "{}", missing.said);
}

#[test]
fn pins_are_set_by_time_and_by_file_and_keep_windows_whole() {
    let folder = directory();
    let by_time = run(&["pin"], folder.path(), &["2026-11-23T14:10:10Z", "--reason", "the outage"]);
    assert_eq!(
        by_time.printed.matches(": pinned").count(),
        2,
        "window and snapshot: {}{}",
        by_time.printed,
        by_time.said
    );
    let file = "web1.cpu.20261123T152000Z-20261123T152100Z.pb.gz";
    assert_eq!(run(&["pin"], folder.path(), &[file]).printed.matches(": pinned").count(), 1);
    assert_eq!(rows(folder.path()).iter().filter(|row| row.pinned).count(), 3);
    let pin = folder.path().join("2026-11-23/14/web1.cpu.20261123T141000Z-20261123T141100Z.pb.gz.pin");
    assert_eq!(std::fs::read_to_string(pin).unwrap(), "the outage\n");
    assert!(run(&["ls"], folder.path(), &[]).printed.contains("PINNED"));

    for nothing in ["2026-11-23T14:22:00Z", "web1.cpu.20261123T142200Z-20261123T142300Z.pb.gz"] {
        let refused = run(&["pin"], folder.path(), &[nothing]);
        assert!(refused.status == Some(255) && refused.said.contains("rprof ls -l"), "{}", refused.said);
    }
    let removed = run(&["pin", "--remove"], folder.path(), &[file, "2026-11-23T15:21:30Z"]);
    assert!(
        removed.printed.contains("no longer pinned") && removed.printed.contains("was not pinned"),
        "{}",
        removed.printed
    );
    assert_eq!(rows(folder.path()).iter().filter(|row| row.pinned).count(), 2);

    let compacted = run(&["compact", "--hours-after", "0s", "--five-minutes-after", "0s"], folder.path(), &[]);
    assert_eq!(compacted.status, Some(0), "{}", compacted.said);
    let rows = rows(folder.path());
    let mine = |level| rows.iter().filter(|row| row.name.level == level && row.name.source == Source::Recorder).count();
    // The hour with the pin stays in pieces: 5 minutes of it as they were. The other is one.
    assert_eq!((mine(Level::Hour), mine(Level::FiveMinutes), mine(Level::Window)), (1, 10, 5));
}

#[test]
fn compact_keeps_totals_and_leaves_a_recorders_directory_alone() {
    let folder = directory();
    let before = totals(folder.path());
    let recorder = open(folder.path());
    let refused = run(&["compact"], folder.path(), &[]);
    assert!(
        refused.status == Some(255) && refused.said.contains(&format!("PID {}", std::process::id())),
        "{}",
        refused.said
    );
    drop(recorder);
    let compacted = run(&["compact", "--five-minutes-after", "0s", "--hours-after", "520w"], folder.path(), &[]);
    assert!(compacted.printed.starts_with("86 windows with "), "{}{}", compacted.printed, compacted.said);
    assert_eq!((rows(folder.path()).len(), totals(folder.path())), (18, before));
    let rebuilt = run(&["compact", "--rebuild-index"], folder.path(), &[]);
    assert_eq!(rebuilt.printed, "the index has 18 windows\n");
    assert_eq!(totals(folder.path()), before);
    let missing = folder.path().join("nowhere");
    assert!(run(&["compact"], &missing, &[]).status == Some(255) && !missing.exists());
}

#[test]
fn go_tool_pprof_opens_raw_and_merged_windows() {
    let folder = directory();
    run(&["compact", "--five-minutes-after", "0s", "--hours-after", "520w"], folder.path(), &[]);
    let one_of = |level| rows(folder.path()).into_iter().find(|row| row.name.level == level).unwrap();
    for row in [one_of(Level::Window), one_of(Level::FiveMinutes)] {
        // By a relative path, as one types it.
        let shown = Command::new("go")
            .args(["tool", "pprof", "-raw"])
            .arg(&row.path)
            .current_dir(folder.path())
            .output()
            .expect("run go tool pprof");
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && text.contains("samples/count cpu/nanoseconds"), "{text}");
        let duration = format!("Duration: {}", if row.name.level == Level::Window { "30" } else { "5m0s" });
        assert!(text.contains(&duration) || row.name.level == Level::Window, "{text}");
    }
}
