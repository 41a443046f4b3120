//! Cost that moved, told from cost that is new: where a function has more and its neighbours below the same caller have as much less, code was
//! inlined, split or renamed, and nothing became dearer.
//!
//! A saturated program fools a simple sum: its threads are busy all the time, so that whatever one function takes more, all others have
//! less. Those lose alike. So only what fell beyond the ratio that most functions have is taken for the other end of a move; where too few
//! functions tell that ratio, only what is gone altogether is.
//!
//! Functions vary from run to run beyond what one run tells, and a rise that is called a move goes unnoticed. So the ratio counts with the
//! bound at which least is compensated, and a fall has to stand out of how far the others lie from that ratio.

use rustc_hash::{FxHashMap, FxHashSet};

use super::calls::add_to_callers;
use super::statistics::quantile;
use super::{CommonRatio, Comparison, Estimate, Verdict};

/// Functions that are looked at, those that changed most.
const MOST_LOOKED_AT: usize = 64;
/// Callers that are tried for each, the nearest.
const MOST_CALLERS: usize = 6;
/// A caller is tried if so much of the change lies below it.
const BELOW: f64 = 0.8;
/// Cost moved if so much of the change was compensated.
const COMPENSATED: f64 = 2.0 / 3.0;
/// The probability that any of all the others is taken by chance to have fallen.
const CHANCE: f64 = 0.001;
/// Functions that tell the common ratio: at least so many, each with this share of the whole.
const WITNESSES: usize = 3;
const WITNESS_SHARE: f64 = 0.005;
/// And so many samples on each side.
const WITNESS_SAMPLES: f64 = 20.0;
/// The common ratio is taken to be off by so many of its standard errors.
const SURE: f64 = 2.0;
/// The median of absolute deviations times this is the standard deviation of a normal variable.
const NORMAL_BY_MEDIAN: f64 = 1.4826;
/// The standard error of the median, by that of the mean (of a normal variable).
const MEDIAN_BY_MEAN: f64 = 1.2533;

/// Where cost moved.
pub(super) struct Moved {
    /// The caller below which it did.
    pub(super) within: u32,
    /// The functions that had it.
    pub(super) from: Vec<u32>,
}

/// A function's values below a caller.
#[derive(Clone, Copy, Default)]
struct Part {
    rate: [f64; 2],
    count: [f64; 2],
}

impl Part {
    fn add(&mut self, rate: [f64; 2], count: [f64; 2]) {
        for side in [0, 1] {
            self.rate[side] += rate[side];
            self.count[side] += count[side];
        }
    }
}

impl Comparison {
    /// The ratio that most functions have between the sides; `None` if too few tell it.
    #[must_use]
    pub fn common_ratio(&self) -> Option<CommonRatio> {
        self.common_ratio_without(|_| false)
    }

    fn common_ratio_without(&self, left_out: impl Fn(usize) -> bool) -> Option<CommonRatio> {
        let tells = |own: &Estimate| {
            let shares = (0..2).all(|side| own.rate[side] >= WITNESS_SHARE * self.whole.rate[side]);
            shares && own.samples.iter().all(|&samples| samples >= WITNESS_SAMPLES)
        };
        let functions = self.functions.iter().enumerate().filter(|(at, _)| !left_out(*at));
        let witnesses: Vec<&Estimate> = functions.map(|(_, change)| &change.own).filter(|own| tells(own)).collect();
        (witnesses.len() >= WITNESSES).then(|| CommonRatio::of(&witnesses))
    }

    /// Marks the functions whose cost moved.
    pub(super) fn mark_shifted(&mut self) {
        let mut changed: Vec<usize> =
            (0..self.functions.len()).filter(|&at| self.functions[at].is_significant()).collect();
        changed.sort_by(|&a, &b| self.change_of(b).abs().total_cmp(&self.change_of(a).abs()));
        changed.truncate(MOST_LOOKED_AT);
        for at in changed {
            if self.change_of(at) <= 0.0 {
                continue;
            }
            let Some(moved) = self.moved_within(at, self.functions[at].own.significant) else { continue };
            for at in moved.from.iter().map(|&from| from as usize).chain([at]) {
                let change = &mut self.functions[at];
                change.shifted_within = Some(moved.within);
                // What is new or gone is told as that.
                if matches!(change.verdict, Verdict::Up | Verdict::Down) {
                    change.verdict = Verdict::Shifted;
                }
            }
        }
    }

    fn change_of(&self, at: usize) -> f64 {
        let change = &self.functions[at];
        if change.own.significant { change.own.difference } else { change.total.difference }
    }

    /// The nearest caller (or the function itself) below which a function's rise is compensated: that of its own value, or of all below
    /// it.
    pub(super) fn moved_within(&self, at: usize, by_own: bool) -> Option<Moved> {
        let part = self.below(at, by_own);
        let rising: FxHashSet<usize> =
            (0..part.len()).filter(|&node| part[node]).map(|node| self.tree[node].function as usize).collect();
        let common = self.common_ratio_without(|function| rising.contains(&function));
        let callers = self.callers_of_change(at, &part, by_own);
        callers.into_iter().find_map(|within| {
            let from = self.compensation(within, &part, common)?;
            Some(Moved { within, from })
        })
    }

    /// The nodes that a function's change is of: those of the function itself, or all below it.
    pub(super) fn below(&self, function: usize, own: bool) -> Vec<bool> {
        let mut below = Vec::with_capacity(self.tree.len());
        for node in &self.tree {
            let under = !own && node.parent.is_some_and(|parent| below[parent as usize]);
            below.push(under || node.function as usize == function);
        }
        below
    }

    fn rates(&self, node: usize) -> [f64; 2] {
        [0, 1].map(|side: usize| self.tree[node].value[side] * self.sides[side].scale)
    }

    /// Callers that have most of a change below them, the smallest first.
    fn callers_of_change(&self, function: usize, part: &[bool], own: bool) -> Vec<u32> {
        let nodes = &self.joint.nodes;
        // How much of the change is in each node and below it; none where no part of it is.
        let mut changes: Vec<Option<f64>> = vec![None; nodes.len()];
        let mut whole = 0.0;
        for node in (0..nodes.len()).filter(|&node| part[node]) {
            let [base, new] = self.rates(node);
            whole += new - base;
            changes[node] = Some(new - base);
        }
        add_to_callers(nodes, &mut changes, |sum, more| {
            *sum = sum.map_or(more, |sum| Some(sum + more.unwrap_or(0.0)));
        });
        let mut shares: FxHashMap<u32, f64> = FxHashMap::default();
        for ((&(_, of), change), outermost) in nodes.iter().zip(changes).zip(&self.joint.outermost) {
            if let Some(change) = change.filter(|_| *outermost && (own || of as usize != function)) {
                *shares.entry(of).or_default() += change;
            }
        }
        let most = shares.into_iter().filter(|(_, share)| share / whole >= BELOW).map(|(of, _)| of);
        let mut callers: Vec<u32> = most.collect();
        let size = |of: &u32| self.functions[*of as usize].total.rate.iter().sum::<f64>();
        callers.sort_by(|a, b| size(a).total_cmp(&size(b)).then(a.cmp(b)));
        callers.truncate(MOST_CALLERS);
        callers
    }

    /// The functions below a caller that lost what another gained there; `None` if they did not.
    fn compensation(&self, caller: u32, part: &[bool], common: Option<CommonRatio>) -> Option<Vec<u32>> {
        let ratio = common.map_or(1.0, |common| common.low());
        let apart = common.map_or(1.0, |common| common.apart);
        let under = self.below(caller as usize, false);
        let (mut whole, mut gained) = (Part::default(), Part::default());
        let mut others: FxHashMap<u32, Part> = FxHashMap::default();
        for node in (0..self.tree.len()).filter(|&node| under[node]) {
            let (rate, count) = (self.rates(node), self.tree[node].count);
            whole.add(rate, count);
            if part[node] {
                gained.add(rate, count);
            } else {
                others.entry(self.tree[node].function).or_default().add(rate, count);
            }
        }
        let excess = |of: &Part| of.rate[1] - ratio * of.rate[0];
        let gain = excess(&gained);
        #[allow(clippy::cast_precision_loss, reason = "a number of functions")]
        let beyond_chance = quantile(1.0 - CHANCE / others.len().max(1) as f64, f64::INFINITY);
        let fell = others
            .iter()
            .filter(|(_, of)| common.is_some() || of.rate[1] <= 0.0)
            .filter(|(_, of)| -excess(of) > beyond_chance * apart * self.deviation(of, ratio));
        let (mut lost, mut from) = (0.0, Vec::new());
        for (&function, of) in fell {
            lost -= excess(of);
            from.push(function);
        }
        from.sort_unstable();
        let is_compensated = gain > 0.0 && lost >= COMPENSATED * gain && excess(&whole) <= (1.0 - COMPENSATED) * gain;
        is_compensated.then_some(from)
    }

    /// How far chance may bring a part's two rates apart.
    fn deviation(&self, part: &Part, ratio: f64) -> f64 {
        let variance = |side: usize| {
            let wobble = self.joint.noise.relative(side, self.joint.noise.common);
            part.rate[side].powi(2) * (1.0 / part.count[side].max(1.0) + wobble)
        };
        (variance(1) + ratio * ratio * variance(0)).sqrt()
    }
}

impl CommonRatio {
    /// The least that it may be.
    pub(super) fn low(&self) -> f64 {
        self.ratio * (-SURE * self.error).exp()
    }

    fn of(witnesses: &[&Estimate]) -> CommonRatio {
        let logs: Vec<f64> = witnesses.iter().map(|own| own.ratio.ln()).collect();
        let log = median(logs.clone());
        let deviation = NORMAL_BY_MEDIAN * median(logs.iter().map(|of| (of - log).abs()).collect());
        let standardized = witnesses.iter().zip(&logs).map(|(own, of)| (of - log).abs() / own.error);
        #[allow(clippy::cast_precision_loss, reason = "a number of functions")]
        let number = witnesses.len() as f64;
        CommonRatio {
            ratio: log.exp(),
            witnesses: witnesses.len(),
            error: MEDIAN_BY_MEAN * deviation / number.sqrt(),
            apart: (NORMAL_BY_MEDIAN * median(standardized.collect())).max(1.0),
        }
    }
}

/// The median of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}
