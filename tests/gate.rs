//! `rprof gate`: how often it is wrong, on deploys whose truth is known, and what it says of real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
mod simulation;
#[path = "store_support/mod.rs"]
mod store_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::programs;
use common::recording::rprof;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, LogNormal, Poisson};
use rprof::encode::{Format, write_file};
use rprof::profile::compare::gate::{Outcome, Policy, Status, Subject};
use rprof::profile::compare::{CompareOptions, Comparison, Evidence, EvidenceOptions, Normalize};
use rprof::profile::{
    Function, FunctionId, Label, LabelValue, Location, LocationId, Profile, Sample, SourceLine, TIME_LABEL,
    cpus_comment,
};
use simulation::{Case, run};
use store_support::{START, name, open, pprof};

/// Deploys of a kind: with so many, one false failure more than a hundredth would show as three.
const TRIALS: usize = 200;

#[test]
fn a_deploy_that_changed_nothing_passes() {
    let cases = [(2e3, 0.0), (2e4, 0.0), (2e5, 0.0), (2e4, 0.1), (2e5, 0.1)];
    for (samples, wobble) in cases {
        let case = Case { samples, wobble, windows: 12, slowed: None };
        let tally = run(&case, TRIALS);
        assert!(tally.failed * 100 <= TRIALS, "{case:?}: {tally:?}");
    }
}

#[test]
fn a_function_that_became_dearer_is_found() {
    for (windows, wobble) in [(12, 0.0), (24, 0.1)] {
        let case = Case { samples: 1e5, wobble, windows, slowed: Some((0.03, 0.25)) };
        let tally = run(&case, TRIALS);
        assert!(tally.found * 100 >= 95 * TRIALS && tally.wrong * 100 <= TRIALS, "{case:?}: {tally:?}");
    }
}

#[test]
fn few_samples_are_inconclusive() {
    let tally = run(&Case { samples: 2e3, wobble: 0.0, windows: 12, slowed: None }, 20);
    assert_eq!((tally.failed, tally.inconclusive), (0, 20));
    let tally = run(&Case { samples: 1e5, wobble: 0.0, windows: 6, slowed: Some((0.03, 2.0)) }, 20);
    assert_eq!((tally.failed, tally.inconclusive), (0, 20));
}

/// The samples of each window.
type Counts<'a> = dyn Fn(usize) -> i64 + 'a;
/// A stack, root first, and its samples.
type Counted<'a> = (&'a [&'a str], &'a Counts<'a>);

/// A side of twelve windows.
fn side(stacks: &[Counted<'_>]) -> Evidence {
    let mut evidence = Evidence::new(EvidenceOptions::default());
    for window in 0..12 {
        let mut profile = empty(window);
        for (stack, count) in stacks {
            add(&mut profile, stack, count(usize::try_from(window).unwrap()), &[]);
        }
        evidence.add(&profile, 0, None).unwrap();
    }
    evidence
}

/// A window of a minute without samples.
fn empty(window: i64) -> Profile {
    let mut profile = Profile::default();
    let types = [("samples", "count"), ("cpu", "nanoseconds")].map(|(name, unit)| profile.value_type(name, unit));
    profile.sample_types = types.to_vec();
    profile.period_type = Some(types[1]);
    profile.period = 10_000_000;
    profile.comment(&cpus_comment(2));
    (profile.time_nanos, profile.duration_nanos) = (1 + window * 60_000_000_000, 60_000_000_000);
    profile
}

fn add(profile: &mut Profile, stack: &[&str], count: i64, labels: &[Label]) {
    let ids = stack.iter().rev().map(|name| {
        let name = profile.strings.intern(name);
        let known = profile.functions.iter().position(|function| function.name == name);
        let id = known.unwrap_or_else(|| {
            profile.functions.push(Function { name, ..Function::default() });
            let function = FunctionId(u32::try_from(profile.functions.len() - 1).unwrap());
            let lines = vec![SourceLine { function, line: 0, column: 0 }];
            profile.locations.push(Location { lines, ..Location::default() });
            profile.functions.len() - 1
        });
        LocationId(u32::try_from(id).unwrap())
    });
    let stack = ids.collect();
    profile.samples.push(Sample { stack, values: vec![count, count * 10_000_000], labels: labels.to_vec() });
}

/// A small wobble that is the same in each run: counts are told by window and a seed.
fn about(mean: i64, seed: usize) -> impl Fn(usize) -> i64 {
    move |window| mean + i64::try_from((window * 7 + seed * 5) % 11).unwrap() - 5
}

fn told(comparison: &Comparison, policy: &Policy) -> Vec<(String, Status)> {
    let report = comparison.gate(policy);
    let name = |of: &Subject| match of {
        Subject::Whole => "everything".to_owned(),
        Subject::Module(at) => comparison.modules[*at].name.clone(),
        Subject::Own(at) => comparison.functions[*at].function.name.clone(),
        Subject::Total(at) => format!("{} and below", comparison.functions[*at].function.name),
    };
    report.findings.iter().map(|finding| (name(&finding.subject), finding.status.clone())).collect()
}

fn compare(base: Evidence, new: Evidence, normalize: Option<Normalize>) -> Comparison {
    Comparison::of(base, new, &CompareOptions { normalize, ..CompareOptions::default() }).unwrap()
}

#[test]
fn a_function_and_those_that_call_it_are_one_finding() {
    let stacks = |hash: i64| {
        side(&[
            (&["main", "serve", "hash"], &about(hash, 1)),
            (&["main", "serve", "parse"], &about(900, 2)),
            (&["main", "idle"], &about(700, 3)),
            (&["main", "log"], &about(500, 4)),
        ])
    };
    let comparison = compare(stacks(400), stacks(800), None);
    assert_eq!(told(&comparison, &Policy::default()), [("hash".to_owned(), Status::Fails)]);
    let report = comparison.gate(&Policy::default());
    let names = |at: &[usize]| at.iter().map(|&at| comparison.functions[at].function.name.clone()).collect::<Vec<_>>();
    let callers: Vec<usize> = report.findings[0].callers.iter().map(|(at, _)| *at).collect();
    assert_eq!(names(&callers), ["serve"]);
    assert_eq!(names(&report.findings[0].risen_with), ["serve", "main"]);
}

#[test]
fn many_small_rises_below_one_caller_are_told_of_the_caller() {
    let names: Vec<String> = (0..20).map(|number| format!("step_{number}")).collect();
    let stacks = |each: i64| {
        let own: Vec<([&str; 3], Box<Counts<'_>>)> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (["main", "plan", name.as_str()], Box::new(about(each, at)) as _))
            .collect();
        let mut all: Vec<Counted<'_>> = own.iter().map(|(stack, count)| (&stack[..], &**count)).collect();
        let rest = about(6000, 5);
        all.push((&["main", "rest"], &rest));
        side(&all)
    };
    // Each step has a fifth of a percent of the whole, and rises by less than half a percent of it.
    let comparison = compare(stacks(20), stacks(26), None);
    assert_eq!(told(&comparison, &Policy::default()), [("plan and below".to_owned(), Status::Fails)]);
}

#[test]
fn cost_that_moved_is_told_and_does_not_fail() {
    let others = [("read", 800), ("write", 700), ("sort", 600), ("copy", 500)];
    let with = |moved: &[(&[&str], i64)]| {
        let counts: Vec<(Vec<&str>, Box<Counts<'_>>)> = others
            .iter()
            .map(|&(name, count)| (vec!["main", "loop", name], count))
            .chain(moved.iter().map(|(stack, count)| (stack.to_vec(), *count)))
            .enumerate()
            .map(|(at, (stack, count))| (stack, Box::new(about(count, at)) as _))
            .collect();
        let all: Vec<Counted<'_>> = counts.iter().map(|(stack, count)| (&stack[..], &**count)).collect();
        side(&all)
    };
    // `encode` was inlined into its caller.
    let inlined = compare(
        with(&[(&["main", "loop", "send"], 200), (&["main", "loop", "send", "encode"], 600)]),
        with(&[(&["main", "loop", "send"], 800)]),
        None,
    );
    let moved = told(&inlined, &Policy::default());
    assert!(matches!(&moved[..], [(name, Status::Shifted(_))] if name == "send"), "{moved:?}");
    assert!(
        told(&inlined, &Policy { fail_on_shifted: true, ..Policy::default() })
            .iter()
            .any(|(_, of)| *of == Status::Fails)
    );
    // It was renamed.
    let renamed =
        compare(with(&[(&["main", "loop", "encode"], 600)]), with(&[(&["main", "loop", "encode_all"], 600)]), None);
    let moved = told(&renamed, &Policy::default());
    assert!(matches!(&moved[..], [(name, Status::Shifted(_))] if name == "encode_all"), "{moved:?}");
    // Another caller has it now: both together have as much as before.
    let other = compare(
        with(&[(&["main", "loop", "a", "encode"], 600), (&["main", "loop", "b", "encode"], 20)]),
        with(&[(&["main", "loop", "a", "encode"], 20), (&["main", "loop", "b", "encode"], 600)]),
        None,
    );
    let moved = told(&other, &Policy::default());
    assert!(!moved.iter().any(|(_, status)| *status == Status::Fails), "{moved:?}");
}

#[test]
fn a_saturated_program_hides_no_regression() {
    // All CPUs are busy: what `hash` takes more, all others have less.
    let stacks = |hash: i64, others: f64| {
        let of = |count: f64| about((count * others).round() as i64, 3);
        side(&[
            (&["main", "hash"], &about(hash, 1)),
            (&["main", "read"], &of(900.0)),
            (&["main", "write"], &of(700.0)),
            (&["main", "sort"], &of(1400.0)),
        ])
    };
    let comparison = compare(stacks(1000, 1.0), stacks(1600, 0.8), None);
    assert_eq!(told(&comparison, &Policy::default()), [("hash".to_owned(), Status::Fails)]);
}

#[test]
fn what_rises_alike_is_one_finding_and_none_by_share_or_work() {
    let stacks = |factor: i64| {
        side(&[
            (&["main", "read"], &about(300 * factor / 10, 1)),
            (&["main", "write"], &about(400 * factor / 10, 2)),
            (&["main", "sort"], &about(500 * factor / 10, 3)),
            (&["main", "copy"], &about(600 * factor / 10, 4)),
        ])
    };
    let policy = Policy::default();
    assert_eq!(told(&compare(stacks(10), stacks(15), None), &policy), [("everything".to_owned(), Status::Fails)]);
    assert_eq!(told(&compare(stacks(10), stacks(15), Some(Normalize::Share)), &policy), []);
    assert_eq!(told(&compare(stacks(10), stacks(15), Some(Normalize::Work([1000.0, 1500.0]))), &policy), []);
    let dearer = compare(stacks(10), stacks(15), Some(Normalize::Work([1000.0, 1000.0])));
    assert_eq!(told(&dearer, &policy), [("everything".to_owned(), Status::Fails)]);
}

#[test]
fn what_went_away_does_not_fail() {
    let stacks = |burst: i64| {
        let during = move |window: usize| if window < 7 { 300 + burst } else { 300 } + about(0, 2)(window);
        side(&[
            (&["main", "warm"], &during),
            (&["main", "serve"], &about(2000, 1)),
            (&["main", "read"], &about(900, 4)),
        ])
    };
    // The variance of such a burst is large: it must be large to count at all.
    let found = told(&compare(stacks(0), stacks(0), None), &Policy::default());
    assert_eq!(found, []);
    let found = told(&compare(stacks(0), stacks(3000), None), &Policy::default());
    assert!(!found.iter().any(|(_, status)| *status == Status::Fails), "{found:?}");
}

#[test]
fn a_new_function_fails_and_one_that_is_ignored_does_not() {
    let stacks = |new: i64| {
        side(&[
            (&["main", "serve"], &about(2000, 1)),
            (&["main", "audit"], &move |window| if new > 0 { about(new, 2)(window) } else { 0 }),
        ])
    };
    let comparison = compare(stacks(0), stacks(100), None);
    assert_eq!(told(&comparison, &Policy::default()), [("audit".to_owned(), Status::Fails)]);
    let rule = rprof::profile::compare::gate::Rule {
        function: Some(regex::Regex::new("^audit$").unwrap()),
        ignore: true,
        reason: Some("wanted".into()),
        ..Default::default()
    };
    let policy = Policy { rules: vec![rule], ..Policy::default() };
    assert_eq!(told(&comparison, &policy), [("audit".to_owned(), Status::Ignored(Some("wanted".into())))]);
    assert_eq!(told(&compare(stacks(100), stacks(0), None), &Policy::default()), []);
}

/// What functions waited in 24 minutes, each wait a sample of its own weight: one in a hundred lasts thirty times as long as most. `first`
/// is what the first one's waits are multiplied by.
fn waits(first: f64, random: &mut SmallRng) -> Evidence {
    let mut evidence = Evidence::new(EvidenceOptions::default());
    let names = ["accept", "read", "write", "lock", "poll", "fsync", "sleep", "join"];
    let (number, length) = (Poisson::new(60.0).unwrap(), LogNormal::new(15.0, 1.5).unwrap());
    for window in 0..24 {
        let mut profile = empty(window);
        profile.sample_types[1] = profile.value_type("off_cpu", "nanoseconds");
        for name in names {
            for _ in 0..number.sample(random) as i64 {
                add(&mut profile, &["main", name], 1, &[]);
                let longer = if name == names[0] { first } else { 1.0 };
                profile.samples.last_mut().unwrap().values[1] = (length.sample(random) * longer) as i64;
            }
        }
        evidence.add(&profile, 0, None).unwrap();
    }
    evidence
}

#[test]
fn waits_of_very_different_length_are_judged_by_their_means() {
    for (longer, least) in [(1.0, 0), (2.0, 38)] {
        let (mut found, mut inconclusive) = (0, 0);
        for seed in 0..40 {
            let mut random = SmallRng::seed_from_u64(seed);
            let comparison = compare(waits(1.0, &mut random), waits(longer, &mut random), None);
            // A doubled wait of one function of eight is at its least a rise by a tenth or so of all.
            let report = comparison.gate(&Policy { detect: 0.1, ..Policy::default() });
            inconclusive += usize::from(report.outcome == Outcome::Inconclusive);
            let told = told(&comparison, &Policy::default());
            for (name, _) in told.iter().filter(|(_, status)| *status == Status::Fails) {
                // All waits together are an eighth longer then, of which it need not be sure that one function explains it.
                assert!(
                    longer > 1.0 && ["accept", "everything"].contains(&&**name),
                    "{longer} times, seed {seed}: {told:?}"
                );
                found += usize::from(name == "accept");
            }
        }
        assert_eq!(inconclusive, 0, "{longer} times");
        assert!(found >= least, "{longer} times: found {found} of 40");
    }
}

/// A timed file of so many seconds: `hash` has `share` of a hundred samples a second.
fn timed_file(path: &Path, seconds: i64, hash: i64, change: impl Fn(&mut Profile)) -> PathBuf {
    let mut profile = empty(0);
    profile.time_nanos = 1_795_442_400_000_000_000;
    profile.duration_nanos = seconds * 1_000_000_000;
    let [key, unit] = [TIME_LABEL, "nanoseconds"].map(|text| profile.strings.intern(text));
    let start = profile.time_nanos;
    for at in 0..seconds * 10 {
        let label = [Label { key, value: LabelValue::Number(start + at * 100_000_000, unit) }];
        add(&mut profile, &["main", "hash"], hash + at % 3, &label);
        add(&mut profile, &["main", "parse"], 40 + at % 5, &label);
        add(&mut profile, &["main", "render"], 30 + at % 7, &label);
    }
    change(&mut profile);
    write_file(path, Format::by_name("pprof").unwrap(), &profile).unwrap();
    path.into()
}

fn gate(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = rprof().arg("gate").args(arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

#[test]
fn the_exit_status_tells() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let base = timed_file(&file("base.pb.gz"), 20, 20, |_| {});
    let same = timed_file(&file("same.pb.gz"), 20, 20, |_| {});
    let slow = timed_file(&file("slow.pb.gz"), 20, 30, |_| {});
    let short = timed_file(&file("short.pb.gz"), 2, 20, |_| {});
    let untimed = timed_file(&file("untimed.pb.gz"), 20, 20, |profile| {
        profile.samples.iter_mut().for_each(|sample| sample.labels.clear());
    });
    let event = timed_file(&file("event.pb.gz"), 20, 20, |profile| {
        profile.comment("event cpu-clock: value=cpu unit=nanoseconds frequency=999 period=0 lost=0 throttled=0");
    });
    let unit = timed_file(&file("unit.pb.gz"), 20, 20, |profile| {
        let off = profile.value_type("off_cpu", "nanoseconds");
        profile.sample_types[1] = off;
    });
    let [base, same, slow, short, untimed, event, unit] =
        [&base, &same, &slow, &short, &untimed, &event, &unit].map(|path| path.to_str().unwrap().to_owned());
    let policy = file("policy.toml");
    std::fs::write(&policy, "[[rule]]\nfunction = \"hash\"\nmax_regression = 0.9\n").unwrap();
    let wrong = file("wrong.toml");
    std::fs::write(&wrong, "max_regresion = 0.9\n").unwrap();
    for (arguments, status, says) in [
        (vec![&*base, &same], 0, "pass: nothing of"),
        (vec![&base, &slow], 1, "FAILS hash"),
        (vec![&base, &slow, "--max-regression", "80%", "--detect", "10%"], 0, "pass"),
        (vec![&base, &slow, "--min-share", "50%", "--detect", "60%"], 0, "pass"),
        // What one function may have more, its callers have with it.
        (vec![&base, &slow, "--policy", policy.to_str().unwrap()], 0, "pass"),
        (vec![&base, &slow, "--focus", "render"], 0, "pass"),
        (vec![&base, &slow, "--quiet"], 1, ""),
        (vec![&base, &short], 3, "sub-windows, and 12 are needed"),
        (vec![&base, &untimed], 3, "record with --timestamps"),
        (vec![&base, &same, "--detect", "0.01%"], 3, "too few samples"),
        (vec![&base, &event], 2, "different events or frequencies"),
        (vec![&base, &event, "--force"], 0, "pass"),
        (vec![&base, &unit], 2, "they count different things: cpu in nanoseconds and off_cpu in nanoseconds"),
        (vec![&base, "/nowhere.pb.gz"], 2, "the new side: there is no file"),
        (vec![&base], 2, "name both sides"),
        (vec![&base, &same, "--policy", wrong.to_str().unwrap()], 2, "unknown field `max_regresion`"),
        (vec![&base, &same, "--max-regression", "lots"], 2, "is no share"),
        (vec![&base, &same, "--no-such-option"], 2, "unexpected argument"),
    ] {
        let (code, output) = gate(&arguments);
        assert_eq!(code, Some(status), "{arguments:?}: {output}");
        assert!(output.contains(says), "{arguments:?}: {output}");
    }
}

#[test]
fn what_is_unlike_is_refused_and_compared_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, change: &dyn Fn(&mut Profile)| {
        timed_file(&folder.path().join(name), 20, 20, change).to_str().unwrap().to_owned()
    };
    let comments = |lines: &'static [&'static str]| {
        move |profile: &mut Profile| lines.iter().for_each(|line| profile.comment(line))
    };
    let event = |frequency: u32, lost: u32| {
        move |profile: &mut Profile| {
            profile.comment("samples.taken=18000");
            profile.comment(&format!(
                "event cpu-clock: value=cpu unit=nanoseconds frequency={frequency} period=0 lost={lost} throttled=0 samples=18000"
            ));
        }
    };
    let nameless = |profile: &mut Profile| {
        let name = profile.strings.intern("[unknown]");
        let parse = profile.functions.iter().position(|function| profile.text(function.name) == "parse").unwrap();
        profile.functions[parse].name = name;
    };
    let plain = file("plain.pb.gz", &|_| {});
    let sampled = file("sampled.pb.gz", &event(999, 0));
    let whole = file("whole.pb.gz", &comments(&["stacks.root=95", "stacks.truncated=5"]));
    for (base, new, says) in [
        (
            &sampled,
            file("frequency.pb.gz", &event(499, 0)),
            "different events or frequencies: cpu-clock at 999 and cpu-clock at 499",
        ),
        (&plain, file("cpus.pb.gz", &comments(&["cpus=8"])), "different numbers of CPUs were watched: 2 and 8"),
        (
            &plain,
            file("nameless.pb.gz", &nameless),
            "the shares without a name or a root differ: 0.0 % of the base, 43.8 % of the new side",
        ),
        (
            &sampled,
            file("lost.pb.gz", &event(999, 2000)),
            "the shares of lost samples differ: 0.0 % of the base, 9.4 % of the new side",
        ),
        (
            &whole,
            file("cut.pb.gz", &comments(&["stacks.root=80", "stacks.truncated=20"])),
            "the shares of whole stacks differ: 95.0 % of the base, 80.0 % of the new side",
        ),
    ] {
        let (code, output) = gate(&[base, &new]);
        assert!(code == Some(2) && output.contains(says) && output.contains("--force"), "{code:?} {says}: {output}");
        // What is unlike differs in nothing else, but for a function's name.
        let (code, output) = gate(&[base, &new, "--force", "--ignore", "parse|unknown", "--normalize", "share"]);
        assert!(code == Some(0), "{code:?} {says}: {output}");
        let (_, output) = gate(&[base, &new, "--force", "--json"]);
        let document: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert!(document["warnings"][0].as_str().unwrap().contains(says), "{}", document["warnings"]);
    }
    // Of what filters leave, no more was lost than of all.
    let few = timed_file(&folder.path().join("few.pb.gz"), 20, 5, event(999, 1000)).to_str().unwrap().to_owned();
    let many = timed_file(&folder.path().join("many.pb.gz"), 20, 20, event(999, 1000)).to_str().unwrap().to_owned();
    let (code, output) = gate(&[&few, &many, "--focus", "hash"]);
    assert!(code == Some(1) && output.contains("FAILS hash"), "{code:?}: {output}");
}

/// The ways to compare a side of which filters left nothing: of files that filters by name left, shares are of all samples.
const NORMALIZATIONS: [&[&str]; 4] =
    [&["--normalize", "cpus"], &["--normalize", "samples"], &["--work", "100", "100"], &["--normalize", "share"]];

fn verdict(arguments: &[&str], function: &str) -> (serde_json::Value, serde_json::Value) {
    let output = rprof().arg("diff").args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = document["functions"].as_array().unwrap().iter().find(|of| of["function"] == function).cloned();
    (of.unwrap_or_else(|| panic!("no {function}: {document}"))["verdict"].take(), document["variance"].clone())
}

#[test]
fn a_side_of_which_filters_leave_nothing_has_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let labelled = |comm: &str| {
        let label = ("comm".to_owned(), comm.to_owned());
        move |profile: &mut Profile| profile.add_labels(std::slice::from_ref(&label))
    };
    let old = timed_file(&folder.path().join("old.pb.gz"), 20, 20, labelled("old"));
    let new = timed_file(&folder.path().join("new.pb.gz"), 20, 20, |profile| {
        let name = profile.strings.intern("hash_all");
        let hash = profile.functions.iter().position(|function| profile.text(function.name) == "hash").unwrap();
        profile.functions[hash].name = name;
        labelled("new")(profile);
    });
    let [old, new] = [old.to_str().unwrap(), new.to_str().unwrap()];
    for normalization in NORMALIZATIONS {
        let with = |more: &[&'static str]| [&[old, new], normalization, more].concat();
        assert_eq!(verdict(&with(&["--focus", "hash_all"]), "hash_all"), ("new".into(), "measured".into()));
        assert_eq!(verdict(&with(&["--focus", "hash$"]), "hash"), ("gone".into(), "measured".into()));
        let (code, output) = gate(&with(&["--focus", "hash_all"]));
        assert!(code == Some(1) && output.contains("FAILS hash_all"), "{normalization:?} {code:?}: {output}");
        // That it is gone may be good, or a name that nobody looked for.
        let (code, output) = gate(&with(&["--focus", "hash$"]));
        assert_eq!(code, Some(3), "{normalization:?}: {output}");
        assert!(output.contains("the new side has no samples of what is compared"), "{normalization:?}: {output}");
    }
    for (selector, function, expected, status) in
        [("comm=\"new\"", "hash_all", "new", 1), ("comm=\"old\"", "hash", "gone", 3)]
    {
        let with = |normalization: &[&'static str]| [&[old, new], normalization, &["--where", selector]].concat();
        for normalization in &NORMALIZATIONS[..3] {
            assert_eq!(verdict(&with(normalization), function), (expected.into(), "measured".into()));
            assert_eq!(gate(&with(normalization)).0, Some(status), "{normalization:?} {selector}");
        }
        // A selector says what all is, and of nothing there are no shares.
        let (code, output) = gate(&with(NORMALIZATIONS[3]));
        assert!(code == Some(2) && output.contains("compare with --normalize samples"), "{code:?}: {output}");
    }
    // A version of which there is nothing is no side.
    let (code, output) = gate(&[old, new, "--label", "comm", "old", "newest"]);
    assert!(code == Some(2) && output.contains("the new side has no profile"), "{code:?}: {output}");
}

#[test]
fn windows_of_which_nothing_was_asked_for_have_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    for minute in 0..30_i64 {
        let mut window = empty(0);
        window.time_nanos = (START + 60 * minute) * 1_000_000_000;
        let [pid, container, web, job] = ["pid", "container", "web", "job"].map(|text| window.strings.intern(text));
        let of = |number, container_name| {
            let number = LabelValue::Number(number, rprof::profile::StringId::EMPTY);
            [Label { key: pid, value: number }, Label { key: container, value: LabelValue::Text(container_name) }]
        };
        add(&mut window, &["main", "serve"], 500 + minute % 7, &of(7, web));
        if minute >= 15 {
            add(&mut window, &["main", "audit"], 300 + minute % 5, &of(8, job));
        }
        writer.write(&name(60 * minute, 60 * (minute + 1)), &window, pprof()).unwrap();
    }
    let times = |from: i64, to: i64| {
        format!("{}@@{}..@{}", folder.path().to_str().unwrap(), START + from * 60, START + to * 60)
    };
    let (before, after) = (times(0, 15), times(15, 30));
    for normalization in &NORMALIZATIONS[..3] {
        for (sides, expected, status) in [([&before, &after], "new", 1), ([&after, &before], "gone", 3)] {
            let asked = [&[&**sides[0], sides[1], "--where", "container=\"job\""], *normalization].concat();
            assert_eq!(verdict(&asked, "audit"), (expected.into(), "measured".into()));
            let (code, output) = gate(&asked);
            assert_eq!(code, Some(status), "{asked:?}: {output}");
        }
    }
    let asked = [&*before, &after, "--where", "container=\"job\"", "--normalize", "share"];
    let (code, output) = gate(&asked);
    assert!(code == Some(2) && output.contains("nothing is a share of none"), "{code:?}: {output}");
}

#[test]
fn results_are_written_for_pipelines() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "evil]]>\"'&<script>alert(1)</script>`|\u{1b}[31m";
    let rename = |profile: &mut Profile| {
        let name = profile.strings.intern(hostile);
        let hash = profile.functions.iter().position(|function| profile.text(function.name) == "hash").unwrap();
        profile.functions[hash].name = name;
    };
    let base = timed_file(&folder.path().join("base.pb.gz"), 20, 20, rename);
    let slow = timed_file(&folder.path().join("slow.pb.gz"), 20, 30, rename);
    let [junit, json, markdown] = ["out.xml", "out.json", "out.md"].map(|name| folder.path().join(name));
    let status = rprof()
        .arg("gate")
        .args([&base, &slow])
        .arg("--junit")
        .arg(&junit)
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(&markdown)
        .output()
        .unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&status.stdout).contains('\u{1b}'));
    let xpath = |query: &str| {
        let output = Command::new("xmllint").args(["--xpath", query]).arg(&junit).output().expect("xmllint runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(xpath("string(/testsuites/testsuite/@tests)"), "2");
    assert_eq!(xpath("count(//testcase/failure[@type='regression'])"), "1");
    let name = xpath("string(//testcase[failure]/@name)");
    assert!(name.contains("evil]]>"), "{name}");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(document["outcome"], "regression");
    assert_eq!(document["findings"][0]["status"], "fails");
    assert!(document["findings"][0]["name"].as_str().unwrap().contains("<script>"));
    assert!(document["detectable"].as_array().unwrap().len() == 4);
    let text = std::fs::read_to_string(&markdown).unwrap();
    assert!(text.contains("**fails**") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("``evil"), "{text}");
}

/// Seconds of CPU time of each recording of a real program, and samples a second: some 12,000 samples. Of user code alone: what else the
/// machine does meanwhile shows in the kernel's part.
const RECORD: [&str; 7] = ["record", "--timestamps", "-e", "cpu-clock:u", "-F", "2999", "-q"];
const SECONDS: &str = "4";

fn recorded(program: &Path, folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    let status = rprof().args(RECORD).arg("-o").arg(&file).arg("--").arg(program).arg(SECONDS).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    file
}

#[test]
fn two_builds_of_a_real_program_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, slow] = [&["-O1"][..], &["-O1", "-DSLOW=2"]].map(|flags| programs::c("steps.c", flags));
    let base = recorded(&plain, folder.path(), "base.pb.gz");
    // By share: another process on this machine must not look like a change.
    let judge = |file: &Path| gate(&[base.to_str().unwrap(), file.to_str().unwrap(), "--normalize", "share"]);
    for round in 0..2 {
        let (code, output) = judge(&recorded(&slow, folder.path(), &format!("slow{round}.pb.gz")));
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("FAILS hash"), "{output}");
        assert_eq!(output.matches("FAILS").count(), 1, "{output}");
        let (code, output) = judge(&recorded(&plain, folder.path(), &format!("same{round}.pb.gz")));
        assert_ne!(code, Some(1), "{output}");
        assert!(!output.contains("FAILS"), "{output}");
    }
}
