//! The budget: how often may be sampled, so that what we cost stays under a share of the machine.
//!
//! What we may spend flows in at a steady rate and is saved up for a minute, so that naming a large program, which comes in lumps,
//! is paid from savings. The fuller the savings, the more may be spent now. All that can be lowered at once is the frequency; where
//! that is not enough, because following processes costs more than sampling them (a host that forks by the thousand), the
//! records about processes are switched off too, and processes are read from /proc when they are sampled.

use std::time::Duration;

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
/// For how long process records stay off at first; twice as long each time that they turn out to be too dear again.
const OFF: Duration = Duration::from_secs(60);
const LONGEST_OFF: Duration = Duration::from_secs(3600);

/// What has been spent since the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) at: Timestamp,
    /// Our own CPU time in nanoseconds.
    pub(super) cpu: u64,
    /// Samples that the kernel took for us, wanted or not.
    pub(super) samples: u64,
}

impl Spent {
    /// Seconds of CPU, with the kernel's part.
    fn cost_since(&self, before: &Spent) -> f64 {
        let own = Duration::from_nanos(self.cpu.saturating_sub(before.cpu)).as_secs_f64();
        own + self.samples.saturating_sub(before.samples) as f64 * SAMPLE.as_secs_f64()
    }
}

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// How often to sample, in proportion to what was asked for.
    pub(super) scale: f64,
    /// Whether processes are followed by their records.
    pub(super) follow: bool,
}

pub(super) struct Budget {
    /// The share of one CPU times the number of CPUs: seconds of CPU a second.
    share: f64,
    cpus: usize,
    least: f64,
    pace: Pace,
    /// Seconds of CPU that may be spent at once; below zero after a lump that was not saved up for.
    savings: f64,
    before: Spent,
    stepped: Spent,
    off_until: Timestamp,
    off_for: Duration,
}

impl Budget {
    /// A budget of a share (0 to 1) of so many CPUs, for events that are to be sampled with a frequency in hertz.
    pub(super) fn new(share: f64, cpus: usize, hertz: f64, now: Spent) -> Budget {
        let mut budget = Budget {
            share,
            cpus,
            least: (LEAST / hertz).min(1.0),
            pace: Pace { scale: 1.0, follow: true },
            savings: 0.0,
            before: now,
            stepped: now,
            off_until: Timestamp(0),
            off_for: OFF,
        };
        budget.savings = budget.most_savings();
        budget
    }

    /// Takes what has been spent by now into account, and answers the new pace if it changes.
    pub(super) fn step(&mut self, spent: Spent, cpus: usize) -> Option<Pace> {
        self.cpus = cpus;
        let seconds = spent.at.since(self.before.at).as_secs_f64();
        let saved = self.savings + self.income() * seconds - spent.cost_since(&self.before);
        self.savings = saved.min(self.most_savings());
        self.before = spent;
        if spent.at.since(self.stepped.at) < STEP {
            return None;
        }
        let rate = spent.cost_since(&self.stepped) / spent.at.since(self.stepped.at).as_secs_f64();
        self.stepped = spent;
        let pace = Pace { scale: self.scale(rate), follow: self.follows(rate, spent.at) };
        (pace != self.pace).then(|| {
            self.pace = pace;
            pace
        })
    }

    /// Samples less often, for want of memory.
    pub(super) fn halve(&mut self) -> Pace {
        self.pace.scale = (self.pace.scale / 2.0).max(self.least);
        self.pace
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

    /// With half of the savings left, what comes in may go out; with none, a quarter of it.
    fn scale(&self, rate: f64) -> f64 {
        let allowed = self.income() * (0.25 + 1.5 * self.fullness()).max(0.05);
        let old = self.pace.scale;
        let wanted = old * (allowed / rate.max(1e-9)).clamp(0.25, 1.5);
        let new = wanted.clamp(self.least, 1.0);
        if (new - old).abs() > HYSTERESIS * old || (new >= 1.0 && old < 1.0) { new } else { old }
    }

    /// `rate` is what was spent at the pace so far.
    fn follows(&mut self, rate: f64, now: Timestamp) -> bool {
        if self.pace.follow {
            let too_dear = self.fullness() < 0.25 && self.pace.scale < 0.25 && rate > self.income();
            if too_dear {
                self.off_until = now.after(self.off_for);
                self.off_for = (self.off_for * 2).min(LONGEST_OFF);
            }
            return !too_dear;
        }
        now >= self.off_until && self.fullness() > 0.75
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a machine of two CPUs for so many seconds. `cost` answers the seconds of CPU a second that we use at a pace. Answers the
    /// share that was used in the second half, the mean scale, and the last pace.
    fn run(share: f64, seconds: u64, cost: impl Fn(Pace, u64) -> f64) -> (f64, f64, Pace) {
        let mut spent = Spent::default();
        let mut budget = Budget::new(share, 2, 99.0, spent);
        let mut pace = budget.pace;
        let (mut half, mut scales) = (spent, 0.0);
        for second in 1..=seconds {
            spent.at = Timestamp(second * 1_000_000_000);
            spent.cpu += (cost(pace, second) * 1e9) as u64;
            pace = budget.step(spent, 2).unwrap_or(pace);
            scales += pace.scale;
            if second == seconds / 2 {
                half = spent;
            }
        }
        (budget.used(&half, &spent), scales / seconds as f64, pace)
    }

    #[test]
    fn who_costs_little_samples_as_asked() {
        let (used, _, pace) = run(0.01, 600, |_, _| 0.005);
        assert_eq!(pace, Pace { scale: 1.0, follow: true });
        assert!((used - 0.0025).abs() < 1e-4);
    }

    #[test]
    fn who_costs_too_much_samples_less() {
        let (used, _, pace) = run(0.01, 1200, |pace, _| 0.2 * pace.scale);
        assert!(used < 0.0105 && used > 0.006, "{used}");
        assert!(pace.scale < 0.2 && pace.follow);
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
        let (used, _, _) = run(0.005, 2400, |pace, _| if pace.follow { 0.1 } else { 0.002 + 0.01 * pace.scale });
        assert!(used < 0.0052, "{used}");
    }
}
