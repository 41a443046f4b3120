//! docs/perf-options.md: each option of perf's is run and does what its row says. Needs root and tracefs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::recording::{rprof, text};
use rprof::cli::perf::{PERF_OPTIONS, TAKEN_BACK};

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
    // What is in the table and not among those takes one back, is shown by help, or is another name of an option.
    let back: BTreeSet<&str> =
        PERF_OPTIONS.iter().map(|option| option.negation).chain(TAKEN_BACK.iter().map(|row| row.0)).collect();
    let help = rprof().args(["record", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for name in named.iter().filter(|name| !PERF_OPTIONS.iter().any(|option| option.long == name.as_str())) {
        let others = ["latency", "per-thread"];
        let known = others.contains(&name.as_str()) || back.contains(name.as_str());
        assert!(known || help.contains(&format!("--{name}")), "--{name} is unknown");
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

/// Runs a script in a folder of its own, where `perf` is rprof; what it prints.
fn by_the_name_of_perf(script: &str) -> Output {
    let folder = place();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rprof"), folder.path().join("perf")).unwrap();
    let path = format!("{}:{}", text(folder.path()), std::env::var("PATH").unwrap());
    let chain = common::programs::c("chain.c", &["-O2", "-fomit-frame-pointer"]);
    let mut sh = Command::new("sh");
    sh.env("PATH", path).env("CHAIN", chain).current_dir(&folder).args(["-c", script]).stdin(Stdio::null());
    sh.output().unwrap()
}

#[test]
fn scripts_that_call_perf_get_what_they_want() {
    // Each prints stacks of the program, from its root to its leaf.
    for script in [
        "perf record -F 999 -g -- $CHAIN 0.3 | perf script",
        "perf record -F 999 -g -o - -- $CHAIN 0.3 | perf script -i -",
        "perf record -agF999 -- $CHAIN 0.3 >/dev/null && perf script --force",
        "$CHAIN 3 >/dev/null & perf record -g -F 999 -p $! -- sleep 0.4 >/dev/null && perf script -F +pid",
        "for i in 1 2; do perf record -F 97 -g -a -o $i.data -- $CHAIN 0.3 >/dev/null; done; perf script -i 1.data",
        "perf record -F 997 --call-graph dwarf,65528 -g -o perf.data $CHAIN 0.3 >/dev/null; perf script -i perf.data",
        "perf record -F 9999 -g -k1 --call-graph dwarf,65528 -- $CHAIN 0.3 >/dev/null && perf script",
        "perf record -e cycles -e sched:sched_switch --switch-events --sample-cpu -m 8M --aio -z --call-graph dwarf $CHAIN 0.3 \
         >/dev/null && perf script",
    ] {
        let output = by_the_name_of_perf(script);
        let printed = String::from_utf8_lossy(&output.stdout);
        let stacks = printed.split("\n\n").filter(|stack| stack.contains(" leaf ") && stack.contains(" main "));
        assert!(stacks.count() > 5, "{script}: {}\n{printed}", String::from_utf8_lossy(&output.stderr));
    }
    let report =
        by_the_name_of_perf("perf record -q -F 999 -g $CHAIN 0.3 >/dev/null; perf report --stdio --no-children");
    assert!(String::from_utf8_lossy(&report.stdout).contains("[.] leaf"), "{report:?}");
    let said = by_the_name_of_perf("perf record -g $CHAIN 0.1 >/dev/null");
    assert!(String::from_utf8_lossy(&said.stderr).contains("[ perf record: Captured and wrote "), "{said:?}");
}

#[test]
fn what_changes_nothing_is_taken_with_a_line_at_most() {
    for (options, line) in [
        ("-q -v", ""),
        ("-m 8M,4M", ""),
        ("--call dwarf,1024", ""),
        ("--call-graph fp,64", ""),
        ("--no-raw-samples --no-stat --no-group --no-tail-synthesize --no-no-buildid-cache --buildid", ""),
        ("--weight --no-weight --branch-any --no-branch-any", ""),
        ("--no-latency --no-per-thread --no-all-user --no-overwrite --no-all-cpus", ""),
        ("-e cpu-clock:uD,cpu-clock:e,cpu-clock:Hp", ""),
        ("-e cpu-clock/time,inherit,no-overwrite,period=1000000/", ""),
        ("-e sched:sched_process_e*:k,sched:sched_process_f*", ""),
        ("--switch-max-files 2", "--switch-max-files: one file is written"),
        ("--off-cpu-thresh 1", "--off-cpu-thresh: no times away"),
    ] {
        let row = Row { option: String::new(), word: "done".into(), example: options.into() };
        let output = run(&row);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(0) && said.contains(line), "{options}: {said}");
        let told = said.lines().filter(|line| line.contains("rprof: --")).count();
        assert_eq!(told, usize::from(!line.is_empty()), "{options}: {said}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    for (options, why) in [
        ("--nosuch", "unexpected argument '--nosuch'"),
        ("--freqq 9", "'--freq'"),
        ("--no", "unexpected argument '--no'"),
        ("--all-user --all-kernel", "cannot be used with"),
        ("--call-graph lbr", "branch records"),
        ("-m 8M,x", "no size"),
        ("-k monotonic_raw", "does not keep step"),
        ("-t PID --inherit", "name their process with -p"),
        ("-e cpu-clock:G", "guests"),
        ("-e cpu-clock:h", "hypervisor alone"),
        ("-e cpu-clock:b", "BPF"),
        ("-e cpu-clock:R", "retirement"),
        ("-e {cpu-clock,cs}:S", "sampled by itself"),
        ("-e cpu-clock/no-inherit/", "write -i"),
        ("-e cpu-clock/overwrite/", "write --overwrite"),
        ("-e cpu-clock/percore/", "use perf stat"),
        ("-e cpu-clock/max-stack=8/", "--call-graph fp"),
        ("-e sched:nosuch_*:u", "unknown event"),
        ("-e sched:sched_*:z", "unknown modifier"),
    ] {
        let output = run(&Row { option: String::new(), word: "refused".into(), example: options.into() });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(129) && said.contains(why), "{options}: {said}");
        assert!(said.lines().count() == 1 && said.starts_with("rprof: "), "{options}: {said}");
    }
}

#[test]
fn tracepoints_that_an_ordinary_user_may_not_read_are_named_as_such() {
    for event in ["sched:sched_switch", "sched:sched_*", "sched:sched_*:u"] {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
        nobody.args([env!("CARGO_BIN_EXE_rprof"), "record", "-e", event, "-o", "/dev/null", "--", "true"]);
        let output = nobody.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(129) && said.lines().count() == 1, "{event}: {said}");
        assert!(said.contains("cannot read /sys/kernel/tracing") && said.contains("remount"), "{event}: {said}");
    }
}

#[test]
fn scripts_find_the_words_of_perf() {
    for (script, words) in [
        ("perf record -D 100 -- sleep 0.3 >/dev/null", &["Events disabled\n", "Events enabled\n"][..]),
        (
            "perf record -D 50-100,150-200 -- sleep 0.4 >/dev/null",
            &["Events enabled\nEvents disabled\nEvents enabled\n"][..],
        ),
        (
            "perf record -F 4999 --max-size=100K -- $CHAIN 20 >/dev/null",
            &["[ perf record: perf size limit reached ("][..],
        ),
    ] {
        let output = by_the_name_of_perf(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(words.iter().all(|words| said.contains(words)), "{script}: {said}");
    }
}

#[test]
fn subcommands_that_only_perf_has_stay_perfs() {
    let other =
        "mkdir other copy && printf '#!/bin/sh\necho other \"$@\"\n' >other/perf && chmod +x other/perf && H=$PWD;";
    let passed = by_the_name_of_perf(&format!("{other} PATH=$H:$H/other:$PATH; perf stat -e 'a b' true"));
    assert_eq!(String::from_utf8_lossy(&passed.stdout), "other stat -e a b true\n", "{passed:?}");
    let own = by_the_name_of_perf(&format!("{other} PATH=$H:$H/other:$PATH; perf record --dry-run -- true"));
    assert!(own.status.success() && own.stdout.is_empty(), "{own:?}");
    // A copy of rprof is no perf either.
    for there in ["", "cp -L perf copy/perf &&"] {
        let alone = by_the_name_of_perf(&format!("{other} {there} PATH=$H:$H/copy; perf stat true"));
        let said = String::from_utf8_lossy(&alone.stderr);
        assert!(alone.status.code() == Some(129) && said.contains("no subcommand 'stat'"), "{alone:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn hotspot_finds_what_it_looks_for() {
    let options = by_the_name_of_perf("perf version --build-options");
    let options = String::from_utf8_lossy(&options.stdout);
    assert!(options.starts_with("rprof version "), "{options}");
    assert!(options.contains("zstd: [ on  ]\n") && options.contains("aio: [ OFF ]\n"), "{options}");
    let version = rprof().arg("version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout).lines().count(), 1);
    let help = by_the_name_of_perf("perf record --help");
    let help = String::from_utf8_lossy(&help.stdout);
    assert!(["--sample-cpu", "--switch-events", "--aio"].iter().all(|option| help.contains(option)), "{help}");
}

#[test]
fn exit_statuses_are_those_of_perf() {
    for (script, status) in [
        ("perf record -q -- sh -c 'exit 3'", 3),
        ("perf record -q -- sh -c 'kill -SEGV $$'", 139),
        ("perf record --nosuch -- true", 129),
        ("perf record -e nosuch -- true", 129),
        ("perf record -e cycles:u -j any,u -- true", 129),
        ("perf record -F 99 -c 100 -- true", 234),
        ("perf record -F 0 -- true", 234),
        ("perf record -- /nosuch", 255),
        ("perf record -p 999999999", 244),
        ("perf record -C 99 -- true", 237),
        ("perf record -o /nosuch/perf.data -- true", 255),
        ("perf record -q -o perf.out -- true", 0),
        ("perf record -q -o $(mktemp -p .) -- true", 0),
        ("perf record -q -o . -- true", 255),
        ("perf script -i /nosuch", 255),
        ("perf record -q -a -- sleep 30 & sleep 1; kill -TERM $!; wait $!", 143),
        ("sleep 30 & perf record -q -p $! & sleep 1; kill -TERM $!; wait $!", 143),
    ] {
        let output = by_the_name_of_perf(&format!("( {script} ) >/dev/null; exit $?"));
        assert_eq!(output.status.code(), Some(status), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
