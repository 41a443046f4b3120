//! How much values vary when nothing has changed.
//!
//! Samples of a steady program are independent: their number varies as Poisson's, and so does no real program's. So the variance of a
//! function's count k in a sub-window where μ are expected is taken as that of the negative binomial distribution, `μ + α μ²`: α is the
//! square of the relative wobble of the function's true cost from one sub-window to the next. It is estimated for each function by moments,
//! and drawn towards what all functions have together as far as its own estimate is uncertain. It is never below Poisson's (α ≥ 0).
//!
//! Two corrections are of all functions together, since one alone knows too little of them: neighbouring sub-windows that resemble each
//! other tell less than independent ones, and several recordings of one side differ by more than the sub-windows of each tell (memory lies
//! elsewhere, the machine is warmer).

use super::evidence::{SubWindow, Sums};
use super::{ENOUGH_WINDOWS, Normalize};

/// The wobble that is assumed where it cannot be estimated: a tenth, squared.
const ASSUMED: f64 = 0.01;
/// How much weight the estimate of all functions has, in degrees of freedom.
const PRIOR: f64 = 10.0;
/// A wobble that no one would notice (3 %, squared): the estimate of all functions is not surer than this.
const UNNOTICED: f64 = 0.001;
/// A function that varies more than its estimate by so many standard deviations is one of its own kind, and is not drawn to the others.
const OUTLIER: f64 = 3.0;
/// Neighbours that resemble each other widen intervals at most by the root of this.
const MOST_SERIAL: f64 = 5.0;
/// Sub-windows with fewer expected samples tell nothing of their neighbours.
const TELLING: f64 = 2.0;

/// The sub-windows of one side, and what values are divided by in each.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposure {
    pub(super) parts: Vec<f64>,
    pub(super) runs: Vec<u32>,
    pub(super) total: f64,
}

impl Exposure {
    /// The exposure of each sub-window in this normalization. `state` values are of a moment and not of a time.
    pub(super) fn new(windows: &[SubWindow], normalize: Normalize, side: usize, unit: &str, state: bool) -> Exposure {
        let seconds: f64 = windows.iter().map(|window| window.seconds).sum();
        #[allow(clippy::cast_precision_loss, reason = "a number of sub-windows")]
        let number = windows.len().max(1) as f64;
        let by_time = |window: &SubWindow| if seconds > 0.0 { window.seconds / seconds } else { 1.0 / number };
        let all: f64 = windows.iter().map(|window| window.all.value.max(0.0)).sum();
        // How much of the work was done in each sub-window nobody told: where more was sampled, more was done.
        let by_value = |window: &SubWindow| if all > 0.0 { window.all.value.max(0.0) / all } else { by_time(window) };
        let nanos = if unit == "nanoseconds" { 1e9 } else { 1.0 };
        let part = |window: &SubWindow| match normalize {
            Normalize::Cpus if state => 1.0,
            Normalize::Cpus => window.cpu_seconds * nanos,
            Normalize::Share => window.all.value.max(0.0),
            Normalize::Samples => by_value(window),
            Normalize::Work(units) => by_value(window) * units[side],
        };
        let parts: Vec<f64> = windows.iter().map(part).collect();
        let total = parts.iter().sum();
        Exposure { parts, runs: windows.iter().map(|window| window.run).collect(), total }
    }

    /// The recordings of this side.
    fn run_count(&self) -> usize {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        runs.dedup();
        runs.len()
    }
}

/// A function's values in the sub-windows of both sides, and their sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series<'a> {
    pub(super) values: [&'a [f64]; 2],
    pub(super) sums: [Sums; 2],
}

/// What is known of the variance.
#[derive(Clone, Debug, Default)]
pub(super) struct Noise {
    pub(super) exposure: [Exposure; 2],
    /// Values weigh very differently from sample to sample: counts say little of them, and each sub-window's mean is one observation.
    pub(super) by_means: bool,
    /// Values are divided by their sum: what has all of it cannot vary.
    pub(super) of_shares: bool,
    /// Whether there are enough sub-windows on both sides.
    pub(super) measured: bool,
    /// α of all functions.
    pub(super) common: f64,
    /// What neighbours that resemble each other multiply a variance by.
    pub(super) serial: f64,
    /// The square of the relative difference between recordings of one side.
    pub(super) between: f64,
    /// Degrees of freedom of what all functions have together.
    prior: f64,
}

/// The variance of a rate, the degrees of freedom it is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub(super) variance: [f64; 2],
    pub(super) freedom: f64,
}

/// A function's own estimate of α.
#[derive(Clone, Copy)]
struct Own {
    alpha: f64,
    /// Samples that are expected in a sub-window.
    mean: f64,
    freedom: f64,
    is_outlier: bool,
}

impl Noise {
    /// What all functions tell together of how much they vary.
    pub(super) fn of<'a>(
        exposure: [Exposure; 2],
        by_means: bool,
        of_shares: bool,
        series: impl Iterator<Item = Series<'a>> + Clone,
    ) -> Noise {
        let measured = exposure.iter().all(|side| side.parts.len() >= ENOUGH_WINDOWS && side.total > 0.0);
        let mut noise =
            Noise { exposure, by_means, of_shares, measured, common: ASSUMED, serial: 1.0, ..Noise::default() };
        if !measured || by_means {
            return noise;
        }
        let own: Vec<Own> = series.clone().filter_map(|series| noise.own(&series)).collect();
        #[allow(clippy::cast_precision_loss, reason = "a number of functions")]
        let number = own.len() as f64;
        noise.prior = PRIOR * number / (number + PRIOR);
        for _ in 0..3 {
            let weight = |of: &Own| of.freedom / (1.0 / of.mean + noise.common.max(UNNOTICED)).powi(2);
            let (sum, weights) =
                own.iter().fold((0.0, 0.0), |(sum, weights), of| (sum + weight(of) * of.alpha, weights + weight(of)));
            noise.common = if weights > 0.0 { (sum / weights).max(0.0) } else { ASSUMED };
        }
        noise.serial = noise.serial_factor(series.clone());
        noise.between = noise.between_runs(series);
        noise
    }

    /// Values as numbers of samples: what one sample weighs on each side.
    fn weights(&self, series: &Series<'_>) -> [f64; 2] {
        let mean = |square: f64, value: f64| if value > 0.0 && square > 0.0 { Some(square / value) } else { None };
        let both = series.sums[0].square + series.sums[1].square;
        let common = mean(both, series.sums[0].value + series.sums[1].value).unwrap_or(1.0);
        series.sums.map(|sums| mean(sums.square, sums.value).unwrap_or(common))
    }

    /// A function's own α, by moments over the sub-windows of both sides.
    fn own(&self, series: &Series<'_>) -> Option<Own> {
        let weights = self.weights(series);
        let (mut excess, mut squares, mut windows, mut expected, mut scaled) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for side in [0, 1] {
            let Exposure { parts, total, .. } = &self.exposure[side];
            let rate = series.sums[side].value / weights[side] / total;
            for (value, part) in series.values[side].iter().zip(parts) {
                let mean = rate * part;
                let off = (value / weights[side] - mean).powi(2);
                excess += off - mean * (1.0 - part / total);
                squares += mean * mean * (1.0 - part / total);
                scaled += if mean > 0.0 { off / (mean + self.common * mean * mean) } else { 0.0 };
                expected += mean;
                windows += 1.0;
            }
        }
        let freedom: f64 = windows - 2.0;
        let is_outlier = scaled > freedom + OUTLIER * (2.0 * freedom).sqrt();
        (squares > 0.0).then(|| Own { alpha: excess / squares, mean: expected / windows, freedom, is_outlier })
    }

    /// A function's α drawn to that of all, and the degrees of freedom of the result.
    fn alpha(&self, series: &Series<'_>) -> (f64, f64) {
        if !self.measured {
            return (ASSUMED, f64::INFINITY);
        }
        let Some(own) = self.own(series) else { return (self.common, self.prior.max(1.0)) };
        let precision = own.freedom / (1.0 / own.mean + self.common).powi(2);
        let prior = self.prior / (self.common + UNNOTICED).powi(2);
        let drawn = ((precision * own.alpha + prior * self.common) / (precision + prior)).max(0.0);
        if own.is_outlier { (drawn.max(own.alpha), own.freedom) } else { (drawn, own.freedom + self.prior) }
    }

    /// The variance of a function's rate on each side.
    pub(super) fn spread(&self, series: &Series<'_>) -> Spread {
        if self.by_means { self.spread_of_means(series) } else { self.spread_of_counts(series) }
    }

    fn spread_of_counts(&self, series: &Series<'_>) -> Spread {
        let (alpha, freedom) = self.alpha(series);
        let weights = self.weights(series);
        let side = |side: usize| {
            let Exposure { total, .. } = &self.exposure[side];
            let count = series.sums[side].value.max(0.0) / weights[side];
            // Where nothing was seen, one sample might have been.
            let relative = self.relative(side, alpha);
            // Of a share p of samples the number varies as a binomial one: by 1 − p of what Poisson's does.
            let others = if self.of_shares { (1.0 - series.sums[side].value / total).clamp(1e-12, 1.0) } else { 1.0 };
            (count.max(1.0) + relative * count * count) * others * (weights[side] / total).powi(2)
        };
        Spread { variance: [side(0), side(1)], freedom }
    }

    /// The part of the relative variance of a rate that more samples do not lessen.
    pub(super) fn relative(&self, side: usize, alpha: f64) -> f64 {
        let Exposure { parts, total, .. } = &self.exposure[side];
        let squares: f64 = parts.iter().map(|part| (part / total).powi(2)).sum();
        let runs: f64 = self.run_parts(side).iter().map(|part| (part / total).powi(2)).sum();
        alpha * self.serial * squares + self.between * runs
    }

    /// The exposure of each recording.
    fn run_parts(&self, side: usize) -> Vec<f64> {
        let Exposure { parts, runs, .. } = &self.exposure[side];
        let mut sums = std::collections::BTreeMap::new();
        parts.iter().zip(runs).for_each(|(part, run)| *sums.entry(run).or_insert(0.0) += part);
        sums.into_values().collect()
    }

    /// Welch's: each sub-window's mean is one observation, weighted by its exposure. Never below what single samples alone would give.
    fn spread_of_means(&self, series: &Series<'_>) -> Spread {
        let side = |side: usize| {
            let Exposure { parts, total, .. } = &self.exposure[side];
            #[allow(clippy::cast_precision_loss, reason = "a number of sub-windows")]
            let number = parts.len() as f64;
            let rate = series.sums[side].value / total;
            let off: f64 =
                series.values[side].iter().zip(parts).map(|(value, part)| (value - rate * part).powi(2)).sum();
            let least = series.sums[side].square.max(self.weights(series)[side].powi(2)) / total.powi(2);
            let variance = if self.measured {
                off / total.powi(2) * number / (number - 1.0)
            } else {
                off / total.powi(2) + ASSUMED * rate * rate / number.max(1.0)
            };
            (variance.max(least), number)
        };
        let [(first, firsts), (second, seconds)] = [side(0), side(1)];
        let freedom = if self.measured {
            (first + second).powi(2) / (first * first / (firsts - 1.0) + second * second / (seconds - 1.0))
        } else {
            f64::INFINITY
        };
        Spread { variance: [first, second], freedom }
    }

    /// How much neighbours resemble each other, over all functions: for a chain of first order with correlation ρ, the variance of a mean
    /// is (1 + ρ) / (1 − ρ) times that of independent observations.
    fn serial_factor<'a>(&self, series: impl Iterator<Item = Series<'a>>) -> f64 {
        let (mut products, mut squares, mut number) = (0.0_f64, 0.0_f64, 0.0_f64);
        for series in series {
            let weights = self.weights(&series);
            for side in [0, 1] {
                let Exposure { parts, total, runs } = &self.exposure[side];
                let rate = series.sums[side].value / weights[side] / total;
                let off = |at: usize| {
                    let mean = rate * parts[at];
                    let is_telling = mean >= TELLING;
                    is_telling.then(|| {
                        (series.values[side][at] / weights[side] - mean) / (mean + self.common * mean * mean).sqrt()
                    })
                };
                for at in 0..parts.len() {
                    let Some(here) = off(at) else { continue };
                    squares += here * here;
                    let next = if runs.get(at + 1) == Some(&runs[at]) { off(at + 1) } else { None };
                    products += next.map_or(0.0, |next| here * next);
                    number += 1.0;
                }
            }
        }
        if squares <= 0.0 || number < 1.0 {
            return 1.0;
        }
        #[allow(clippy::cast_precision_loss, reason = "a number of sub-windows")]
        let windows = (self.exposure[0].parts.len() + self.exposure[1].parts.len()) as f64 / 2.0;
        // Deviations from their own mean are a little against each other, even where nothing else is.
        let correlation = products / squares * windows / (windows - 1.0) + 1.0 / windows;
        // What a program that wobbles independently shows by chance is no resemblance.
        let chance = 2.0 / number.sqrt();
        let correlation = (correlation - chance).clamp(0.0, 0.9);
        ((1.0 + correlation) / (1.0 - correlation)).min(MOST_SERIAL)
    }

    /// How much recordings of one side differ beyond what their sub-windows explain, over all functions.
    fn between_runs<'a>(&self, series: impl Iterator<Item = Series<'a>>) -> f64 {
        let runs = [0, 1].map(|side: usize| self.exposure[side].run_count());
        let windows = [0, 1].map(|side: usize| self.exposure[side].parts.len());
        if (0..2).all(|side| runs[side] < 2 || windows[side] < 2 * runs[side]) {
            return 0.0;
        }
        let (mut excess, mut squares) = (0.0, 0.0);
        for series in series {
            let weights = self.weights(&series);
            let mean_count: f64 = (0..2).map(|side| series.sums[side].value / weights[side]).sum::<f64>() / 2.0;
            let precision = 1.0 / (1.0 / mean_count.max(1.0) + self.common).powi(2);
            for side in (0..2).filter(|&side| runs[side] >= 2) {
                let Exposure { parts, runs, total } = &self.exposure[side];
                let rate = series.sums[side].value / weights[side] / total;
                let mut of_runs: std::collections::BTreeMap<u32, (f64, f64, f64)> = std::collections::BTreeMap::new();
                for ((run, part), value) in runs.iter().zip(parts).zip(series.values[side]) {
                    let sums = of_runs.entry(*run).or_default();
                    let mean = rate * part;
                    sums.0 += value / weights[side];
                    sums.1 += mean;
                    sums.2 += mean + self.common * self.serial * mean * mean;
                }
                for (value, mean, variance) in of_runs.into_values() {
                    let share = 1.0 - mean / (rate * total).max(f64::MIN_POSITIVE);
                    excess += precision * ((value - mean).powi(2) - variance * share) / mean_count.max(1.0).powi(2);
                    squares += precision * mean * mean * share / mean_count.max(1.0).powi(2);
                }
            }
        }
        if squares > 0.0 { (excess / squares).max(0.0) } else { 0.0 }
    }
}
