//! Times away from CPUs: against the clocks of programs that wait in known ways. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use common::programs::{self, c};
use common::recording::{Attempt, ON_ANY_DISK, Recorded, Stack, attempt, record, start, wait_for};
use nix::sys::signal::Signal;
use rprof::encode;
use rprof::profile::Profile;

const THREADS: &[&str] = &["-O1", "-g", "-pthread"];
const HOGS: [&str; 2] = ["hog_a", "hog_b"];

/// The command that lets these threads wait for so long.
fn off_cpu(milliseconds: &str, folder: &Path, threads: &[&str]) -> Vec<OsString> {
    let program = c("off_cpu.c", THREADS).into_os_string();
    let arguments = threads.iter().map(OsString::from);
    [program, milliseconds.into(), folder.into()].into_iter().chain(arguments).collect()
}

/// Nanoseconds by thread's name and state, of the samples with a function in their stack.
fn by_state(recorded: &Recorded, function: &str) -> BTreeMap<String, u64> {
    let mut states = BTreeMap::new();
    for (stack, sample) in recorded.stacks.iter().zip(&recorded.profile.samples) {
        if stack.has(function) {
            let state = recorded.profile.label(sample, "state").expect("a state").to_owned();
            *states.entry(state).or_default() += stack.values[1] as u64;
        }
    }
    states
}

fn away(recorded: &Recorded, wanted: impl Fn(&Stack) -> bool) -> u64 {
    recorded.stacks.iter().filter(|stack| wanted(stack)).map(|stack| stack.values[1] as u64).sum()
}

/// The stacks with a function, most first, for what is said of a failure.
fn stacks_of(recorded: &Recorded, function: &str) -> String {
    let with = recorded.stacks.iter().zip(&recorded.profile.samples).filter(|(stack, _)| stack.has(function));
    let mut all: Vec<_> = with.collect();
    all.sort_by_key(|(stack, _)| std::cmp::Reverse(stack.values[1]));
    let lines = all.iter().take(12).map(|(stack, sample)| {
        let state = recorded.profile.label(sample, "state").unwrap_or_default();
        let frames: Vec<&str> = stack.user.iter().chain(&stack.kernel).map(String::as_str).collect();
        format!("\n{:10} {:4} times, {state}: {}", stack.values[1], stack.values[0], frames.join(";"))
    });
    format!("{}{}{}", recorded.attempt.said, recorded.quality().health, lines.collect::<String>())
}

fn near(value: u64, truth: u64, share: f64) -> bool {
    value.abs_diff(truth) as f64 <= share * truth as f64
}

/// Fails if the times away below a function are not those that the program tells, to 2 %. What a hypervisor took of the CPUs, the
/// program cannot tell from times away, where it had one.
fn assert_away(recorded: &Recorded, function: &str, name: &str) {
    let printed = &recorded.attempt.printed;
    let (truth, stolen) = (programs::sum(printed, name), programs::number(printed, "stolen"));
    let told = away(recorded, |stack| stack.has(function));
    let nearest = programs::nearest(told, truth.saturating_sub(stolen)..=truth);
    assert!(
        near(told, nearest, 0.02),
        "{function}: {told} of {truth}, {stolen} stolen\n{}",
        stacks_of(recorded, function)
    );
}

#[test]
fn times_are_those_of_the_programs_clocks() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: &[&'static str]| {
        let recorded = record(&["-e", "off-cpu"], &off_cpu("1500", folder.path(), threads));
        threads.iter().for_each(|function| assert_away(&recorded, function, function));
        recorded
    };
    let hogs = run(&HOGS);
    let recorded = run(&["nap", "hold", "want", "want", "ping", "pong", "disk"]);
    // What a thread waits for is told apart.
    for hog in HOGS {
        let states = by_state(&hogs, hog);
        let waits: u64 = ["preempted", "runnable"].iter().filter_map(|state| states.get(*state)).sum();
        assert!(near(waits, states.values().sum(), 0.02), "{states:?}\n{}", stacks_of(&hogs, hog));
        assert!(states.contains_key("preempted"), "{states:?}");
    }
    let disk = by_state(&recorded, "disk");
    assert!(disk.contains_key("uninterruptible"), "{disk:?}\n{}", stacks_of(&recorded, "disk"));
    for blocked in ["nap", "hold", "want"] {
        assert!(by_state(&recorded, blocked).contains_key("interruptible"), "{:?}", by_state(&recorded, blocked));
    }
    // The kernel's part of a stack begins with the wait, not with how we look at it.
    let own = |name: &&String| name.contains("bpf") || name.contains("perf");
    assert_eq!(recorded.stacks.iter().filter_map(|stack| stack.kernel.last()).find(own), None);
}

#[test]
fn who_is_blocked_from_before_to_after_the_recording_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = c("blocked.c", THREADS);
    // More than the kernel tells of at once.
    let running = programs::run(&program, &["1000"]);
    let pid = running.pid();
    let directory = folder.path().to_str().unwrap();
    let options = ["-p", &pid.to_string(), "-e", "off-cpu", "--continuous", "--window", "1s", "--duration", "5.2"];
    let done = attempt(&[&options[..], &ON_ANY_DISK, &["-o", directory]].concat(), &[] as &[&str]);
    assert_eq!(done.status, Some(0), "{}", done.said);
    let windows = windows(folder.path());
    let lengths: Vec<i64> = windows.iter().map(|profile| profile.duration_nanos).collect();
    // On a busy host a window becomes longer whose predecessor is still being written, and says so.
    let says_so =
        |profile: &Profile| profile.comments.iter().any(|&line| profile.text(line).contains("becomes longer"));
    assert!(windows.len() >= 5 || windows.len() > 1 && windows.iter().any(says_so), "{lengths:?}: {}", done.said);
    for next in windows.windows(2) {
        assert_eq!(next[0].time_nanos + next[0].duration_nanos, next[1].time_nanos, "{lengths:?}");
    }
    for profile in &windows {
        // The main thread, and those in a read that nothing will end.
        for (function, threads) in [("blocked_for_ever", 1000.0), ("main", 1.0)] {
            let share = share_of_window(profile, function) / threads;
            assert!((0.99..1.01).contains(&share), "{function}: {share} of {} ns", profile.duration_nanos);
        }
    }
}

/// How long threads were below a function, as a share of the window's length: 1 for each that always was.
fn share_of_window(profile: &Profile, function: &str) -> f64 {
    let below = profile.samples.iter().filter(|sample| profile.frames(sample).any(|frame| frame.name == function));
    let told: i64 = below.map(|sample| sample.values[1]).sum();
    told as f64 / profile.duration_nanos as f64
}

/// All windows of a directory, by their times.
fn windows(folder: &Path) -> Vec<Profile> {
    let pattern = format!("{}/*/*/*.pb.gz", folder.display());
    let files = glob::glob(&pattern).unwrap().map(Result::unwrap);
    let mut profiles: Vec<Profile> = files.map(|file| encode::read_file(&file).unwrap()).collect();
    profiles.sort_by_key(|profile| profile.time_nanos);
    profiles
}

#[test]
fn wall_clock_is_a_threads_lifetime() {
    let folder = tempfile::tempdir().unwrap();
    let threads = ["nap", "hold", "ping", "pong", "hog_a", "hog_b"];
    let recorded = record(&["--wall", "-F", "199"], &off_cpu("2000", folder.path(), &threads));
    for name in threads {
        let told = away(&recorded, |stack| stack.has(name));
        let truth = programs::sum(&recorded.attempt.printed, &format!("{name}.whole"));
        assert!(near(told, truth, 0.01), "{name}: {told} of {truth}\n{}", stacks_of(&recorded, name));
    }
    assert!(by_state(&recorded, "hog_a").contains_key("running"), "{:?}", by_state(&recorded, "hog_a"));
}

#[test]
fn wall_clock_of_each_window_is_its_length() {
    let folder = tempfile::tempdir().unwrap();
    // One thread waits since before the recording, another computes; both go on beyond it.
    let waits = programs::run(&c("blocked.c", THREADS), &[]);
    let burns = programs::run(&c("threads.c", THREADS), &["0", "1"]);
    let pids = format!("{},{}", waits.pid(), burns.pid());
    // Where all tests run at once, a small budget would be spent on the ends of short windows.
    let kind = ["--wall", "-F", "199", "--max-overhead", "100%", "-p", &pids];
    let lengths = ["--continuous", "--window", "2s", "--duration", "7s", "-o", folder.path().to_str().unwrap()];
    let done = attempt(&[&kind[..], &lengths, &ON_ANY_DISK].concat(), &[] as &[&str]);
    assert_eq!(done.status, Some(0), "{}", done.said);
    let windows = windows(folder.path());
    assert!(windows.len() > 2, "{} windows: {}", windows.len(), done.said);
    for profile in &windows {
        let share = share_of_window(profile, "blocked_for_ever");
        assert!((0.99..1.01).contains(&share), "{share} of {} ns", profile.duration_nanos);
    }
    // While the recorder begins and ends, who computes goes on: only windows between are whole.
    for profile in &windows[1..windows.len() - 1] {
        let share = share_of_window(profile, "worker");
        assert!((0.98..1.02).contains(&share), "{share} of {} ns: {}", profile.duration_nanos, done.said);
    }
}

#[test]
fn a_storm_of_switches_is_thinned_by_lot_without_bias() {
    let program = c("storm.c", THREADS);
    let recorded = record(&["-e", "off-cpu"], &[program.as_os_str(), "2000".as_ref()]);
    assert!(recorded.comments("by lot"), "{}", recorded.top());
    assert_away(&recorded, "exchange", "away");
    // A long wait beside the storm is not left to chance.
    assert_away(&recorded, "long_wait", "waited");
}

#[test]
fn wakers_and_short_waits() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = record(&["-e", "off-cpu", "--wakers"], &off_cpu("500", folder.path(), &["ping", "pong"]));
    let woken_by: Vec<&str> = recorded
        .stacks
        .iter()
        .zip(&recorded.profile.samples)
        .filter(|(stack, _)| stack.has("ping"))
        .filter_map(|(_, sample)| recorded.profile.label(sample, "waker"))
        .collect();
    assert!(woken_by.contains(&"pong"), "{woken_by:?}");
    // Milliseconds, as with perf.
    let program = c("storm.c", THREADS);
    let recorded = record(&["-e", "off-cpu", "--off-cpu-thresh", "400"], &[program.as_os_str(), "1000".as_ref()]);
    assert_eq!(away(&recorded, |stack| stack.has("exchange")), 0, "{}", recorded.top());
    assert_away(&recorded, "long_wait", "waited");
}

#[test]
fn kinds_go_to_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pb.gz");
    // On a busy host only some of the faults are sampled: there are many.
    let program = c("grow.c", &["-O1"]);
    let command = [program.as_os_str(), "8192".as_ref(), "100".as_ref()];
    let done = attempt(&["--off-cpu", "--page-faults", "-o", file.to_str().unwrap()], &command);
    assert_eq!(done.status, Some(0), "{}", done.said);
    for (kind, unit) in [("cpu", "nanoseconds"), ("off_cpu", "nanoseconds"), ("page_faults", "count")] {
        let path = folder.path().join(format!("x.{kind}.pb.gz"));
        let profile = encode::read_file(&path).unwrap_or_else(|error| panic!("{error}: {}", done.said));
        assert_eq!(types(&profile), [("samples", "count"), (kind, unit)]);
        assert!(profile.total(1) > 0, "{kind}: {}", done.said);
        assert_read_alike(&path, &profile);
    }
    let refused = attempt(&["--off-cpu", "--format", "pprof", "-o", "-"], &command);
    assert_eq!(refused.status, Some(129), "{}", refused.said);
    let refused = attempt(&["--wakers", "-o", file.to_str().unwrap()], &command);
    assert_eq!(refused.status, Some(129), "{}", refused.said);
}

/// What a file tells, by name and unit.
fn types(profile: &Profile) -> Vec<(&str, &str)> {
    profile.sample_types.iter().map(|kind| (profile.text(kind.name), profile.text(kind.unit))).collect()
}

/// Fails if `go tool pprof` finds other columns in a file than our reader does, or it or `rprof report` another sum of the last one, which
/// is shown if none is asked for.
fn assert_read_alike(path: &Path, profile: &Profile) {
    let types = types(profile);
    let header: Vec<String> = types.iter().map(|(name, unit)| format!("{name}/{unit}")).collect();
    let raw = printed(Command::new("go").args(["tool", "pprof", "-symbolize=none", "-raw"]).arg(path));
    let told = raw.lines().skip_while(|line| *line != "Samples:").nth(1).expect("a line of types");
    assert_eq!(told, format!("{}[dflt]", header.join(" ")), "{}", path.display());
    let (name, unit) = types[types.len() - 1];
    let sum = profile.total(types.len() - 1);
    assert_eq!(told_by_pprof(path, name, unit), sum, "go tool pprof of {}", path.display());
    assert_eq!(told_by_report(path, name, unit), sum, "rprof report of {}", path.display());
}

/// What both print at the end of a number if no larger unit is asked for.
fn short(unit: &str) -> &str {
    match unit {
        "nanoseconds" => "ns",
        "bytes" => "B",
        // A number of things.
        "count" => "",
        _ => panic!("an unknown unit: {unit}"),
    }
}

fn options(name: &str, unit: &str) -> [String; 2] {
    let unit = if unit == "count" { unit } else { short(unit) };
    [format!("-sample_index={name}"), format!("-unit={unit}")]
}

fn told_by_pprof(path: &Path, name: &str, unit: &str) -> i128 {
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-symbolize=none", "-top", "-nodefraction=0", "-nodecount=100000"]);
    let top = printed(pprof.args(options(name, unit)).arg(path));
    assert!(top.lines().any(|line| line == format!("Type: {name}")), "{top}");
    // Showing nodes accounting for 802ns, 100% of 802ns total
    let total = top.lines().find_map(|line| line.strip_suffix(" total")?.rsplit(' ').next()).expect("a line of totals");
    // Nothing at all has no unit.
    let number = if total == "0" { Some(total) } else { total.strip_suffix(short(unit)) };
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{total} in {unit}: {top}"))
}

/// The sum of what all functions have of their own.
fn told_by_report(path: &Path, name: &str, unit: &str) -> i128 {
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    let table = printed(rprof.arg("report").arg(path).args(["-n", "0"]).args(options(name, unit)));
    let rows = table.lines().skip_while(|line| !line.trim_start().starts_with("SELF %")).skip(1);
    let rows = rows.filter(|row| !row.starts_with('('));
    // 99.71 %  802.00ns …
    let own = rows.map(|row| row.split_whitespace().nth(2).expect("a value"));
    let unit = if unit == "count" { unit } else { short(unit) };
    let number = |value: &str| value.strip_suffix(unit)?.strip_suffix(".00")?.parse::<i128>().ok();
    own.map(|value| number(value).unwrap_or_else(|| panic!("{value} in {unit}: {table}"))).sum()
}

/// What a command prints, which must end well.
fn printed(command: &mut Command) -> String {
    let done = Attempt::of(command);
    assert_eq!(done.status, Some(0), "{command:?}: {}", done.said);
    done.printed
}

#[test]
fn page_faults_tell_where_memory_grows() {
    let program = c("grow.c", &["-O1"]);
    let recorded = record(&["-e", "page-faults", "-c", "64"], &[program.as_os_str(), "8192".as_ref(), "0".as_ref()]);
    for (function, pages) in [("grow_little", 8192), ("grow_much", 3 * 8192)] {
        let told = away(&recorded, |stack| stack.has(function));
        assert!(near(told, pages, 0.2), "{function}: {told} of {pages}\n{}", recorded.top());
    }
}

#[test]
fn threads_that_die_while_they_are_blocked_leave_nothing_behind() {
    let program = c("blocked.c", THREADS);
    let running = programs::run(&program, &[]);
    let session = start(&["-e", "off-cpu", "-p", &running.pid().to_string()], &[] as &[&str]).opened();
    thread::sleep(Duration::from_millis(300));
    let killed = SystemTime::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
    wait_for("the end of the target", || !rprof::capture::lives(rprof::ids::Pid(running.pid())));
    let gone = SystemTime::now();
    let recorded = session.finish();
    let told = away(&recorded, |stack| stack.has("blocked_for_ever"));
    let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(recorded.profile.time_nanos as u64);
    let since_start = |at: SystemTime| at.duration_since(start).unwrap_or_default().as_nanos() as u64;
    // The two clocks are read one after the other.
    let (least, most) = (since_start(killed).saturating_sub(1_000_000), since_start(gone) + 1_000_000);
    assert!((least..=most).contains(&told), "{told} of {least} to {most}\n{}", recorded.top());
}

#[test]
fn waits_for_locks_are_told_apart() {
    let program = c("locks.c", THREADS);
    let recorded = record(&["-e", "lock"], &[program.as_os_str(), "1500".as_ref()]);
    let truth = programs::sum(&recorded.attempt.printed, "wait_for_it");
    let told = away(&recorded, |stack| stack.has("wait_for_it"));
    assert!(near(told, truth, 0.02), "{told} of {truth}\n{}", recorded.top());
    // Who sleeps with the mutex in his hand waits for no lock.
    assert_eq!(away(&recorded, |stack| stack.has("nap")), 0, "{}", recorded.top());
    let waits = recorded.stacks.iter().filter(|stack| stack.has("wait_for_it"));
    assert!(
        waits.clone().count() > 0 && waits.clone().all(|stack| stack.kernel.iter().any(|name| name.contains("futex")))
    );
    // Of the kernel: two threads write to one file, whose inode has a lock.
    let folder = tempfile::tempdir().unwrap();
    let program = c("kernel_lock.c", THREADS);
    let recorded = record(&["-e", "lock"], &[program.as_os_str(), "500".as_ref(), folder.path().as_os_str()]);
    let told = away(&recorded, |stack| stack.has("append") && !stack.kernel.iter().any(|name| name.contains("futex")));
    assert!(told > 1_000_000, "{told}\n{}", recorded.top());
}

#[test]
fn no_tracefs_is_needed() {
    let program = c("locks.c", THREADS);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pb.gz");
    // Nothing is mounted there, for us alone.
    let run = format!(
        "umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug; test ! -e /sys/kernel/tracing/events && exec {} record --off-cpu --lock --wall --alloc --alloc-period 16 -o {} -- {} 300",
        env!("CARGO_BIN_EXE_rprof"),
        file.display(),
        program.display()
    );
    let done = Attempt::of(Command::new("unshare").args(["-m", "sh", "-c", &run]));
    assert_eq!(done.status, Some(0), "{}", done.said);
    for (kind, unit) in [
        ("cpu", "nanoseconds"),
        ("off_cpu", "nanoseconds"),
        ("lock_wait", "nanoseconds"),
        ("wall", "nanoseconds"),
        ("alloc_space", "bytes"),
        ("inuse_space", "bytes"),
    ] {
        let path = folder.path().join(format!("x.{kind}.pb.gz"));
        let profile = encode::read_file(&path).unwrap_or_else(|error| panic!("{error}: {}", done.said));
        assert_eq!(types(&profile).last(), Some(&(kind, unit)));
        // What is in use at the end may be nothing.
        assert!(profile.total(1) > 0 || kind == "inuse_space", "{kind}: {}", done.said);
        assert_read_alike(&path, &profile);
    }
}

#[test]
fn without_the_privilege_it_is_told_what_gives_it() {
    let program = c("locks.c", THREADS);
    // Where nobody may read the way to it, a copy.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let [rprof, program] = [Path::new(env!("CARGO_BIN_EXE_rprof")), &program].map(|file| {
        let copy = folder.path().join(file.file_name().unwrap());
        std::fs::copy(file, &copy).unwrap();
        copy
    });
    let attempt = |options: &[&str]| {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
        nobody.arg(&rprof).arg("record").args(options).args(["-o", "x.pb.gz", "--"]).arg(&program);
        Attempt::of(nobody.current_dir(folder.path()))
    };
    for kind in ["--off-cpu", "--lock", "--wall", "--alloc"] {
        let done = attempt(&[kind]);
        assert_eq!(done.status, Some(255), "{kind}: {}", done.said);
        assert!(done.said.contains("cap_perfmon,cap_bpf"), "{kind}: {}", done.said);
    }
    // Switches happen in the kernel, of which nothing may be sampled then.
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    if paranoid.trim() == "2" {
        let done = attempt(&["-e", "context-switches"]);
        assert!(done.status == Some(255) && done.said.contains("perf_event_paranoid"), "{}", done.said);
    }
}

#[test]
fn no_program_of_ours_outlives_a_recorder_that_is_killed() {
    let ours = |pid: i32| {
        let names: Vec<String> = aya::programs::loaded_programs()
            .filter_map(|program| Some(program.ok()?.name_as_str()?.to_owned()))
            .filter(|name| ["on_switch", "on_waking", "on_allocate", "census"].contains(&name.as_str()))
            .collect();
        (names.len(), rprof::capture::exists(rprof::ids::Pid(pid)))
    };
    // Other tests load the same programs, so more or fewer are there now and then: it is waited for an instant without any.
    let session = start(&["-e", "off-cpu", "-a"], &[] as &[&str]).opened();
    let pid = session.pid();
    assert!(ours(pid).0 > 0);
    session.signal(Signal::SIGKILL);
    session.fail();
    wait_for("the end of all programs", || ours(pid) == (0, false));
}
