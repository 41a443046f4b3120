//! `--overwrite`: only the newest records are kept, and written when somebody asks, with all that they are read by. Needs root and perf.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::recording::{rprof, text, wait_for};
use common::written::{CHAIN, chain, counted, lasting, perf, record, share, stacks};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The files that were written on request, the oldest first.
fn dumps(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut dumps: Vec<PathBuf> = entries.filter(|path| text(path).contains("perf.data.2")).collect();
    dumps.sort();
    dumps
}

/// Seconds from the first to the last sample.
fn span(file: &Path) -> f64 {
    let printed = perf(&["script", "-F", "time"], file);
    let times: Vec<f64> = printed.lines().filter_map(|line| line.trim().trim_end_matches(':').parse().ok()).collect();
    times.last().unwrap() - times.first().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_end_has_the_last_seconds() {
    let recording = record(&["-F", "499", "--overwrite=1s"], &[&chain(), "5"]);
    assert_eq!(recording.status, Some(0), "{}", recording.said);
    let file = recording.path();
    assert_eq!(counted(&file), recording.samples());
    assert!(
        recording.said.contains("older samples were dropped") && !recording.said.contains("; 0 older"),
        "{}",
        recording.said
    );
    let seconds = span(&file);
    assert!((0.9..4.0).contains(&seconds), "{seconds} s");
    // What maps the program was dropped long ago, and is told all the same.
    assert!(share(&stacks(&file, "cpu-clock"), &CHAIN) > 0.95);
    assert!(perf(&["buildid-list"], &file).contains(&chain()));
}

#[test]
fn a_signal_writes_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let rprof = lasting(folder.path(), &["-F", "999", "--overwrite", "--switch-output=signal", "--switch-max-files=3"]);
    sleep(Duration::from_millis(1500));
    for number in 1..=2 {
        kill(Pid::from_raw(rprof.id() as i32), Signal::SIGUSR2).unwrap();
        wait_for("a file", || dumps(folder.path()).len() == number);
        sleep(Duration::from_millis(600));
    }
    kill(Pid::from_raw(rprof.id() as i32), Signal::SIGINT).unwrap();
    let output = rprof.wait_with_output().unwrap();
    let files = dumps(folder.path());
    assert_eq!((files.len(), fs::metadata(folder.path().join("perf.data")).is_ok()), (3, false), "{}", said(&output));
    let samples: Vec<u64> = files.iter().map(|file| counted(file)).collect();
    // Each record is in one of them.
    let all =
        said(&output).lines().find_map(|line| line.split("samples) ]").next()?.rsplit_once('(')?.1.trim().parse().ok());
    assert_eq!(Some(samples.iter().sum::<u64>()), all, "{}", said(&output));
    assert!(samples.iter().all(|&samples| samples > 10), "{samples:?}");
    for file in &files {
        assert!(share(&stacks(file, "cpu-clock"), &CHAIN) > 0.95, "{}", file.display());
    }
}

#[test]
fn without_a_name_for_them_signals_write_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let rprof = lasting(folder.path(), &["-F", "999", "--overwrite"]);
    sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(rprof.id() as i32), Signal::SIGUSR2).unwrap();
    wait_for("a file", || dumps(folder.path()).len() == 1);
    kill(Pid::from_raw(rprof.id() as i32), Signal::SIGINT).unwrap();
    let output = rprof.wait_with_output().unwrap();
    // The end has the name that was asked for, as without signals.
    assert!(counted(&dumps(folder.path())[0]) > 30, "{}", said(&output));
    assert!(share(&stacks(&folder.path().join("perf.data"), "cpu-clock"), &CHAIN) > 0.9);
}

#[test]
fn a_snapshot_by_command_writes_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("commands");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let rprof = lasting(folder.path(), &["-F", "999", "--overwrite", "--control", &format!("fifo:{}", text(&fifo))]);
    sleep(Duration::from_millis(1000));
    fs::write(&fifo, "snapshot\n").unwrap();
    wait_for("a file", || dumps(folder.path()).len() == 1);
    fs::write(&fifo, "stop\n").unwrap();
    let output = rprof.wait_with_output().unwrap();
    assert!(counted(&dumps(folder.path())[0]) > 20, "{}", said(&output));
}

#[test]
fn processes_that_ended_have_their_names_and_mappings() {
    // Many short processes, so that what tells of most of them is older than what is kept.
    let chain = chain();
    let script = format!("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do {chain} 0.2; done");
    let recording = record(&["-F", "999", "--overwrite=1s"], &["sh", "-c", &script]);
    let file = recording.path();
    assert!(
        recording.said.contains("older samples were dropped") && !recording.said.contains("; 0 older"),
        "{}",
        recording.said
    );
    let stacks = stacks(&file, "cpu-clock");
    let named: u64 =
        stacks.iter().filter(|(stack, _)| stack.iter().any(|frame| frame != "[unknown]")).map(|(_, n)| n).sum();
    let all: u64 = stacks.values().sum();
    assert!(named * 100 >= all * 99, "{named} of {all}");
    assert!(share(&stacks, &CHAIN) > 0.6);
    let names = perf(&["script", "-F", "comm"], &file);
    assert!(names.lines().all(|name| !name.trim().starts_with(':')), "{names}");
}

#[test]
fn what_means_nothing_is_refused() {
    for (options, why) in [
        (&["--overwrite", "--switch-output=1M"][..], "in memory, where no file grows"),
        (&["--overwrite=5"], "write a size from 1M on"),
        (&["--overwrite=10K"], "write a size from 1M on"),
        (&["--overwrite", "-o", "x.pb.gz"], "is of perf.data"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command: Command = rprof();
        command.arg("record").args(options).args(["--", "true"]).current_dir(&folder);
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert!(output.status.code() == Some(129) && said(&output).contains(why), "{options:?}: {}", said(&output));
    }
}
