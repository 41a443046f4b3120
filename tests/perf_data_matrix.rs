//! Every kind of file that rprof writes as perf.data, opened by every reader that is known: the samples are as many as rprof says, and the
//! stacks are its own. Prints a table (`scripts/matrix`). Needs root, perf, hotspot-perfparser and tracefs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::perfparser;
use common::recording::{rprof, text};
use common::written::{
    CHAIN, Mount, chain, children, content, data_size, lasting, parsed, record, samples_of, try_counted, try_perf,
    wait_for_data,
};
use inferno::collapse::Collapse;
use linux_perf_data::{PerfFileReader, PerfFileRecord};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A file of one kind.
struct Kind {
    name: &'static str,
    folder: TempDir,
    file: PathBuf,
    /// The samples that rprof says are in it.
    samples: u64,
    event: &'static str,
    /// Functions that most stacks of the event have, root first.
    functions: &'static [&'static str],
    /// The least share of stacks that have them.
    share: f64,
}

/// What a reader finds: how many samples, where it tells.
type Found = Result<Option<u64>, String>;

/// A reader's name, and what it finds in a file.
type Reader = (&'static str, fn(&Kind) -> Found);

const READERS: [Reader; 15] = [
    ("report", |kind| printed(kind, &["report", "--stdio", "--no-inline"])),
    ("report --stats", |kind| try_counted(&kind.file).map(Some)),
    ("script", script),
    ("script --header", |kind| printed(kind, &["script", "--no-inline", "--header"])),
    ("script --time", |kind| printed(kind, &["script", "--no-inline", "--time", "10%-90%"])),
    ("annotate", annotate),
    ("diff", diff),
    ("inject -b", inject),
    ("buildid-list", |kind| printed(kind, &["buildid-list"])),
    ("evlist -v", |kind| printed(kind, &["evlist", "-v"])),
    ("data convert", json),
    ("linux-perf-data", linux_perf_data),
    ("inferno", inferno),
    ("perfparser", hotspot),
    ("rprof script", ours),
];

/// What a reader cannot do with a kind of file, whoever wrote it.
const CANNOT: [(&str, &str, &str); 5] = [
    ("annotate", "tracepoint", "the kernel's code is annotated by its debug information alone"),
    ("script --time", "pipe", "the times of the first and the last sample are told at the end of a file"),
    ("diff", "pipe", "perf 6.1 does not read its own pipes there either"),
    ("data convert", "pipe", "perf 6.1 does not read its own pipes there either"),
    ("perfparser", "-z", "hotspot of Debian 12 is built without zstd"),
];

fn printed(kind: &Kind, arguments: &[&str]) -> Found {
    let printed = try_perf(arguments, &kind.file)?;
    if printed.trim().is_empty() { Err(format!("perf {arguments:?} printed nothing")) } else { Ok(None) }
}

/// The share of stacks, each root first, that have the functions.
fn check(kind: &Kind, stacks: &[Vec<String>]) -> Found {
    let has = |stack: &&Vec<String>| {
        let mut rest = stack.iter();
        kind.functions.iter().all(|function| rest.any(|frame| frame == function))
    };
    let with = stacks.iter().filter(has).count();
    match with as f64 >= stacks.len() as f64 * kind.share && !stacks.is_empty() {
        true => Ok(Some(stacks.len() as u64)),
        false => Err(format!("{with} of {} stacks have {:?}: {:?}", stacks.len(), kind.functions, stacks.first())),
    }
}

/// The stacks of all events in a script, root first. Those of other events than the one that is looked at count as good.
fn stacks_of_script(kind: &Kind, script: &str) -> Vec<Vec<String>> {
    let blocks = script.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty());
    let stack = |block: &str| {
        let mut lines = block.lines();
        if !lines.next().unwrap_or_default().contains(&format!("{}:", kind.event)) {
            return kind.functions.iter().map(|function| (*function).to_owned()).collect();
        }
        let name = |line: &str| {
            let symbol = line.split_whitespace().nth(1).unwrap_or("?");
            symbol.split("+0x").next().unwrap_or(symbol).to_owned()
        };
        let mut stack: Vec<String> = lines.map(name).collect();
        stack.reverse();
        stack
    };
    blocks.map(stack).collect()
}

fn script(kind: &Kind) -> Found {
    check(kind, &stacks_of_script(kind, &try_perf(&["script", "--no-inline"], &kind.file)?))
}

fn ours(kind: &Kind) -> Found {
    let out = rprof().args(["script", "--no-inline"]).arg(&kind.file).output().unwrap();
    check(kind, &stacks_of_script(kind, &String::from_utf8_lossy(&out.stdout)))
}

fn annotate(kind: &Kind) -> Found {
    let leaf = kind.functions.last().unwrap();
    let text = try_perf(&["annotate", "--stdio", "-s", leaf], &kind.file)?;
    if text.contains("samples") { Ok(None) } else { Err(text) }
}

fn diff(kind: &Kind) -> Found {
    let file = text(&kind.file);
    let output = Command::new("perf").args(["diff", file, file]).stdin(Stdio::null()).output().unwrap();
    content(&["diff"], &output)?;
    let rows = String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count();
    if rows > 0 { Ok(None) } else { Err("no row".into()) }
}

fn inject(kind: &Kind) -> Found {
    if kind.name == "pipe" {
        // What perf makes of a pipe is a pipe.
        let script = format!("perf inject -b < {} | perf report --stats -i -", text(&kind.file));
        let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        return samples_of(&String::from_utf8_lossy(&output.stdout)).map(Some);
    }
    let injected = kind.folder.path().join("injected.data");
    try_perf(&["inject", "-b", "-o", text(&injected)], &kind.file)?;
    try_counted(&injected).map(Some)
}

fn json(kind: &Kind) -> Found {
    let json = kind.folder.path().join("data.json");
    try_perf(&["data", "convert", "--force", "--to-json", text(&json)], &kind.file)?;
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(&json).unwrap()).map_err(|error| error.to_string())?;
    let samples = json["samples"].as_array().ok_or("no samples")?;
    Ok(Some(samples.len() as u64))
}

fn linux_perf_data(kind: &Kind) -> Found {
    if kind.name != "pipe" {
        return Ok(Some(parsed(&kind.file)));
    }
    let reader = BufReader::new(fs::File::open(&kind.file).unwrap());
    let PerfFileReader { mut perf_file, mut record_iter } =
        PerfFileReader::parse_pipe(reader).map_err(|error| error.to_string())?;
    let mut samples = 0;
    while let Some(record) = record_iter.next_record(&mut perf_file).map_err(|error| error.to_string())? {
        if let PerfFileRecord::EventRecord { record, .. } = record {
            let is_sample = record.record_type == linux_perf_data::linux_perf_event_reader::RecordType::SAMPLE;
            samples += u64::from(is_sample);
        }
    }
    Ok(Some(samples))
}

/// Of several events, inferno takes the first that it meets, and of one it counts periods: so the share alone is looked at. The fields of
/// tracepoints it takes for a frame.
fn inferno(kind: &Kind) -> Found {
    let fields = if kind.name == "tracepoint" { &["-F", "comm,tid,cpu,time,event,ip,sym,dso"][..] } else { &[] };
    let printed = try_perf(&[&["script", "--no-inline"], fields].concat(), &kind.file)?;
    let mut options = inferno::collapse::perf::Options::default();
    // Names with a colon are no filter.
    options.event_filter = Some(kind.event.to_owned()).filter(|event| !event.contains(':'));
    let mut folded = Vec::new();
    let mut folder = inferno::collapse::perf::Folder::from(options);
    folder.collapse(printed.as_bytes(), &mut folded).map_err(|error| error.to_string())?;
    let folded = String::from_utf8(folded).unwrap();
    let (mut all, mut with) = (0.0, 0.0);
    for (stack, weight) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
        let weight: f64 = weight.parse().unwrap();
        let mut frames = stack.split(';');
        all += weight;
        with += if kind.functions.iter().all(|function| frames.any(|frame| frame == *function)) { weight } else { 0.0 };
    }
    if all > 0.0 && with >= all * kind.share { Ok(None) } else { Err(format!("{with} of {all}: {folded}")) }
}

/// It has no names of events beside the samples: the least share is that of all events.
fn hotspot(kind: &Kind) -> Found {
    // Its names of inlined calls begin with that of the function they are in.
    let outer = |name: String| name.split("::").next().unwrap_or_default().to_owned();
    let stacks = perfparser::stacks(&kind.file)?.into_iter();
    let stacks: Vec<Vec<String>> = stacks.map(|stack| stack.into_iter().map(outer).collect()).collect();
    let share = if kind.name == "two events" || kind.name == "off-CPU" { 0.3 } else { kind.share };
    check(&Kind { share, folder: tempfile::tempdir().unwrap(), file: kind.file.clone(), ..*kind }, &stacks)
}

/// Records a kind.
fn kind(name: &'static str, event: &'static str, options: &[&str], command: &[&str]) -> Kind {
    let recording = record(options, command);
    assert_eq!(recording.status, Some(0), "{name}: {}", recording.said);
    let (file, samples) = (recording.path(), recording.samples());
    Kind { name, folder: recording.folder, file, samples, event, functions: &CHAIN, share: 0.9 }
}

fn through_a_pipe() -> Kind {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("piped.data");
    let mut rprof = rprof();
    rprof.args(["record", "-F", "999", "-o", "-", "--"]).args([&chain(), "0.4"]);
    let output = rprof.stdout(Stdio::piped()).output().unwrap();
    fs::write(&file, &output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let samples = said.rsplit_once('(').unwrap().1.trim_end().strip_suffix(" samples) ]").unwrap().parse().unwrap();
    Kind { name: "pipe", folder, file, samples, event: "cpu-clock", functions: &CHAIN, share: 0.9 }
}

/// What is left of a recording that tells no number at its end: as many samples as linux-perf-data finds.
fn left(name: &'static str, folder: TempDir, file: &Path) -> Kind {
    let kept = folder.path().join("left.data");
    fs::copy(file, &kept).unwrap();
    let samples = parsed(&kept);
    assert!(samples > 300, "{name}: {samples} samples");
    Kind { name, folder, file: kept, samples, event: "cpu-clock", functions: &CHAIN, share: 0.9 }
}

fn killed() -> Kind {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("perf.data");
    let mut rprof = lasting(folder.path(), &["-F", "999"]);
    wait_for_data(&file, 60_000);
    let command = children(rprof.id());
    rprof.kill().unwrap();
    rprof.wait().unwrap();
    command.iter().for_each(|&pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
    left("killed", folder, &file)
}

fn full_disk() -> Kind {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::new(&folder.path().join("disk"), "128k");
    let output = lasting(&disk.0, &["-F", "4999"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", String::from_utf8_lossy(&output.stderr));
    let file = disk.0.join("perf.data");
    assert!(data_size(&file) > 100_000);
    left("full disk", folder, &file)
}

fn kinds() -> Vec<Kind> {
    let chain = chain();
    let burn = &[&*chain, "0.4"][..];
    let naps = format!("{chain} 0.4; sleep 0.2");
    let forty = "i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i + 1)); done";
    let clock = "cpu-clock";
    let mut kinds = vec![
        kind("plain", clock, &["-F", "999"], burn),
        kind("-g", clock, &["-g", "-F", "999"], burn),
        kind("dwarf", clock, &["--call-graph", "dwarf,16384", "-F", "999"], burn),
        kind("raw stacks", clock, &["--raw-stacks", "-F", "499"], burn),
        Kind { share: 0.02, ..kind("-a", clock, &["-a", "-F", "999"], burn) },
        Kind { share: 0.6, ..kind("off-CPU", clock, &["--off-cpu", "-F", "999"], &["sh", "-c", &naps]) },
        Kind { share: 0.8, ..kind("two events", clock, &["-e", "cpu-clock,page-faults", "-F", "999"], burn) },
        Kind {
            functions: &["do_exit"],
            ..kind("tracepoint", "sched:sched_process_exit", &["-e", "sched:sched_process_exit"], &["sh", "-c", forty])
        },
        kind("-z", clock, &["-z", "-F", "999"], burn),
        kind("--overwrite", clock, &["--overwrite", "-F", "999"], burn),
    ];
    kinds.extend([through_a_pipe(), killed(), full_disk()]);
    kinds
}

/// One cell: what to print, and what is wrong.
fn cell(reader: Reader, kind: &Kind) -> (String, Option<String>) {
    let (name, read) = reader;
    if CANNOT.iter().any(|&(of, with, _)| of == name && with == kind.name) {
        return ("-".into(), None);
    }
    let wrong = |why: String| ("FAILS".to_owned(), Some(format!("{name} of {}: {why}", kind.name)));
    match read(kind) {
        Ok(None) => ("yes".into(), None),
        Ok(Some(samples)) if samples == kind.samples => (samples.to_string(), None),
        Ok(Some(samples)) => wrong(format!("{samples} samples, and rprof wrote {}", kind.samples)),
        Err(why) => wrong(why),
    }
}

#[test]
fn every_reader_opens_every_kind_of_file() {
    let kinds = kinds();
    let mut failures = Vec::new();
    let mut table = format!("{:<16}", "");
    kinds.iter().for_each(|kind| table += &format!("{:>12}", kind.name));
    for reader in READERS {
        table += &format!("\n{:<16}", reader.0);
        for kind in &kinds {
            let (shown, failure) = cell(reader, kind);
            table += &format!("{shown:>12}");
            failures.extend(failure);
        }
    }
    println!("{table}\n\nA number: the samples that the reader found, as many as rprof wrote. -: see below.");
    CANNOT.iter().for_each(|(reader, kind, why)| println!("{reader}, {kind}: {why}"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
