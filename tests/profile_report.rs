//! The report's numbers: self, total, recursion, callers and callees.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use clap::Parser;
use rprof::cli::report::{ReportArgs, render};
use rprof::profile::Profile;
use support::server_profile;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    report: ReportArgs,
}

fn try_report(profile: Profile, args: &[&str], width: usize) -> anyhow::Result<String> {
    let args = ["report", "file"].iter().chain(args);
    render(profile, &Command::try_parse_from(args)?.report, width)
}

fn report(args: &[&str]) -> String {
    try_report(server_profile(), args, 120).unwrap()
}

/// The words of the line that names a function.
fn line<'a>(report: &'a str, function: &str) -> Vec<&'a str> {
    let line = report.lines().find(|line| line.contains(function) && !line.starts_with('#'));
    line.unwrap_or_else(|| panic!("{function} in\n{report}")).split_whitespace().collect()
}

#[test]
fn the_header_tells_how_good_the_profile_is() {
    let report = report(&[]);
    let head: Vec<_> = report.lines().take(3).collect();
    assert_eq!(
        head,
        [
            "# rprof 0.1.0",
            "# command: server --port 80",
            "# duration 10.00 s, 100 samples, cpu 100.00 ms (1.00 % of one CPU), lost 7 (6.54 %), complete stacks 96.0 %, 69.0 % in stacks with an unnamed frame"
        ]
    );
}

#[test]
fn self_and_total_are_told_apart_and_recursion_counts_once() {
    let report = report(&[]);
    assert_eq!(
        line(&report, "hash "),
        ["40.00", "%", "40.00", "ms", "65.00", "%", "65.00", "ms", "65", "hash", "server"]
    );
    assert_eq!(line(&report, "main ")[..8], ["0.00", "%", "0", "ns", "90.00", "%", "90.00", "ms"]);
    assert_eq!(line(&report, "recurse ")[..9], ["15.00", "%", "15.00", "ms", "15.00", "%", "15.00", "ms", "15"]);
    assert_eq!(line(&report, "do_syscall_64").last(), Some(&"[kernel.kallsyms]"));
    let first = report.lines().nth(5).unwrap();
    assert!(first.contains("hash"), "{first}");
}

#[test]
fn the_table_can_be_sorted_by_total_and_cut() {
    let report = report(&["--sort", "total", "-n", "2"]);
    assert!(report.lines().nth(5).unwrap().contains("main"), "{report}");
    assert!(report.contains("8 more functions with 60.00 % of self; --limit 0 shows all"), "{report}");
    assert_eq!(report.lines().count(), 8);
}

#[test]
fn another_value_can_be_shown() {
    let samples = report(&["--value", "samples"]);
    assert_eq!(line(&samples, "hash ")[..6], ["40.00", "%", "40", "65.00", "%", "65"]);
    let error = try_report(server_profile(), &["--value", "wall"], 120).unwrap_err().to_string();
    assert_eq!(error, "the profile has no value named \"wall\"; it has samples, cpu");
}

#[test]
fn trees_show_shares_and_say_what_they_leave_out() {
    let tree = report(&["--tree", "--min-share", "7"]);
    assert_eq!(line(&tree, "lookup(int)")[..4], ["65.00", "%", "65.00", "ms"]);
    assert!(tree.contains("10.00 %     10.00 ms  (2 more, each below 7 %)"), "{tree}");
    assert!(tree.ends_with("(branches below 7 % are left out; --min-share 0 shows all)\n"), "{tree}");
    assert!(!tree.contains("LazyCompile"));
    let order: Vec<_> = ["libc.so.6+0x2000", "lookup(int)", "hash", "memcpy"].map(|name| tree.find(name)).into();
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{order:?}\n{tree}");
}

#[test]
fn callers_and_callees_of_a_function() {
    let callers = report(&["--callers", "memcpy", "--min-share", "0"]);
    assert_eq!(line(&callers, "memcpy  [")[0], "35.00");
    assert_eq!(line(&callers, "hash  [")[0], "25.00");
    let callees = report(&["--callees", "lookup", "--min-share", "0"]);
    assert_eq!(line(&callees, "lookup(int)  [")[0], "65.00");
    assert_eq!(line(&callees, "memcpy  [")[0], "25.00");
    let recursion = report(&["--callees", "recurse"]);
    assert_eq!(recursion.matches("15.00 %").count(), 3, "each level once:\n{recursion}");
    let error = try_report(server_profile(), &["--callers", "memcopy"], 120).unwrap_err().to_string();
    assert!(error.contains("most similar are memcpy"), "{error}");
}

#[test]
fn stacks_can_be_chosen_by_function() {
    let focused = report(&["--focus", "memcpy", "--ignore", "syscall"]);
    assert!(focused.contains("25 samples") && !focused.contains("recurse"), "{focused}");
}

#[test]
fn shares_of_a_part_are_of_all_unless_others_are_asked_for() {
    let share = |args: &[&str]| line(&report(&[&["--dso", "server"][..], args].concat()), "hash ")[0].to_owned();
    assert_eq!(share(&[]), "40.00");
    let relative: f64 = share(&["--percentage", "relative"]).parse().unwrap();
    assert!(relative > 41.0, "{relative}");
    assert_eq!(share(&["--percentage", "absolute", "--relative_percentages"]), "40.00");
    let part = report(&["--dso", "server"]);
    assert!(part.contains("# only the stacks and frames that were asked for; shares are of all"), "{part}");
}

#[test]
fn stacks_can_be_cut_and_shown_without_inlined_calls() {
    assert!(!report(&["--no-inline"]).contains("hash "));
    let cut = report(&["--max-stack", "1"]);
    assert_eq!(line(&cut, "lookup(int) ")[0..2], ["0.00", "%"], "{cut}");
    assert!(!cut.contains("main "), "{cut}");
}

#[test]
fn lines_fit_the_width_and_names_cannot_steer_the_terminal() {
    let mut profile = server_profile();
    let long = profile.strings.intern(&format!("evil\x1b[2J\n{}", "x".repeat(500)));
    profile.functions[1].name = long;
    for args in [&[][..], &["--tree"], &["--callers", "evil"]] {
        let report = try_report(profile.clone(), args, 80).unwrap();
        assert!(!report.contains('\x1b'));
        for line in report.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
    }
}

#[test]
fn an_empty_profile_has_a_report() {
    let mut profile = server_profile();
    profile.samples.clear();
    for args in [&[][..], &["--tree"]] {
        assert!(try_report(profile.clone(), args, 120).unwrap().contains("0 samples"));
    }
}

#[test]
fn amounts_are_left_out_before_a_name_is_cut() {
    let mut profile = server_profile();
    let long = "a_function_with_a_name_that_needs_almost_all_of_it";
    let name = profile.strings.intern(long);
    let hash = profile.functions.iter().position(|function| profile.text(function.name) == "hash").unwrap();
    profile.functions[hash].name = name;
    for (width, headings) in [
        (120, "SELF % SELF TOTAL % TOTAL SAMPLES FUNCTION MODULE"),
        (80, "SELF % TOTAL % FUNCTION MODULE"),
        (usize::MAX, "SELF % SELF TOTAL % TOTAL SAMPLES FUNCTION MODULE"),
    ] {
        let report = try_report(profile.clone(), &[], width).unwrap();
        assert!(report.contains(long) || width == 80, "{report}");
        assert_eq!(line(&report, "FUNCTION").join(" "), headings, "{report}");
    }
}
