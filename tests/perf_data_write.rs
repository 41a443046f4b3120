//! What `rprof record` writes as perf.data, read by perf itself and by other readers. Needs root, perf and tracefs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::recording::{rprof, text};
use common::written::{
    CHAIN, Mount, Recording, chain, children, counted, data_size, lasting, parsed, perf, record, share, stacks,
    wait_for_data,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Stacks as inferno folds what `perf script` prints.
fn folded(file: &Path) -> String {
    use inferno::collapse::Collapse;
    let printed = perf(&["script", "--no-inline"], file);
    let mut folded = Vec::new();
    let mut folder = inferno::collapse::perf::Folder::default();
    folder.collapse(printed.as_bytes(), &mut folded).unwrap();
    String::from_utf8(folded).unwrap()
}

fn weight(line: &str) -> Option<u64> {
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_command() {
    let recording = record(&["-g", "-F", "999"], &[&chain(), "0.4"]);
    assert_eq!(recording.status, Some(0), "{}", recording.said);
    assert_eq!(counted(&recording.path()), recording.samples());
    assert!(share(&stacks(&recording.path(), "cpu-clock"), &CHAIN) > 0.95);
    let folded = folded(&recording.path());
    let whole: u64 = folded.lines().filter(|line| line.contains(";main;a;b;leaf ")).filter_map(weight).sum();
    let all: u64 = folded.lines().filter_map(weight).sum();
    assert!(all > 0 && whole * 100 > all * 95, "{folded}");
    // The features that tools take for granted.
    let header = perf(&["script", "--header-only"], &recording.path());
    for feature in
        ["hostname", "os release", "arch", "nrcpus", "cpudesc", "cpuid", "total memory", "cmdline", "clockid"]
    {
        assert!(header.contains(&format!("# {feature}")), "no {feature}: {header}");
    }
    let ids = perf(&["buildid-list"], &recording.path());
    assert!(ids.contains(&chain()) && ids.contains("libc.so.6") && ids.contains("[kernel.kallsyms]"), "{ids}");
    // Again: the old one is kept.
    let mut again = rprof();
    again.current_dir(&recording.folder).args(["record", "-q", "--", "true"]).stdout(Stdio::null());
    assert!(again.status().unwrap().success());
    assert_eq!(counted(&recording.folder.path().join("perf.data.old")), recording.samples());
}

#[test]
fn the_whole_system() {
    let recording = record(&["-a", "-F", "499"], &[&chain(), "0.5"]);
    assert_eq!(counted(&recording.path()), recording.samples());
    let stacks = stacks(&recording.path(), "cpu-clock");
    assert!(share(&stacks, &CHAIN) > 0.1, "{stacks:?}");
    // All that ran before has its name and its files.
    let unnamed = stacks.iter().filter(|(stack, _)| stack.iter().all(|frame| frame == "[unknown]"));
    let (unnamed, all): (u64, u64) = (unnamed.map(|(_, samples)| samples).sum(), stacks.values().sum());
    assert!(unnamed * 10 < all, "{unnamed} of {all}: {stacks:?}");
}

#[test]
fn times_away_from_cpus() {
    let recording = record(&["--off-cpu", "-F", "999"], &["sh", "-c", &format!("{} 0.3; sleep 0.3", chain())]);
    assert_eq!(counted(&recording.path()), recording.samples());
    let file = recording.path();
    assert!(share(&stacks(&file, "cpu-clock"), &CHAIN) > 0.7);
    // The shell waited for both, and sleep slept.
    let printed = perf(&["script", "-F", "comm,tid,period,event", "-G"], &file);
    let of = |comm: &str| -> u64 {
        let lines =
            printed.lines().map(str::trim_start).filter(|line| line.starts_with(comm) && line.contains("offcpu-time:"));
        lines.filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
    };
    let (shell, sleeper) = (of("sh ") / 1_000_000, of("sleep ") / 1_000_000);
    assert!((500..2000).contains(&shell), "{shell} ms: {printed}");
    assert!((290..600).contains(&sleeper), "{sleeper} ms: {printed}");
    assert!(share(&stacks(&file, "offcpu-time"), &["schedule"]) > 0.5);
}

#[test]
fn two_events() {
    // One fault of seven: by frequency, the faults of the whole machine decide how many of these few are sampled.
    let recording = record(&["-e", "cpu-clock:u,page-faults/period=7/", "-F", "999"], &[&chain(), "0.3"]);
    assert_eq!(counted(&recording.path()), recording.samples());
    let file = recording.path();
    assert_eq!(perf(&["evlist"], &file).lines().collect::<Vec<_>>(), ["cpu-clock:u", "page-faults"]);
    assert!(share(&stacks(&file, "cpu-clock:u"), &CHAIN) > 0.9);
    assert!(!stacks(&file, "page-faults").is_empty());
}

#[test]
fn a_tracepoint() {
    let forty = "i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i + 1)); done";
    let recording = record(&["-e", "sched:sched_process_exit"], &["sh", "-c", forty]);
    assert_eq!(counted(&recording.path()), recording.samples());
    assert_eq!(recording.samples(), 41);
    assert!(share(&stacks(&recording.path(), "sched:sched_process_exit"), &["do_exit"]) > 0.9);
    let fields = perf(&["script"], &recording.path());
    assert_eq!(fields.lines().filter(|line| line.contains("comm=true pid=")).count(), 40, "{fields}");
}

#[test]
fn perf_sched_reads_the_scheduler() {
    let events = "sched:sched_switch,sched:sched_wakeup,sched:sched_wakeup_new,sched:sched_migrate_task,sched:sched_stat_runtime";
    // A name that nothing else on the machine has.
    let folder = tempfile::tempdir().unwrap();
    let napper = folder.path().join("rprof-napper");
    std::os::unix::fs::symlink("/bin/sleep", &napper).unwrap();
    let naps = format!("i=0; while [ $i -lt 20 ]; do {} 0.01; i=$((i + 1)); done", text(&napper));
    for options in [&["-a"][..], &["-a", "-z"]] {
        let recording = record(&[&["-e", events], options].concat(), &["sh", "-c", &naps]);
        let latency = perf(&["sched", "latency"], &recording.path());
        let row = latency
            .lines()
            .find(|line| line.trim_start().starts_with("rprof-napper:"))
            .unwrap_or_else(|| panic!("{latency}"));
        assert!(row.contains("(20)"), "{row}");
        let history = perf(&["sched", "timehist"], &recording.path());
        assert!(history.lines().filter(|line| line.contains("rprof-napper[")).count() >= 20, "{history}");
    }
}

#[test]
fn tracepoints_of_a_recording_that_is_killed_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("perf.data");
    let mut rprof = rprof();
    rprof.args(["record", "-a", "-e", "sched:sched_switch", "-o", text(&file)]).args(["--", "sleep", "60"]);
    let mut recorder = rprof.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let samples = || Command::new("perf").args(["script", "-F", "trace", "-i"]).arg(&file).output().unwrap();
    // What runs already comes first.
    wait_for_data(&file, 1);
    wait_for_data(&file, data_size(&file) + 100_000);
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let read = samples();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(String::from_utf8_lossy(&read.stdout).contains("next_comm="), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn fields_of_tracepoints_go_through_a_pipe() {
    let script = format!(
        "{} record -q -o - -e sched:sched_process_exec -- sh -c /bin/true | perf script -F trace -i -",
        text(Path::new(env!("CARGO_BIN_EXE_rprof")))
    );
    let read = Command::new("sh").args(["-c", &script]).output().unwrap();
    let printed = String::from_utf8_lossy(&read.stdout);
    assert!(printed.contains("filename=/bin/true"), "{printed}{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn compressed() {
    let recording = record(&["-z", "-F", "2999"], &[&chain(), "0.5"]);
    assert_eq!(counted(&recording.path()), recording.samples());
    let plain = record(&["-F", "2999"], &[&chain(), "0.5"]);
    let size = |recording: &Recording| fs::metadata(recording.path()).unwrap().len();
    assert!(size(&recording) * 3 < size(&plain), "{} of {}", size(&recording), size(&plain));
    assert!(share(&stacks(&recording.path(), "cpu-clock"), &CHAIN) > 0.95);
}

#[test]
fn raw_stacks_are_unwound_by_perf() {
    // Enough of them that the program's start does not count.
    let recording = record(&["--raw-stacks", "-F", "1999"], &[&chain(), "0.4"]);
    assert_eq!(counted(&recording.path()), recording.samples());
    assert!(share(&stacks(&recording.path(), "cpu-clock"), &CHAIN) > 0.95);
}

#[test]
fn through_a_pipe() {
    for explicit in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("piped");
        let mut rprof = rprof();
        rprof.arg("record").args(["-F", "999"]).args(if explicit { &["-o", "-"][..] } else { &[] });
        // The command prints, but not into the stream.
        rprof.arg("--").args([&chain(), "0.3"]);
        let output = rprof.stdout(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        fs::write(&file, &output.stdout).unwrap();
        assert!(said.contains("ready"), "{said}");
        let recording = Recording { folder, said, status: output.status.code() };
        assert_eq!(counted(&file), recording.samples());
        assert!(share(&stacks(&file, "cpu-clock"), &CHAIN) > 0.95);
        for arguments in [&["report", "--stdio"][..], &["script", "--header"], &["buildid-list"], &["evlist"]] {
            assert!(!perf(arguments, &file).trim().is_empty(), "{arguments:?}");
        }
    }
}

#[test]
fn killed() {
    for options in [&["-F", "999"][..], &["-F", "999", "-z"]] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("perf.data");
        let mut rprof = lasting(folder.path(), options);
        let enough = if options.len() > 2 { 4_000 } else { 50_000 };
        wait_for_data(&file, enough);
        let command = children(rprof.id());
        rprof.kill().unwrap();
        rprof.wait().unwrap();
        command.iter().for_each(|&pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
        // How records are compressed is told by the first of them, which statistics pass over.
        assert!(options.len() > 2 || counted(&file) > 300);
        let found: u64 = stacks(&file, "cpu-clock").values().sum();
        assert!(found > 300, "{found}");
        assert!(share(&stacks(&file, "cpu-clock"), &CHAIN) > 0.95);
        for arguments in [&["report", "--stdio"][..], &["annotate", "--stdio", "-s", "leaf"], &["evlist", "-v"]] {
            assert!(!perf(arguments, &file).trim().is_empty(), "{arguments:?}");
        }
    }
}

#[test]
fn hung_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("perf.data");
    let rprof = lasting(folder.path(), &["-F", "999"]);
    wait_for_data(&file, 50_000);
    kill(Pid::from_raw(rprof.id() as i32), Signal::SIGHUP).unwrap();
    let output = rprof.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let recording = Recording { folder, said, status: output.status.code() };
    // The command was asked to end, by SIGTERM.
    assert_eq!(recording.status, Some(143), "{}", recording.said);
    assert_eq!(counted(&recording.path()), recording.samples());
}

#[test]
fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::new(&folder.path().join("disk"), "128k");
    let rprof = lasting(&disk.0, &["-F", "4999"]);
    let output = rprof.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(said.contains("perf.data") && said.contains("No space left on device"), "{said}");
    let file = disk.0.join("perf.data");
    assert!(data_size(&file) > 100_000 && counted(&file) > 500);
    assert!(share(&stacks(&file, "cpu-clock"), &CHAIN) > 0.95);
    perf(&["report", "--stdio"], &file);
}

/// Times of samples in seconds, in the order of the file.
fn times(file: &Path) -> Vec<f64> {
    let printed = perf(&["script", "-F", "time"], file);
    printed.lines().filter_map(|line| line.trim().trim_end_matches(':').parse().ok()).collect()
}

#[test]
fn windows_of_time() {
    let recording = record(&["-F", "999", "-D", "100-300,600-800"], &[&chain(), "1"]);
    let times = times(&recording.path());
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.1).collect();
    assert!(gaps.len() == 1 && gaps[0] > 0.15 && gaps[0] < 0.5, "{gaps:?}");
    assert!((30..=600).contains(&times.len()), "{} samples", times.len());
}

#[test]
fn files_that_follow_each_other() {
    let recording = record(&["-F", "499", "--switch-output=1s", "--switch-max-files=2"], &[&chain(), "2.6"]);
    let entries = fs::read_dir(&recording.folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    // The last one has what was left, which may be little.
    assert!(counted(&files[0]) > 50 && share(&stacks(&files[0], "cpu-clock"), &CHAIN) > 0.95);
    for file in &files {
        assert!(text(file).contains("perf.data.2"), "{files:?}");
        assert!(perf(&["buildid-list"], file).contains(&chain()));
        assert!(recording.said.contains(&format!("Dump {}", file.file_name().unwrap().to_string_lossy())));
    }
}

#[test]
fn a_size_ends_a_recording() {
    let recording = record(&["-F", "4999", "--max-size=100K"], &[&chain(), "20"]);
    assert!(recording.said.contains("size limit reached"), "{}", recording.said);
    let size = fs::metadata(recording.path()).unwrap().len();
    assert!((100 << 10..300 << 10).contains(&size), "{size} bytes");
    assert_eq!(counted(&recording.path()), recording.samples());
}

#[test]
fn commands_begin_and_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let [commands, answers] = ["commands", "answers"].map(|name| folder.path().join(name));
    for fifo in [&commands, &answers] {
        nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let control = format!("fifo:{},{}", text(&commands), text(&answers));
    let rprof = lasting(folder.path(), &["-F", "999", "-D", "-1", "--control", &control]);
    let mut answers = File::options().read(true).write(true).open(&answers).unwrap();
    let mut commands = File::options().read(true).write(true).open(&commands).unwrap();
    let mut ask = |command: &str, wait: u64| {
        std::io::Write::write_all(&mut commands, format!("{command}\n").as_bytes()).unwrap();
        let mut answer = [0; 5];
        std::io::Read::read_exact(&mut answers, &mut answer).unwrap();
        assert_eq!(&answer, b"ack\n\0", "{command}");
        sleep(Duration::from_millis(wait));
    };
    ask("ping", 300);
    ask("enable", 300);
    ask("disable cpu-clock", 300);
    ask("enable nosuch", 0);
    ask("nonsense", 0);
    ask("stop", 0);
    let output = rprof.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert!(said.contains("no event 'nosuch'") && said.contains("unknown command 'nonsense'"), "{said}");
    let samples = counted(&folder.path().join("perf.data"));
    assert!((30..600).contains(&samples), "{samples} samples: {said}");
}

#[test]
fn groups_and_filters() {
    let grouped = record(&["-e", "{cpu-clock,page-faults}", "-F", "999"], &[&chain(), "0.2"]);
    assert_eq!(perf(&["evlist", "-g"], &grouped.path()).trim(), "{cpu-clock,page-faults}");
    let forty = "i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i + 1)); done";
    let event = "sched:sched_process_exit";
    let filtered = record(&["-e", event, "--filter", "comm == \"true\""], &["sh", "-c", forty]);
    assert_eq!(filtered.samples(), 40, "{}", filtered.said);
    let named = record(&["-e", "cpu-clock/name=mine,freq=199/u,cs"], &[&chain(), "0.2"]);
    assert_eq!(perf(&["evlist"], &named.path()).lines().collect::<Vec<_>>(), ["mine", "cs"]);
}

#[test]
fn options_that_were_quoted() {
    let chain = chain();
    for options in [
        &["-agF99"][..],
        &["-F", "997", "--call-graph", "dwarf,16384", "-g", "-o", "perf.data"],
        &["-F", "9999", "-g", "-k1", "--call-graph", "dwarf,65528"],
        &["-F", "9999", "-g", "-k", "mono", "--call-graph", "dwarf,65528"],
        &[
            "-e",
            "cycles",
            "-e",
            "sched:sched_switch",
            "--switch-events",
            "--sample-cpu",
            "-m",
            "8M",
            "--aio",
            "-z",
            "--call-graph",
            "dwarf",
        ],
        &["-g", "-e", "sched:sched_switch", "-e", "sched:sched_stat_runtime"],
        &["--freq=997", "-a", "-g", "-o", "perf.data"],
        &["-F", "99", "--raw-stacks", "--switch-events", "--off-cpu", "-z"],
    ] {
        let recording = record(options, &[&chain, "0.2"]);
        assert_eq!(recording.status, Some(0), "{options:?}: {}", recording.said);
        assert_eq!(counted(&recording.path()), recording.samples(), "{options:?}");
        assert_eq!(parsed(&recording.path()), recording.samples(), "{options:?}");
    }
}

#[test]
fn without_privileges() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // Where nobody may look, nobody can execute.
    let [program, recorder] = ["chain", "rprof"].map(|name| folder.path().join(name));
    fs::copy(chain(), &program).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_rprof"), &recorder).unwrap();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]);
    setpriv.arg(recorder).args(["record", "-F", "499", "-g", "-o", "mine.data", "--"]).arg(program).arg("0.4");
    let output = setpriv.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    // perf reads only files of its own user.
    let file = folder.path().join("mine.data");
    std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
    assert!(counted(&file) > 50 && share(&stacks(&file, "cpu-clock"), &CHAIN) > 0.9, "{said}");
}

#[test]
fn code_of_bpf_programs_is_told() {
    // Another rprof loads some.
    let other = [env!("CARGO_BIN_EXE_rprof"), "record", "-q", "--off-cpu", "-o", "other.data", "--", "sleep", "0.2"];
    let recording = record(&["-a", "-F", "99"], &other);
    assert_eq!(counted(&recording.path()), recording.samples());
    let stats = perf(&["report", "--stats"], &recording.path());
    assert!(stats.contains("KSYMBOL events:"), "{stats}");
}

/// Cgroups that were there before, and one that is made meanwhile; perf tells each sample's.
#[test]
fn cgroups_are_told() {
    let made = format!("rprof-written-{}", std::process::id());
    // Where perf events have no hierarchy of their own, they belong to that of version 2.
    let script = "root=$(awk '$3 == \"cgroup\" && $4 ~ /perf_event/ { print $2 }' /proc/mounts)
        root=${root:-$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/mounts)}
        mkdir $root/$1 && (echo 0 >$root/$1/cgroup.procs && exec $0 0.4); $0 0.2; rmdir $root/$1";
    let recording = record(&["--all-cgroups", "-F", "499"], &["sh", "-c", script, &chain(), &made]);
    assert_eq!(recording.status, Some(0), "{}", recording.said);
    assert_eq!(counted(&recording.path()), recording.samples());
    let cgroups = perf(&["report", "--stdio", "-g", "none", "--no-children", "--sort", "cgroup"], &recording.path());
    let share = |path: &str| {
        let line = cgroups.lines().find(|line| line.split_whitespace().nth(1) == Some(path));
        line.map_or(0.0, |line| line.trim().split('%').next().unwrap().parse().unwrap())
    };
    assert!((50.0..80.0).contains(&share(&format!("/{made}"))), "{cgroups}");
    assert!((20.0..50.0).contains(&(100.0 - share(&format!("/{made}")))) && !cgroups.contains("N/A"), "{cgroups}");
}
