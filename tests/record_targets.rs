//! Whom a recording takes, when it ends and what it answers, and how little it costs to get that wrong: processes that end, fork,
//! execute, lose their files, live in another root or are not ours. Needs root and a cgroup2 mount.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::programs::{self, Running, c};
use common::recording::{
    Attempt, Recorded, attempt, let_run, perf_events, record, rprof, start, start_as, text, wait_for,
};
use nix::sys::signal::Signal;
use rprof::health::Count;

const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
const CHAIN: &[&str] = &["_start", "…", "main", "a", "b", "leaf", "spin"];
const NO_COMMAND: &[&str] = &[];
const BRIEFLY: &[&str] = &["-F", "1999", "--duration", "0.5"];

/// A program that runs until it is dropped.
fn running(source: &str, arguments: &[&str]) -> Running {
    programs::run(&c(source, O2), &[&["0"], arguments].concat())
}

/// A PID that no process has: of one that has just ended.
fn dead() -> String {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id().to_string()
}

/// Records for half a second.
fn briefly(options: &[&str]) -> Recorded {
    let recorded = record(&[BRIEFLY, options].concat(), NO_COMMAND);
    assert_eq!(recorded.attempt.status, Some(0), "{}", recorded.top());
    recorded
}

fn pids(recorded: &Recorded) -> BTreeSet<i32> {
    recorded.stacks.iter().map(|stack| stack.pid).collect()
}

#[test]
fn a_process_with_all_that_it_starts_later() {
    let (spawns, forks) = (running("spawns.c", &[]), running("forks.c", &["fork"]));
    let list = format!("{},{}", spawns.pid(), forks.pid());
    let recorded = briefly(&["-p", &list]);
    let threads = recorded.share(&["clone3", "start_thread", "later", "later_leaf", "spin"]);
    let children = recorded.share(&["_start", "…", "main", "child_work", "burn_child", "child_leaf", "spin"]);
    let itself = recorded.share(&["_start", "…", "main", "here", "here_leaf", "spin"]);
    assert!(threads > 0.1 && children > 0.1 && itself > 0.1, "{threads} {children} {itself}: {}", recorded.top());
    assert!(pids(&recorded).len() > 4, "{}", recorded.top());
    assert!(recorded.quality().complete_share().unwrap() > 0.98, "{}", recorded.top());
}

#[test]
fn without_inheritance_nothing_that_starts_later() {
    let (spawns, forks) = (running("spawns.c", &[]), running("forks.c", &["fork"]));
    let list = format!("{},{}", spawns.pid(), forks.pid());
    let recorded = briefly(&["-i", "-p", &list]);
    // The one thread that ran already may be seen to its end.
    let later: BTreeSet<i32> = recorded.stacks.iter().filter(|s| s.has("later_leaf")).map(|s| s.tid).collect();
    assert!(later.len() <= 1, "{later:?}: {}", recorded.top());
    assert!(recorded.share(&["_start", "…", "main", "here", "here_leaf", "spin"]) > 0.3, "{}", recorded.top());
    assert_eq!(pids(&recorded).difference(&BTreeSet::from([spawns.pid(), forks.pid()])).count(), 0);
}

#[test]
fn the_dead_cost_the_living_nothing() {
    let (chain, dead) = (running("chain.c", &[]), dead());
    let recorded = briefly(&["-p", &format!("{dead},{}", chain.pid())]);
    assert!(recorded.attempt.said.contains(&format!("no such process: {dead}")), "{}", recorded.top());
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
    let failed = start(&["-p", &dead], NO_COMMAND).fail();
    assert_eq!(failed.status, Some(244));
    assert!(failed.said.contains(&format!("no such process: {dead}")), "{}", failed.said);
    let failed = start(&["-t", &dead], NO_COMMAND).fail();
    assert!(failed.said.contains(&format!("no such thread: {dead}")), "{}", failed.said);
}

#[test]
fn one_thread() {
    let program = running("threads.c", &["2"]);
    let tasks = || fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap().flatten();
    let tids = || tasks().map(|task| task.file_name().into_string().unwrap());
    let named = |tid: &String| fs::read_to_string(format!("/proc/{tid}/comm")).unwrap().trim() == "worker-1";
    wait_for("the thread to name itself", || tids().any(|tid| named(&tid)));
    let tid = tids().find(named).unwrap();
    let recorded = briefly(&["-t", &tid]);
    assert!(recorded.samples() > 20, "{}", recorded.top());
    assert!(recorded.stacks.iter().all(|s| s.tid.to_string() == tid && s.comm == "worker-1"), "{}", recorded.top());
    assert!(recorded.share(&["clone3", "start_thread", "worker", "worker_leaf", "spin"]) > 0.9, "{}", recorded.top());
}

#[test]
fn a_process_whose_first_thread_has_ended() {
    let program = running("leader_gone.c", &[]);
    let pid = program.pid().to_string();
    for target in [&["-p", &pid][..], &["-a"], &["--exe", "leader_gone"]] {
        let recorded = briefly(target);
        let samples = recorded.count(|stack| stack.pid == program.pid());
        let whole = recorded.count(|stack| {
            stack.pid == program.pid() && stack.is(&["clone3", "start_thread", "worker", "worker_hot", "spin"])
        });
        assert!(samples > 20 && whole * 100 > samples * 95, "{target:?} {whole} of {samples}: {}", recorded.top());
    }
}

#[test]
fn everything_and_single_cpus() {
    let (chain, split) = (running("chain.c", &[]), running("split.c", &[]));
    let recorded = briefly(&["-a"]);
    assert!(pids(&recorded).is_superset(&BTreeSet::from([chain.pid(), split.pid()])), "{}", recorded.top());
    let whole = recorded.count(|stack| stack.pid == chain.pid() && stack.is(CHAIN));
    assert!(whole > 50, "{}", recorded.top());
    // One CPU of the machine gives at most its own time.
    let recorded = briefly(&["-a", "-C", "0"]);
    let seconds = recorded.profile.duration_nanos as f64 / 1e9;
    assert!(recorded.samples() as f64 <= 1.1 * 1999.0 * seconds, "{}", recorded.top());
    assert!(recorded.samples() > 20, "{}", recorded.top());
    let missing = start(&["-a", "-C", "4095"], NO_COMMAND).fail();
    assert!(missing.said.contains("CPU 4095 is not online"), "{}", missing.said);
    let nonsense = start(&["-a", "-C", "x"], NO_COMMAND).fail();
    assert_eq!(nonsense.status, Some(129), "{}", nonsense.said);
}

/// A cgroup of a test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Cgroup {
        Cgroup::named(&format!("{name}-{}", std::process::id()))
    }

    fn named(name: &str) -> Cgroup {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|mount| mount[2] == "cgroup2");
        let folder = Path::new(mount.expect("a cgroup2 mount")[1]).join(name);
        fs::create_dir(&folder).unwrap();
        Cgroup(folder)
    }

    fn add(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_for("the cgroup to be empty", || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_cgroup() {
    let cgroup = Cgroup::new("rprof-test");
    let (inside, _outside) = (running("chain.c", &[]), running("split.c", &[]));
    cgroup.add(inside.pid());
    let name = cgroup.0.file_name().unwrap().to_str().unwrap();
    let recorded = briefly(&["-G", name]);
    assert_eq!(pids(&recorded), BTreeSet::from([inside.pid()]), "{}", recorded.top());
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
    let missing = start(&["-G", "no/such/cgroup"], NO_COMMAND).fail();
    assert!(
        missing.said.contains("cannot open the cgroup") && missing.said.contains("no/such/cgroup"),
        "{}",
        missing.said
    );
}

/// A program that no other test runs: a copy under a name of its own.
fn named(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(name);
    fs::copy(c("chain.c", O2), &copy).unwrap();
    (folder, copy)
}

/// Records what is chosen by these options while `run` runs.
fn while_running(options: &[&str], run: impl FnOnce()) -> Recorded {
    let session = start(&[&["-F", "1999"], options].concat(), NO_COMMAND).opened();
    run();
    session.signal(Signal::SIGINT);
    session.finish()
}

#[test]
fn a_name_that_ends_and_returns() {
    let (_folder, program) = named("returns");
    let _other = running("chain.c", &[]);
    let by_path = text(&program);
    for options in [["--comm", "retur*"], ["--exe", "returns"], ["--exe", by_path]] {
        let mut expected = BTreeSet::new();
        let recorded = while_running(&options, || {
            for _ in 0..2 {
                let program = programs::run(&program, &["0.2"]);
                expected.insert(program.pid());
                assert!(program.finish().0.success());
            }
        });
        assert_eq!(pids(&recorded), expected, "{options:?}: {}", recorded.top());
        assert!(recorded.share(CHAIN) > 0.9 && recorded.samples() > 200, "{options:?}: {}", recorded.top());
        assert!(recorded.health(Count::SamplesSkipped) > 100, "{}", recorded.top());
        // Files of processes that are not chosen are not opened.
        assert!(recorded.health(Count::ImagesOpened) < 8, "{}", recorded.top());
    }
}

#[test]
fn one_that_runs_already_and_short_lives_of_its_name() {
    let (_folder, program) = named("already");
    let already = programs::run(&program, &["0"]);
    let recorded = while_running(&["--comm", "already"], || {
        for _ in 0..10 {
            programs::run(&program, &["0.01"]).finish();
        }
        let_run(already.pid(), 200);
    });
    assert!(pids(&recorded).contains(&already.pid()) && pids(&recorded).len() > 8, "{}", recorded.top());
    assert!(recorded.share(CHAIN) > 0.8, "{}", recorded.top());
    let broken = recorded.health(Count::StacksBroken) + recorded.health(Count::StacksNoCfi);
    assert!(broken * 50 <= recorded.samples(), "{}", recorded.top());
}

#[test]
fn a_unit_whose_cgroup_is_made_anew() {
    let unit = format!("rprof-test-{}.service", std::process::id());
    let (_folder, program) = named("serves");
    let mut expected = BTreeSet::new();
    let name = unit.strip_suffix(".service").unwrap();
    let recorded = while_running(&["--systemd-unit", name], || {
        for _ in 0..2 {
            let cgroup = Cgroup::named(&unit);
            // As systemd does: into the cgroup first, and then the exec.
            let script = "echo $$ > $0/cgroup.procs && exec $1 0.2";
            let mut service = Command::new("sh");
            let service = programs::run_command(service.args(["-c", script]).arg(&cgroup.0).arg(&program));
            expected.insert(service.pid());
            service.finish();
        }
    });
    assert_eq!(pids(&recorded), expected, "{}", recorded.top());
    assert!(recorded.share(CHAIN) > 0.9 && recorded.samples() > 200, "{}", recorded.top());
    assert_eq!(recorded.labels("unit"), BTreeSet::from([unit]));
    assert!(recorded.labels("container").is_empty());
}

#[test]
fn samples_tell_their_container() {
    let id: String = format!("{:064x}", std::process::id());
    let cgroup = Cgroup::named(&format!("docker-{id}.scope"));
    let (inside, outside) = (running("chain.c", &[]), running("split.c", &[]));
    cgroup.add(inside.pid());
    let recorded = briefly(&["-p", &format!("{},{}", inside.pid(), outside.pid())]);
    assert_eq!(recorded.labels("container"), BTreeSet::from([id.clone()]));
    assert_eq!(recorded.labels("unit"), BTreeSet::from([format!("docker-{id}.scope")]));
    let labelled = |sample: &&rprof::profile::Sample| recorded.profile.label(sample, "container").is_some();
    let pid = recorded.profile.samples.iter().filter(labelled).count();
    assert!(pid > 0 && pid < recorded.profile.samples.len(), "{}", recorded.top());
}

#[test]
fn choices_that_mean_nothing() {
    for (options, said) in [
        (["--exe", "bin/nginx"], "the whole path"),
        (["--comm", "[a"], "is no pattern"),
        (["--systemd-unit", ""], "chooses nothing"),
    ] {
        let failed = start(&options, NO_COMMAND).fail();
        assert!(failed.status == Some(129) && failed.said.contains(said), "{options:?}: {}", failed.said);
    }
}

#[test]
fn the_status_is_that_of_the_command() {
    let status = |script| record(&["-F", "999"], &["sh", "-c", script]).attempt.status;
    assert_eq!(status("exit 3"), Some(3));
    assert_eq!(status("kill -SEGV $$"), Some(139));
    assert_eq!(status("true"), Some(0));
    let exits = record(&[], &[c("exits.c", O2)]);
    assert_eq!(exits.attempt.status, Some(7));
    let execs = record(&[], &[c("execs.c", O2), c("exits.c", O2)]);
    assert_eq!(execs.attempt.status, Some(7));
    let missing = start(&[], &["/no/such/command"]).fail();
    assert_eq!(missing.status, Some(255));
    assert!(missing.said.contains("/no/such/command") && missing.said.contains("No such file"), "{}", missing.said);
    let folder = start(&[], &["/tmp"]).fail();
    assert!(folder.said.contains("Permission denied"), "{}", folder.said);
}

#[test]
fn a_command_as_a_timer() {
    let chain = running("chain.c", &[]);
    let recorded = record(&["-F", "1999", "-p", &chain.pid().to_string()], &["sh", "-c", "sleep 0.4; exit 5"]);
    assert_eq!(recorded.attempt.status, Some(5));
    assert_eq!(pids(&recorded), BTreeSet::from([chain.pid()]));
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
}

#[test]
fn delay_and_duration() {
    let chain = running("chain.c", &[]);
    let seconds = |options: &[&str]| {
        let recorded = record(&[&["-p", &chain.pid().to_string()], options].concat(), NO_COMMAND);
        (recorded.profile.duration_nanos as f64 / 1e9, recorded.samples())
    };
    let (time, samples) = seconds(&["--duration", "300ms"]);
    assert!((0.3..2.0).contains(&time) && samples > 0, "{time} s, {samples} samples");
    let (time, samples) = seconds(&["-D", "400", "--duration", "200ms"]);
    assert!((0.2..2.0).contains(&time) && samples > 0, "{time} s, {samples} samples");
    // What happens before the delay has passed is left away: here a program that ends long before, however busy the host is.
    let script = "timeout 0.2 $0 0; exec $1 1";
    let programs = [c("split.c", O2), c("chain.c", O2)];
    let late = record(&["-F", "1999", "-D", "1000"], &["sh", "-c", script, text(&programs[0]), text(&programs[1])]);
    assert!(late.count(|stack| stack.comm == "chain" && stack.is(CHAIN)) > 20, "{}", late.top());
    assert_eq!(late.count(|stack| stack.comm == "split"), 0, "{}", late.top());
    let nonsense = start(&["--duration", "2y"], NO_COMMAND).fail();
    assert_eq!(nonsense.status, Some(129), "{}", nonsense.said);
}

#[test]
fn signals_end_a_recording_well() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let chain = running("chain.c", &[]);
        let session = start(&["-F", "1999", "-p", &chain.pid().to_string()], NO_COMMAND).opened();
        let_run(chain.pid(), 200);
        session.signal(signal);
        let recorded = session.finish();
        assert_eq!(recorded.attempt.status, Some(128 + signal as i32), "{}", recorded.top());
        assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
        assert!(recorded.comments(&format!("ended by signal {}", signal as i32)));
        // The target goes on.
        let_run(chain.pid(), 20);
    }
    // With a command: it is asked to end too, and its status is the answer.
    let session = start(&["-F", "1999"], &[text(&c("chain.c", O2)), "0"]).opened();
    session.signal(Signal::SIGINT);
    let recorded = session.finish();
    assert_eq!(recorded.attempt.status, Some(128 + Signal::SIGTERM as i32), "{}", recorded.top());
}

#[test]
fn a_target_that_ends_ends_the_recording() {
    let chain = programs::run(&c("chain.c", O2), &["0.5"]);
    let recorded = record(&["-F", "1999", "-p", &chain.pid().to_string()], NO_COMMAND);
    assert_eq!(recorded.attempt.status, Some(0));
    assert!(recorded.samples() > 50 && recorded.share(CHAIN) > 0.95, "{}", recorded.top());
    // Also when somebody kills it.
    let chain = running("chain.c", &[]);
    let session = start(&["-F", "1999", "-p", &chain.pid().to_string()], NO_COMMAND).opened();
    let_run(chain.pid(), 100);
    drop(chain);
    let recorded = session.finish();
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
}

#[test]
fn short_lives_are_named() {
    let gcc = format!(
        "for i in 1 2 3 4; do gcc -O2 -c {} -o /dev/null; done; for i in $(seq 60); do sh -c 'echo x | cat'; done",
        text(&programs::sources().join("chain.c"))
    );
    let recorded = record(&["-F", "1999", "-a"], &["sh", "-c", &gcc]);
    assert_eq!(recorded.attempt.status, Some(0));
    let compiler = |stack: &common::recording::Stack| stack.comm == "cc1";
    let all = recorded.count(compiler);
    // The compiler is stripped, so a name is one of its module; nothing may be without a module.
    let lost = recorded
        .count(|s| compiler(s) && s.modules.iter().zip(&s.user).any(|(m, f)| m == "[anon]" || f.starts_with("[no ")));
    assert!(all > 50 && lost * 100 <= all * 2, "{lost} of {all}: {}", recorded.top());
    let shells = recorded.count(|stack| stack.comm == "sh" && stack.has("_start") || stack.comm == "cat");
    assert!(shells > 5, "{}", recorded.top());
    // A compiler's stacks are long, and others run beside: cut ones are none of this test's.
    let lost = recorded.health(Count::StacksBroken) + recorded.health(Count::StacksNoCfi);
    assert!(lost * 50 <= recorded.samples(), "{lost}: {}", recorded.top());
}

#[test]
fn files_that_are_deleted_or_replaced_while_they_run() {
    let folder = tempfile::tempdir().unwrap();
    let copy = programs::private_copy(&c("chain.c", O2), folder.path());
    let deleted = programs::run(&copy, &["0"]);
    fs::remove_file(&copy).unwrap();
    let recorded = briefly(&["-p", &deleted.pid().to_string()]);
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
    drop(deleted);
    // Another program at the same path must not lend it names.
    let copy = programs::private_copy(&c("chain.c", O2), folder.path());
    let replaced = programs::run(&copy, &["0"]);
    fs::remove_file(&copy).unwrap();
    fs::copy(c("split.c", O2), &copy).unwrap();
    let recorded = briefly(&["-p", &replaced.pid().to_string()]);
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
}

#[test]
fn a_program_in_a_root_of_its_own_keeps_its_names() {
    let program = c("chain.c", &["-O2", "-fomit-frame-pointer", "-static"]);
    // The folder exists in the mount namespace of the program alone, and the path there is none of ours.
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs none $0 && mkdir $0/inner && cp $1 $0/inner/hidden && exec chroot $0 /inner/hidden 0";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(folder.path()).arg(&program);
    let running = programs::run_command(&mut command);
    let recorded = briefly(&["-p", &running.pid().to_string()]);
    assert!(recorded.share(CHAIN) > 0.95, "{}", recorded.top());
    let main = &recorded.profile.mappings[0];
    assert!(recorded.profile.text(main.file).ends_with("/inner/hidden"));
}

#[test]
fn thousands_of_threads_take_few_files() {
    // So many would leave other tests no time.
    let mut nice = Command::new("nice");
    let program = programs::run_command(nice.args(["-n", "19"]).arg(c("threads.c", O2)).args(["0", "2200"]));
    let pid = program.pid().to_string();
    let session = start(&["-F", "999", "-p", &pid, "--duration", "1"], NO_COMMAND).opened();
    let files = fs::read_dir(format!("/proc/{}/fd", session.pid())).unwrap().count();
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(files < 60 + 8 * cpus && perf_events(session.pid()) <= 4 * cpus, "{files} files");
    let recorded = session.finish();
    let threads: BTreeSet<i32> = recorded.stacks.iter().map(|stack| stack.tid).collect();
    assert!(threads.len() > 30, "{} threads: {}", threads.len(), recorded.top());
    assert!(recorded.share(&["clone3", "start_thread", "worker", "…"]) > 0.95, "{}", recorded.top());
}

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Sets the sysctl; restores it when dropped. One test alone may do so.
struct Paranoid(String);

impl Paranoid {
    fn set(level: &str) -> Paranoid {
        let before = fs::read_to_string(PARANOID).unwrap();
        fs::write(PARANOID, level).unwrap();
        Paranoid(before)
    }
}

impl Drop for Paranoid {
    fn drop(&mut self) {
        fs::write(PARANOID, &self.0).unwrap();
    }
}

/// rprof and a program, where others than root may run them.
struct Public(tempfile::TempDir);

impl Public {
    fn new(program: &Path) -> Public {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_rprof"), folder.path().join("rprof")).unwrap();
        fs::copy(program, folder.path().join("program")).unwrap();
        Public(folder)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("program")
    }

    /// rprof as `nobody`, with these capabilities (`+perfmon`, …) or none.
    fn rprof(&self, capabilities: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        if !capabilities.is_empty() {
            command.arg(format!("--inh-caps={capabilities}")).arg(format!("--ambient-caps={capabilities}"));
        }
        command.arg(self.0.path().join("rprof")).stdin(Stdio::null());
        command
    }
}

#[test]
fn without_privileges() {
    let public = Public::new(&c("chain.c", O2));
    let program = public.program();
    let command = [text(&program), "0.4"];
    let paranoid = Paranoid::set("2");
    let recorded = start_as(&mut public.rprof(""), &["-F", "1999"], &command).finish();
    assert!(recorded.share(CHAIN) > 0.95 && recorded.samples() > 300, "{}", recorded.top());
    assert!(recorded.stacks.iter().all(|stack| stack.kernel.is_empty()), "{}", recorded.top());
    for said in ["only user code is sampled", "perf_event_paranoid is 2", "opening events per task"] {
        assert!(recorded.attempt.said.contains(said) && recorded.comments(said), "{}", recorded.attempt.said);
    }
    let mut own = Command::new("setpriv");
    own.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(&program).arg("0");
    let own = programs::run_command(&mut own);
    let pid = own.pid().to_string();
    let options = [BRIEFLY, &["-p", &pid]].concat();
    let recorded = start_as(&mut public.rprof(""), &options, NO_COMMAND).finish();
    assert!(recorded.share(CHAIN) > 0.95 && recorded.samples() > 20, "{}", recorded.top());
    let refused = start_as(&mut public.rprof(""), &["-a", "--duration", "0.1"], NO_COMMAND).fail();
    assert_eq!(refused.status, Some(255));
    for said in ["perf_event_paranoid is 2", "setcap cap_perfmon", "sysctl kernel.perf_event_paranoid=-1"] {
        assert!(refused.said.contains(said), "{}", refused.said);
    }
    // What cannot be sampled is refused, rather than recorded as nothing.
    let kernel = start_as(&mut public.rprof(""), &["-e", "cycles:k", "-p", &pid], NO_COMMAND).fail();
    assert!(kernel.status == Some(255) && kernel.said.contains("samples the kernel alone"), "{}", kernel.said);
    let root = running("chain.c", &[]);
    let others =
        start_as(&mut public.rprof(""), &["-p", &root.pid().to_string(), "--duration", "0.1"], NO_COMMAND).fail();
    assert_eq!(others.status, Some(255), "{}", others.said);
    // The capabilities that the message recommends open everything.
    let options = [BRIEFLY, &["-a"]].concat();
    let mut capable = public.rprof("+perfmon,+sys_ptrace");
    let recorded = start_as(&mut capable, &options, NO_COMMAND).finish();
    assert!(recorded.count(|stack| stack.pid == root.pid() && stack.is(CHAIN)) > 30, "{}", recorded.top());
    // The kernel takes the events away where a set-uid program is executed.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let silent = start_as(&mut public.rprof(""), &["-F", "1999"], &command).finish();
    assert!(silent.samples() == 0 && silent.attempt.said.contains("set-uid"), "{}", silent.attempt.said);
    drop(paranoid);
}

#[test]
fn a_recording_without_samples_says_why() {
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let recorded = briefly(&["-p", &sleeper.id().to_string()]);
    let _ = (sleeper.kill(), sleeper.wait());
    let said = |recorded: &Recorded, part: &str| {
        assert_eq!(recorded.samples(), 0, "{}", recorded.top());
        assert!(recorded.attempt.said.contains(part), "{part}: {}", recorded.attempt.said);
    };
    said(&recorded, "no sample was taken: the target did not run: its threads (1) are asleep");
    let chain = c("chain.c", O2);
    let elsewhere = programs::run_command(Command::new("taskset").args(["-c", "0", text(&chain), "0"]));
    let recorded = briefly(&["-C", "1", "-p", &elsewhere.pid().to_string()]);
    said(&recorded, "no sample was taken: 0 of the target's 1 threads are asleep; only CPU 1 is looked at (-C)");
    let short = record(&["-F", "1"], &["true"]);
    said(&short, "no sample was taken: the command used ");
    said(&short, "a sample is taken after 1000.0 ms of it");
}

#[test]
fn a_target_that_is_stopped_or_a_zombie_is_no_trouble() {
    let chain = running("chain.c", &[]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(chain.pid()), Signal::SIGSTOP).unwrap();
    let recorded = record(&["-p", &chain.pid().to_string(), "--duration", "0.2"], NO_COMMAND);
    assert_eq!(recorded.attempt.status, Some(0), "{}", recorded.top());
    let mut zombie = Command::new("true").process_group(0).spawn().unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", zombie.id())).unwrap();
    wait_for("the child to end", || stat().contains(") Z "));
    let failed = attempt(&["-p", &zombie.id().to_string(), "--format", "pprof", "-o", "/dev/null"], NO_COMMAND);
    assert!(failed.said.contains("no such process"), "{}", failed.said);
    zombie.wait().unwrap();
}

#[test]
fn help_and_usage() {
    let help = Attempt::of(rprof().args(["record", "--help"]));
    assert!(help.status == Some(0) && help.printed.contains("--call-graph"), "{help:?}");
    let unknown = Attempt::of(rprof().args(["record", "--no-such-option"]));
    assert_eq!(unknown.status, Some(129), "{}", unknown.said);
}
