//! What must be alike on both sides for a comparison to mean anything.

use super::super::{Comparison, SideSummary};

/// Shares that differ by more than this between the sides make them unlike.
const UNKNOWN: f64 = 0.05;
const LOST: f64 = 0.05;
const COMPLETE: f64 = 0.10;

/// In what two sides are unlike, as a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlike(pub String);

impl Comparison {
    /// In what the sides are so unlike that their difference may be of how they were recorded.
    #[must_use]
    pub fn unlike(&self) -> Vec<Unlike> {
        let [base, new] = &self.sides;
        let mut unlike = Vec::new();
        if base.about.events != new.about.events {
            unlike.push(format!(
                "they were sampled by different events or frequencies: {} and {}",
                events(base),
                events(new)
            ));
        }
        if base.about.cpus != new.about.cpus && !(base.about.cpus.is_empty() && new.about.cpus.is_empty()) {
            unlike.push(format!("different numbers of CPUs were watched: {} and {}", cpus(base), cpus(new)));
        }
        let mut shares = |what: &str, of: [f64; 2], most: f64| {
            if (of[0] - of[1]).abs() > most {
                let percent = of.map(|share| format!("{:.1} %", share * 100.0));
                unlike.push(format!("{what} differ: {} of the base, {} of the new side", percent[0], percent[1]));
            }
        };
        if base.total > 0.0 && new.total > 0.0 {
            shares("the shares without a name or a root", [base.unknown_share, new.unknown_share], UNKNOWN);
        }
        shares("the shares of lost samples", [base.lost_share(), new.lost_share()], LOST);
        if let (Some(old), Some(now)) = (base.complete_share(), new.complete_share()) {
            shares("the shares of whole stacks", [old, now], COMPLETE);
        }
        unlike.into_iter().map(Unlike).collect()
    }
}

fn events(side: &SideSummary) -> String {
    let show = |(name, frequency): &(String, u64)| {
        if *frequency > 0 { format!("{name} at {frequency}") } else { name.clone() }
    };
    let events: Vec<String> = side.about.events.iter().map(show).collect();
    if events.is_empty() { "an event that the files do not tell".into() } else { events.join(", ") }
}

fn cpus(side: &SideSummary) -> String {
    let numbers: Vec<String> = side.about.cpus.iter().map(ToString::to_string).collect();
    if numbers.is_empty() { "a number that the files do not tell".into() } else { numbers.join(", ") }
}
