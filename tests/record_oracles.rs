//! What others say of the same program: perf, the program's own clocks, and Go's pprof reading our file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;

use common::programs::{self, c, cpp, number};
use common::recording::{Recorded, record, start, text};

const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
const SHARES: [(&str, f64); 4] = [("one", 0.1), ("two", 0.2), ("three", 0.3), ("four", 0.4)];
const SECONDS: &str = "1";

/// Whether two shares of so many samples can be of the same thing: within four standard deviations of their difference, and half
/// a percent for what either program does beside.
fn agree(first: (u64, u64), second: (u64, u64)) -> bool {
    let share = |(part, all): (u64, u64)| part as f64 / all.max(1) as f64;
    let p = share((first.0 + second.0, first.1 + second.1));
    let sigma = (p * (1.0 - p) * (1.0 / first.1 as f64 + 1.0 / second.1 as f64)).sqrt();
    (share(first) - share(second)).abs() <= 4.0 * sigma + 0.005
}

/// The same for a share that is known.
fn is_share(part: u64, all: u64, truth: f64) -> bool {
    let sigma = (truth * (1.0 - truth) / all as f64).sqrt();
    (part as f64 / all as f64 - truth).abs() <= 4.0 * sigma + 0.005
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Samples of each function itself, as perf counts them. Some versions of perf smash their stack now and then, over build IDs.
fn perf(program: &Path, rate: &str) -> Vec<(String, u64)> {
    let mut faults = Vec::new();
    for _ in 0..5 {
        match perf_once(program, rate) {
            Ok(counts) => return counts,
            Err(fault) => faults.push(fault),
        }
    }
    panic!("perf did not work one time in five: {faults:#?}")
}

fn perf_once(program: &Path, rate: &str) -> Result<Vec<(String, u64)>, String> {
    let worked = |perf: &mut Command| {
        let output = perf.output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(output.stdout) } else { Err(format!("{perf:?}: {output:?}")) }
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-B", "-e", "cpu-clock", "-F", rate, "--call-graph", "dwarf,16384", "-o"]).arg(&data);
    worked(perf.arg(program).arg(SECONDS))?;
    let mut perf = Command::new("perf");
    perf.args(["report", "-q", "--no-children", "--no-inline", "-g", "none", "--stdio", "-F", "sample,symbol", "-i"]);
    let report = String::from_utf8_lossy(&worked(perf.arg(&data))?).into_owned();
    let row = |line: &str| {
        let (samples, symbol) = line.trim().split_once(char::is_whitespace)?;
        let symbol = symbol.trim().split_once("] ")?.1;
        Some((symbol.to_owned(), samples.parse().ok()?))
    };
    Ok(report.lines().filter_map(row).collect())
}

/// Samples in a function and below it.
fn below(recorded: &Recorded, function: &str) -> u64 {
    recorded.count(|stack| stack.has(function))
}

#[test]
fn perf_and_the_program_itself_agree_on_shares() {
    let program = c("shares.c", O2);
    let recorded = record(&["-F", "999"], &[text(&program), SECONDS]);
    let theirs = perf(&program, "999");
    let all: u64 = theirs.iter().map(|(_, samples)| samples).sum();
    assert!(all > 800 && recorded.samples() > 800, "{theirs:?}: {}", recorded.top());
    for (function, truth) in SHARES {
        let ours = below(&recorded, function);
        let perfs: u64 = theirs.iter().filter(|(name, _)| name == function).map(|(_, samples)| samples).sum();
        let message =
            || format!("{function}: {ours} of {}, perf {perfs} of {all}: {}", recorded.samples(), recorded.top());
        assert!(agree((ours, recorded.samples()), (perfs, all)), "{}", message());
        assert!(is_share(ours, recorded.samples(), truth), "{}", message());
    }
}

#[test]
fn perf_agrees_on_the_number_of_samples() {
    let program = c("shares.c", O2);
    let recorded = record(&["-F", "1999"], &[text(&program), SECONDS]);
    let theirs: u64 = perf(&program, "1999").iter().map(|(_, samples)| samples).sum();
    let ratio = recorded.samples() as f64 / theirs as f64;
    assert!((0.93..1.07).contains(&ratio), "{} and {theirs}: {}", recorded.samples(), recorded.top());
}

#[test]
fn a_program_that_measures_itself_agrees() {
    let program = programs::run(&c("split.c", O2), &["1"]);
    let recorded = record::<&str>(&["-F", "1999", "-p", &program.pid().to_string()], &[]);
    let (_, printed) = program.finish();
    let (heavy, light) = (number(&printed, "cpu_ns heavy"), number(&printed, "cpu_ns light"));
    let truth = heavy as f64 / (heavy + light) as f64;
    let [ours, other] = ["heavy", "light"].map(|name| below(&recorded, name));
    assert!(is_share(ours, ours + other, truth), "{truth}: {ours} and {other}: {}", recorded.top());
    // Weights are CPU time: all of it, but for what went by before the events were open.
    let weight: i64 = recorded.stacks.iter().map(|stack| stack.values[1]).sum();
    assert!((0.75..1.1).contains(&(weight as f64 / (heavy + light) as f64)), "{weight} ns: {}", recorded.top());
}

#[test]
fn go_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cpu.pb.gz");
    let program = cpp("inlines.cc", O2);
    let mut rprof = common::recording::rprof();
    let mut recording = rprof.args(["record", "-F", "1999", "-e", "cpu-clock,page-faults", "-o"]).arg(&file);
    recording = recording.arg("--").arg(&program).arg("0.4");
    run(recording);
    let profile = rprof::encode::read_file(&file).unwrap();
    let pprof = |options: &[&str]| run(Command::new("go").args(["tool", "pprof"]).args(options).arg(&file));
    for (column, name) in ["samples", "page_faults_samples"].into_iter().enumerate() {
        let top = pprof(&["-top", "-nodefraction=0", "-nodecount=100000", &format!("-sample_index={name}")]);
        // Showing nodes accounting for 802, 100% of 802 total
        let total = top.lines().find_map(|line| line.strip_suffix(" total")?.rsplit(' ').next()?.parse::<i128>().ok());
        assert_eq!(total, Some(profile.total(2 * column)), "{top}");
    }
    let top = pprof(&["-top", "-sample_index=cpu"]);
    let first = top.lines().skip_while(|line| !line.contains("flat%")).nth(1).unwrap();
    assert!(first.contains("five (inline)"), "{top}");
    let raw = pprof(&["-raw"]);
    for text in ["samples/count cpu/nanoseconds", "page_faults_samples/count", "Comment: stacks.root=", text(&program)]
    {
        assert!(raw.contains(text), "{text}: {raw}");
    }
    let mappings = raw.split("Mappings").nth(1).unwrap();
    assert!(
        mappings.lines().nth(1).is_some_and(|line| line.contains(text(&program)) && line.contains("[FN][FL][LN][IN]")),
        "{mappings}"
    );
}

#[test]
fn what_a_child_of_a_timer_costs_is_not_the_targets() {
    // The command beside `-p` is a timer, however much it computes.
    let target = programs::run(&c("chain.c", O2), &["0"]);
    let timer = c("split.c", O2);
    let recorded = start(&["-F", "999", "-p", &target.pid().to_string()], &[text(&timer), "0.3"]).finish();
    assert_eq!(recorded.count(|stack| stack.pid != target.pid()), 0, "{}", recorded.top());
}
