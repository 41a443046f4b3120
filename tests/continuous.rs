//! A recorder that is to run for ever: windows without a gap, kills, full disks, signals, budgets, snapshots beside it. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::programs::{self, Running, c, nearest};
use common::recording::{CpuTime, ON_ANY_DISK, attempt, rprof, text, wait_for};
use common::tmpfs::Tmpfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rprof::ids::UnixNanos;
use rprof::profile::{LabelValue, Profile, Quality};
use rprof::session::status;
use rprof::store::{Row, Source, Store};
use serde_json::Value;
use tempfile::TempDir;

const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
const ALWAYS: Range<UnixNanos> = UnixNanos(i64::MIN)..UnixNanos(i64::MAX);

fn running() -> Running {
    programs::run(&c("chain.c", O2), &["0"])
}

/// A recorder into a directory of its own.
struct Recorder {
    child: Child,
    folder: TempDir,
}

impl Recorder {
    fn start(options: &[&str]) -> Recorder {
        Recorder::start_in(tempfile::tempdir().unwrap(), options)
    }

    fn start_in(folder: TempDir, options: &[&str]) -> Recorder {
        // Where all tests run at once, a small budget would be spent on the ends of short windows.
        Recorder::begin(folder, "100%", options)
    }

    fn start_with_budget(share: &str, options: &[&str]) -> Recorder {
        Recorder::begin(tempfile::tempdir().unwrap(), share, options)
    }

    fn begin(folder: TempDir, share: &str, options: &[&str]) -> Recorder {
        let mut command = rprof();
        command.args(["record", "--continuous", "--max-overhead", share, "-o", text(folder.path())]);
        command.args(ON_ANY_DISK).args(options);
        // As a daemon: of no terminal.
        detach(&mut command);
        let child = command.stderr(Stdio::from(fs::File::create(folder.path().join("said")).unwrap())).spawn().unwrap();
        Recorder { child, folder }
    }

    fn directory(&self) -> &Path {
        self.folder.path()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory().join("said")).unwrap_or_default()
    }

    fn rows(&self) -> Vec<Row> {
        rows(self.directory())
    }

    fn wait_for_windows(&self, number: usize) {
        wait_for(&format!("{number} windows"), || self.rows().len() >= number);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command by `setsid`, which replaces itself by it: the PID stays.
fn detach(command: &mut Command) {
    let mut detached = Command::new("setsid");
    detached.arg(command.get_program()).args(command.get_args());
    *command = detached;
}

fn rows(directory: &Path) -> Vec<Row> {
    let mut rows = Store::open(directory).unwrap().rows(ALWAYS).unwrap();
    rows.sort_by_key(|row| row.name.start);
    rows
}

fn load(directory: &Path, row: &Row) -> Profile {
    Store::open(directory).unwrap().load(row).unwrap()
}

fn comments(profile: &Profile) -> String {
    profile.comments.iter().map(|&comment| format!("{}\n", profile.text(comment))).collect()
}

fn go_pprof_opens(file: &Path) {
    let output = Command::new("go").args(["tool", "pprof", "-raw"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
}

/// All files below a folder but those that are not windows.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// Fails unless the windows together tell such a share of the milliseconds that a program used: if not, samples between windows were lost,
/// or counted twice, or weighed wrongly.
fn assert_told(rows: &[Row], used: RangeInclusive<u64>, shares: Range<f64>) {
    let told = rows.iter().map(|row| row.summary.value as u64 / 1_000_000).sum();
    let share = told as f64 / nearest(told, used.clone()) as f64;
    assert!(shares.contains(&share), "{told} ms of {used:?} ms were told");
}

#[test]
fn windows_follow_each_other_without_a_gap() {
    let program = running();
    let time = CpuTime::of(program.pid());
    let mut recorder = Recorder::start(&["--window", "1s", "-F", "199", "-p", &program.pid().to_string()]);
    recorder.wait_for_windows(5);
    let status = recorder.end(Signal::SIGINT);
    let used = time.until_now();
    assert_eq!(status.code(), Some(128 + 2));
    let rows = recorder.rows();
    for pair in rows.windows(2) {
        assert_eq!(pair[0].name.end, pair[1].name.start, "{pair:#?}");
    }
    for row in &rows[1..rows.len() - 1] {
        assert_eq!(row.name.start.0 % 1_000_000_000, 0, "windows begin with the clock's seconds");
        assert_eq!(row.summary.totals[0].pid, i64::from(program.pid()));
        go_pprof_opens(&recorder.directory().join(&row.path));
    }
    // The recorder took a moment to begin and to end.
    assert_told(&rows, used, 0.85..1.03);
}

#[test]
fn samples_keep_their_times_where_asked() {
    let program = running();
    let mut recorder =
        Recorder::start(&["--window", "1s", "--timestamps", "-F", "99", "-p", &program.pid().to_string()]);
    recorder.wait_for_windows(3);
    recorder.end(Signal::SIGTERM);
    for row in recorder.rows() {
        let profile = load(recorder.directory(), &row);
        // The last window may be over before it has a sample.
        let Some(key) = profile.strings.find("timestamp_ns") else {
            assert!(profile.samples.is_empty());
            continue;
        };
        let mut late = 0;
        for sample in &profile.samples {
            assert_eq!(sample.values[0], 1, "none are added up");
            let time = sample.labels.iter().find(|label| label.key == key).unwrap().value;
            let LabelValue::Number(time, _) = time else { panic!("{time:?}") };
            // Names tell whole milliseconds.
            assert!(time < row.name.end.0 + 1_000_000, "{time} {row:?}");
            late += u32::from(time < row.name.start.0);
        }
        // A virtual CPU may be taken away between a sample's time and its place in the ring, for any time.
        assert!(late <= row.summary.cpus, "{late} samples are older than their window: {row:?}");
    }
}

#[test]
fn a_killed_recorder_loses_one_window_and_leaves_nothing_behind() {
    let program = running();
    let mut folder = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let mut recorder =
            Recorder::start_in(folder, &["--window", "1s", "-F", "499", "-p", &program.pid().to_string()]);
        let before = recorder.rows().len();
        recorder.wait_for_windows(before + 1);
        sleep(Duration::from_millis(round * 170));
        recorder.end(Signal::SIGKILL);
        folder = std::mem::replace(&mut recorder.folder, tempfile::tempdir().unwrap());
    }
    let mut recorder = Recorder::start_in(folder, &["--window", "1s", "-p", &program.pid().to_string()]);
    let before = recorder.rows().len();
    recorder.wait_for_windows(before + 1);
    recorder.end(Signal::SIGTERM);
    let rows = recorder.rows();
    assert!(rows.len() >= 8, "{}", recorder.said());
    let listing = Store::open(recorder.directory()).unwrap().list(ALWAYS).unwrap();
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    let known = ["said", "rprof.prom", "index", "index.lock", "recorder.lock"];
    for file in files(recorder.directory()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".pb.gz") {
            go_pprof_opens(&file);
        } else {
            assert!(known.contains(&name), "{} was left behind", file.display());
        }
    }
}

#[test]
fn a_full_disk_costs_windows_until_there_is_room() {
    let program = running();
    let small = Tmpfs::new("512k");
    let fill = small.path().join("fill");
    let (mut child, said) = record_into(&small, &program, "0");
    wait_for("two windows", || rows(small.path()).len() >= 2);
    let _ = fs::write(&fill, vec![0; 1 << 20]);
    wait_for("a complaint", || fs::read_to_string(said.path()).unwrap().contains("windows are dropped"));
    let while_full = rows(small.path());
    fs::remove_file(&fill).unwrap();
    wait_for("new windows", || rows(small.path()).len() >= while_full.len() + 2);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    let rows = rows(small.path());
    assert_eq!(rows[..while_full.len()], while_full[..], "nothing that was written is lost");
    let first = load(small.path(), &rows[while_full.len()]);
    assert!(comments(&first).contains("could not be written and are lost"), "{}", comments(&first));
    let listing = Store::open(small.path()).unwrap().list(ALWAYS).unwrap();
    assert!(listing.damaged.is_empty());
}

#[test]
fn a_disk_that_others_fill_is_told_and_gets_no_window() {
    let program = running();
    let small = Tmpfs::new("1m");
    let fill = small.path().join("fill");
    fs::write(&fill, vec![0; 600 << 10]).unwrap();
    let (mut child, said) = record_into(&small, &program, "512K");
    let said = || fs::read_to_string(said.path()).unwrap();
    let removed = || {
        let status = status::read(&small.path().join(status::STATUS)).unwrap_or_default();
        status.get("rprof_windows_removed_total").copied().unwrap_or_default()
    };
    wait_for("windows to be removed", || removed() >= 1.0);
    assert_eq!(said().matches("windows go as soon as they are written").count(), 1, "{}", said());
    fs::remove_file(&fill).unwrap();
    wait_for("windows", || rows(small.path()).len() >= 2);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    assert!(rows(small.path()).len() >= 2 && said().lines().count() <= 3, "{}", said());
}

/// A recorder into a small disk of which so much is to be left free, and the file of what it says.
fn record_into(disk: &Tmpfs, program: &Running, left_free: &str) -> (Child, tempfile::NamedTempFile) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let pid = program.pid().to_string();
    let options = ["record", "--continuous", "--window", "1s", "--min-free", left_free, "-p", &pid, "-o"];
    let log = Stdio::from(said.reopen().unwrap());
    (rprof().args(options).arg(disk.path()).stderr(log).spawn().unwrap(), said)
}

#[test]
fn signals_end_windows_of_a_daemon() {
    let program = running();
    let mut recorder = Recorder::start(&["--window", "1h", "-p", &program.pid().to_string()]);
    wait_for("the recorder", || recorder.said().contains("recording into"));
    for (windows, signal) in [(1, Signal::SIGHUP), (2, Signal::SIGUSR2)] {
        sleep(Duration::from_millis(300));
        recorder.signal(signal);
        recorder.wait_for_windows(windows);
    }
    assert_eq!(recorder.end(Signal::SIGTERM).code(), Some(128 + 15));
    let rows = recorder.rows();
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[0].name.end, rows[1].name.end), (rows[1].name.start, rows[2].name.start));
}

#[test]
fn it_ends_with_its_process_but_not_with_its_name() {
    let program = running();
    let mut recorder = Recorder::start(&["--window", "1s", "-p", &program.pid().to_string()]);
    recorder.wait_for_windows(1);
    drop(program);
    assert_eq!(recorder.child.wait().unwrap().code(), Some(0), "{}", recorder.said());
    assert!(recorder.said().contains("the target has ended"));

    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("comes-and-goes");
    fs::copy(c("chain.c", O2), &path).unwrap();
    let pids = |recorder: &Recorder| -> Vec<i64> {
        let mut pids: Vec<i64> =
            recorder.rows().iter().flat_map(|row| row.summary.totals.iter().map(|total| total.pid)).collect();
        pids.dedup();
        pids
    };
    let mut recorder = Recorder::start(&["--window", "1s", "-F", "199", "--comm", "comes-and-g*"]);
    wait_for("the recorder", || recorder.said().contains("waiting for one"));
    for number in 1..=2 {
        let program = programs::run(&path, &["0"]);
        for _ in 0..10 {
            sleep(Duration::from_secs(1));
            eprintln!("{number} {} {:?} {}", program.pid(), pids(&recorder), recorder.said());
        }
        assert_eq!(pids(&recorder).last(), Some(&i64::from(program.pid())));
    }
    recorder.end(Signal::SIGTERM);
    let profile = load(recorder.directory(), &recorder.rows()[1]);
    assert!(Quality::of(&profile).unwrap().complete_share().is_none_or(|share| share > 0.99));
}

#[test]
fn a_budget_lowers_the_frequency_and_keeps_the_values_right() {
    let program = running();
    let pid = program.pid().to_string();
    let time = CpuTime::of(program.pid());
    let mut recorder = Recorder::start_with_budget("0.05%", &["--window", "2s", "-F", "1999", "-p", &pid]);
    wait_for("a change", || {
        let rows = recorder.rows();
        rows.last().is_some_and(|row| row.summary.frequency < 1500)
    });
    let changed = recorder.rows().len();
    recorder.wait_for_windows(changed + 3);
    recorder.end(Signal::SIGTERM);
    let used = time.until_now();
    let rows = recorder.rows();
    let told = rows.iter().map(|row| comments(&load(recorder.directory(), row))).collect::<String>();
    assert!(told.contains("frequency 1999.0 to "), "{told}");
    assert_told(&rows, used, 0.85..1.05);
}

#[test]
fn what_a_kind_does_not_need_of_the_budget_the_others_get() {
    let program = running();
    let pid = program.pid().to_string();
    // It computes, and allocates nothing.
    let options = ["--window", "2s", "--cpu", "--alloc", "-F", "1999", "-p", &pid];
    let mut recorder = Recorder::start_with_budget("0.05%", &options);
    let scales = |recorder: &Recorder| {
        let metrics = status::read(&recorder.directory().join(status::STATUS)).unwrap_or_default();
        let scales = metrics.into_iter().filter(|(name, _)| name.starts_with("rprof_event_scale_ratio"));
        scales.partition::<Vec<_>, _>(|(name, _)| name.contains("cpu-clock"))
    };
    wait_for("a change", || scales(&recorder).0.iter().any(|&(_, scale)| scale < 1.0));
    recorder.end(Signal::SIGTERM);
    let (clock, others) = scales(&recorder);
    assert!(
        clock.len() == 1 && !others.is_empty() && others.iter().all(|&(_, scale)| scale == 1.0),
        "{clock:?} {others:?}"
    );
}

/// What a thread burned, another slept and a third program grew by, each by its own account.
struct Truth {
    burned: RangeInclusive<u64>,
    slept: RangeInclusive<u64>,
    pages: RangeInclusive<u64>,
}

/// Records a command that burns, sleeps and touches new memory, of all three kinds.
fn three_kinds(folder: &Path) -> Truth {
    const PAGES: u64 = 2048;
    let (threads, grow) = (c("off_cpu.c", &["-O1"]), c("grow.c", &["-O1"]));
    let script = format!(
        "{} 5500 {} nap hog_a & while kill -0 $! 2>/dev/null; do {} {PAGES} 20 && echo grown; done; wait",
        threads.display(),
        folder.display(),
        grow.display()
    );
    let kinds = ["--cpu", "--off-cpu", "--page-faults", "-F", "199"];
    let windows = ["--continuous", "--window", "2s", "--max-overhead", "100%", "-o", text(folder)];
    let done = attempt(&[&kinds[..], &windows, &ON_ANY_DISK].concat(), &["sh", "-c", &script]);
    assert_eq!(done.status, Some(0), "{}", done.said);
    let number = |name: &str| programs::sum(&done.printed, name);
    let (burned, slept, stolen) = (number("hog_a.whole") - number("hog_a "), number("nap "), number("stolen "));
    // At this place it is three times as many as at the other.
    let pages = 3 * PAGES * done.printed.lines().filter(|line| *line == "grown").count() as u64;
    Truth { burned: burned..=burned + stolen, slept: slept.saturating_sub(stolen)..=slept, pages: pages..=pages }
}

/// What an rprof command tells of a kind in JSON.
fn told(command: &[&str], directory: &Path, kind: &str) -> Value {
    let output = rprof().args(command).arg(directory).args(["--kind", kind, "--json"]).output().unwrap();
    assert!(output.status.success(), "{command:?} {kind}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Rows of a kind: each has a file of its own with that kind alone, and the same sum.
fn check_rows(directory: &Path, rows: &[&Row], kind: &str, unit: &str) {
    for row in rows {
        assert!(text(&row.path).contains(&format!(".{kind}.")), "{row:?}");
        let profile = load(directory, row);
        let types: Vec<_> =
            profile.sample_types.iter().map(|of| (profile.text(of.name), profile.text(of.unit))).collect();
        assert_eq!(types, [("samples", "count"), (kind, unit)], "{row:?}");
        assert_eq!((&*row.summary.unit, i128::from(row.summary.value)), (unit, profile.total(1)), "{row:?}");
        go_pprof_opens(&directory.join(&row.path));
    }
}

/// What `rprof ls` and `rprof query` answer of a kind is what its rows say.
fn check_answers(directory: &Path, rows: &[&Row], kind: &str, unit: &str) -> Value {
    let listed = told(&["ls"], directory, kind);
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|row| (&row["path"], &row["kind"], &row["unit"])).collect();
    let [kind_, unit_] = [kind, unit].map(Value::from);
    let paths: Vec<Value> = rows.iter().map(|row| text(&row.path).into()).collect();
    assert_eq!(listed, paths.iter().map(|path| (path, &kind_, &unit_)).collect::<Vec<_>>());
    let answer = told(&["query", "-n", "0"], directory, kind);
    assert_eq!((&answer["kind"], &answer["value"]["name"], &answer["value"]["unit"]), (&kind_, &kind_, &unit_));
    assert_eq!(answer["kinds"], Value::from(["cpu", "off_cpu", "page_faults"].as_slice()));
    assert_eq!(answer["windows"], rows.len());
    assert_eq!(answer["total"], rows.iter().map(|row| row.summary.value).sum::<i64>());
    answer
}

#[test]
fn kinds_side_by_side_have_windows_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let truth = three_kinds(folder.path());
    let rows = rows(folder.path());
    let mut by_kind: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_kind.entry(&row.name.kind).or_default().push(row));
    assert_eq!(by_kind.keys().copied().collect::<Vec<_>>(), ["cpu", "off_cpu", "page_faults"]);
    let spans = |kind: &str| by_kind[kind].iter().map(|row| row.name.start..row.name.end).collect::<Vec<_>>();
    // On a busy host a window becomes longer whose predecessor is still being written.
    assert!(spans("cpu").len() >= 2 && spans("cpu").windows(2).all(|two| two[0].end == two[1].start), "{rows:#?}");
    for (kind, unit, function, truth, share) in [
        ("cpu", "nanoseconds", "hog_a", truth.burned, 0.1),
        ("off_cpu", "nanoseconds", "nap", truth.slept, 0.05),
        // One of some hundreds is sampled.
        ("page_faults", "count", "grow_much", truth.pages, 0.3),
    ] {
        assert_eq!(spans(kind), spans("cpu"), "{kind}");
        check_rows(folder.path(), &by_kind[kind], kind, unit);
        let answer = check_answers(folder.path(), &by_kind[kind], kind, unit);
        let of = answer["functions"].as_array().unwrap().iter().find(|of| of["function"] == function);
        let told = of.unwrap_or_else(|| panic!("no {function}: {answer:#}"))["total"].as_u64().unwrap();
        let nearest = nearest(told, truth.clone());
        assert!(told.abs_diff(nearest) as f64 <= share * nearest as f64, "{function}: {told} of {truth:?}\n{answer:#}");
    }
}

#[test]
fn snapshots_beside_a_recorder() {
    let program = running();
    let pid = program.pid().to_string();
    let mut recorder = Recorder::start(&["--window", "1s", "-p", &pid]);
    recorder.wait_for_windows(1);
    let folder = text(recorder.directory()).to_owned();
    let second = attempt(&["--continuous", "-o", &folder, "-p", &pid], &[] as &[&str]);
    assert_eq!(second.status, Some(255));
    assert!(second.said.contains(&format!("PID {}", recorder.child.id())), "{}", second.said);

    let snapshot = |duration: &str| {
        let mut command = rprof();
        command.args(["snapshot", "-p", &pid, "--duration", duration, "-o", &folder]).stderr(Stdio::piped());
        command
    };
    let long = snapshot("2s").spawn().unwrap();
    wait_for("its lock", || recorder.directory().join("snapshot.lock").exists());
    let refused = snapshot("1s").output().unwrap();
    assert_eq!(refused.status.code(), Some(255), "{}", String::from_utf8_lossy(&refused.stderr));
    let long = long.wait_with_output().unwrap();
    assert!(long.status.success(), "{}", String::from_utf8_lossy(&long.stderr));
    recorder.end(Signal::SIGTERM);
    let rows = recorder.rows();
    let snapshots: Vec<_> = rows.iter().filter(|row| row.name.source == Source::Snapshot).collect();
    assert_eq!(snapshots.len(), 1);
    // It ends when it is given a CPU again.
    assert!((1_900_000_000..10_000_000_000).contains(&snapshots[0].summary.covered));
    assert!(snapshots[0].summary.samples > 10 && snapshots[0].summary.frequency == 99, "{:?}", snapshots[0].summary);
    assert!(rows.len() > 3);
}

#[test]
fn the_status_tells_how_it_does() {
    let program = running();
    let mut recorder = Recorder::start(&["--window", "1s", "-p", &program.pid().to_string()]);
    wait_for("a status", || recorder.directory().join("rprof.prom").exists());
    let status = |recorder: &Recorder, options: &[&str]| {
        let output = rprof().arg("status").arg(recorder.directory()).args(options).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = status(&recorder, &[]);
    assert_eq!(code, Some(0));
    assert!(told.contains("running") && told.contains(&format!("pid=\"{}\"", recorder.child.id())), "{told}");
    recorder.end(Signal::SIGKILL);
    let (code, told) = status(&recorder, &[]);
    assert!(code == Some(1) && told.contains("killed"), "{told}");

    let folder = std::mem::replace(&mut recorder.folder, tempfile::tempdir().unwrap());
    let before = rows(folder.path()).len();
    let mut recorder = Recorder::start_in(folder, &["--window", "1s", "-F", "199", "-p", &program.pid().to_string()]);
    recorder.wait_for_windows(before + 2);
    recorder.end(Signal::SIGTERM);
    let (code, told) = status(&recorder, &["--metrics"]);
    assert_eq!(code, Some(1));
    let metric = |name: &str| -> f64 {
        let line =
            told.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {told}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(metric("rprof_up"), 0.0);
    assert!(metric("rprof_samples_total") > 10.0 && metric("rprof_windows_written_total") >= 2.0, "{told}");
    assert!(metric("rprof_disk_bytes") > 500.0 && metric("rprof_resident_memory_bytes") > 1e6);
    let nothing = rprof().args(["status", "/proc"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(255));
}

#[test]
fn options_that_contradict_are_refused() {
    for (options, why) in [
        (&["--window", "5s", "true"][..], "needs --continuous"),
        (&["--max-size", "1G", "-o", "x.pb.gz", "true"], "needs --continuous"),
        (&["--continuous", "--window", "10ms", "true"], "at least 1s"),
        (&["--continuous", "--switch-output=5M", "true"], "by time or signal"),
        (&["--continuous", "--format", "svg", "true"], "cannot be read"),
        (&["--continuous", "--max-overhead", "200%", "true"], "no share"),
        (&["--comm", "x", "-p", "1"], "one or the other"),
    ] {
        let attempt = attempt(options, &[] as &[&str]);
        assert_eq!(attempt.status, Some(129), "{options:?}: {}", attempt.said);
        assert!(attempt.said.contains(why), "{options:?}: {}", attempt.said);
    }
    let folder = tempfile::tempdir().unwrap();
    let options = ["--continuous", "--switch-output=1s", "--switch-max-files", "2", "-o", text(folder.path())];
    let switched = attempt(&[&options[..], &ON_ANY_DISK].concat(), &["sleep", "3.5"]);
    assert_eq!(switched.status, Some(0), "{}", switched.said);
    assert!(rows(folder.path()).len() <= 3 && !rows(folder.path()).is_empty());
}
