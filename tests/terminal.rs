//! `rprof top` and `rprof view` in a terminal: what stands on the screen, what keys and the mouse do, and that the terminal is given back.
//! Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::programs::{self, Running, c};
use common::pty::Terminal;
use common::recording::{attempt, rprof, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rprof::profile::{Function, FunctionId, Location, LocationId, Profile, Sample, SourceLine};
use serde_json::Value;
use tempfile::TempDir;

const FRAMES: &[&str] = &["-O1", "-fno-inline", "-fno-omit-frame-pointer"];
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const INTERRUPT: &str = "\x03";

fn shares() -> Running {
    programs::run(&c("shares.c", FRAMES), &["0"])
}

/// A table that is renewed twice a second, of a program that runs.
fn top(program: &Running, options: &[&str]) -> Terminal {
    let pid = program.pid().to_string();
    // Where all tests run at once, a small budget would be spent at once.
    let arguments = ["top", "-d", "500ms", "-F", "997", "--max-overhead", "100%", "-p", &pid];
    Terminal::rprof(&[&arguments[..], options].concat())
}

/// The shares, self and total, in the line of a function of the table.
fn shares_of(text: &str, function: &str) -> Option<(f64, f64)> {
    let line = text.lines().find(|line| line.split_whitespace().any(|word| word == function))?;
    let mut shares = line.split('%').filter_map(|part| part.split_whitespace().last()?.parse().ok());
    Some((shares.next()?, shares.next().unwrap_or(0.0)))
}

/// A folder with a profile of shares.c.
fn recorded() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.pb.gz");
    let program = c("shares.c", FRAMES);
    let recorded = attempt(&["-F", "997", "-o", text(&file)], &[text(&program), "0.5"]);
    assert_eq!(recorded.status, Some(0), "{}", recorded.said);
    (folder, file)
}

/// A folder with a file of folded stacks.
fn folded(stacks: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stacks.folded");
    fs::write(&file, stacks).unwrap();
    (folder, file)
}

const STACKS: &str = "main;parse;read 10\nmain;parse;hash 30\nmain;work;hash 40\nmain;work;sort;compare 20\n";

fn view(file: &std::path::Path, options: &[&str]) -> Terminal {
    Terminal::rprof(&[&["view", text(file)][..], options].concat())
}

#[test]
fn top_shows_who_uses_the_cpu() {
    let program = shares();
    let mut terminal = top(&program, &["--show", "all"]);
    let is_known = |text: &str| {
        let known = |name: &str, wanted: f64| {
            shares_of(text, name).is_some_and(|(own, total)| (total - wanted).abs() < 6.0 && own < total)
        };
        known("four", 40.0) && known("three", 30.0) && known("two", 20.0) && known("one", 10.0)
    };
    let screen = terminal.wait("the shares of the functions", is_known);
    for wanted in ["process", "cpu, all", "CPUs", "samples", "lost 0", "complete stacks", "rprof itself", "shares"] {
        assert!(screen.contains(wanted), "{wanted}:\n{screen}");
    }
    // By self, what burns comes first; by total, who calls.
    let first = |text: &str| text.lines().nth(3).unwrap_or_default().to_owned();
    assert!(!first(&screen).contains(" main "), "{screen}");
    terminal.press("o");
    terminal.wait("main among the first", |text| text.lines().skip(3).take(4).any(|line| line.contains(" main ")));
    terminal.press("/^fo");
    terminal.wait("only one function", |text| {
        text.lines().skip(3).filter(|line| line.contains('%') && line.contains("shares")).count() == 2
            && !text.contains("three")
    });
    terminal.wait_for("1 function, in stacks of");
    terminal.press(ENTER);
    // Into the function: its callers above it, what it calls below.
    terminal.press(ENTER);
    let screen = terminal.wait("callers and callees", |text| {
        let line = |name: &str| text.lines().skip(2).position(|line| line.starts_with(name));
        line("main") < line("four") && line("_start") < line("main") && line("four").is_some()
    });
    assert!(screen.contains("here"), "{screen}");
    terminal.press("p");
    terminal.wait_for("PAUSED");
    terminal.press("w");
    terminal.wait_for("cpu, last");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
    terminal.is_restored();
}

#[test]
fn a_target_that_ends_leaves_its_last_picture() {
    let program = shares();
    let mut terminal = top(&program, &[]);
    terminal.wait_for("four");
    drop(program);
    let screen = terminal.wait_for("has ended");
    assert!(screen.contains("FUNCTION"), "{screen}");
    terminal.press("m");
    terminal.wait_for("the target has ended");
    terminal.press(ESCAPE);
    let screen = terminal.wait("all that was seen", |text| !text.contains("What was said"));
    assert!(screen.contains("cpu, all") && screen.contains("four"), "{screen}");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
    terminal.is_restored();
}

#[test]
fn however_it_ends_the_terminal_is_given_back() {
    let program = shares();
    let end = |how: &dyn Fn(&mut Terminal)| {
        let mut terminal = top(&program, &[]);
        terminal.wait_for("four");
        how(&mut terminal);
        let status = terminal.status();
        terminal.is_restored();
        status
    };
    assert_eq!(end(&|terminal| terminal.press(INTERRUPT)), 0);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let sent = end(&|terminal| kill(Pid::from_raw(terminal.pid()), signal).unwrap());
        assert_eq!(sent, 128 + signal as i32);
    }
    let (_folder, file) = recorded();
    let mut terminal = view(&file, &[]);
    terminal.wait_for("main");
    kill(Pid::from_raw(terminal.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(terminal.status(), 143);
    terminal.is_restored();
}

/// Run by the test below, in a terminal of its own.
#[test]
#[ignore = "the process that another test starts, and that panics"]
fn panics_with_a_terminal() {
    use rprof::cli::terminal::guard::Guard;
    let _guard = Guard::take("panics").unwrap();
    let other = std::thread::spawn(|| panic!("elsewhere"));
    assert!(other.join().is_err());
    panic!("a fault of ours");
}

#[test]
fn a_panic_gives_the_terminal_back_and_tells_itself_there() {
    let tests = std::env::current_exe().unwrap();
    let arguments = ["--exact", "panics_with_a_terminal", "--ignored", "--nocapture", "--test-threads=1"];
    let mut terminal = Terminal::run((100, 30), &[], text(&tests), &arguments);
    assert_eq!(terminal.status(), 101);
    terminal.is_restored();
    let screen = terminal.wait_for("a fault of ours");
    assert!(screen.contains("elsewhere"), "{screen}");
    let written = String::from_utf8_lossy(&terminal.written()).into_owned();
    let left = written.find("\x1b[?1049l").expect("the other screen was left");
    assert!(written.find("elsewhere").unwrap() > left && written.find("a fault of ours").unwrap() > left);
}

#[test]
fn it_stops_and_goes_on_as_the_shell_says() {
    let (_folder, file) = recorded();
    let mut terminal = Terminal::run((100, 30), &[("PS1", "$ ")], "bash", &["--norc", "--noprofile", "-i"]);
    let line = format!("{} view {}\r", env!("CARGO_BIN_EXE_rprof"), text(&file));
    terminal.press(&line);
    terminal.wait_for("? help");
    terminal.press("\x1a");
    terminal.wait("the shell", |text| text.contains("Stopped") && !text.contains("? help"));
    terminal.press("echo it is $((40+2))\r");
    terminal.wait_for("it is 42");
    terminal.press("fg\r");
    terminal.wait_for("? help");
    terminal.press("q");
    terminal.wait("the shell", |text| !text.contains("? help"));
    terminal.press("exit\r");
    terminal.status();
}

#[test]
fn a_command_leaves_the_terminal_alone_and_its_status_is_kept() {
    let program = c("shares.c", FRAMES);
    let line = format!("echo to the screen; echo to the other >&2; cat; {} 1; exit 7", text(&program));
    let mut terminal = Terminal::rprof(&["top", "-d", "300ms", "-F", "997", "--", "sh", "-c", &line]);
    terminal.wait_for("four");
    terminal.wait_for("has ended");
    terminal.press("q");
    assert_eq!(terminal.status(), 7);
    terminal.is_restored();
    let written = String::from_utf8_lossy(&terminal.written()).into_owned();
    assert!(!written.contains("to the screen\r") && !written.contains("to the other\r"), "{written}");
    // One that is asked to end has not failed.
    let mut terminal = Terminal::rprof(&["top", "-d", "300ms", "--", text(&program), "0"]);
    terminal.wait_for("four");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn kinds_of_events_are_shown_in_turn() {
    let program = programs::run(&c("waits.c", &["-O1"]), &["0"]);
    let mut terminal = top(&program, &["--off-cpu"]);
    terminal.wait_for("cpu (e: 1 more)");
    terminal.press("e");
    terminal.wait("times away from CPUs", |text| text.contains("off_cpu (e: 1 more)") && text.contains("FUNCTION"));
    terminal.press("e");
    terminal.wait_for("│ cpu (e");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn batches_are_plain_tables() {
    let program = shares();
    let pid = program.pid().to_string();
    let run = |options: &[&str]| {
        let mut command = rprof();
        command.args(["top", "-d", "1s", "-F", "997", "--max-overhead", "100%", "-p", &pid]).args(options);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = run(&["-b", "-n", "3", "--show", "all", "-s", "total"]);
    assert!(!printed.contains('\x1b'), "{printed}");
    let tables: Vec<&str> = printed.split("\n\n").filter(|table| !table.is_empty()).collect();
    assert_eq!(tables.len(), 3, "{printed}");
    for table in &tables {
        assert!(table.lines().next().unwrap().contains("cpu: "), "{table}");
        assert!(table.contains("SELF %") && table.contains("rprof itself"), "{table}");
    }
    let last = tables[2];
    let totals =
        ["one", "two", "three", "four"].map(|name| shares_of(last, name).unwrap_or_else(|| panic!("{name}: {last}")).1);
    assert!(totals.is_sorted() && (totals[3] - 40.0).abs() < 6.0, "{last}");
    // The standard output is no terminal here.
    let json = run(&["--json", "--once", "--limit", "3", "--search", "^(one|two|three|four)$", "-s", "total"]);
    let document: Value = serde_json::from_str(&json).unwrap();
    let kind = &document["kinds"][0];
    assert_eq!(kind["kind"], "cpu");
    assert_eq!(kind["functions"].as_array().unwrap().len(), 3);
    assert_eq!(kind["functions"][0]["function"], "four");
    assert_eq!(kind["functions_left_out"], 1);
    let share = kind["functions"][0]["total_share"].as_f64().unwrap();
    assert!((0.25..0.55).contains(&share), "{json}");
    let cpus = kind["total"].as_f64().unwrap() / kind["covered_nanos"].as_f64().unwrap();
    assert!(cpus > 0.02 && cpus < 1.1, "{json}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let program = shares();
    let mut command = rprof();
    command.args(["top", "-d", "200ms", "-p", &program.pid().to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("# "), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_done_is_said_before_the_terminal_is_taken() {
    let ends = |arguments: &[&str], status: i32, wanted: &str| {
        let mut terminal = Terminal::rprof(arguments);
        assert_eq!(terminal.status(), status, "{arguments:?}");
        terminal.wait(wanted, |text| text.replace('\n', " ").contains(wanted));
        let written = String::from_utf8_lossy(&terminal.written()).into_owned();
        assert!(!written.contains("\x1b[?1049h"), "{written}");
    };
    ends(&["top", "-p", "999999999"], 244, "no such process: 999999999");
    ends(&["top", "-d", "10ms"], 129, "at least 100ms");
    ends(&["top", "--search", "("], 129, "--search");
    ends(&["top", "--timestamps"], 129, "--timestamps is for files");
    ends(&["top", "--label", "version=2"], 129, "--label is for files");
    ends(&["top", "--", "/nonexistent/command"], 255, "cannot run /nonexistent/command");
    ends(&["view", "/nonexistent/file"], 255, "/nonexistent/file");
    let (_folder, file) = folded(STACKS);
    ends(&["view", text(&file), "--value", "none"], 255, "no value named");
    ends(&["view", text(&file), "--from", "-1h"], 129, "--from is for a directory");
    let mut dumb = Terminal::rprof_in((100, 20), &[("TERM", "dumb")], &["view", text(&file)]);
    assert_eq!(dumb.status(), 255);
    dumb.wait_for("rprof report prints the same");
}

#[test]
fn a_flame_graph_is_moved_about_in() {
    let (_folder, file) = recorded();
    let mut terminal = view(&file, &[]);
    let screen = terminal.wait_for("? help");
    let line = |name: &str| screen.lines().position(|line| line.contains(name)).unwrap();
    assert!(line("main") < line("four") && screen.contains("complete stacks") && screen.contains("lost 0"), "{screen}");
    // The widest comes first, and each is as wide as its share.
    let at = |name: &str| terminal.find(name);
    assert!(at("four").0 < at("three").0 && at("three").0 < at("two").0, "{screen}");
    let width = at("two").0 - at("three").0;
    assert!((25..=42).contains(&width), "three has 30 % of 110 columns: {screen}");
    // Down to it, and it takes the whole width; the search tells its share.
    terminal.press("/^four$");
    terminal.wait_for("1 function, in stacks of");
    terminal.press(&format!("{ENTER}{ENTER}"));
    let zoomed = terminal.wait("only four", |text| !text.contains("three") && text.contains("\nfour"));
    assert!(zoomed.contains("four [shares]: here 4") || zoomed.contains("four [shares]: here 3"), "{zoomed}");
    terminal.press("u");
    terminal.wait_for("three");
    // Callers and callees, and back.
    terminal.press("s");
    terminal.wait("main above four", |text| {
        let line = |name: &str| text.lines().skip(2).position(|line| line.starts_with(name));
        line("main") < line("four") && line("four").is_some() && !text.contains("three")
    });
    terminal.press(UP);
    terminal.wait_for("main [shares]: here");
    terminal.press(DOWN);
    terminal.wait_for("four [shares]: here");
    terminal.press("1");
    terminal.wait_for("FUNCTION");
    // Leaves first, and flames instead of icicles.
    terminal.press(&format!("{ESCAPE}[Di"));
    terminal.wait_for("flame (inverted)");
    terminal.press("iv");
    let flames = terminal.wait("the root below", |text| !text.contains("inverted") && text.contains("three"));
    let line = |name: &str| flames.lines().skip(2).position(|line| line.contains(name)).unwrap();
    assert!(line("three") < line("main") && line("main") < line("_start"), "{flames}");
    // Other values of the same profile.
    terminal.press("e");
    terminal.wait("samples", |text| text.lines().nth(1).is_some_and(|facts| facts.starts_with("samples")));
    terminal.press("?");
    terminal.wait_for("callers and callees of what the cursor is on");
    terminal.press("qq");
    assert_eq!(terminal.status(), 0);
    terminal.is_restored();
}

#[test]
fn the_mouse_points_and_zooms() {
    let (_folder, file) = folded(STACKS);
    let mut terminal = view(&file, &[]);
    terminal.wait_for("parse");
    let parse = terminal.find("parse");
    terminal.click(0, parse);
    terminal.wait_for("parse: here 40.00 % (40)");
    terminal.click(0, parse);
    terminal.wait("only parse", |text| !text.contains("work") && text.contains("parse"));
    terminal.click(2, parse);
    terminal.wait_for("work");
    terminal.press("1");
    terminal.wait_for("FUNCTION");
    let compare = terminal.find("compare");
    terminal.click(0, compare);
    terminal.wait_for("compare: self 20.00 % (20), total 20.00 % (20)");
    let heading = terminal.find("TOTAL %");
    terminal.click(0, heading);
    terminal.wait("main first", |text| text.lines().nth(3).is_some_and(|line| line.contains("main")));
    let hash = terminal.find("hash");
    terminal.click(0, hash);
    terminal.click(0, hash);
    terminal
        .wait("callers of hash", |text| text.contains("work") && text.contains("parse") && text.contains("hash: here"));
}

#[test]
fn searches_tell_what_they_come_to() {
    let (_folder, file) = folded(STACKS);
    let mut terminal = view(&file, &["--search", "^hash$"]);
    terminal.wait_for("1 function, in stacks of 70.00 % (70)");
    // Case counts where there is a capital letter; what is no expression says so.
    terminal.press("/\x15HASH");
    terminal.wait_for("0 functions, in stacks of 0.00 % (0)");
    terminal.press("\x15s(");
    terminal.wait_for("unclosed group");
    terminal.press("\x15sort|read");
    terminal.wait_for("2 functions, in stacks of 30.00 % (30)");
    terminal.press(ENTER);
    terminal.wait_for("n N next");
    let about = |text: &str| text.lines().find(|line| line.contains(": here")).map(str::to_owned);
    let first = about(&terminal.wait_for(": here"));
    terminal.press("n");
    terminal.wait("the other match", |text| about(text).is_some() && about(text) != first);
    terminal.press("N");
    terminal.wait("the first match again", |text| about(text) == first);
}

#[test]
fn filters_are_those_of_report() {
    let (_folder, file) = folded(STACKS);
    let terminal = view(&file, &["-focus=parse", "-hide=^main$"]);
    let screen = terminal.wait_for("40.00 % of all");
    assert!(!screen.contains("main") && !screen.contains("work") && screen.contains("hash"), "{screen}");
    let terminal = view(&file, &["--table", "--focus", "sort", "--relative_percentages"]);
    let screen = terminal.wait_for("FUNCTION");
    assert_eq!(shares_of(&screen, "compare"), Some((100.0, 100.0)), "{screen}");
}

#[test]
fn windows_of_a_directory_are_added_up() {
    let program = shares();
    let folder = tempfile::tempdir().unwrap();
    let snapshot = |_| {
        let mut command = rprof();
        command.args(["snapshot", "-q", "--duration", "500ms", "-F", "499", "-p", &program.pid().to_string()]);
        assert!(command.arg("-o").arg(folder.path()).status().unwrap().success());
    };
    (0..2).for_each(snapshot);
    let mut terminal = view(folder.path(), &["--from", "-1h", "--table"]);
    let screen = terminal.wait_for("four");
    assert!(screen.contains("cpu 0.") || screen.contains("cpu 1."), "as CPUs: {screen}");
    terminal.press("m");
    terminal.wait_for("2 windows of cpu cover");
}

#[test]
fn recordings_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("perf.data");
    let recorded = attempt(&["-F", "997", "-o", text(&file)], &[text(&c("shares.c", FRAMES)), "0.3"]);
    assert_eq!(recorded.status, Some(0), "{}", recorded.said);
    view(&file, &[]).wait("its functions", |text| text.contains("four") && text.contains("lost 0"));
    // By the standard input; keys come from the terminal all the same.
    let (_folder, stacks) = folded(STACKS);
    for (input, function) in [(&stacks, "parse"), (&file, "four")] {
        let line = format!("{} view - <{}", env!("CARGO_BIN_EXE_rprof"), text(input));
        let mut terminal = Terminal::run((100, 30), &[], "sh", &["-c", &line]);
        terminal.wait_for(function);
        terminal.press("q");
        assert_eq!(terminal.status(), 0);
    }
}

#[test]
fn themes_differ_and_colours_can_be_left_out() {
    let (_folder, file) = folded(STACKS);
    let look = |options: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&["view", text(&file)][..], options].concat();
        let terminal = Terminal::rprof_in((100, 20), environment, &arguments);
        terminal.wait_for("parse");
        terminal.background(terminal.find("parse"))
    };
    let dark = look(&[], &[]);
    assert_eq!(look(&["--theme", "dark"], &[]), dark);
    let light = look(&["--theme", "light"], &[]);
    assert_ne!(dark, light);
    assert_eq!(look(&[], &[("COLORFGBG", "0;15")]), light);
    assert_eq!(look(&[], &[("NO_COLOR", "1")]), vt100::Color::Default);
}

#[test]
fn any_size_will_do() {
    let (_folder, file) = recorded();
    let mut terminal = Terminal::rprof_in((20, 5), &[], &["view", text(&file)]);
    terminal.wait_for("_start");
    terminal.press("1");
    let small = terminal.wait("a table of one share and names", |text| text.contains("SELF %"));
    assert_eq!(small.lines().count(), 5, "{small}");
    for size in [(1, 1), (2, 2), (5, 1), (1, 9), (300, 3), (20, 5)] {
        terminal.resize(size);
        for key in ["2", "3", "1", "?", "?", "/x\r", "n", "\t", "m", "m"] {
            terminal.press(key);
        }
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    terminal.resize((120, 40));
    terminal.press(&format!("{ESCAPE}[A2"));
    terminal.wait_for("complete stacks");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
    terminal.is_restored();
}

/// What would steer a terminal: colours, a title, a bell, C1 controls, text turned round.
const HOSTILE: &str = "evil\x1b[2J\x1b]0;pwned\x07\u{9b}31m\u{202e}name";

fn is_harmless(terminal: &Terminal) {
    let written = terminal.written();
    let written = String::from_utf8_lossy(&written);
    for sequence in ["evil\x1b", "\x1b]0;pwned", "\x07\u{9b}", "\u{9b}", "\u{202e}"] {
        assert!(!written.contains(sequence), "{sequence:?} in {written:?}");
    }
}

/// A profile of one stack of these functions, leaf first.
fn profile_of(names: &[&str]) -> Profile {
    let mut profile = Profile::default();
    let samples = profile.value_type("samples", "count");
    profile.sample_types.push(samples);
    for (at, name) in (0..).zip(names) {
        let name = profile.strings.intern(name);
        profile.functions.push(Function { name, ..Function::default() });
        let line = SourceLine { function: FunctionId(at), line: 0, column: 0 };
        profile.locations.push(Location { lines: vec![line], ..Location::default() });
    }
    let stack = (0..).take(names.len()).map(LocationId).collect();
    profile.samples.push(Sample { stack, values: vec![10], labels: Vec::new() });
    profile.comment(HOSTILE);
    profile
}

#[test]
fn names_do_not_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x\x1b]0;pwned\x07.pb.gz");
    let profile = profile_of(&["é\u{301}\u{200b}", "漢字漢字", "<script>", HOSTILE, "main"]);
    rprof::encode::write_file(&file, rprof::encode::Format::by_name("pprof").unwrap(), &profile).unwrap();
    let mut terminal = view(&file, &[]);
    terminal.wait_for("evil?[2J?]0;pwned");
    for key in ["1", "3", "2", "i", "m", "m", "/evil\r"] {
        terminal.press(key);
    }
    terminal.wait_for("n N next");
    is_harmless(&terminal);
    // What is said of a file that is no profile names it.
    let file = folder.path().join("y\x1b]0;pwned\x07");
    fs::write(&file, "none").unwrap();
    let mut terminal = view(&file, &[]);
    assert_eq!(terminal.status(), 255);
    terminal.wait_for("y?]0;pwned?");
    is_harmless(&terminal);
    // A program whose symbols and name are so.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("evil\x1b[31m");
    fs::copy(c("shares.c", &["-O1", "-fno-inline", "-fno-omit-frame-pointer", "-g0"]), &program).unwrap();
    let renamed = Command::new("objcopy").arg("--redefine-sym").arg(format!("four={HOSTILE}")).arg(&program).status();
    assert!(renamed.unwrap().success());
    let running = programs::run(&program, &["0"]);
    let mut terminal = top(&running, &[]);
    terminal.wait_for("evil?[2J?]0;pwned");
    terminal.press("2");
    terminal.wait_for("main");
    is_harmless(&terminal);
}

#[test]
fn deep_stacks_are_gone_through() {
    let stack =
        |last: usize| (0..2000).map(|at| format!("level{at}{}", if at > 1000 { last } else { 0 })).collect::<Vec<_>>();
    let stacks: String = (0..50).map(|last| format!("{} 10\n", stack(last).join(";"))).collect();
    let (_folder, file) = folded(&stacks);
    let mut terminal = view(&file, &[]);
    terminal.wait_for("level00");
    let took = terminal.time("G", "the last level", |text| text.contains("level1999"));
    println!("to the end of a stack of 2,000 frames: {took:?}");
    let took = terminal.time("s", "its callers", |text| text.contains("level1998"));
    println!("its callers: {took:?}");
    terminal.press("1");
    terminal.wait_for("FUNCTION");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn many_frames_stay_fluent() {
    use std::fmt::Write as _;
    let mut stacks = String::new();
    for leaf in 0_u64..100_000 {
        let part = |level: u32| leaf.wrapping_mul(2_654_435_761) % 3_u64.pow(level.min(9));
        let path: Vec<String> = (1..12).map(|level| format!("part{level}_{}", part(level))).collect();
        let _ = writeln!(stacks, "main;{};leaf{leaf} {}", path.join(";"), 1 + leaf % 97);
    }
    let (_folder, file) = folded(&stacks);
    let began = std::time::Instant::now();
    let mut terminal = Terminal::rprof_in((200, 50), &[], &["view", text(&file)]);
    terminal.wait_for("part2_");
    println!("100,000 distinct frames: seen after {:?}", began.elapsed());
    let took = terminal.time(DOWN, "the cursor", |text| text.contains("main: here"));
    println!("the cursor moved: {took:?}");
    terminal.press("/leaf4242");
    terminal.wait_for("11 functions");
    let took = terminal.time("4", "the found", |text| text.contains("leaf42424  1 function,"));
    println!("a letter more of a search: {took:?}");
    let took = terminal.time(ENTER, "the match", |text| text.contains("leaf42424"));
    println!("to the match: {took:?}");
    let took = terminal
        .time(ENTER, "the zoom", |text| text.lines().any(|line| line.starts_with("leaf42424 ") || line == "leaf42424"));
    println!("zoomed in: {took:?}");
    let took = terminal.time("0", "all", |text| text.contains("part2_1") && text.contains("part2_2"));
    println!("zoomed out: {took:?}");
    let took = terminal.time("1", "the table", |text| text.contains("FUNCTION"));
    println!("the table: {took:?}");
    let took = terminal.time("i", "inverted", |text| text.contains("inverted"));
    println!("inverted: {took:?}");
    terminal.press("q");
    assert_eq!(terminal.status(), 0);
}
