//! From two series of counts to a difference, its interval, and the probability that chance alone made it.

use super::noise::{Noise, Series};
use super::statistics::{at_least, quantile, share_bounds, upper_tail};

/// With fewer samples than this on a side, the logarithm of a ratio is no normal variable, and numbers are compared as such.
const FEW: f64 = 20.0;

/// What is known of how a rate changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// What was counted, by the exposure, of the base and the new side.
    pub rate: [f64; 2],
    /// Samples.
    pub samples: [f64; 2],
    /// The new rate less the base's.
    pub difference: f64,
    /// The least that the difference may be, at the confidence that was asked for.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// The new rate by the base's; infinite where the base has none, 1 where neither has.
    pub ratio: f64,
    /// The least that the ratio may be.
    pub ratio_low: f64,
    /// The most.
    pub ratio_high: f64,
    /// The standard error of the ratio's logarithm; infinite where a side has nothing.
    pub error: f64,
    /// The probability that chance alone makes the new rate so much higher.
    pub chance_up: f64,
    /// The probability that chance alone makes a difference so large.
    pub chance: f64,
    /// The false discovery rate at which it counts as changed, among all that were looked at.
    pub false_discovery: f64,
    /// Whether it changed, at the false discovery rate that was asked for.
    pub significant: bool,
}

impl Estimate {
    /// The estimate of a series; intervals have this confidence (0 to 1).
    pub(super) fn of(series: &Series<'_>, noise: &Noise, confidence: f64) -> Estimate {
        let spread = noise.spread(series);
        let rate = [0, 1].map(|side: usize| by(series.sums[side].value, noise.exposure[side].total));
        let worth = [0, 1].map(|side: usize| by(rate[side] * rate[side], spread.variance[side]));
        let miss = (1.0 - confidence) / 2.0;
        let reach = quantile(1.0 - miss, spread.freedom);
        let difference = rate[1] - rate[0];
        let margin = reach * (spread.variance[0] + spread.variance[1]).sqrt();
        let mut estimate = Estimate {
            rate,
            samples: series.sums.map(|sums| sums.count),
            difference,
            low: difference - margin,
            high: difference + margin,
            ratio: ratio(rate),
            error: (1.0 / worth[0] + 1.0 / worth[1]).sqrt(),
            false_discovery: 1.0,
            ..Estimate::default()
        };
        if worth.iter().all(|&worth| worth >= FEW) {
            estimate.by_logarithm(spread.freedom, reach);
        } else {
            estimate.by_number(worth, [0, 1].map(|side: usize| noise.exposure[side].total), miss);
        }
        estimate
    }

    /// Many samples: the logarithm of the ratio by its standard error.
    fn by_logarithm(&mut self, freedom: f64, reach: f64) {
        let log = self.ratio.ln();
        (self.ratio_low, self.ratio_high) = ((log - reach * self.error).exp(), (log + reach * self.error).exp());
        self.chance_up = upper_tail(log / self.error, freedom);
        let chance_down = upper_tail(-log / self.error, freedom);
        self.chance = (2.0 * self.chance_up.min(chance_down)).min(1.0);
    }

    /// Few samples: given how many there are of both sides, how many are the new one's. They count as so many as their variance tells.
    fn by_number(&mut self, worth: [f64; 2], exposure: [f64; 2], miss: f64) {
        // What one effective sample is of a rate. A side without any is taken to be as the other one.
        let one = |side: usize| (worth[side] > 0.0).then(|| self.rate[side] / worth[side]);
        let as_other = |side: usize| one(1 - side).map(|one| one * by(exposure[1 - side], exposure[side]));
        let one = [0, 1].map(|side| one(side).or_else(|| as_other(side)).filter(|one| *one > 0.0).unwrap_or(1.0));
        let share = by(one[0], one[0] + one[1]);
        self.chance_up = at_least(worth[0], worth[1], share);
        let chance_down = at_least(worth[1], worth[0], 1.0 - share);
        self.chance = (2.0 * self.chance_up.min(chance_down)).min(1.0);
        let (low, high) = share_bounds(worth[0], worth[1], miss);
        let of_share = |of: f64| if of >= 1.0 { f64::INFINITY } else { of / (1.0 - of) * one[1] / one[0] };
        (self.ratio_low, self.ratio_high) = (of_share(low), of_share(high));
    }

    /// Whether the base has nothing of it, and the new side has.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.rate[0] <= 0.0 && self.rate[1] > 0.0
    }

    /// Whether the new side has nothing of it, and the base has.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.rate[1] <= 0.0 && self.rate[0] > 0.0
    }
}

fn by(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn ratio(rate: [f64; 2]) -> f64 {
    match rate {
        [base, new] if base > 0.0 => new / base,
        [_, new] if new > 0.0 => f64::INFINITY,
        _ => 1.0,
    }
}
