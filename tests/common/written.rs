//! What rprof writes as perf.data, and what perf and others say of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use linux_perf_data::{PerfFileReader, PerfFileRecord};
use tempfile::TempDir;

use super::programs::c;
use super::recording::{rprof, text};

pub const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
/// The chain of tests/programs/chain.c, root first, as far as perf names it alike everywhere.
pub const CHAIN: [&str; 5] = ["_start", "main", "a", "b", "leaf"];

pub fn chain() -> String {
    text(&c("chain.c", O2)).to_owned()
}

/// A recording's file in a folder of its own.
pub struct Recording {
    pub folder: TempDir,
    /// What rprof said.
    pub said: String,
    pub status: Option<i32>,
}

impl Recording {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("perf.data")
    }

    /// The samples that rprof says it wrote: in the closing line as perf has it, and of each kind in its own summary.
    pub fn samples(&self) -> u64 {
        let line = |start: &str, part: &str| {
            let line = self.said.lines().filter_map(|line| line.strip_prefix(start)).find(|line| line.contains(part));
            line.unwrap_or_else(|| panic!("no line {start}... {part}: {}", self.said))
        };
        let (_, rest) = line("[ rprof record: ", "Captured and wrote ").rsplit_once('(').unwrap();
        let written = rest.strip_suffix(" samples) ]").unwrap().parse().unwrap();
        let summary = line("rprof: ", " samples in ");
        let of_kinds = summary.split("; ").map(|kind| kind.split_once(" samples ").unwrap().0);
        let taken: u64 = of_kinds.map(|number| number.parse::<u64>().unwrap()).sum();
        let dropped = self.said.lines().find_map(|line| line.strip_suffix(" older samples were dropped"));
        let dropped = dropped.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap());
        assert_eq!(taken, written + dropped, "{}", self.said);
        written
    }
}

/// Records into perf.data of a folder.
pub fn record(options: &[&str], command: &[&str]) -> Recording {
    let folder = tempfile::tempdir().unwrap();
    let mut rprof = rprof();
    rprof.current_dir(&folder).arg("record").args(options).arg("--").args(command).stdout(Stdio::null());
    // A pipe on the standard output would be taken for a reader.
    let output = rprof.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    Recording { folder, said, status: output.status.code() }
}

/// Runs perf on a file; it must be content.
pub fn perf(arguments: &[&str], file: &Path) -> String {
    try_perf(arguments, file).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs perf on a file; what it says if it is not content.
pub fn try_perf(arguments: &[&str], file: &Path) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("perf")
        .arg(arguments[0])
        .args(["-i", text(file)])
        .args(&arguments[1..])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .expect("run perf; see scripts/install-test-tools");
    content(arguments, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn content(arguments: &[&str], output: &Output) -> Result<(), String> {
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    if !output.status.success() {
        return Err(format!("perf {arguments:?}: {:?}: {said}", output.status));
    }
    let complaints =
        ["fail", "incompatible", "broken", "properly", "corrupt", "error", "out of order", "unsupported", "lost"];
    match complaints.iter().any(|complaint| said.contains(complaint)) {
        true => Err(format!("perf {arguments:?}: {said}")),
        false => Ok(()),
    }
}

/// The samples that perf counts in a file.
pub fn counted(file: &Path) -> u64 {
    try_counted(file).unwrap_or_else(|error| panic!("{error}"))
}

/// The same; what perf says if it is not content.
pub fn try_counted(file: &Path) -> Result<u64, String> {
    samples_of(&try_perf(&["report", "--stats"], file)?)
}

/// The samples in what `perf report --stats` prints.
pub fn samples_of(stats: &str) -> Result<u64, String> {
    let whole = stats.lines().find(|line| line.contains("SAMPLE events:")).ok_or_else(|| stats.to_owned())?;
    Ok(whole.split(':').nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap())
}

/// Stacks of an event in what `perf script` prints, root first, with how many samples have each.
pub fn stacks(file: &Path, event: &str) -> BTreeMap<Vec<String>, u64> {
    let printed = perf(&["script", "--no-inline", "-F", "comm,tid,time,event,ip,sym"], file);
    let mut stacks = BTreeMap::new();
    for sample in printed.split("\n\n").filter(|sample| !sample.trim().is_empty()) {
        let (head, frames) = sample.trim_start_matches('\n').split_once('\n').unwrap_or((sample, ""));
        if !head.trim_end().ends_with(&format!("{event}:")) {
            continue;
        }
        let name = |line: &str| line.split_whitespace().nth(1).unwrap_or("?").to_owned();
        let mut stack: Vec<String> = frames.lines().map(name).collect();
        stack.reverse();
        *stacks.entry(stack).or_default() += 1;
    }
    stacks
}

/// The share of stacks that have these functions, in this order.
pub fn share(stacks: &BTreeMap<Vec<String>, u64>, functions: &[&str]) -> f64 {
    let all: u64 = stacks.values().sum();
    let has = |stack: &Vec<String>| {
        let mut rest = stack.iter();
        functions.iter().all(|function| rest.any(|frame| frame == function))
    };
    let with: u64 = stacks.iter().filter(|(stack, _)| has(stack)).map(|(_, samples)| samples).sum();
    assert!(all > 0, "no stack at all");
    with as f64 / all as f64
}

/// The samples that another reader finds, each of an event that it knows.
pub fn parsed(file: &Path) -> u64 {
    let PerfFileReader { mut perf_file, mut record_iter } =
        PerfFileReader::parse_file(BufReader::new(File::open(file).unwrap())).unwrap();
    let mut samples = 0;
    while let Some(record) = record_iter.next_record(&mut perf_file).unwrap() {
        if let PerfFileRecord::EventRecord { record, .. } = record {
            let is_sample = record.record_type == linux_perf_data::linux_perf_event_reader::RecordType::SAMPLE;
            samples += u64::from(is_sample);
        }
    }
    samples
}

/// A recording that runs until somebody ends it.
pub fn lasting(folder: &Path, options: &[&str]) -> Child {
    let mut rprof = rprof();
    rprof.current_dir(folder).arg("record").args(options).arg("--").args([&chain(), "20"]);
    rprof.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Bytes of records that the header of a file tells of.
pub fn data_size(file: &Path) -> u64 {
    let mut size = [0; 8];
    let read = File::open(file).and_then(|file| file.read_exact_at(&mut size, 48));
    read.map_or(0, |()| u64::from_ne_bytes(size))
}

pub fn wait_for_data(file: &Path, bytes: u64) {
    while data_size(file) < bytes {
        sleep(Duration::from_millis(20));
    }
}

pub fn children(pid: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A small file system in memory.
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn new(place: &Path, size: &str) -> Mount {
        fs::create_dir(place).unwrap();
        let size = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(place)]).status().unwrap();
        assert!(status.success());
        Mount(place.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
