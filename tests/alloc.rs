//! Allocations, beside what programs know of their own; and calls of functions of programs. Needs root, jemalloc and tcmalloc.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::programs::{self, c};
use common::recording::{Attempt, ON_ANY_DISK, attempt, record, rprof, text, wait_for};
use nix::sys::signal::Signal;
use rprof::encode;
use rprof::profile::Profile;

const FLAGS: &[&str] = &["-O1", "-fno-optimize-sibling-calls"];
/// The functions of `allocs.c`.
const SITES: [&str; 6] = ["leaks", "frees", "mixes", "grows", "aligns", "large"];

/// Allocations and what is in use, as two files.
struct Heap {
    attempt: Attempt,
    allocated: Profile,
    in_use: Profile,
}

fn heap(options: &[&str], command: &[&str]) -> Heap {
    heap_of(&mut rprof(), options, command)
}

fn heap_of(rprof: &mut Command, options: &[&str], command: &[&str]) -> Heap {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pb.gz");
    // What is told here is not how fast rings are emptied: they hold all of a run.
    rprof.args(["record", "--alloc", "-m", "256M", "-o", text(&file)]).args(options);
    if !command.is_empty() {
        rprof.arg("--").args(command);
    }
    let attempt = Attempt::of(rprof);
    assert_eq!(attempt.status, Some(0), "{}", attempt.said);
    let read = |kind: &str| encode::read_file(&folder.path().join(format!("x.{kind}.pb.gz"))).unwrap();
    Heap { allocated: read("alloc_space"), in_use: read("inuse_space"), attempt }
}

/// Bytes and objects of the stacks with a function.
fn of(profile: &Profile, function: &str) -> (f64, f64) {
    let has = |sample: &&rprof::profile::Sample| profile.frames(sample).any(|frame| frame.name == function);
    profile.samples.iter().filter(has).fold((0.0, 0.0), |(bytes, objects), sample| {
        (bytes + sample.values[1] as f64, objects + sample.values[0] as f64)
    })
}

/// Whether an estimate from one sample a period is right, but for chance of one in a million.
fn is_near(told: f64, truth: u64, period: f64) -> bool {
    (told - truth as f64).abs() <= 5.0 * (truth as f64 * period).sqrt() + period
}

fn check_sites(heap: &Heap, printed: &str, period: f64) {
    for site in SITES {
        let (asked, kept) =
            (programs::number(printed, &format!("{site} ")), programs::number(printed, &format!("{site}_kept ")));
        let told = (of(&heap.allocated, site).0, of(&heap.in_use, site).0);
        assert!(is_near(told.0, asked, period), "{site}: {} of {asked} bytes asked\n{}", told.0, heap.attempt.said);
        assert!(is_near(told.1, kept, period), "{site}: {} of {kept} bytes kept\n{}", told.1, heap.attempt.said);
    }
    let objects = of(&heap.allocated, "leaks").1;
    let truth = programs::number(printed, "leaks ") as f64 / 100.0;
    assert!((objects - truth).abs() <= 5.0 * (truth * period / 100.0).sqrt(), "{objects} objects of {truth}");
}

#[test]
fn bytes_are_those_of_the_program_by_site() {
    let program = c("allocs.c", FLAGS);
    let heap = heap(&["--alloc-period", "16K"], &[text(&program), "10000"]);
    check_sites(&heap, &heap.attempt.printed, 16384.0);
    for (profile, names) in
        [(&heap.allocated, ["alloc_objects", "alloc_space"]), (&heap.in_use, ["inuse_objects", "inuse_space"])]
    {
        let types: Vec<_> =
            profile.sample_types.iter().map(|kind| (profile.text(kind.name), profile.text(kind.unit))).collect();
        assert_eq!(types, [(names[0], "count"), (names[1], "bytes")]);
        assert_eq!(profile.period, 16384);
    }
    // All calls are counted, and what it cost to look is told.
    let line = heap.attempt.said.lines().find(|line| line.contains("allocations: ")).expect("a line on allocations");
    let asked: u64 = SITES.iter().map(|site| programs::number(&heap.attempt.printed, &format!("{site} "))).sum();
    let bytes: u64 = line.split(" of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((asked..asked + 100_000).contains(&bytes), "{asked} and {bytes}");
    assert!(line.contains("took the target about"), "{line}");
}

#[test]
fn other_allocators_are_known_by_their_functions() {
    let program = c("allocs.c", FLAGS);
    for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"] {
        let path = format!("/usr/lib/{}-linux-gnu/{library}", std::env::consts::ARCH);
        let path = fs::canonicalize(&path).unwrap_or_else(|_| panic!("no {path}; see scripts/install-test-tools"));
        let path = text(&path);
        let mut rprof = rprof();
        // rprof itself is static, and loads nothing before.
        let options = ["--alloc-period", "16K"];
        let heap = heap_of(rprof.env("LD_PRELOAD", path), &options, &[text(&program), "5000"]);
        let inside = |profile: &Profile| profile.mappings.iter().any(|mapping| profile.text(mapping.file) == path);
        assert!(inside(&heap.allocated), "{library}: {}", heap.attempt.said);
        check_sites(&heap, &heap.attempt.printed, 16384.0);
    }
}

#[test]
fn a_static_program_brings_its_own() {
    let program = c("allocs.c", &[FLAGS, &["-static"]].concat());
    let heap = heap(&["--alloc-period", "16K"], &[text(&program), "5000"]);
    check_sites(&heap, &heap.attempt.printed, 16384.0);
}

#[test]
fn who_runs_already_is_told_of_and_so_are_children() {
    let program = c("forever.c", FLAGS);
    let running = programs::run(&program, &["3000000", "children"]);
    let heap = heap(&["-p", &running.pid().to_string(), "--alloc-period", "256K", "--duration", "2s"], &[]);
    let (churned, hoarded) = (of(&heap.allocated, "churn").0, of(&heap.allocated, "hoard").0);
    assert!(churned > 0.0 && hoarded > 0.0, "{}", heap.attempt.said);
    // Each hundredth block, half as large again.
    assert!((0.2..5.0).contains(&(hoarded / churned / 0.015)), "{hoarded} and {churned}");
    assert!(of(&heap.in_use, "churn").0 <= 2.0 * 262_144.0, "freed: {}", of(&heap.in_use, "churn").0);
    assert!((of(&heap.in_use, "hoard").0 - hoarded).abs() < 1.0, "kept: {hoarded}");
    assert!(of(&heap.allocated, "of_child").0 >= f64::from(1 << 20), "{}", heap.attempt.said);
}

#[test]
fn allocations_alone_are_cheaper() {
    let program = c("forever.c", FLAGS);
    let stops = |what: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pb.gz");
        let done = attempt(&[what, "-o", text(&file)], &[text(&program), "20000"]);
        assert_eq!(done.status, Some(0), "{}", done.said);
        let line = done.said.lines().find(|line| line.contains("allocations: ")).expect("a line").to_owned();
        let stops = line.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap();
        let files = fs::read_dir(folder.path()).unwrap().count();
        (stops, files)
    };
    let ((whole, two), (half, one)) = (stops("--alloc"), stops("--alloc=allocated"));
    // Frees are not stopped at.
    assert!(half * 19 < whole * 10, "{half} of {whole} stops");
    assert_eq!((two, one), (2, 1));
}

#[test]
fn each_window_tells_what_is_in_use_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let program = c("forever.c", FLAGS);
    let running = programs::run(&program, &[]);
    let options = ["-p", &running.pid().to_string(), "--alloc", "--alloc-period", "16K", "--continuous"];
    let rest = ["--window", "1s", "--duration", "4.3", "-o", text(folder.path())];
    let done = attempt(&[&options[..], &rest, &ON_ANY_DISK].concat(), &[] as &[&str]);
    assert_eq!(done.status, Some(0), "{}", done.said);
    let windows = |kind: &str| {
        let pattern = format!("{}/*/*/*{kind}*.pb.gz", folder.path().display());
        let files: Vec<PathBuf> = glob::glob(&pattern).unwrap().map(Result::unwrap).collect();
        let mut profiles: Vec<Profile> = files.iter().map(|file| encode::read_file(file).unwrap()).collect();
        profiles.sort_by_key(|profile| profile.time_nanos);
        profiles
    };
    let (allocated, in_use) = (windows("alloc_space"), windows("inuse_space"));
    assert!(allocated.len() >= 4 && allocated.len() == in_use.len(), "{}", done.said);
    let mut sum = 0.0;
    for (allocated, in_use) in allocated.iter().zip(&in_use) {
        sum += of(allocated, "hoard").0;
        assert_eq!(of(in_use, "hoard").0, sum, "all that was kept since the beginning");
    }
    // What is in use at the end of a time is what its last window tells.
    let asked = ["query", text(folder.path()), "--kind", "inuse_space", "--from", "-1h", "--json"];
    let told = Attempt::of(rprof().args(asked));
    assert_eq!(told.status, Some(0), "{}", told.said);
    let answer: serde_json::Value = serde_json::from_str(&told.printed).unwrap();
    let total = answer["total"].as_f64().unwrap_or_else(|| panic!("{answer}"));
    let last = in_use.last().unwrap();
    assert_eq!(total, last.total(1) as f64, "{answer}");
    drop(running);
}

#[test]
fn no_probe_outlives_a_recorder_that_is_killed() {
    let program = c("forever.c", FLAGS);
    let running = programs::run(&program, &[]);
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = rprof();
    recorder.args(["record", "--alloc", "-p", &running.pid().to_string(), "-o", text(&folder.path().join("x.pb.gz"))]);
    let mut recorder = recorder.stderr(Stdio::null()).spawn().unwrap();
    let code = Malloc::of(running.pid());
    wait_for("probes", || code.is_probed());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(recorder.id() as i32), Signal::SIGKILL).unwrap();
    recorder.wait().unwrap();
    wait_for("the end of the probes", || !code.is_probed());
    thread::sleep(Duration::from_millis(50));
    assert!(rprof::capture::lives(rprof::ids::Pid(running.pid())));
}

/// The code of libc in a process, and in its file.
struct Malloc {
    memory: fs::File,
    start: u64,
    original: Vec<u8>,
}

impl Malloc {
    fn of(pid: i32) -> Malloc {
        let maps = procfs::process::Process::new(pid).unwrap().maps().unwrap();
        let is_libc = |map: &&procfs::process::MemoryMap| {
            map.perms.contains(procfs::process::MMPermissions::EXECUTE)
                && matches!(&map.pathname, procfs::process::MMapPath::Path(path) if path.ends_with("libc.so.6"))
        };
        let map = maps.iter().find(is_libc).unwrap();
        let procfs::process::MMapPath::Path(path) = &map.pathname else { unreachable!() };
        let mut original = vec![0; (map.address.1 - map.address.0) as usize];
        let read = fs::File::open(path).unwrap().read_at(&mut original, map.offset).unwrap();
        original.truncate(read);
        let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        Malloc { memory, start: map.address.0, original }
    }

    fn is_probed(&self) -> bool {
        let mut now = vec![0; self.original.len()];
        self.memory.read_exact_at(&mut now, self.start).unwrap();
        now != self.original
    }
}

#[test]
fn a_target_without_an_allocator_is_told() {
    let program = programs::go("chain.go", &[]);
    let folder = tempfile::tempdir().unwrap();
    let done = attempt(&["--alloc", "-o", text(&folder.path().join("x.pb.gz"))], &[text(&program), "0.1"]);
    assert!(done.said.contains("has the functions of an allocator"), "{}", done.said);
}

#[test]
fn calls_of_functions_are_counted() {
    let program = c("allocs.c", FLAGS);
    let recorded = record(&["-e", &format!("uprobe:{}:site", text(&program))], &[text(&program), "10"]);
    assert_eq!(recorded.samples(), 6, "{}", recorded.top());
    assert!(recorded.stacks.iter().all(|stack| stack.is(&["…", "main", "site"])), "{}", recorded.top());
    let recorded = record(&["-e", &format!("uretprobe:{}:site", text(&program))], &[text(&program), "10"]);
    assert_eq!(recorded.samples(), 6, "{}", recorded.top());
    assert!(recorded.stacks.iter().all(|stack| stack.is(&["…", "main"])), "{}", recorded.top());
}

#[test]
fn threads_and_children_are_probed_as_well() {
    let program = c("heirs.c", &[FLAGS, &["-pthread"]].concat());
    let recorded = record(&["-e", &format!("uprobe:{}:site", text(&program))], &[text(&program)]);
    assert_eq!(recorded.attempt.status, Some(0), "it has its thread and its child: {}", recorded.attempt.said);
    assert_eq!(recorded.samples(), 7, "{}", recorded.top());
    let alone = record(&["-i", "-e", &format!("uprobe:{}:site", text(&program))], &[text(&program)]);
    assert_eq!(alone.samples(), 1, "{}", alone.top());
}

#[test]
fn a_program_that_is_written_to_is_probed_anew() {
    // Each brings an allocator of its own, at another place.
    let first = c("allocs.c", &[FLAGS, &["-static"]].concat());
    let second = c("allocs.c", &[FLAGS, &["-static", "-Wl,-z,noseparate-code"]].concat());
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("victim");
    fs::copy(&first, &place).unwrap();
    let store = folder.path().join("store");
    for whom in [&["--comm", "victim"][..], &["-a"]] {
        let mut recorder = rprof()
            .args(["record", "-q", "--alloc", "--continuous", "--window", "1s", "-o", text(&store)])
            .args(ON_ANY_DISK)
            .args(whom)
            .spawn()
            .unwrap();
        wait_for("the recorder to begin", || store.join("index").exists() || fs::read_dir(&store).is_ok());
        thread::sleep(Duration::from_secs(1));
        for version in [&first, &second] {
            // In place: the same inode.
            fs::write(&place, fs::read(version).unwrap()).unwrap();
            thread::sleep(Duration::from_millis(500));
            let status = Command::new(&place).arg("100000").stdout(Stdio::null()).status().unwrap();
            assert!(status.success(), "{whom:?}: {status}");
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(recorder.id() as i32), Signal::SIGINT).unwrap();
        let ended = recorder.wait().unwrap();
        assert!(ended.code().is_some(), "{ended}");
    }
}

#[test]
fn what_cannot_be_probed_is_told() {
    let program = c("allocs.c", FLAGS);
    let stripped = c("allocs.c", &[FLAGS, &["-s"]].concat());
    let refused = [
        (format!("uprobe:{}:sit", text(&program)), "did you mean site"),
        (format!("uprobe:{}:site", text(&stripped)), "no symbols (stripped)"),
        ("uprobe:/lib/x86_64-linux-gnu/libc.so.6:memcpy".to_owned(), "is chosen at run time"),
        ("uprobe:/lib/x86_64-linux-gnu/libc.so.6:_int_malloc".to_owned(), "only those that it exports"),
        (format!("uprobe:{}:0x7fff00000000", text(&program)), "no code lies at"),
        ("uprobe:/no/such/file:f".to_owned(), "cannot open /no/such/file"),
        ("uprobe:/etc/passwd:f".to_owned(), "no ELF file"),
        ("uprobe:f".to_owned(), "write uprobe:PATH:FUNCTION"),
        (format!("uprobe:{}:site:z", text(&program)), "unknown modifier"),
    ];
    for (event, reason) in refused {
        let done = attempt(&["-e", &event, "-o", "/dev/null"], &["true"]);
        assert_eq!(done.status, Some(129), "{event}: {}", done.said);
        assert!(done.said.contains(reason), "{event}: {}", done.said);
    }
}

#[test]
fn a_probe_that_the_target_never_meets_is_told() {
    let program = c("forever.c", FLAGS);
    let folder = tempfile::tempdir().unwrap();
    let copy = programs::private_copy(&program, folder.path());
    let running = programs::run(&copy, &[]);
    let pid = running.pid().to_string();
    let file = folder.path().join("x.pb.gz");
    let said = |place: &Path| {
        let event = format!("uprobe:{}:churn", text(place));
        let done = attempt(&["-e", &event, "-p", &pid, "--duration", "0.2", "-o", text(&file)], &[] as &[&str]);
        assert_eq!(done.status, Some(0), "{}", done.said);
        done.said
    };
    assert!(said(&program).contains("no process of the target has mapped"), "{}", said(&program));
    assert!(said(&program).contains("no call of it was met"), "{}", said(&program));
    assert!(!said(&copy).contains("no call of it was met"), "{}", said(&copy));
    // As an upgrade does.
    fs::remove_file(&copy).unwrap();
    fs::copy(&program, &copy).unwrap();
    assert!(said(&copy).contains("has mapped another file that was"), "{}", said(&copy));
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_told() {
    let program = c("forever.c", FLAGS);
    let folder = tempfile::tempdir().unwrap();
    let copy = programs::private_copy(&program, folder.path());
    let running = programs::run(&copy, &[]);
    let event = format!("uprobe:{}:churn", text(&copy));
    let file = folder.path().join("x.pb.gz");
    let recording = rprof()
        .args(["record", "-e", &event, "-p", &running.pid().to_string(), "--duration", "1s", "-o", text(&file)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    let other = folder.path().join("new");
    fs::copy(&program, &other).unwrap();
    fs::rename(&other, &copy).unwrap();
    let done = recording.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(said.matches("was replaced or removed while").count(), 1, "{said}");
    assert!(encode::read_file(&file).unwrap().total(0) > 0, "the old file's calls are counted");
}
