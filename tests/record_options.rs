//! The options of `rprof record`: events, rates, rings, what is said, and where the profile goes. Needs root and tracefs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use common::programs::{self, c};
use common::recording::{Attempt, Recorded, attempt, cpu_ms, let_run, record, rprof, start, text};
use nix::sys::signal::Signal;
use rprof::health::Count;

const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
const NO_COMMAND: &[&str] = &[];
/// Mostly in the kernel.
const COPY: &[&str] = &["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000", "status=none"];

fn columns(recorded: &Recorded) -> Vec<&str> {
    recorded.profile.sample_types.iter().map(|kind| recorded.profile.text(kind.name)).collect()
}

#[test]
fn an_unknown_event_names_the_nearest() {
    for (event, near) in
        [("cycle", "cycles"), ("pagefaults", "page-faults"), ("sched:sched_swich", "sched:sched_switch")]
    {
        let failed = start(&["-e", event], &["true"]).fail();
        assert_eq!(failed.status, Some(129), "{}", failed.said);
        assert!(failed.said.contains("did you mean") && failed.said.contains(near), "{}", failed.said);
    }
    let failed = start(&["-e", "cpu-clock:z"], &["true"]).fail();
    assert!(failed.said.contains("unknown modifier 'z'"), "{}", failed.said);
}

#[test]
fn tracepoints_and_faults() {
    let script = "for i in 1 2 3 4 5; do sleep 0.01; done";
    let recorded = record(&["-e", "sched:sched_switch"], &["sh", "-c", script]);
    assert_eq!(columns(&recorded), ["samples", "sched_sched_switch"]);
    assert!(recorded.samples() >= 5, "{}", recorded.top());
    let slept = recorded.count(|stack| stack.comm == "sleep" && stack.kernel.iter().any(|f| f == "__schedule"));
    assert!(slept >= 5, "{}", recorded.top());
    let recorded = record(&["-e", "page-faults", "-c", "1"], &["true"]);
    assert_eq!(columns(&recorded), ["samples", "page_faults"]);
    assert!(recorded.samples() > 20, "{}", recorded.top());
    assert!(
        recorded.share_of(|stack| stack.user.first().is_some_and(|root| root == "_start")) > 0.5,
        "{}",
        recorded.top()
    );
}

#[test]
fn two_events_at_once() {
    let script = "$0 0.3; for i in $(seq 100); do true | true; done";
    let recorded =
        record(&["-e", "cpu-clock,page-faults", "-F", "1999"], &["sh", "-c", script, text(&c("chain.c", O2))]);
    assert_eq!(columns(&recorded), ["samples", "cpu", "page_faults_samples", "page_faults"]);
    let sums: Vec<i64> = (0..4).map(|at| recorded.stacks.iter().map(|stack| stack.values[at]).sum()).collect();
    assert!(sums[0] > 300 && sums[2] > 0, "{sums:?}: {}", recorded.top());
    assert_eq!(recorded.health(Count::Samples) as i64, sums[0] + sums[2]);
    // The clock's weights are the time that was used.
    assert!((0.28..1.5).contains(&(sums[1] as f64 / 1e9)), "{sums:?}");
}

#[test]
fn user_code_and_the_kernel_apart() {
    let user = record(&["-F", "1999", "-e", "cpu-clock:u"], COPY);
    assert!(user.samples() > 10 && user.stacks.iter().all(|stack| stack.kernel.is_empty()), "{}", user.top());
    let kernel = record(&["-F", "1999", "-e", "cpu-clock:k"], COPY);
    assert!(kernel.samples() > 10 && kernel.stacks.iter().all(|stack| !stack.kernel.is_empty()), "{}", kernel.top());
    let both = record(&["-F", "1999"], COPY);
    let share = both.share_of(|stack| !stack.kernel.is_empty());
    assert!((0.1..1.0).contains(&share), "{share}: {}", both.top());
}

#[test]
fn rates() {
    let chain = c("chain.c", O2);
    let most = record(&["-F", "max", "--call-graph", "no"], &[text(&chain), "0.1"]);
    assert!(most.samples() + most.quality().all().lost > 500, "{}", most.top());
    let lowered = record(&["-F", "100000000", "--call-graph", "no"], &[text(&chain), "0.1"]);
    assert!(lowered.attempt.said.contains("frequency lowered to the kernel's limit"), "{}", lowered.attempt.said);
    let fixed = record(&["-e", "cpu-clock", "-c", "1000000"], &[text(&chain), "0.4"]);
    assert!((350..500).contains(&fixed.samples()), "{}", fixed.top());
    assert!(fixed.stacks.iter().all(|stack| stack.values[1] == stack.values[0] * 1_000_000));
    assert_eq!(fixed.profile.period, 1_000_000);
    let both = attempt(&["-F", "99", "-c", "99", "-o", "x.pb.gz"], &["true"]);
    assert_eq!(both.status, Some(234), "{}", both.said);
    let none = attempt(&["-F", "0", "-o", "x.pb.gz"], &["true"]);
    assert_eq!(none.status, Some(234), "{}", none.said);
}

#[test]
fn losses_are_counted() {
    let chain = programs::run(&c("chain.c", O2), &["0"]);
    let session = start(&["-F", "3999", "-m", "64K", "-p", &chain.pid().to_string()], NO_COMMAND).opened();
    let before = cpu_ms(chain.pid());
    let_run(chain.pid(), 100);
    // Nobody drains the rings meanwhile.
    session.signal(Signal::SIGSTOP);
    let_run(chain.pid(), 400);
    session.signal(Signal::SIGCONT);
    let_run(chain.pid(), 100);
    let expected = (cpu_ms(chain.pid()) - before) as f64 * 3.999;
    session.signal(Signal::SIGINT);
    let recorded = session.finish();
    let (taken, lost) = recorded.summary();
    let quality = recorded.quality();
    assert_eq!((taken, lost), (quality.health.get(Count::Samples), quality.all().lost), "{}", recorded.top());
    assert_eq!(taken, recorded.samples());
    assert!(lost > 500, "{}", recorded.top());
    // Nobody knows whose samples were lost: the CPUs have other tasks, too.
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    let most = 1.1 * cpus * 3999.0 * recorded.profile.duration_nanos as f64 / 1e9;
    let all = (taken + lost + recorded.health(Count::SamplesSkipped)) as f64;
    assert!((0.85 * expected..most).contains(&all), "{all} of {expected} to {most}: {}", recorded.top());
}

#[test]
fn quiet_and_verbose() {
    let chain = c("chain.c", O2);
    let quiet = record(&["-q"], &[text(&chain), "0.05"]);
    assert_eq!((quiet.attempt.said.as_str(), quiet.attempt.printed.as_str()), ("", "ready\n"));
    let verbose = record(&["-v"], &[text(&chain), "0.05"]);
    assert!(verbose.attempt.said.contains("user stacks that reached the thread's first function"));
}

#[test]
fn the_ending_or_the_option_chooses_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let chain = c("chain.c", O2);
    let write = |file: &str, options: &[&str]| {
        let path = folder.path().join(file);
        let done = attempt(&[&["-o", text(&path)], options].concat(), &[text(&chain), "0.05"]);
        assert_eq!(done.status, Some(0), "{}", done.said);
        assert!(done.said.contains(&format!("wrote {}", path.display())), "{}", done.said);
        fs::read(path).unwrap()
    };
    let folded = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let line = text.lines().find(|line| line.contains(";main;a;b;leaf;spin ")).unwrap().to_owned();
        assert!(line.starts_with("chain;_start;") && line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
    };
    folded(write("a.folded", &[]));
    folded(write("a.txt", &[]));
    folded(write("a.bin", &["--format", "folded"]));
    assert!(write("a.pb.gz", &[]).starts_with(b"\x1f\x8b"));
    assert!(String::from_utf8(write("a.svg", &[])).unwrap().contains("<svg"));
    let program = programs::run(&chain, &["0"]);
    let pid = program.pid().to_string();
    let stdout = attempt(&["-p", &pid, "--duration", "0.2", "--format", "folded", "-o", "-"], NO_COMMAND);
    folded(stdout.printed.into_bytes());
    let mut default = rprof();
    // Into a pipe it would go as a stream.
    default.current_dir(folder.path()).args(["record", "-p", &pid, "--duration", "0.1"]).stdout(Stdio::null());
    assert_eq!(Attempt::of(&mut default).status, Some(0));
    assert!(fs::read(folder.path().join("perf.data")).unwrap().starts_with(b"PERFILE2"));
    let failed = attempt(&["-o", "x", "--format", "unknown"], &["true"]);
    assert_eq!(failed.status, Some(129), "{}", failed.said);
    assert!(failed.said.contains("folded"), "{}", failed.said);
    // perf takes any name.
    for file in ["perf.out", "perf.data.1", "x.unknown", "x.svg.old", "tmp.XzWq3kA1bc"] {
        let path = folder.path().join(file);
        let done = attempt(&["-o", text(&path)], &["true"]);
        assert_eq!(done.status, Some(0), "{file}: {}", done.said);
        assert!(fs::read(path).unwrap().starts_with(b"PERFILE2"), "{file}: {}", done.said);
    }
}

#[test]
fn frames_that_the_kernel_follows_can_be_bounded() {
    let chain = c("chain.c", &["-O2", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"]);
    let has = |recorded: &Recorded, name: &str| recorded.share_of(|stack| stack.user.iter().any(|frame| frame == name));
    let whole = record(&["-F", "1999", "--call-graph", "fp"], &[text(&chain), "0.2"]);
    assert!(has(&whole, "leaf") > 0.5 && has(&whole, "main") > 0.5, "{}", whole.top());
    for options in [&["--call-graph", "fp,2"][..], &["-e", "cpu-clock/call-graph=fp,max-stack=2/"]] {
        let cut = record(&[&["-F", "1999"], options].concat(), &[text(&chain), "0.2"]);
        assert!(has(&cut, "leaf") > 0.5 && has(&cut, "main") < 0.05, "{options:?}: {}", cut.top());
    }
    let more = record(&["-F", "1999", "--call-graph", "fp,5000"], &[text(&chain), "0.2"]);
    assert!(has(&more, "main") > 0.5, "{}", more.top());
}

#[test]
fn what_cannot_be_written_fails_before_the_command_runs() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("the command ran");
    let directory = folder.path().join("directory.folded");
    fs::create_dir(&directory).unwrap();
    for path in [Path::new("/no/such/folder/x.folded"), &directory] {
        let failed = attempt(&["-o", text(path)], &["touch", text(&marker)]);
        assert_eq!(failed.status, Some(255), "{}", failed.said);
        assert!(failed.said.contains(text(path)), "{}", failed.said);
        assert!(!marker.exists(), "{} was recorded for nothing", path.display());
    }
}

/// A file system of 64 KB.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Small {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(folder.path()).status();
        assert!(mount.unwrap().success());
        Small(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_file() {
    let small = Small::new();
    let filler = small.0.path().join("filler");
    let _ = fs::write(&filler, vec![1; 1 << 20]);
    let failed = attempt(&["-o", text(&small.0.path().join("x.pb.gz"))], &["true"]);
    assert_eq!(failed.status, Some(255));
    assert!(failed.said.contains("make room in"), "{}", failed.said);
    let left: Vec<_> = fs::read_dir(small.0.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [filler]);
    let failed = attempt(&["--format", "pprof", "-o", "/dev/full"], &["true"]);
    assert_eq!(failed.status, Some(255));
    assert!(failed.said.contains("No space left on device"), "{}", failed.said);
}
