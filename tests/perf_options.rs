//! docs/perf-options.md: each option of perf's is run and does what its row says. Needs root and tracefs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::recording::{rprof, text};
use rprof::cli::perf::PERF_OPTIONS;

/// A row of the table.
#[derive(Clone, Debug)]
struct Row {
    option: String,
    word: String,
    example: String,
}

fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/perf-options.md");
    let page = fs::read_to_string(page).unwrap().replace("\\|", "¦");
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('¦', "|")).collect();
        let code = |cell: &String| cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).map(str::to_owned);
        let word = ["done", "accepted", "says", "refused"].contains(&cells.get(2)?.as_str());
        (cells.len() == 6 && word).then(|| Row {
            option: code(&cells[1]).unwrap(),
            word: cells[2].clone(),
            example: code(&cells[4]).unwrap(),
        })
    };
    page.lines().filter_map(row).collect()
}

/// The long names of a row.
fn long(row: &Row) -> Option<String> {
    let word = row.option.split([' ', ',']).find(|word| word.starts_with("--"))?;
    let name = word.split(['[', '=']).next()?;
    Some(name.trim_start_matches('-').to_owned())
}

#[test]
fn the_table_has_every_option() {
    let named: BTreeSet<String> = rows().iter().filter_map(long).collect();
    for option in PERF_OPTIONS {
        assert!(named.contains(option.long), "--{} is not in docs/perf-options.md", option.long);
    }
    // What is in the table and not among those is shown by help, or another name of an option.
    let help = rprof().args(["record", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for name in named.iter().filter(|name| !PERF_OPTIONS.iter().any(|option| option.long == name.as_str())) {
        let others = ["latency", "per-thread"];
        assert!(help.contains(&format!("--{name}")) || others.contains(&name.as_str()), "--{name} is unknown");
    }
}

/// A folder with what the examples name.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&folder.path().join("FIFO"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    folder
}

fn run(row: &Row) -> Output {
    let folder = place();
    let own = std::process::id().to_string();
    let example = row
        .example
        .replace("PID", &own)
        .replace("CGROUP", &cgroup())
        .replace("FIFO", text(&folder.path().join("FIFO")));
    let mut rprof = rprof();
    rprof.current_dir(&folder).arg("record").args(example.split(' ')).args(["--", "true"]);
    // A pipe on the standard output would be taken for a reader.
    rprof.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap()
}

/// A cgroup of this machine.
fn cgroup() -> String {
    let list = Command::new("cat").arg("/proc/self/cgroup").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let line = list.lines().find(|line| line.starts_with("0::") || line.contains("perf_event")).unwrap_or("0::/");
    let path = line.rsplit(':').next().unwrap().trim_start_matches('/');
    if path.is_empty() { ".".into() } else { path.into() }
}

fn check(row: &Row) {
    let output = run(row);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let long = long(row).unwrap_or_default();
    let mentioned =
        said.lines().filter(|line| line.contains(&format!("--{long}:")) || line.contains("rprof: -")).count();
    let status = output.status.code();
    match row.word.as_str() {
        "refused" => assert!(
            status == Some(129) && said.lines().count() == 1 && said.contains(&long) && said.contains("use"),
            "{row:?}: {status:?}: {said}"
        ),
        "says" => assert!(status == Some(0) && mentioned == 1, "{row:?}: {status:?}: {said}"),
        _ => assert!(status == Some(0) && mentioned == 0, "{row:?}: {status:?}: {said}"),
    }
}

#[test]
fn what_is_refused_names_what_to_use() {
    rows().iter().filter(|row| row.word == "refused").for_each(check);
}

#[test]
fn what_is_accepted_changes_nothing() {
    rows().iter().filter(|row| row.word == "accepted" || row.word == "says").for_each(check);
}

#[test]
fn what_is_done_works() {
    rows().iter().filter(|row| row.word == "done").for_each(check);
}
