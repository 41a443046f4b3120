//! Programs in containers: namespaces of their own, and a read-only root that holds the program and nothing else. Profiled from the
//! host, from within, and by a user who has no more than the privileges that docs/privileges.md names. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::programs::{self, Running, c};
use common::recording::{Attempt, Recorded, Session, let_run, perf_events, printed, start, start_as, text, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rprof::health::Count;
use tempfile::TempDir;

const STATIC: &[&str] = &["-O2", "-fomit-frame-pointer", "-static"];
const STATIC_JIT: &[&str] = &["-O2", "-fno-omit-frame-pointer", "-static"];
const CHAIN: &[&str] = &["_start", "…", "main", "a", "b", "leaf", "spin"];
const JIT: &[&str] = &["_start", "…", "main", "enter", "jit_outer", "jit_leaf"];
const NO_COMMAND: &[&str] = &[];
const OFTEN: &[&str] = &["-F", "1999"];
const TO_OUTPUT: &[&str] = &["-o", "-", "--format", "pprof"];
/// Milliseconds of CPU that a target uses while it is recorded: some 400 samples, however busy the host is.
const ENOUGH: u64 = 200;
/// User, PID, mount, UTS, cgroup and IPC namespaces, with root mapped.
const OWN: &[&str] = &["-U", "-r", "-p", "-m", "-u", "-C", "-i"];

struct Container {
    /// `unshare`, whose end is the container's.
    running: Running,
    folder: TempDir,
    pid: i32,
}

impl Container {
    /// Runs a program in a root that holds it, rprof and these empty folders.
    fn start(program: &Path, folders: &[&str]) -> Container {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        folders.iter().for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
        fs::copy(program, folder.path().join("program")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_rprof"), folder.path().join("rprof")).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(OWN).args(["--fork", "--kill-child"]).arg(c("container.c", &["-O2", "-static"]));
        let running = programs::run_command(unshare.arg(folder.path()).args(["/program", "0"]));
        let first = children(running.pid());
        let pid = children(first[0])[0];
        Container { running, folder, pid }
    }

    /// The program's PID in the container.
    fn inner_pid(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    }

    /// Records in namespaces of the container, to the standard output.
    fn record_within(&self, namespaces: &[&str], options: &[&str]) -> Recorded {
        let entered = self.enter(namespaces, &[OFTEN, options, TO_OUTPUT].concat());
        printed(entered, |nsenter| {
            // With a PID namespace, nsenter starts a child in it.
            let rprof = || children(nsenter).first().copied().filter(|&rprof| perf_events(rprof) > 0);
            wait_for("rprof to open events", || rprof().is_some());
            let_run(self.pid, ENOUGH);
            kill(Pid::from_raw(rprof().unwrap()), Signal::SIGINT).unwrap();
        })
    }

    /// `rprof record` in namespaces of the container.
    fn enter(&self, namespaces: &[&str], options: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &self.pid.to_string()]).args(namespaces).args(["--", "/rprof", "record"]).args(options);
        nsenter
    }
}

fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn whole(recorded: &Recorded, stack: &[&str]) {
    assert!(recorded.samples() > 20 && recorded.share(stack) > 0.95, "{}", recorded.top());
}

fn pids(recorded: &Recorded) -> BTreeSet<i32> {
    recorded.stacks.iter().map(|stack| stack.pid).collect()
}

/// Records a process from the host.
fn from_outside(pid: i32) -> Recorded {
    until_enough(start(&[OFTEN, &["-p", &pid.to_string()]].concat(), NO_COMMAND), pid)
}

fn until_enough(session: Session, pid: i32) -> Recorded {
    let session = session.opened();
    let_run(pid, ENOUGH);
    session.signal(Signal::SIGINT);
    session.finish()
}

#[test]
fn from_the_host() {
    let container = Container::start(&c("chain.c", STATIC), &["proc"]);
    let recorded = from_outside(container.pid);
    whole(&recorded, CHAIN);
    assert_eq!(pids(&recorded), BTreeSet::from([container.pid]));
    // The path in the container, where the host has no such file.
    assert_eq!(recorded.profile.text(recorded.profile.mappings[0].file), "/program");
    assert!(!Path::new("/program").exists());
}

#[test]
fn from_within() {
    let container = Container::start(&c("chain.c", STATIC), &["proc", "out"]);
    let pid = container.inner_pid();
    assert_ne!(pid, container.pid.to_string());
    for namespaces in [&["-m", "-p"][..], &["-a"]] {
        let recorded = container.record_within(namespaces, &["-p", &pid]);
        whole(&recorded, CHAIN);
        assert_eq!(pids(&recorded), BTreeSet::from([pid.parse().unwrap()]), "{namespaces:?}: {}", recorded.top());
    }
    // Of the whole system there is only the container to be seen, and what runs outside is nobody's.
    let outside = programs::run(&c("chain.c", STATIC), &["0"]);
    let recorded = container.record_within(&["-m", "-p"], &["-a"]);
    assert!(recorded.attempt.said.contains("only the processes in it are recorded"), "{}", recorded.top());
    let seen = pids(&recorded);
    assert!(seen.contains(&pid.parse().unwrap()) && !seen.contains(&0) && !seen.contains(&outside.pid()), "{seen:?}");
    assert!(recorded.count(|stack| stack.is(CHAIN)) > 20, "{}", recorded.top());
    assert!(recorded.health(Count::SamplesSkipped) > 20, "{}", recorded.top());
    // The PIDs of the host mean nothing here.
    let host_pid = container.pid.to_string();
    let failed = Attempt::of(&mut container.enter(&["-m", "-p"], &[&["-p", &host_pid], TO_OUTPUT].concat()));
    assert!(failed.said.contains("no such process"), "{}", failed.said);
}

#[test]
fn what_a_container_cannot_do_is_said() {
    let container = Container::start(&c("chain.c", STATIC), &["proc", "out"]);
    let pid = container.inner_pid();
    let options = ["-p", &pid, "--duration", "0.1"];
    // Root of a user namespace has no privilege over CPUs.
    let failed = Attempt::of(&mut container.enter(&["-a"], &[&["-a", "--duration", "0.1"], TO_OUTPUT].concat()));
    assert_eq!(failed.status, Some(255));
    assert!(failed.said.contains("user namespace") && failed.said.contains("from the host"), "{}", failed.said);
    let read_only = Attempt::of(&mut container.enter(&["-m", "-p"], &[&options[..], &["-o", "/p.pb.gz"]].concat()));
    assert!(read_only.said.contains("cannot write /p.pb.gz"), "{}", read_only.said);
    let bound = [&options[..], &["-o", "/out/p.pb.gz"]].concat();
    let written = Attempt::of(&mut container.enter(&["-m", "-p"], &bound));
    assert_eq!(written.status, Some(0), "{}", written.said);
    assert!(fs::metadata(container.folder.path().join("out/p.pb.gz")).unwrap().len() > 100);
    // The PID namespace alone: /proc is still the host's, whose numbers are others.
    let mut half = Command::new("nsenter");
    half.args(["-t", &container.pid.to_string(), "-p", "--", env!("CARGO_BIN_EXE_rprof"), "record", "-p", &pid]);
    let failed = Attempt::of(half.args(["--duration", "0.1", "-o", "/dev/null"]));
    assert!(failed.status == Some(255) && failed.said.contains("another PID namespace"), "{}", failed.said);
    drop(container);
    let bare = Container::start(&c("chain.c", STATIC), &[]);
    let failed = Attempt::of(&mut bare.enter(&["-m", "-p"], &[&options[..], TO_OUTPUT].concat()));
    assert!(failed.status == Some(255) && failed.said.contains("no /proc is mounted"), "{}", failed.said);
    // From the host, that is no matter.
    whole(&from_outside(bare.pid), CHAIN);
    assert!(bare.running.pid() > 0);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn perf_maps_are_found_by_the_pid_in_the_container() {
    let container = Container::start(&c("jit.c", STATIC_JIT), &["proc", "tmp"]);
    assert!(!Path::new(&format!("/tmp/perf-{}.map", container.pid)).exists());
    whole(&from_outside(container.pid), JIT);
    let pid = container.inner_pid();
    for namespaces in [&["-m", "-p"][..], &["-a"]] {
        whole(&container.record_within(namespaces, &["-p", &pid]), JIT);
    }
}

/// A copy of rprof with file capabilities, run by `nobody`.
struct Capable(TempDir);

impl Capable {
    /// `struct vfs_cap_data` of capabilities(7), as setcap(8) writes it for `…+ep`.
    fn new(capabilities: &[u32]) -> Capable {
        const REVISION_2: u32 = 0x0200_0000;
        const EFFECTIVE: u32 = 1;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("rprof");
        fs::copy(env!("CARGO_BIN_EXE_rprof"), &program).unwrap();
        let set = capabilities.iter().fold(0_u64, |set, bit| set | 1 << bit);
        let words = [REVISION_2 | EFFECTIVE, set as u32, 0, (set >> 32) as u32, 0];
        let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let path = CString::new(text(&program)).unwrap();
        // SAFETY: both strings end with NUL, and the value is as long as is said.
        let set = unsafe {
            libc::setxattr(path.as_ptr(), c"security.capability".as_ptr(), value.as_ptr().cast(), value.len(), 0)
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        Capable(folder)
    }

    fn record(&self, pid: i32) -> Recorded {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(self.0.path().join("rprof"));
        until_enough(start_as(&mut command, &[OFTEN, &["-p", &pid.to_string()]].concat(), NO_COMMAND), pid)
    }
}

const DAC_READ_SEARCH: u32 = 2;
const IPC_LOCK: u32 = 14;
const SYS_PTRACE: u32 = 19;
const SYS_NICE: u32 = 23;
const SYSLOG: u32 = 34;
const PERFMON: u32 = 38;
const CHECKPOINT_RESTORE: u32 = 40;

/// A copy of a program in a folder that everyone may enter.
fn copy(program: &Path, mode: u32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = programs::private_copy(program, folder.path());
    fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
    (folder, copy)
}

#[test]
fn by_a_user_with_no_more_than_capabilities() {
    let chain = c("chain.c", STATIC);
    let container = Container::start(&chain, &["proc"]);
    let (_deleted, path) = copy(&chain, 0o755);
    let deleted = programs::run(&path, &["0"]);
    fs::remove_file(path).unwrap();
    let (_secret, path) = copy(&chain, 0o700);
    let secret = programs::run(&path, &["0"]);
    let all = Capable::new(&[DAC_READ_SEARCH, IPC_LOCK, SYS_PTRACE, SYS_NICE, SYSLOG, PERFMON, CHECKPOINT_RESTORE]);
    for pid in [container.pid, deleted.pid(), secret.pid()] {
        let recorded = all.record(pid);
        whole(&recorded, CHAIN);
        assert_eq!(recorded.health(Count::ImagesDenied) + recorded.health(Count::ProcessesHidden), 0);
        assert!(!recorded.attempt.said.contains("have no names"), "{}", recorded.top());
    }
    // What goes without each, and that it is said. `files`: readable ones, in a container, deleted ones, those of their owner alone.
    let cases: &[(&[u32], [bool; 3])] = &[
        (&[PERFMON], [false, false, false]),
        (&[PERFMON, SYS_PTRACE], [true, false, false]),
        (&[PERFMON, SYS_PTRACE, DAC_READ_SEARCH], [true, false, true]),
        (&[PERFMON, SYS_PTRACE, DAC_READ_SEARCH, CHECKPOINT_RESTORE], [true, true, true]),
    ];
    for (capabilities, named) in cases {
        let rprof = Capable::new(capabilities);
        for (pid, named) in [container.pid, deleted.pid(), secret.pid()].into_iter().zip(named) {
            let recorded = rprof.record(pid);
            let share = recorded.share(CHAIN);
            let told = recorded.health(Count::ImagesDenied) + recorded.health(Count::ProcessesHidden);
            assert_eq!(share > 0.95, *named, "{capabilities:?}: {}", recorded.top());
            assert!(*named || (share < 0.05 && told > 0), "{capabilities:?}: {}", recorded.top());
        }
    }
}
