//! `rprof stack`: every thread's stack at one moment, what it says of them, and that the target goes on as if nobody had looked. Needs
//! root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};

use common::programs::{self, Running, c};
use common::recording::{Attempt, let_run, rprof, text, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rprof::encode;
use serde_json::Value;

const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
const WAITS: [&str; 16] = [
    "in_mutex",
    "in_condition",
    "in_semaphore",
    "in_read",
    "in_nanosleep",
    "in_poll",
    "in_select",
    "in_epoll",
    "in_recv",
    "in_recv_timeout",
    "in_waitpid",
    "in_sigwait",
    "in_msgrcv",
    "in_semop",
    "in_inotify",
    "in_spin",
];

/// A program whose threads wait, and `more` that sleep; all of them in their waits.
fn waits(more: usize) -> Running {
    let running = programs::run(&c("waits.c", O2), &["0", &more.to_string()]);
    let pid = running.pid();
    wait_for("all threads to wait", || {
        states(pid).values().filter(|state| **state == 'S').count() == WAITS.len() + more
    });
    running
}

fn stack(options: &[&str]) -> Attempt {
    Attempt::of(rprof().arg("stack").args(options))
}

fn json(options: &[&str]) -> Value {
    let attempt = stack(&[options, &["--json"]].concat());
    assert_eq!(attempt.status, Some(0), "{}", attempt.said);
    serde_json::from_str(&attempt.printed).unwrap()
}

fn threads(document: &Value) -> &Vec<Value> {
    document["threads"].as_array().unwrap()
}

fn named<'a>(document: &'a Value, comm: &str) -> &'a Value {
    threads(document).iter().find(|thread| thread["comm"] == comm).unwrap_or_else(|| panic!("no {comm}: {document:#}"))
}

/// The names of a thread's frames of some kinds, leaf first.
fn frames<'a>(thread: &'a Value, kinds: &[&str]) -> Vec<&'a str> {
    let frames = thread["frames"].as_array().unwrap().iter();
    let of_kinds = frames.filter(|frame| kinds.contains(&frame["kind"].as_str().unwrap()));
    of_kinds.map(|frame| frame["function"].as_str().unwrap()).collect()
}

fn user(thread: &Value) -> Vec<&str> {
    frames(thread, &["user", "inlined"])
}

/// The state of each thread of a process.
fn states(pid: i32) -> BTreeMap<i32, char> {
    let of = |tid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    let tids = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let tids = tids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    tids.filter_map(|tid| Some((tid, of(tid)?))).collect()
}

fn status(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
}

/// An `rprof stack` that was frozen while it holds all threads of a process.
struct Frozen(Child);

impl Frozen {
    fn start(target: i32) -> Frozen {
        for _ in 0..100 {
            let mut rprof = rprof();
            rprof.args(["stack", "-p", &target.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = rprof.spawn().unwrap();
            wait_for("rprof to hold the program or to end", || {
                states(target).values().any(|state| *state == 't') || child.try_wait().unwrap().is_some()
            });
            // That it ended was seen by waiting for it: nothing is left to be frozen.
            if child.try_wait().unwrap().is_some() {
                continue;
            }
            kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP).unwrap();
            wait_for("rprof to be frozen or to end", || {
                child.try_wait().unwrap().is_some() || states(child.id() as i32).values().all(|state| *state == 'T')
            });
            // In the middle of letting go, it holds some of them only.
            if states(target).values().all(|state| *state == 't') {
                return Frozen(child);
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        panic!("rprof was never frozen in the middle");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.0.wait().unwrap();
    }
}

impl Drop for Frozen {
    /// A test that fails in the middle would else wait for a program that is held.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// That nobody holds any of its threads, and that it makes progress.
fn goes_on(pid: i32) {
    wait_for("all threads to be let go", || states(pid).values().all(|state| *state != 't'));
    assert_eq!(status(pid, "TracerPid:"), "0");
    let_run(pid, 50);
}

#[test]
fn threads_are_shown_where_they_wait() {
    let program = waits(0);
    let pid = program.pid().to_string();
    let document = json(&["-p", &pid]);
    assert_eq!(threads(&document).len(), WAITS.len() + 1);
    for name in WAITS {
        let thread = named(&document, name);
        let stack = user(thread);
        assert!(stack.contains(&name) && stack.contains(&"start_thread"), "{thread:#}");
        assert_eq!((&thread["incomplete"], &thread["no_user_stack"]), (&Value::Null, &Value::Null), "{thread:#}");
        if name == "in_spin" {
            continue;
        }
        assert_eq!(thread["state"], "S", "{thread:#}");
        assert!(thread["wait_channel"].is_string() && thread["system_call"].is_u64(), "{thread:#}");
        assert!(
            frames(thread, &["kernel"]).contains(&"do_syscall_64") || cfg!(not(target_arch = "x86_64")),
            "{thread:#}"
        );
    }
    let spin = named(&document, "in_spin");
    assert_eq!((&spin["state"], &spin["system_call"]), (&Value::from("R"), &Value::Null));
    assert!(named(&document, "waits")["tid"] == program.pid() && user(named(&document, "waits")).contains(&"main"));
    let line =
        named(&document, "in_read")["frames"].as_array().unwrap().iter().find(|f| f["function"] == "in_read").unwrap();
    assert!(line["file"].as_str().unwrap().ends_with("waits.c") && line["line"].as_u64() > Some(1), "{line}");
    assert!(document["held_ns"].as_u64() > Some(0));
    goes_on(program.pid());
}

#[test]
fn waits_go_on_as_if_nobody_had_looked() {
    let program = waits(0);
    let pid = program.pid();
    for _ in 0..5 {
        assert_eq!(stack(&["-p", &pid.to_string()]).status, Some(0));
        // A wait that came back begins again, and is in the kernel before the next look.
        wait_for("all threads to wait", || states(pid).values().filter(|state| **state == 'S').count() == WAITS.len());
    }
    goes_on(pid);
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let (_, printed) = program.finish();
    let back: BTreeSet<&str> = printed.lines().collect();
    // Of these the kernel itself says that any stop ends them, and their time limits cannot be given again.
    let known = if cfg!(target_arch = "x86_64") {
        BTreeSet::from(["back in_recv_timeout 4"])
    } else {
        BTreeSet::from(["back in_epoll 4", "back in_recv_timeout 4", "back in_semop 4", "back in_sigwait 4"])
    };
    assert_eq!(back, known);
}

#[test]
fn a_process_whose_first_thread_has_ended() {
    let program = programs::run(&c("leader_gone.c", O2), &["0"]);
    let told = stack(&["-p", &program.pid().to_string()]);
    assert_eq!(told.status, Some(0), "{}", told.said);
    let frames = ["worker_hot", "worker", "start_thread"];
    assert!(frames.iter().all(|frame| told.printed.contains(frame)), "{}", told.printed);
}

#[test]
fn equal_stacks_are_shown_together() {
    let program = waits(30);
    let pid = program.pid().to_string();
    let together = stack(&["-p", &pid]).printed;
    let first = together.split("\n\n").nth(2).unwrap();
    // The thread of that name waits in the same place.
    assert!(first.starts_with("31 threads  S (sleeping)  "), "{together}");
    assert!(first.contains("\n  in_nanosleep ") && first.contains(", more "), "{together}");
    assert!(first.contains(" in_nanosleep at ") && first.contains(" [kernel]\n"), "{together}");
    assert_eq!(together.matches(" in_nanosleep at ").count(), 1, "{together}");
    let apart = stack(&["-p", &pid, "--each", "--no-kernel"]).printed;
    assert_eq!(apart.matches(" more  S (sleeping)").count(), 30, "{apart}");
    assert!(!apart.contains("[kernel]"), "{apart}");
}

#[test]
fn gdb_sees_the_same() {
    let program = waits(5);
    let pid = program.pid().to_string();
    let document = json(&["-p", &pid]);
    let gdb = Command::new("gdb").args(["-p", &pid, "-batch", "-nx", "-ex", "thread apply all bt"]).output();
    let printed = String::from_utf8_lossy(&gdb.expect("gdb; see scripts/install-test-tools").stdout).into_owned();
    let ours: BTreeMap<i64, Vec<&str>> =
        threads(&document).iter().map(|thread| (thread["tid"].as_i64().unwrap(), own(&user(thread)))).collect();
    let theirs: BTreeMap<i64, Vec<&str>> = printed.split("\nThread ").skip(1).map(of_gdb).collect();
    assert_eq!(ours, theirs, "{printed}");
    assert_eq!(ours.len(), WAITS.len() + 6);
}

/// The functions of the program itself: those of the C library have other names where its debug information is missing.
fn own<'a>(functions: &[&'a str]) -> Vec<&'a str> {
    let is_own = |name: &&&str| name.starts_with("in_") || ["waiter", "main"].contains(*name);
    functions.iter().filter(is_own).copied().collect()
}

/// A block `N (Thread 0x… (LWP 12) "name"):` and lines `#1  0x… in function (…) at …`.
fn of_gdb(block: &str) -> (i64, Vec<&str>) {
    // `LWP 12`, or what gdb thinks of it as well: `LWP 12 (Exiting)`.
    let number = block.split_once("LWP ").unwrap_or_else(|| panic!("no thread: {block}")).1;
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    let tid = number.parse().unwrap_or_else(|_| panic!("no number: {block}"));
    let frames = block.lines().filter(|line| line.starts_with('#')).map(|line| {
        let call = line.split_once(" (").unwrap().0;
        call.rsplit(' ').next().unwrap()
    });
    (tid, own(&frames.collect::<Vec<_>>()))
}

/// A program that computes for each CPU, so that who is to be held has to wait for one.
fn spinners() -> Vec<Running> {
    let cpus = std::thread::available_parallelism().unwrap().get();
    (0..cpus).map(|_| programs::run(&c("chain.c", O2), &["0"])).collect()
}

#[test]
fn two_thousand_threads() {
    let program = waits(2000);
    let _busy = spinners();
    let document = json(&["-p", &program.pid().to_string()]);
    assert_eq!(threads(&document).len(), WAITS.len() + 2001);
    let of_more: Vec<&Value> = threads(&document).iter().filter(|thread| thread["comm"] == "more").collect();
    assert_eq!(of_more.len(), 2000);
    for thread in of_more {
        assert!(user(thread).contains(&"in_nanosleep") && thread["incomplete"].is_null(), "{thread:#}");
    }
    // How long they were held is told, to programs and to people.
    assert!(document["held_ns"].as_u64() > Some(0), "{}", document["held_ns"]);
    let printed = stack(&["-p", &program.pid().to_string()]).printed;
    let first = printed.lines().next().unwrap_or_default();
    let held = first.strip_prefix(&format!("# {} threads, held for ", WAITS.len() + 2001));
    assert!(held.is_some_and(|held| held.starts_with(|first: char| first.is_ascii_digit())), "{first}");
    goes_on(program.pid());
}

#[test]
fn the_target_goes_on_when_rprof_is_killed() {
    let program = waits(500);
    let frozen = Frozen::start(program.pid());
    frozen.end(Signal::SIGKILL);
    goes_on(program.pid());
    assert_eq!(threads(&json(&["-p", &program.pid().to_string()])).len(), WAITS.len() + 501);
    assert_eq!(threads(&json(&["-t", &program.pid().to_string()])).len(), 1);
}

#[test]
fn signals_come_through_while_it_is_held() {
    let program = waits(500);
    let pid = program.pid();
    let frozen = Frozen::start(pid);
    // A thread has one tracer; who that is, is told.
    let refused = stack(&["-p", &pid.to_string()]);
    assert_eq!(refused.status, Some(255), "{}", refused.said);
    assert!(refused.said.contains(&format!("traced by process {} (rprof)", frozen.0.id())), "{}", refused.said);
    for _ in 0..20 {
        // nix knows no real-time signals.
        let number = (libc::SIGRTMIN() + 3).to_string();
        assert!(Command::new("kill").args([&format!("-{number}"), &pid.to_string()]).status().unwrap().success());
    }
    frozen.end(Signal::SIGCONT);
    goes_on(pid);
    wait_for("the signals to be handled", || {
        status(pid, "ShdPnd:").trim_matches('0').is_empty() && states(pid)[&pid] == 'S'
    });
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let (_, printed) = program.finish();
    assert!(printed.lines().any(|line| line == "signals 20"), "{printed}");
}

#[test]
fn a_stopped_process_stays_stopped() {
    let program = waits(0);
    let pid = program.pid();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let stopped = || states(pid).values().all(|state| *state == 'T');
    wait_for("it to stop", stopped);
    let document = json(&["-p", &pid.to_string()]);
    for name in WAITS {
        let thread = named(&document, name);
        assert!(thread["state"] == "T" && user(thread).contains(&name), "{thread:#}");
    }
    wait_for("all threads to be stopped again", stopped);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(stopped(), "{:?}", states(pid));
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    goes_on(pid);
}

#[test]
fn a_thread_that_cannot_be_held_is_shown_and_not_waited_for() {
    let program = programs::run(&c("vforks.c", O2), &[]);
    let pid = program.pid();
    wait_for("it to wait in vfork", || states(pid)[&pid] == 'D');
    let document = json(&["-p", &pid.to_string()]);
    let first = named(&document, "vforks");
    assert_eq!((&first["state"], &first["no_user_stack"]), (&"D".into(), &"uninterruptible".into()), "{first:#}");
    assert_eq!(first["incomplete"], "[in uninterruptible sleep]");
    assert!(!frames(first, &["kernel"]).is_empty(), "{first:#}");
    assert!(user(named(&document, "in_spin")).contains(&"in_spin"));
    assert!(
        document["remarks"][0].as_str().unwrap().starts_with("threads: 1 in uninterruptible sleep"),
        "{document:#}"
    );
    goes_on(pid);
}

#[test]
fn profiles_are_written_in_every_format() {
    let program = waits(3);
    let pid = program.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let file = folder.path().join(name);
        let attempt = stack(&["-p", &pid, "-o", text(&file)]);
        assert_eq!((attempt.status, &*attempt.printed), (Some(0), ""), "{}", attempt.said);
        assert!(attempt.said.contains("20 threads, held for"), "{}", attempt.said);
        file
    };
    let profile = encode::read_file(&write("stacks.pb.gz")).unwrap();
    profile.check().unwrap();
    let column = profile.column(None).unwrap();
    assert_eq!((profile.text(profile.sample_types[column].name), profile.total(column)), ("threads", 20));
    let read = profile.samples.iter().find(|sample| profile.label(sample, "comm") == Some("in_read")).unwrap();
    assert_eq!(profile.label(read, "state"), Some("S"));
    assert!(profile.label(read, "wchan").is_some());
    assert!(profile.frames(read).any(|frame| frame.name == "in_read"));
    let go = Command::new("go").args(["tool", "pprof", "-traces", text(&folder.path().join("stacks.pb.gz"))]).output();
    let traces = String::from_utf8_lossy(&go.expect("go; see scripts/install-test-tools").stdout).into_owned();
    assert!(traces.contains("wchan:") && traces.contains("in_epoll"), "{traces}");
    let folded = fs::read_to_string(write("stacks.folded")).unwrap();
    // The three threads that were asked for stand where another of the process sleeps.
    assert!(folded.lines().any(|line| line.contains(";in_nanosleep;") && line.ends_with(" 4")), "{folded}");
    assert!(fs::read_to_string(write("stacks.svg")).unwrap().contains("in_select"));
}

#[test]
fn what_cannot_be_done_is_told() {
    let gone = stack(&["-p", "2147483000"]);
    assert_eq!(gone.status, Some(255));
    assert!(gone.said.contains("no such process: 2147483000"), "{}", gone.said);
    assert_eq!(stack(&[]).status, Some(129));
    assert_eq!(stack(&["-p", "1", "-o", "stacks.unknown"]).status, Some(129));

    let mut zombie = Command::new("true").spawn().unwrap();
    let pid = zombie.id() as i32;
    wait_for("it to end", || states(pid).values().all(|state| *state == 'Z'));
    let ended = stack(&["-p", &pid.to_string()]);
    assert_eq!(ended.status, Some(255));
    assert!(ended.said.contains(&format!("has ended; it only waits for its parent, process {}", std::process::id())));
    zombie.wait().unwrap();

    let program = waits(0);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = programs::private_copy(env!("CARGO_BIN_EXE_rprof").as_ref(), folder.path());
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--clear-groups", "--regid", "65534"]).arg(copy);
    let denied = Attempt::of(nobody.args(["stack", "-p", &program.pid().to_string()]));
    assert_eq!(denied.status, Some(255), "{}", denied.said);
    assert!(denied.said.contains("not allowed to look into process") && denied.said.contains("cap_sys_ptrace"));

    let both = stack(&["-p", &format!("{},2147483000", program.pid())]);
    assert_eq!(both.status, Some(0), "{}", both.said);
    assert!(both.said.contains("no such process: 2147483000; showing the others"), "{}", both.said);
}
