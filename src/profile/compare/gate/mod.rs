//! Whether the new side has a regression: what a pipeline stops for.
//!
//! A function fails the gate if it has more beyond chance (one-sided, false discoveries controlled over all functions), if even the lower
//! bound of its ratio is above what is allowed, and if the difference is a share of the whole that matters. Of a function and those that
//! call it, which rise with it, the one nearest to the leaf is told; cost that moved, and what went away again, is told and does not fail.

mod findings;
mod guards;

use regex::Regex;

use super::noise::Series;
use super::statistics::quantile;
use super::{Comparison, ENOUGH_WINDOWS, Estimate, SIDES};

pub use guards::Unlike;

/// The probability with which a regression of the smallest detectable size is found: 0.9, as a standardized difference.
const POWER: f64 = 1.281_551_6;
/// The share of the whole at which the smallest detectable regression must be small enough for the gate to be worth anything.
const REFERENCE_SHARE: f64 = 0.05;
/// Shares for which the smallest detectable regression is told.
const TOLD_SHARES: [f64; 4] = [0.01, 0.05, 0.2, 1.0];

/// What is allowed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// A rise up to this share (0.05 is 5 %) is allowed.
    pub max_regression: f64,
    /// A rise of less than this share of the base's whole does not matter.
    pub min_share: f64,
    /// A rise by this share of the whole, of a function that has a twentieth of it, must be detectable; else the gate is inconclusive.
    pub detect: f64,
    /// Whether cost that moved fails too.
    pub fail_on_shifted: bool,
    /// For some functions and modules: what else is allowed. The first that matches counts.
    pub rules: Vec<Rule>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { max_regression: 0.05, min_share: 0.005, detect: 0.02, fail_on_shifted: false, rules: Vec::new() }
    }
}

/// What is allowed for some functions, or for whole modules.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Functions whose comparable name matches; `None` for all.
    pub function: Option<Regex>,
    /// Modules whose file name matches; `None` for all.
    pub module: Option<Regex>,
    /// Whatever they do, it does not fail.
    pub ignore: bool,
    /// In place of the policy's.
    pub max_regression: Option<f64>,
    /// In place of the policy's.
    pub min_share: Option<f64>,
    /// Why, for the report.
    pub reason: Option<String>,
}

/// How a gate ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No regression, and one that matters would have been seen.
    Pass,
    /// A regression.
    Regression,
    /// No regression was seen, but one might not have been.
    Inconclusive,
}

impl Outcome {
    /// Its name for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Regression => "regression",
            Outcome::Inconclusive => "inconclusive",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Everything together: an index of nothing.
    Whole,
    /// A file of code: an index of [`Comparison::modules`].
    Module(usize),
    /// A function in itself: an index of [`Comparison::functions`].
    Own(usize),
    /// A function with what it calls, no single one of which explains it.
    Total(usize),
}

/// What becomes of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It fails the gate.
    Fails,
    /// Its cost moved: within this function, others have as much less.
    Shifted(usize),
    /// The last third of the new side no longer shows it.
    WentAway,
    /// The policy says that it does not matter, and perhaps why.
    Ignored(Option<String>),
}

/// Something that has more than is allowed.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What has.
    pub subject: Subject,
    /// What became of it.
    pub status: Status,
    /// How much more.
    pub estimate: Estimate,
    /// What the difference is of the base's whole.
    pub share: f64,
    /// What is allowed for it.
    pub allowed: f64,
    /// Who called it more, those that did most first: functions with their part (0 to 1) of the difference.
    pub callers: Vec<(usize, f64)>,
    /// Functions further up that rose with it, and are no findings of their own.
    pub risen_with: Vec<usize>,
}

/// The smallest regression that would have been found, for a function with a share of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detectable {
    /// The function's share of the whole.
    pub share: f64,
    /// The ratio from which on it is found nine times of ten.
    pub ratio: f64,
}

/// What a gate tells.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ends.
    pub outcome: Outcome,
    /// What has more than is allowed, those that fail first, then by size.
    pub findings: Vec<Finding>,
    /// Why it is inconclusive, and what mends that.
    pub reasons: Vec<String>,
    /// What would have been found.
    pub detectable: Vec<Detectable>,
    /// Functions that were tested.
    pub tested: usize,
}

impl Report {
    /// The findings that fail.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.status == Status::Fails)
    }
}

/// What a rule or the policy allows.
pub(super) struct Allowed<'a> {
    pub(super) max_regression: f64,
    pub(super) min_share: f64,
    pub(super) rule: Option<&'a Rule>,
}

impl Policy {
    fn allowed(&self, function: &str, module: &str) -> Allowed<'_> {
        let matches = |rule: &&Rule| {
            rule.function.as_ref().is_none_or(|regex| regex.is_match(function))
                && rule.module.as_ref().is_none_or(|regex| regex.is_match(module))
        };
        let rule = self.rules.iter().find(matches);
        Allowed {
            max_regression: rule.and_then(|rule| rule.max_regression).unwrap_or(self.max_regression),
            min_share: rule.and_then(|rule| rule.min_share).unwrap_or(self.min_share),
            rule,
        }
    }
}

impl Comparison {
    /// Judges by a policy.
    #[must_use]
    pub fn gate(&self, policy: &Policy) -> Report {
        let tested = self.tested(policy);
        let findings = self.findings(policy, &tested);
        let detectable: Vec<Detectable> =
            TOLD_SHARES.iter().map(|&share| self.detectable(share, policy, tested.len())).collect();
        let reasons = self.doubts(policy, tested.len());
        let fails = findings.iter().any(|finding| finding.status == Status::Fails);
        let outcome = match (fails && self.measured, reasons.is_empty()) {
            (true, _) => Outcome::Regression,
            (false, false) => Outcome::Inconclusive,
            (false, true) => Outcome::Pass,
        };
        Report { outcome, findings, reasons, detectable, tested: tested.len() }
    }

    /// Why a pass would say nothing.
    fn doubts(&self, policy: &Policy, tested: usize) -> Vec<String> {
        let mut doubts = Vec::new();
        for (side, name) in self.sides.iter().zip(SIDES) {
            if side.samples == 0.0 {
                doubts.push(format!("the {name} side has no samples of what is compared"));
            } else if side.windows < ENOUGH_WINDOWS {
                let how = if side.about.timed == side.about.profiles {
                    format!("record longer, or more often: the {name} side lasts {:.1} s", side.seconds)
                } else {
                    format!(
                        "record with --timestamps, so that one file can be cut, or give at least {ENOUGH_WINDOWS} windows or files"
                    )
                };
                doubts.push(format!(
                    "the {name} side has {} sub-windows, and {ENOUGH_WINDOWS} are needed to tell how much values vary: {how}",
                    side.windows
                ));
            }
        }
        let reference = self.detectable(REFERENCE_SHARE, policy, tested);
        let seen = REFERENCE_SHARE * (reference.ratio - 1.0);
        if doubts.is_empty() && seen > policy.detect {
            doubts.push(format!(
                "too few samples for what they vary: of a function with {:.0} % of the whole, only a rise by {:.1} % of the whole would have been found, \
                 and {:.1} % must be (--detect); record longer or with a higher frequency",
                REFERENCE_SHARE * 100.0,
                seen * 100.0,
                policy.detect * 100.0
            ));
        }
        doubts
    }

    /// The smallest rise that would have been found of a function with this share of the whole.
    #[must_use]
    pub fn detectable(&self, share: f64, policy: &Policy, tested: usize) -> Detectable {
        let error = self.relative_error(share);
        #[allow(clippy::cast_precision_loss, reason = "a number of functions")]
        let first = self.options.false_discovery / (2.0 * tested.max(1) as f64);
        #[allow(clippy::cast_precision_loss, reason = "a number of sub-windows")]
        let freedom = (self.sides[0].windows + self.sides[1].windows) as f64;
        let beyond_chance = ((quantile(1.0 - first, freedom) + POWER) * error).exp();
        let by_bound = quantile(f64::midpoint(1.0, self.options.confidence), freedom) + POWER;
        let beyond_bound = (1.0 + policy.max_regression) * (by_bound * error).exp();
        let matters = 1.0 + policy.min_share / share;
        Detectable { share, ratio: beyond_chance.max(beyond_bound).max(matters) }
    }

    /// The standard error of the logarithm of the ratio of a function with this share of the whole.
    fn relative_error(&self, share: f64) -> f64 {
        let noise = &self.joint.noise;
        if noise.by_means {
            // What functions show, as far as their error falls with the root of their share.
            let whole = self.whole.rate[0].max(self.whole.rate[1]);
            let tells = |of: &&Estimate| of.error.is_finite() && of.rate.iter().all(|rate| *rate > 0.0);
            let mut scaled: Vec<f64> = self
                .functions
                .iter()
                .map(|change| &change.own)
                .filter(tells)
                .map(|own| own.error * own.error * (own.rate[0].max(own.rate[1]) / whole))
                .collect();
            scaled.sort_by(f64::total_cmp);
            let middle = scaled.get(scaled.len() / 2).copied().unwrap_or(f64::INFINITY);
            return (middle / share).sqrt().max(self.whole.error);
        }
        let variance: f64 = (0..2)
            .map(|side| {
                1.0 / (share * self.sides[side].samples).max(f64::MIN_POSITIVE) + noise.relative(side, noise.common)
            })
            .sum();
        variance.sqrt()
    }

    /// Whether the last third of the new side's sub-windows no longer shows what the whole of it does.
    pub(super) fn went_away(&self, series: &Series<'_>, allowed: f64) -> bool {
        let noise = &self.joint.noise;
        let parts = &noise.exposure[1].parts;
        let late = parts.len() - parts.len() / 3;
        let sum = |range: std::ops::Range<usize>| {
            let exposure: f64 = parts[range.clone()].iter().sum();
            (series.values[1][range].iter().sum::<f64>(), exposure)
        };
        let ((early, early_time), (last, last_time)) = (sum(0..late), sum(late..parts.len()));
        let base = series.sums[0].value / noise.exposure[0].total;
        if parts.len() < ENOUGH_WINDOWS || last_time <= 0.0 || early_time <= 0.0 || early <= 0.0 {
            return false;
        }
        let (early_rate, last_rate) = (early / early_time, last / last_time);
        let one = series.sums[1].value / series.sums[1].count.max(1.0);
        let wobble = noise.relative(1, noise.common) * noise.exposure[1].total;
        let variance = |value: f64, time: f64, rate: f64| rate * rate * (one / value.max(one) + wobble / time);
        let deviation =
            (variance(early, early_time, early_rate) + variance(last.max(one), last_time, early_rate)).sqrt();
        let fell = (early_rate - last_rate) / deviation > quantile(0.99, f64::INFINITY);
        fell && last_rate < (1.0 + allowed) * base
    }
}
