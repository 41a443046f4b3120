//! Distributions, from the crate `statrs`, and the control of false discoveries.

use statrs::distribution::{Beta, Continuous, ContinuousCDF, Normal, StudentsT};
use statrs::function::beta::beta_reg;

/// From so many degrees of freedom on, Student's t is the normal distribution to three digits.
const NORMAL_FROM: f64 = 1e3;

/// Steps to a quantile: ten are usual, and as many halve the bounds as far as numbers can be told apart.
const MAX_STEPS: usize = 100;

/// The probability that a standardized difference of estimates is at least `t` by chance, with so many degrees of freedom.
pub(super) fn upper_tail(t: f64, freedom: f64) -> f64 {
    // The distributions take no number that is none.
    if t.is_nan() {
        return 1.0;
    }
    let tail = if freedom >= NORMAL_FROM {
        Normal::new(0.0, 1.0).ok().map(|normal| normal.sf(t))
    } else {
        StudentsT::new(0.0, 1.0, freedom.max(1.0)).ok().map(|student| student.sf(t))
    };
    tail.filter(|tail| tail.is_finite()).unwrap_or(1.0)
}

/// The standardized difference that chance stays below with probability `level`.
pub(super) fn quantile(level: f64, freedom: f64) -> f64 {
    let level = level.clamp(1e-12, 1.0 - 1e-12);
    let quantile = if freedom >= NORMAL_FROM {
        Normal::new(0.0, 1.0).ok().map(|normal| normal.inverse_cdf(level))
    } else {
        StudentsT::new(0.0, 1.0, freedom.max(1.0)).ok().map(|student| student.inverse_cdf(level))
    };
    quantile.filter(|quantile| quantile.is_finite()).unwrap_or(f64::MAX.sqrt())
}

/// The probability that of `first + second` events at least `second` are of the second kind, where each is with probability `share`.
/// Numbers need not be whole: they may be of as many events as a sum that varies more is worth.
pub(super) fn at_least(first: f64, second: f64, share: f64) -> f64 {
    if second <= 0.0 { 1.0 } else { beta_reg(second, first + 1.0, share.clamp(0.0, 1.0)) }
}

/// The bounds of the share of the second kind of event (Clopper and Pearson), each missed with probability `miss`.
pub(super) fn share_bounds(first: f64, second: f64, miss: f64) -> (f64, f64) {
    let low = if second <= 0.0 { 0.0 } else { beta_quantile(second, first + 1.0, miss).unwrap_or(0.0) };
    let high = if first <= 0.0 { 1.0 } else { beta_quantile(second + 1.0, first, 1.0 - miss).unwrap_or(1.0) };
    (low, high)
}

/// The quantile of a beta distribution, by Newton's steps between bounds that close in; `None` without such a distribution. The inverse
/// that `statrs` has does not end where a parameter is large and the other is 1: its steps overflow.
fn beta_quantile(a: f64, b: f64, level: f64) -> Option<f64> {
    let beta = Beta::new(a, b).ok()?;
    let (mut low, mut high) = (0.0, 1.0);
    let mut at = a / (a + b);
    for _ in 0..MAX_STEPS {
        let over = beta.cdf(at) - level;
        if over > 0.0 {
            high = at
        } else {
            low = at
        }
        let step = at - over / beta.pdf(at);
        // Also if it is no number.
        let next = if step > low && step < high { step } else { f64::midpoint(low, high) };
        let is_near = (next - at).abs() <= 1e-9 * next.min(1.0 - next);
        at = next;
        if is_near {
            break;
        }
    }
    Some(at)
}

/// For each probability of chance, the smallest false discovery rate at which it counts (Benjamini and Hochberg): the share of false ones
/// that is to be expected among all those that are at most as probable.
pub(super) fn false_discovery_rates(chances: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|&a, &b| chances[b].total_cmp(&chances[a]));
    let number = chances.len();
    let mut rates = vec![1.0; number];
    let mut least = 1.0_f64;
    for (larger, at) in order.into_iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "numbers of functions")]
        let factor = number as f64 / (number - larger) as f64;
        least = least.min(chances[at] * factor);
        rates[at] = least;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 2e-4 * b.abs().max(1e-6)
    }

    #[test]
    fn tails_and_quantiles_are_those_of_tables() {
        assert!(near(upper_tail(1.959_964, 1e9), 0.025), "{}", upper_tail(1.959_964, 1e9));
        assert!(near(upper_tail(2.073_873, 22.0), 0.025), "{}", upper_tail(2.073_873, 22.0));
        assert!(near(quantile(0.975, 22.0), 2.073_873));
        assert!(near(quantile(0.99, 1e9), 2.326_348));
        assert!(upper_tail(12.0, 22.0) > 0.0 && upper_tail(12.0, 22.0) < 1e-10);
        assert!(upper_tail(f64::NAN, 22.0) >= 1.0);
    }

    #[test]
    fn binomial_by_the_beta_function() {
        // R: binom.test(9, 10, .5, "greater")$p.value, and $conf.int of binom.test(9, 10).
        assert!(near(at_least(1.0, 9.0, 0.5), 0.010_742_19));
        let (low, high) = share_bounds(1.0, 9.0, 0.025);
        assert!(near(low, 0.554_983_9) && near(high, 0.997_471_4), "{low} {high}");
        assert!(near(at_least(0.0, 20.0, 0.5), 0.5_f64.powi(20)));
        assert_eq!(share_bounds(0.0, 0.0, 0.025), (0.0, 1.0));
    }

    #[test]
    fn bounds_of_shares_are_found_for_any_numbers() {
        let numbers = [0.5, 1.0, 2.5, 40.0, 77.0, 500.0, 1500.0, 3e4, 1e6];
        for first in numbers {
            for second in numbers {
                for miss in [0.025, 1e-4] {
                    let (low, high) = share_bounds(first, second, miss);
                    let missed = (beta_reg(second, first + 1.0, low), 1.0 - beta_reg(second + 1.0, first, high));
                    // The nearest numbers below 1 lie so far apart.
                    let is_so = |missed: f64| (missed - miss).abs() < 1e-2 * miss;
                    assert!(is_so(missed.0) && is_so(missed.1), "{first} {second} {miss}: {low} {high} {missed:?}");
                }
            }
            // None of one kind: the root of a power.
            assert!(near(share_bounds(0.0, first, 0.025).0, 0.025_f64.powf(1.0 / first)), "{first}");
            assert!(near(1.0 - share_bounds(first, 0.0, 0.025).1, 0.025_f64.powf(1.0 / first)), "{first}");
        }
    }

    #[test]
    fn false_discoveries_as_r_adjusts_them() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "BH")
        let rates = false_discovery_rates(&[0.01, 0.04, 0.03, 0.005]);
        for (rate, wanted) in rates.iter().zip([0.02, 0.04, 0.04, 0.02]) {
            assert!(near(*rate, wanted), "{rates:?}");
        }
        assert!(false_discovery_rates(&[]).is_empty());
    }
}
