//! A comparison as JSON. docs/diff.md describes the fields.

use serde_json::{Value, json};

use crate::profile::compare::{Comparison, Estimate, Normalize, SideSummary};

/// The whole of a comparison: both sides, and the functions and modules that `limit` leaves (0 for all), those that changed most first.
#[must_use]
pub fn json(comparison: &Comparison, limit: usize) -> Value {
    let order = comparison.by_change(|change| &change.total);
    let shown = if limit == 0 { order.len() } else { limit.min(order.len()) };
    let functions: Vec<Value> = order[..shown]
        .iter()
        .map(|&at| {
            let change = &comparison.functions[at];
            let within = change.shifted_within.map(|within| &comparison.functions[within as usize].function.name);
            json!({
                "function": change.function.name, "module": change.function.module,
                "verdict": change.verdict.name(), "significant": change.is_significant(), "shifted_within": within,
                "self": estimate(&change.own), "total": estimate(&change.total),
            })
        })
        .collect();
    let modules = comparison.modules.iter().map(|of| json!({ "module": of.name, "self": estimate(&of.own) }));
    json!({
        "version": 1,
        "value": { "name": comparison.value, "unit": comparison.unit },
        "normalize": comparison.normalize.name(),
        "work": if let Normalize::Work(units) = comparison.normalize { Some(units) } else { None },
        "rate_unit": comparison.rate_unit(),
        "confidence": comparison.options.confidence,
        "false_discovery": comparison.options.false_discovery,
        "variance": if comparison.measured { "measured" } else { "assumed" },
        "remarks": comparison.remarks,
        "base": side(&comparison.sides[0]),
        "new": side(&comparison.sides[1]),
        "whole": estimate(&comparison.whole),
        "modules": modules.collect::<Vec<_>>(),
        "functions": functions,
        "functions_left_out": order.len() - shown,
    })
}

pub(super) fn side(side: &SideSummary) -> Value {
    let about = &side.about;
    json!({
        "profiles": about.profiles, "recordings": side.runs, "sub_windows": side.windows,
        "seconds": side.seconds, "from_nanos": side.start, "cpus": about.cpus,
        "events": about.events.iter().map(|(name, frequency)| json!({ "name": name, "frequency": frequency })).collect::<Vec<_>>(),
        "samples": side.samples, "total": side.total, "all": side.all,
        "lost": about.lost, "lost_share": side.lost_share(),
        "complete_share": side.complete_share(), "unknown_share": side.unknown_share,
    })
}

/// JSON has no number that is infinite: the ratio of something new is `null`.
pub(super) fn estimate(of: &Estimate) -> Value {
    json!({
        "base": of.rate[0], "new": of.rate[1], "base_samples": of.samples[0], "new_samples": of.samples[1],
        "difference": of.difference, "low": of.low, "high": of.high,
        "ratio": of.ratio, "ratio_low": of.ratio_low, "ratio_high": of.ratio_high,
        "chance": of.chance, "false_discovery": of.false_discovery, "significant": of.significant,
    })
}
