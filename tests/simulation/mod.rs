//! Deploys that never happened: profiles whose true costs are known, so that it can be counted how often a gate is wrong.
//!
//! 500 functions share the samples by Zipf's law. In each sub-window the true cost of each function differs by a log-normal factor (its
//! wobble), and the samples of it are of Poisson's distribution. One case slows one function. The profiles go the way that those of the
//! command go: into `Evidence`, `Comparison::of` and `gate`.
#![allow(dead_code, clippy::expect_used, reason = "each user takes a part, and a profile that cannot be added fails")]

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, LogNormal, Poisson};
use rprof::profile::compare::gate::{Outcome, Policy, Report};
use rprof::profile::compare::{CompareOptions, Comparison, Evidence, EvidenceOptions};
use rprof::profile::{Function, FunctionId, Location, LocationId, Profile, Sample, SourceLine, cpus_comment};

/// Functions of the program.
pub(crate) const FUNCTIONS: usize = 500;
/// Nanoseconds between two samples.
const PERIOD: i64 = 10_000_000;

/// One kind of deploy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Samples of a side.
    pub(crate) samples: f64,
    /// The standard deviation of each function's cost from one sub-window to the next, as a share of it.
    pub(crate) wobble: f64,
    /// Sub-windows of a side.
    pub(crate) windows: usize,
    /// A function's share of the whole, and by how much its cost rises.
    pub(crate) slowed: Option<(f64, f64)>,
}

/// How often gates ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Trials.
    pub(crate) trials: usize,
    /// Gates that failed.
    pub(crate) failed: usize,
    /// Gates that named the slowed function.
    pub(crate) found: usize,
    /// Gates that failed for a function that was not slowed.
    pub(crate) wrong: usize,
    /// Gates that were inconclusive.
    pub(crate) inconclusive: usize,
}

/// Shares of the functions: the first is the one that a case slows, the others follow Zipf's law.
fn shares(case: &Case) -> Vec<f64> {
    let zipf: Vec<f64> = (1..=FUNCTIONS).map(|rank| 1.0 / rank as f64).collect();
    let sum: f64 = zipf.iter().sum();
    let first = case.slowed.map_or(zipf[FUNCTIONS - 1] / sum, |(share, _)| share);
    std::iter::once(first).chain(zipf[..FUNCTIONS - 1].iter().map(|share| share / sum * (1.0 - first))).collect()
}

/// A profile with a stack `main → function` for each function, and no counts.
fn template() -> Profile {
    let mut profile = Profile::default();
    let types = [("samples", "count"), ("cpu", "nanoseconds")].map(|(name, unit)| profile.value_type(name, unit));
    profile.sample_types = types.to_vec();
    profile.period_type = Some(types[1]);
    profile.period = PERIOD;
    profile.comment(&cpus_comment(2));
    for number in 0..=FUNCTIONS {
        let name = if number == 0 { "main".into() } else { format!("function_{number}") };
        let name = profile.strings.intern(&name);
        let id = u32::try_from(number).expect("few functions");
        profile.functions.push(Function { name, ..Function::default() });
        let lines = vec![SourceLine { function: FunctionId(id), line: 0, column: 0 }];
        profile.locations.push(Location { lines, ..Location::default() });
        if number > 0 {
            let stack = vec![LocationId(id), LocationId(0)];
            profile.samples.push(Sample { stack, values: vec![0, 0], labels: Vec::new() });
        }
    }
    profile
}

fn side(template: &Profile, case: &Case, slowed: bool, random: &mut SmallRng) -> Evidence {
    let mut evidence = Evidence::new(EvidenceOptions::default());
    let shares = shares(case);
    let sigma = (1.0 + case.wobble * case.wobble).ln().sqrt();
    let wobble = LogNormal::new(-sigma * sigma / 2.0, sigma).expect("a deviation");
    for window in 0..case.windows {
        let mut profile = template.clone();
        profile.time_nanos = 1 + i64::try_from(window).expect("few") * 60_000_000_000;
        profile.duration_nanos = 60_000_000_000;
        for (at, sample) in profile.samples.iter_mut().enumerate() {
            let mut mean = case.samples / case.windows as f64 * shares[at] * wobble.sample(random);
            if let Some((_, rise)) = case.slowed.filter(|_| slowed && at == 0) {
                mean *= 1.0 + rise;
            }
            let count = if mean > 0.0 { Poisson::new(mean).expect("a mean").sample(random) as i64 } else { 0 };
            sample.values = vec![count, count * PERIOD];
        }
        profile.retain_samples(|_, sample| sample.values[0] > 0);
        evidence.add(&profile, 0, None).expect("add a window");
    }
    evidence
}

/// One deploy, judged.
pub(crate) fn judge(case: &Case, seed: u64) -> (Comparison, Report) {
    let mut random = SmallRng::seed_from_u64(seed);
    let template = template();
    let (base, new) = (side(&template, case, false, &mut random), side(&template, case, true, &mut random));
    let comparison = Comparison::of(base, new, &CompareOptions::default()).expect("two sides of a kind");
    let report = comparison.gate(&Policy::default());
    (comparison, report)
}

/// Many deploys of a kind.
pub(crate) fn run(case: &Case, trials: usize) -> Tally {
    let mut tally = Tally { trials, ..Tally::default() };
    for seed in 0..trials {
        let (comparison, report) = judge(case, seed as u64);
        let named: Vec<String> = report
            .failures()
            .map(|finding| match finding.subject {
                rprof::profile::compare::gate::Subject::Own(at) | rprof::profile::compare::gate::Subject::Total(at) => {
                    comparison.functions[at].function.name.clone()
                }
                _ => "[whole]".into(),
            })
            .collect();
        let is_slowed = |name: &String| case.slowed.is_some() && name == "function_1";
        tally.failed += usize::from(report.outcome == Outcome::Regression);
        tally.found += usize::from(named.iter().any(is_slowed));
        tally.wrong += usize::from(named.iter().any(|name| !is_slowed(name)));
        tally.inconclusive += usize::from(report.outcome == Outcome::Inconclusive);
    }
    tally
}
