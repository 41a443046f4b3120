//! Reads what a real `perf record` wrote in its modes, and compares with what perf itself says of it; and in the other byte order.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::perf::{Recorded, chain, is_sound};
use common::programs;
use common::recording::rprof;
use rprof::record::perf_data::PerfData;

/// The kinds of records that are counted, as `perf report --stats` names them.
const KINDS: [(&str, u32); 8] = [
    ("MMAP", 1),
    ("LOST", 2),
    ("COMM", 3),
    ("EXIT", 4),
    ("FORK", 7),
    ("SAMPLE", 9),
    ("MMAP2", 10),
    ("LOST_SAMPLES", 13),
];

fn output(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn perf_script(file: &Path) -> String {
    output(Command::new("perf").args(["script", "--no-inline", "-i"]).arg(file))
}

fn our_script(file: &Path) -> String {
    output(rprof().args(["script", "--no-inline"]).arg(file))
}

/// Counts of records by perf.
fn counts_of_perf(file: &Path) -> BTreeMap<String, u64> {
    counts_of_all(&output(Command::new("perf").args(["report", "--stats", "-i"]).arg(file)))
}

/// The part of such an answer that is of all events.
fn counts_of_all(text: &str) -> BTreeMap<String, u64> {
    let of_all = text.split("Aggregated stats:").nth(1).unwrap();
    let of_all = of_all.split(" stats:").next().unwrap();
    let row = |line: &str| {
        let (name, number) = line.trim().split_once(" events:")?;
        Some((name.trim().to_owned(), number.split_whitespace().next()?.parse().ok()?))
    };
    of_all.lines().filter_map(row).collect()
}

fn counts_of_ours(file: &Path) -> PerfData {
    let mut data = PerfData::open(file).unwrap();
    data.read(&mut |_, _| {}).unwrap();
    data
}

/// Stacks with how often each was met: the thread's name, then frames, leaf first, each its name and file. Names of others' code may be
/// any of those that its symbol table has for an address, so there the file alone counts.
fn stacks(script: &str, program: &str) -> BTreeMap<Vec<String>, u64> {
    let mut stacks = BTreeMap::new();
    for block in script.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty()) {
        let mut lines = block.lines();
        let comm = lines.next().unwrap().split_whitespace().next().unwrap().to_owned();
        let frames = lines.map(|line| {
            let (place, file) = line.trim().rsplit_once(" (").unwrap_or_else(|| panic!("{line:?}"));
            let name = place.split_once(' ').unwrap().1;
            let name = name.rsplit_once("+0x").map_or(name, |(name, _)| name);
            let own = file.trim_end_matches(')').ends_with(program);
            // perf finds the names of the vDSO on some machines only.
            let known = name != "[unknown]" || file == "[vdso])";
            if own || !known { format!("{name} {file}") } else { file.to_owned() }
        });
        *stacks.entry(std::iter::once(comm).chain(frames).collect()).or_insert(0) += 1;
    }
    stacks
}

#[test]
fn records_are_as_many_as_perf_says() {
    let modes: [&[&str]; 9] = [
        &[],
        &["-g"],
        &["--call-graph", "dwarf,16384"],
        &["-a", "-g"],
        &["-e", "cpu-clock", "-e", "page-faults", "-g"],
        &["-e", "cpu-clock,sched:sched_switch", "-a"],
        &["--per-thread", "-g"],
        &["-m", "16", "-F", "20000", "--call-graph", "dwarf,16384"],
        &["-z", "-g"],
    ];
    for mode in modes {
        let recorded = Recorded::of_chain(mode);
        let theirs = counts_of_perf(&recorded.file);
        let data = counts_of_ours(&recorded.file);
        for (name, kind) in KINDS {
            assert_eq!(data.counts().of(kind), theirs.get(name).copied().unwrap_or(0), "{name} of {mode:?}");
        }
        assert!(data.counts().of(9) > 0, "{mode:?} has samples");
        let counts = data.counts();
        assert_eq!((counts.bad, counts.late, counts.cut, counts.damaged), (0, 0, false, false), "{mode:?}");
    }
}

#[test]
fn pipes_and_directories_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipe");
    let record = || {
        let mut perf = Command::new("perf");
        perf.args(["record", "-q", "-g", "-o", "-", "--"]).arg(chain()).arg("0.2");
        is_sound(perf.stdout(fs::File::create(&file).unwrap()), &file)
    };
    assert!((0..100).any(|_| record()), "perf writes a pipe");
    let theirs = counts_of_perf(&file);
    let data = counts_of_ours(&file);
    assert_eq!((data.counts().of(9), data.counts().of(3)), (theirs["SAMPLE"], theirs["COMM"]));
    assert_eq!(stacks(&our_script(&file), "chain").values().sum::<u64>(), theirs["SAMPLE"]);
    let by_pipe = rprof().args(["report", "-"]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&by_pipe.stdout).contains("leaf"), "{by_pipe:?}");

    let recorded = Recorded::of_chain(&["-g"]);
    let redirected = rprof().args(["report", "-"]).stdin(fs::File::open(&recorded.file).unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&redirected.stdout).contains("leaf"), "{redirected:?}");

    let directory = Recorded::new(&["--threads", "-a", "-g"], &[chain().to_str().unwrap(), "0.2"]);
    assert!(directory.file.is_dir());
    let theirs = counts_of_perf(&directory.file);
    let data = counts_of_ours(&directory.file);
    assert_eq!((data.counts().of(9), data.counts().late), (theirs["SAMPLE"], 0));
}

#[test]
fn stacks_that_the_kernel_walked_are_those_of_perf() {
    for mode in [&["-g"][..], &["-g", "-e", "cpu-clock:u"], &["-g", "-z"], &["-g", "--per-thread"]] {
        let recorded = Recorded::of_chain(mode);
        let (theirs, ours) = (perf_script(&recorded.file), our_script(&recorded.file));
        assert_eq!(stacks(&ours, "chain"), stacks(&theirs, "chain"), "{mode:?}");
        assert!(stacks(&ours, "chain").keys().any(|stack| stack.len() > 4), "{ours}");
    }
}

#[test]
fn stacks_that_we_unwind_are_as_deep_as_those_of_perf() {
    let program = programs::c("chain.c", &["-O2", "-fomit-frame-pointer"]);
    let recorded = Recorded::new(&["--call-graph", "dwarf"], &[program.to_str().unwrap(), "0.3"]);
    let depths = |script: &str| -> Vec<usize> {
        let blocks = script.split("\n\n").filter(|block| !block.trim().is_empty());
        blocks.map(|block| block.lines().filter(|line| line.starts_with('\t')).count()).collect()
    };
    let (theirs, ours) = (depths(&perf_script(&recorded.file)), depths(&our_script(&recorded.file)));
    assert_eq!(theirs.len(), ours.len());
    let shallower = theirs.iter().zip(&ours).filter(|(theirs, ours)| ours < theirs).count();
    assert_eq!(shallower, 0, "{theirs:?} {ours:?}");
    let report = output(rprof().args(["report", "--tree"]).arg(&recorded.file));
    assert!(report.contains("leaf") && report.contains("complete stacks 100.0 %"), "{report}");
}

#[test]
fn a_part_of_the_time_and_of_the_threads_is_shown() {
    let recorded = Recorded::of_chain(&["-g"]);
    let count = |options: &[&str]| {
        let text = output(rprof().arg("script").args(options).arg(&recorded.file));
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('\t')).count()
    };
    let all = count(&[]);
    let theirs = output(Command::new("perf").args(["script", "-G", "--time", "10%-20%", "-i"]).arg(&recorded.file));
    let theirs = theirs.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(count(&["--time", "10%-20%"]), theirs);
    assert_eq!(count(&["--comm", "nobody"]), 0);
    assert_eq!((count(&["--time", "0,"]), count(&["--time", ",1"])), (all, 0));
    let header = output(rprof().args(["script", "--header-only"]).arg(&recorded.file));
    assert!(header.contains("# cmdline : ") && header.contains("# event : name = cpu"), "{header}");
    let fields = output(rprof().args(["script", "-F", "comm,pid,tid,time,event,ip,sym,dso"]).arg(&recorded.file));
    assert!(fields.starts_with("chain") || fields.starts_with("perf-exec"), "{fields}");
    let refused = rprof().args(["script", "-F", "nonsense"]).arg(&recorded.file).output().unwrap();
    assert_eq!(refused.status.code(), Some(129));
}

#[test]
fn a_recording_becomes_every_format() {
    let recorded = Recorded::of_chain(&["-g"]);
    let samples = counts_of_ours(&recorded.file).counts().of(9);
    let to = |name: &str, options: &[&str]| {
        let path = recorded.folder.path().join(name);
        output(rprof().arg("convert").args(options).arg(&recorded.file).arg(&path));
        fs::read(path).unwrap()
    };
    let folded = String::from_utf8(to("x.folded", &[])).unwrap();
    let sum: u64 = folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert_eq!(sum, samples);
    assert!(String::from_utf8(to("x.svg", &[])).unwrap().contains("leaf"));
    let speedscope: serde_json::Value =
        serde_json::from_slice(&to("x.speedscope.json", &["--value", "samples"])).unwrap();
    let profile = &speedscope["profiles"][0];
    assert_eq!(profile["samples"].as_array().unwrap().len(), profile["weights"].as_array().unwrap().len());
    let profiles = speedscope["profiles"].as_array().unwrap();
    assert_eq!(profiles.iter().map(|profile| profile["endValue"].as_u64().unwrap()).sum::<u64>(), samples);
    let firefox: serde_json::Value = serde_json::from_slice(&to("x.json", &[])).unwrap();
    let thread = &firefox["threads"][0]["samples"];
    let times: Vec<f64> = thread["time"].as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] >= 0.0 && times[times.len() - 1] > 100.0, "{times:?}");
    let shared = &firefox["shared"];
    for table in ["frameTable", "funcTable", "stackTable", "resourceTable", "sources"] {
        let rows = shared[table]["length"].as_u64().unwrap() as usize;
        for (name, column) in shared[table].as_object().unwrap().iter().filter(|(name, _)| *name != "length") {
            assert_eq!(column.as_array().unwrap().len(), rows, "{table}.{name}");
        }
    }
    let pprof = recorded.folder.path().join("x.pb.gz");
    to("x.pb.gz", &[]);
    let top = output(Command::new("go").args(["tool", "pprof", "-top"]).arg(&pprof));
    assert!(top.contains("leaf"), "{top}");
}

#[test]
fn what_a_killed_perf_left_is_read() {
    let recorded = Recorded::of_chain(&["-g"]);
    let mut bytes = fs::read(&recorded.file).unwrap();
    let whole = counts_of_ours(&recorded.file).counts().of(9);
    // The size of the data, which perf writes last; and its features, which it then has not written.
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let end = word(40) + word(48);
    bytes[48..56].fill(0);
    bytes[72..104].fill(0);
    bytes.truncate(end - 3);
    let killed = recorded.with("killed", &bytes);
    let data = counts_of_ours(&killed);
    assert!(data.counts().unterminated && data.counts().cut);
    assert!(whole - data.counts().of(9) <= 1);
    let out = rprof().arg("report").arg(&killed).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("was not closed"), "{said}");
    assert!(String::from_utf8_lossy(&out.stdout).contains("leaf"));
}

#[test]
fn reports_take_the_words_of_perf() {
    let recorded = Recorded::of_chain(&["-g"]);
    let report = |options: &[&str]| output(rprof().args(["report", "-i"]).arg(&recorded.file).args(options));
    let shares = |text: &str| -> Vec<(String, String)> {
        let rows = text.lines().filter(|line| !line.starts_with('#') && line.contains('%'));
        rows.map(|row| row.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row[0] != "0.00%" && row.last() == Some(&"leaf"))
            .map(|row| (row[0].to_owned(), row[row.len() - 1].to_owned()))
            .collect()
    };
    let mut perf = Command::new("perf");
    perf.args(["report", "--stdio", "--no-children", "-g", "none", "-i"]).arg(&recorded.file);
    let theirs = output(&mut perf);
    let ours = report(&["--stdio", "--no-children", "-g", "none"]);
    assert_eq!(shares(&ours), shares(&theirs), "{ours}\n{theirs}");
    assert!(ours.contains("# Overhead  Command  Shared Object"), "{ours}");
    let keys = report(&["--sort", "comm,dso", "--no-children"]);
    assert!(keys.lines().any(|line| line.ends_with("chain    chain")), "{keys}");
    assert!(report(&["-g", "caller", "--children"]).contains("---main\n"), "{}", report(&["-g", "caller"]));
    assert!(!report(&["--stdio", "--comm", "nobody"]).contains('%'));
    assert!(!report(&["--dso", "[kernel.kallsyms]", "--stdio", "--no-children"]).contains("leaf"));
    let annotated = output(rprof().args(["annotate", "leaf", "-i"]).arg(&recorded.file));
    assert!(annotated.contains("burn.h:"), "{annotated}");
    assert!(annotated.contains("imul"), "{annotated}");
    let refused = rprof().args(["annotate", "no_such_function", "-i"]).arg(&recorded.file).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no sample was taken in no_such_function"));
}

/// What perf and we print with the same options: the words of each row whose function is the program's own, which both name alike.
fn rows(recorded: &Recorded, options: &[&str]) -> [Vec<Vec<String>>; 2] {
    let of = |command: &mut Command| {
        let text = output(command.args(["report", "--stdio", "-g", "none", "-i"]).arg(&recorded.file).args(options));
        let rows = text.lines().filter(|line| !line.starts_with('#') && (line.contains("leaf") || line.contains(':')));
        rows.map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
    };
    [of(&mut Command::new("perf")), of(&mut rprof())]
}

#[test]
fn reports_have_the_columns_of_perf() {
    let recorded = Recorded::of_chain(&["-g"]);
    let report = |options: &[&str]| output(rprof().args(["report", "-i"]).arg(&recorded.file).args(options));
    for options in [
        &["-n", "--no-children"][..],
        &["-F", "overhead,sample,sym"],
        &["-F", "sym,overhead"],
        &["-F", "overhead,dso", "-s", "sym"],
        &["--sort", "overhead,sym", "--no-children"],
        &["--sort", "sample,sym", "--no-children"],
        &["--dso", "chain", "--no-children"],
        &["--dso", "chain", "--no-children", "--percentage", "relative"],
        &["--comm", "chain", "--no-children", "--sort", "comm,sym"],
        &["--percent-limit", "50", "--no-children"],
    ] {
        let [theirs, ours] = rows(&recorded, options);
        assert_eq!(ours, theirs, "{options:?}");
        assert!(!ours.is_empty(), "{options:?}");
    }
    let counted = report(&["--stdio", "-n", "--no-children"]);
    assert!(counted.contains("# Overhead       Samples  Command"), "{counted}");
    assert!(!report(&["-n", "1"]).contains("Overhead"), "a number is how many functions are shown");
    let both = report(&["-F", "overhead_children,overhead,sym"]);
    assert!(both.contains("# Children  Overhead  Symbol"), "{both}");
    let [theirs, ours] = rows(&recorded, &["--sort", "pid", "--no-children"]);
    assert!(ours.iter().any(|row| row.last() == theirs[0].last()), "{ours:?} {theirs:?}");
    assert!(report(&["--sort", "pid"]).contains("      Pid:Command"), "{}", report(&["--sort", "pid"]));
    let of_file = report(&["--stdio", "--dso", "chain", "--no-children"]);
    let all = report(&["--stdio", "--no-children"]);
    let samples = |text: &str| text.lines().find(|line| line.starts_with("# Samples: ")).unwrap().to_owned();
    assert!(of_file.starts_with("# dso: chain\n#\n"), "{of_file}");
    assert_eq!(samples(&of_file), samples(&all), "the whole recording's");
    let separated = report(&["--no-children", "-t", ","]);
    assert!(separated.contains("# Overhead,Command,Shared Object,Symbol\n"), "{separated}");
    assert!(separated.lines().any(|line| line.ends_with("%,chain,chain,[.] leaf")), "{separated}");
    let large = report(&["--percent-limit", "50", "--no-children", "--sort", "sym"]);
    assert_eq!(large.lines().filter(|line| line.contains('%')).count(), 1, "{large}");
}

#[test]
fn reports_take_what_perf_draws_by() {
    let recorded = Recorded::of_chain(&["-g"]);
    let report = |options: &[&str]| output(rprof().args(["report", "-i"]).arg(&recorded.file).args(options));
    assert_eq!(report(&["-G"]), report(&["-g", "caller"]));
    assert!(report(&["-g", "callee"]) != report(&["-g", "callee", "-G"]));
    assert!(report(&["-g", "graph,0.5,callee", "--no-children", "--no-inline"]).contains("---leaf\n"));
    assert!(!report(&["-g", "graph,100,caller"]).contains("%--"));
    // It has a sample of its own now and then.
    assert!(!report(&["--children", "--max-stack", "1", "--percent-limit", "5"]).contains("main"));
    assert!(report(&["--children", "--percent-limit", "5"]).contains("main"));
    let inlined = [report(&["--tree"]), report(&["--tree", "--no-inline"])];
    assert!(inlined[0].contains("spin") && !inlined[1].contains("spin"), "{inlined:?}");
    let quiet = ["-q", "-v", "--tui", "--stdio2", "--stdio-color", "never", "--demangle", "--inline"];
    assert!(report(&quiet).contains("leaf") && !report(&quiet).contains('#'), "{}", report(&quiet));
    assert!(!report(&["--stdio", "-q"]).contains('#'));
    for wrong in [&["-g", "folded"][..], &["-g", "fractal,caller"], &["-F", "overhead,nonsense"], &["-t", "."]] {
        let refused = rprof().args(["report", "-i"]).arg(&recorded.file).args(wrong).output().unwrap();
        assert_eq!(refused.status.code(), Some(129), "{wrong:?}");
    }
}

#[test]
fn reports_tell_of_the_file_itself() {
    let recorded = Recorded::of_chain(&["-g"]);
    let ours =
        |command: &str, options: &[&str]| output(rprof().args([command, "-i"]).arg(&recorded.file).args(options));
    let header = ours("report", &["--header-only"]);
    assert_eq!(header, ours("script", &["--header-only"]));
    assert!(header.contains("# cmdline : "), "{header}");
    let both = ours("report", &["--header"]);
    assert!(both.starts_with(&header) && both.contains("leaf"), "{both}");
    let stats = ours("report", &["--stats"]);
    let theirs = output(Command::new("perf").args(["report", "--stats", "-i"]).arg(&recorded.file));
    for (name, _) in KINDS {
        assert_eq!(counts_of_all(&stats).get(name), counts_of_all(&theirs).get(name), "{name}");
    }
    let of_event = |text: &str| text.trim_end().lines().rev().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of_event(&stats), of_event(&theirs));
    let profile = recorded.folder.path().join("x.pb.gz");
    output(rprof().arg("convert").arg(&recorded.file).arg(&profile));
    for option in ["--header", "--header-only", "--stats"] {
        let refused = rprof().args(["report", option, "-i"]).arg(&profile).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(&format!("{option} is for recordings")), "{said}");
    }
}

#[test]
fn profiles_are_printed_as_recordings_are() {
    let recorded = Recorded::of_chain(&["-g"]);
    let script = |file: &Path, options: &[&str]| output(rprof().arg("script").args(options).arg(file));
    let convert = |name: &str, options: &[&str]| {
        let path = recorded.folder.path().join(name);
        output(rprof().arg("convert").args(options).arg(&recorded.file).arg(&path));
        path
    };
    let heads = |text: &str| -> Vec<String> {
        let heads = text.lines().filter(|line| line.ends_with(": ") && !line.starts_with('\t'));
        heads.map(str::to_owned).collect()
    };
    let sum = |text: &str| -> u64 {
        heads(text).iter().map(|head| head.split_whitespace().rev().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    };
    let profile = convert("x.pb.gz", &[]);
    let (of_recording, of_profile) = (script(&recorded.file, &[]), script(&profile, &[]));
    assert_eq!(sum(&of_profile), sum(&of_recording), "{of_profile}");
    assert!(heads(&of_profile).len() < heads(&of_recording).len(), "equal samples are one");
    let lines = |text: &str| -> Vec<String> {
        let own = text.lines().filter(|line| line.starts_with('\t') && line.ends_with("/chain)"));
        // What has no name is told by its place in a profile.
        let named = own.filter(|line| !line.contains(" [unknown] ") && !line.contains("+0x"));
        let mut lines: Vec<String> = named.map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    assert_eq!(lines(&of_profile), lines(&of_recording));
    assert!(of_profile.contains(" spin (inlined)\n"), "{of_profile}");
    assert!(!script(&profile, &["--no-inline"]).contains("(inlined)"));
    assert_eq!(script(&profile, &["--comm", "nobody"]), "");
    assert!(script(&profile, &["--dso", "chain$"]).contains(" leaf ("));
    assert!(!script(&profile, &["--dso", "kernel", "-G"]).contains(" spin "));
    let timed = script(&convert("timed.pb.gz", &["--timestamps"]), &["-F", "comm,time"]);
    let head = regex::Regex::new(r"^\S+ +\d+\.\d{6}: $").unwrap();
    assert!(timed.lines().filter(|line| !line.is_empty()).all(|line| head.is_match(line)), "{timed}");
    assert_eq!(timed.lines().filter(|line| !line.is_empty()).count(), heads(&of_recording).len());
    let folded = script(&convert("x.folded", &[]), &[]);
    assert!(folded.contains(" leaf ([unknown])\n"), "{folded}");
    let refused = rprof().args(["script", "--time", "10%-20%"]).arg(&profile).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--time is for recordings"));
}

#[test]
fn scripts_and_annotations_take_more_words_of_perf() {
    let recorded = Recorded::of_chain(&["-g"]);
    let ours = |words: &[&str]| output(rprof().args(words).arg("-i").arg(&recorded.file));
    assert_eq!(ours(&["script", "-F", "comm,tid", "-F", "ip,sym"]), ours(&["script", "-F", "ip,sym"]));
    assert_eq!(ours(&["script", "-F", "+addr,-period", "-F", "+misc"]), ours(&["script", "-F", "-period"]));
    assert_eq!(ours(&["script", "-q", "-v", "--demangle", "--inline"]), ours(&["script"]));
    let plain = ours(&["annotate", "leaf"]);
    assert_eq!(ours(&["annotate", "-s", "leaf", "-l", "--stdio2", "-q"]), plain);
    assert_eq!(ours(&["annotate", "-d", "chain"]), plain);
    let refused = rprof().args(["annotate", "leaf", "-d", "libc.so.6", "-i"]).arg(&recorded.file).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no sample was taken in leaf itself in libc.so.6"), "{said}");
    let two = rprof().args(["annotate", "leaf", "-s", "main", "-i"]).arg(&recorded.file).output().unwrap();
    assert_eq!(two.status.code(), Some(129));
    let mut piped = rprof();
    piped.args(["annotate", "leaf"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    let profile = recorded.folder.path().join("x.pb.gz");
    output(rprof().arg("convert").arg(&recorded.file).arg(&profile));
    std::io::Write::write_all(&mut piped.stdin.take().unwrap(), &fs::read(profile).unwrap()).unwrap();
    assert_eq!(String::from_utf8_lossy(&piped.wait_with_output().unwrap().stdout), plain);
}

/// Turns the words of a file of the plain callchain mode into the other byte order.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let mut swap = |at: usize, size: usize| out[at..at + size].reverse();
    (0..13).for_each(|number| swap(8 * number, 8));
    let (attr_size, attrs, attrs_size) = (word(16), word(24), word(32));
    for attr in (attrs..attrs + attrs_size).step_by(attr_size) {
        let ids = attr + attr_size - 16;
        (0..word(ids + 8) / 8).for_each(|id| swap(word(ids) + 8 * id, 8));
        [0, 4, 48, 52, 88, 92, 104, 112].iter().for_each(|field| swap(attr + field, 4));
        [8, 16, 24, 32, 56, 64, 72, 80, 96, 120].iter().for_each(|field| swap(attr + field, 8));
        [ids, ids + 8].iter().for_each(|field| swap(*field, 8));
    }
    let (mut at, end) = (word(40), word(40) + word(48));
    while at < end {
        let half = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let size = usize::from(u16::from_ne_bytes(bytes[at + 6..at + 8].try_into().unwrap()));
        let build_id = bytes[at + 5] & 0x40 != 0;
        [(at, 4), (at + 4, 2), (at + 6, 2)].iter().for_each(|&(at, size)| swap(at, size));
        let (halves, words): (Vec<usize>, Vec<usize>) = match half(at) {
            // ip, pid and tid, time, period, callchain
            9 => (vec![16, 20], [8].into_iter().chain((24..size).step_by(8)).collect()),
            1 => (vec![8, 12], vec![16, 24, 32]),
            10 if build_id => (vec![8, 12, 64, 68], vec![16, 24, 32]),
            10 => (vec![8, 12, 40, 44, 64, 68], vec![16, 24, 32, 48, 56]),
            3 => (vec![8, 12], vec![]),
            4 | 7 => (vec![8, 12, 16, 20], vec![24]),
            _ => (vec![], vec![]),
        };
        halves.iter().for_each(|field| swap(at + field, 4));
        words.iter().for_each(|field| swap(at + field, 8));
        if half(at) < 64 && half(at) != 9 {
            // The common end of other records: pid and tid, time.
            [(16, 4), (12, 4), (8, 8)].iter().for_each(|&(back, width)| swap(at + size - back, width));
        }
        at += size;
    }
    // Flags are bits of bytes.
    for attr in (attrs..attrs + attrs_size).step_by(attr_size) {
        out[attr + 40..attr + 48].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }
    // The features are not turned: none.
    out[72..104].fill(0);
    out[..8].reverse();
    out[..8].copy_from_slice(b"2ELIFREP");
    out
}

#[test]
fn the_other_byte_order_gives_the_same() {
    let recorded = Recorded::of_chain(&["-g"]);
    let bytes = fs::read(&recorded.file).unwrap();
    let other = recorded.with("other", &swapped(&bytes));
    let (mine, theirs) = (our_script(&recorded.file), our_script(&other));
    // Names of events are a feature, and perf has modifiers in them that differ from machine to machine.
    let modifiers = regex::Regex::new(r"cpu-clock(:\w+)?:").unwrap();
    let normal = |script: &str| modifiers.replace_all(script, "cpu-clock:").replace(' ', "");
    assert_eq!(normal(&theirs), normal(&mine));
    assert!(mine.contains("leaf"));
}

#[test]
fn branch_stacks_are_those_that_perf_prints() {
    // A pipe with one event, whose samples hold: instruction, task, time, branches.
    let mut bytes = [&b"PERFILE2"[..], &16_u64.to_ne_bytes()].concat();
    let mut record = |kind: u32, misc: u16, words: &[u64]| {
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([misc, 8 + 8 * words.len() as u16].iter().flat_map(|half| half.to_ne_bytes()));
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    };
    const ANY: u64 = 1 << 3;
    let mut attr = [0_u64; 16];
    (attr[0], attr[2], attr[3], attr[5], attr[9]) = (128 << 32, 1000, 0b111 | 1 << 11, 1 << 18, ANY);
    record(64, 0, &[&attr[..], &[7]].concat());
    let task = 42 | 42 << 32;
    record(3, 0, &[task, u64::from_ne_bytes(*b"prog\0\0\0\0"), task, 1]);
    let predicted = [0x1000, 0x2000, 1 << 1 | 300 << 4];
    let mispredicted = [0x2010, 0x3000, 1 | 1 << 2];
    let unknown = [0x3010, 0x4000, 1 << 3];
    record(9, 2, &[&[0x1234, task, 1_500_000_000, 3][..], &predicted, &mispredicted, &unknown].concat());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("branches.data");
    fs::write(&file, bytes).unwrap();
    let theirs = output(Command::new("perf").args(["script", "-F", "comm,tid,time,brstack", "-i"]).arg(&file));
    let ours = output(rprof().args(["script", "-F", "comm,tid,time,brstack"]).arg(&file));
    // Later ones of perf tell more behind these six.
    let branches = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter(|word| word.starts_with("0x"));
        words.map(|word| word.split('/').take(6).collect::<Vec<_>>().join("/")).collect()
    };
    assert_eq!(branches(&ours), branches(&theirs));
    assert_eq!(branches(&ours), ["0x1000/0x2000/P/-/-/300", "0x2010/0x3000/M/X/-/0", "0x3010/0x4000/-/-/A/0"]);
    let report = output(rprof().args(["report"]).arg(&file));
    assert!(report.contains("1 samples came with branch stacks"), "{report}");
}

#[test]
fn members_of_a_group_are_sampled_with_their_leader() {
    for options in [&["-g"][..], &["-a"]] {
        let mode = [options, &["-e", "{cpu-clock,page-faults}:S"]].concat();
        let fault = "i = 0\nwhile i < 300: i += 1; bytearray(1 << 20)";
        let recorded = Recorded::new(&mode, &["python3", "-c", fault]);
        let fields = ["script", "-F", "tid,time,event,period", "-G", "-i"];
        let events = |script: String| -> Vec<String> {
            let words = script.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            words.filter(|line| line.contains(": ")).collect()
        };
        let theirs = events(output(Command::new("perf").args(fields).arg(&recorded.file)));
        let ours = events(output(rprof().args(fields).arg(&recorded.file)));
        assert_eq!(ours, theirs, "{mode:?}");
        let faults = ours.iter().filter(|line| line.contains("page-faults")).count();
        assert!((10..ours.len() / 2 + 1).contains(&faults), "{faults} of {}", ours.len());
    }
}
