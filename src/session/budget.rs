//! The budget: how often may be sampled, so that what we cost stays under a share of the machine.
//!
//! What we may spend flows in at a steady rate and is saved up for a minute, so that naming a large program, which comes in lumps,
//! is paid from savings. The fuller the savings, the more may be spent now. Each kind of event that is sampled side by side has an equal
//! part of it, and what one does not need the others get. All that can be lowered at once is how often each is sampled; where
//! that is not enough, because following processes costs more than sampling them (a host that forks by the thousand), the
//! records about processes are switched off too, and processes are read from /proc when they are sampled.

use std::time::Duration;

use crate::capture::Rate;
use crate::ids::Timestamp;

/// For how long what is not spent is saved.
const HORIZON: Duration = Duration::from_secs(60);
/// How often the frequency is changed at most. Each change costs every CPU half a period of sampling.
const STEP: Duration = Duration::from_secs(5);
/// What the kernel spends on a sample: the timer's interrupt, registers, and a copy of the stack's top. Between 5 µs (bare metal) and
/// 45 µs (a virtual machine with cold caches) were measured; nothing tells it at run time.
const SAMPLE: Duration = Duration::from_micros(25);
/// A change of the frequency smaller than this is not worth it.
const HYSTERESIS: f64 = 0.2;
/// The least frequency, in hertz: below it, what is saved is nothing against what it costs to be there at all.
const LEAST: f64 = 1.0;
/// The same of what has no frequency, in proportion to what was asked for.
const LEAST_PART: f64 = 0.01;
/// For how long process records stay off at first; twice as long each time that they turn out to be too dear again.
const OFF: Duration = Duration::from_secs(60);
const LONGEST_OFF: Duration = Duration::from_secs(3600);

/// What has been spent since the beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    pub(super) at: Timestamp,
    /// Our own CPU time in nanoseconds.
    pub(super) cpu: u64,
    /// Samples that the kernel took for us, wanted or not, by event.
    pub(super) samples: Vec<u64>,
}

impl Spent {
    /// Seconds of CPU, with the kernel's part.
    fn cost_since(&self, before: &Spent) -> f64 {
        let own = Duration::from_nanos(self.cpu.saturating_sub(before.cpu)).as_secs_f64();
        own + self.samples_since(before).iter().sum::<f64>() * SAMPLE.as_secs_f64()
    }

    /// The same of each event: what we spend ourselves is spent on their samples.
    fn costs_since(&self, before: &Spent) -> Vec<f64> {
        let (cost, samples) = (self.cost_since(before), self.samples_since(before));
        let all: f64 = samples.iter().sum();
        let part = |&of: &f64| if all > 0.0 { of / all } else { 1.0 / samples.len() as f64 };
        samples.iter().map(|of| cost * part(of)).collect()
    }

    fn samples_since(&self, before: &Spent) -> Vec<f64> {
        let before = before.samples.iter().chain(std::iter::repeat(&0));
        self.samples.iter().zip(before).map(|(now, before)| now.saturating_sub(*before) as f64).collect()
    }
}

/// How to go on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pace {
    /// How often to sample each event, in proportion to what was asked for.
    pub(super) scales: Vec<f64>,
    /// Whether processes are followed by their records.
    pub(super) follow: bool,
}

pub(super) struct Budget {
    /// The share of one CPU times the number of CPUs: seconds of CPU a second.
    share: f64,
    cpus: usize,
    /// Of each event.
    least: Vec<f64>,
    pace: Pace,
    /// Seconds of CPU that may be spent at once; below zero after a lump that was not saved up for.
    savings: f64,
    before: Spent,
    stepped: Spent,
    off_until: Timestamp,
    off_for: Duration,
}

impl Budget {
    /// A budget of a share (0 to 1) of so many CPUs, for events that are to be sampled at these rates.
    pub(super) fn new(share: f64, cpus: usize, rates: impl Iterator<Item = Rate>, now: &Spent) -> Budget {
        let least: Vec<f64> = rates.map(least).collect();
        let mut budget = Budget {
            share,
            cpus,
            pace: Pace { scales: vec![1.0; least.len()], follow: true },
            least,
            savings: 0.0,
            before: now.clone(),
            stepped: now.clone(),
            off_until: Timestamp(0),
            off_for: OFF,
        };
        budget.savings = budget.most_savings();
        budget
    }

    /// Takes what has been spent by now into account, and answers the new pace if it changes.
    pub(super) fn step(&mut self, spent: &Spent, cpus: usize) -> Option<Pace> {
        self.cpus = cpus;
        let seconds = spent.at.since(self.before.at).as_secs_f64();
        let saved = self.savings + self.income() * seconds - spent.cost_since(&self.before);
        self.savings = saved.min(self.most_savings());
        self.before = spent.clone();
        if spent.at.since(self.stepped.at) < STEP {
            return None;
        }
        let seconds = spent.at.since(self.stepped.at).as_secs_f64();
        let rates: Vec<f64> = spent.costs_since(&self.stepped).iter().map(|cost| cost / seconds).collect();
        self.stepped = spent.clone();
        let pace = Pace { scales: self.scales(&rates), follow: self.follows(&rates, spent.at) };
        (pace != self.pace).then(|| {
            self.pace = pace.clone();
            pace
        })
    }

    /// Samples less often, for want of memory.
    pub(super) fn halve(&mut self) -> Pace {
        self.pace.scales.iter_mut().zip(&self.least).for_each(|(scale, least)| *scale = (*scale / 2.0).max(*least));
        self.pace.clone()
    }

    /// The share (0 to 1) of the machine that was used between two points in time.
    pub(super) fn used(&self, from: &Spent, to: &Spent) -> f64 {
        let time = to.at.since(from.at).as_secs_f64() * self.cpus.max(1) as f64;
        if time > 0.0 { to.cost_since(from) / time } else { 0.0 }
    }

    /// Seconds of CPU a second.
    fn income(&self) -> f64 {
        self.share * self.cpus as f64
    }

    fn most_savings(&self) -> f64 {
        self.income() * HORIZON.as_secs_f64()
    }

    /// Savings as a share of the most.
    fn fullness(&self) -> f64 {
        self.savings / self.most_savings()
    }

    /// With half of the savings left, what comes in may go out; with none, a quarter of it. `rates` is what each event took at the pace
    /// so far.
    fn scales(&self, rates: &[f64]) -> Vec<f64> {
        let allowed = self.income() * (0.25 + 1.5 * self.fullness()).max(0.05);
        let demands: Vec<f64> = rates.iter().zip(&self.pace.scales).map(|(rate, scale)| rate / scale).collect();
        let parts = parts(allowed, &demands);
        let scale = |((rate, part), (&old, &least)): ((&f64, f64), (&f64, &f64))| {
            let change = if *rate > 0.0 { (part / rate).clamp(0.25, 1.5) } else { 1.5 };
            let new = (old * change).clamp(least, 1.0);
            if (new - old).abs() > HYSTERESIS * old || (new >= 1.0 && old < 1.0) { new } else { old }
        };
        rates.iter().zip(parts).zip(self.pace.scales.iter().zip(&self.least)).map(scale).collect()
    }

    fn follows(&mut self, rates: &[f64], now: Timestamp) -> bool {
        if self.pace.follow {
            let dearest = rates.iter().zip(&self.pace.scales).max_by(|(one, _), (other, _)| one.total_cmp(other));
            let lowered = dearest.is_some_and(|(_, &scale)| scale < 0.25);
            let too_dear = self.fullness() < 0.25 && lowered && rates.iter().sum::<f64>() > self.income();
            if too_dear {
                self.off_until = now.after(self.off_for);
                self.off_for = (self.off_for * 2).min(LONGEST_OFF);
            }
            return !too_dear;
        }
        now >= self.off_until && self.fullness() > 0.75
    }
}

fn least(rate: Rate) -> f64 {
    match rate {
        Rate::Frequency(hertz) => (LEAST / hertz.max(1) as f64).min(1.0),
        Rate::Period(_) => LEAST_PART,
    }
}

/// Parts so much among those who demand something each: nobody gets more, and what one leaves the others share alike.
fn parts(all: f64, demands: &[f64]) -> Vec<f64> {
    let mut modest_first: Vec<usize> = (0..demands.len()).collect();
    modest_first.sort_by(|&one, &other| demands[one].total_cmp(&demands[other]));
    let (mut parts, mut rest) = (vec![0.0; demands.len()], all);
    for (before, at) in modest_first.into_iter().enumerate() {
        parts[at] = demands[at].min(rest / (demands.len() - before) as f64);
        rest -= parts[at];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a machine of two CPUs for so many seconds. `cost` answers the seconds of CPU a second that we use at a pace. Answers the
    /// share that was used in the second half, the mean scale, and the last pace.
    fn run(share: f64, seconds: u64, cost: impl Fn(&Pace, u64) -> f64) -> (f64, f64, Pace) {
        let mut spent = Spent { samples: vec![0], ..Spent::default() };
        let mut budget = Budget::new(share, 2, [Rate::Frequency(99)].into_iter(), &spent);
        let mut pace = budget.pace.clone();
        let (mut half, mut scales) = (spent.clone(), 0.0);
        for second in 1..=seconds {
            spent.at = Timestamp(second * 1_000_000_000);
            spent.cpu += (cost(&pace, second) * 1e9) as u64;
            pace = budget.step(&spent, 2).unwrap_or(pace);
            scales += pace.scales[0];
            if second == seconds / 2 {
                half = spent.clone();
            }
        }
        (budget.used(&half, &spent), scales / seconds as f64, pace)
    }

    #[test]
    fn who_costs_little_samples_as_asked() {
        let (used, _, pace) = run(0.01, 600, |_, _| 0.005);
        assert_eq!(pace, Pace { scales: vec![1.0], follow: true });
        assert!((used - 0.0025).abs() < 1e-4);
    }

    #[test]
    fn who_costs_too_much_samples_less() {
        let (used, _, pace) = run(0.01, 1200, |pace, _| 0.2 * pace.scales[0]);
        assert!(used < 0.0105 && used > 0.006, "{used}");
        assert!(pace.scales[0] < 0.2 && pace.follow);
    }

    #[test]
    fn lumps_are_paid_from_savings() {
        // Naming takes half a second once a minute: 0.8 s may be spent a minute.
        let (used, scale, _) = run(0.0066, 1200, |_, second| if second % 60 == 0 { 0.5 } else { 0.002 });
        assert!(used < 0.0066);
        assert!(scale > 0.6, "{scale}");
    }

    #[test]
    fn a_fork_storm_ends_process_records() {
        let (used, _, _) = run(0.005, 2400, |pace, _| if pace.follow { 0.1 } else { 0.002 + 0.01 * pace.scales[0] });
        assert!(used < 0.0052, "{used}");
    }

    #[test]
    fn each_kind_has_a_part_and_what_it_leaves_the_others_share() {
        assert_eq!(parts(9.0, &[100.0, 1.0, 5.0]), [4.0, 1.0, 4.0]);
        assert_eq!(parts(9.0, &[2.0, 1.0]), [2.0, 1.0]);
        // One is dear, the other is not: only the first is sampled less.
        let mut spent = Spent { samples: vec![0; 2], ..Spent::default() };
        let rates = [Rate::Frequency(999), Rate::Period(1)].into_iter();
        let mut budget = Budget::new(0.01, 2, rates, &spent);
        let mut pace = budget.pace.clone();
        for second in 1..=600 {
            spent.at = Timestamp(second * 1_000_000_000);
            spent.samples[0] += (8000.0 * pace.scales[0]) as u64;
            spent.samples[1] += (100.0 * pace.scales[1]) as u64;
            pace = budget.step(&spent, 2).unwrap_or(pace);
        }
        assert!(pace.scales[0] < 0.2, "{pace:?}");
        assert_eq!(pace.scales[1], 1.0);
        assert!(budget.used(&Spent { samples: vec![0; 2], ..Spent::default() }, &spent) < 0.013);
    }
}
