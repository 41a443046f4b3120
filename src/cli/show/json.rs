//! The table of functions for programs.

use serde_json::{Value, json};

use super::{Counts, FunctionSums};

/// The rows that are `shown`, in this order; CPUs are told by the time that was covered, in nanoseconds.
pub(in crate::cli) fn functions_json(counts: &Counts, sums: &[FunctionSums], shown: &[usize], covered: i64) -> Value {
    let function = |&row: &usize| {
        let (of, FunctionSums { own, total, samples, .. }) = (&counts.rows[row], sums[row]);
        json!({
            "function": of.name, "module": of.module,
            "self": number(own), "total": number(total), "samples": number(samples),
            "self_share": share(own, counts.total), "total_share": share(total, counts.total),
            "self_cpus": cpus(counts, own, covered), "total_cpus": cpus(counts, total, covered),
        })
    };
    shown.iter().map(function).collect()
}

/// A sum as JSON has it; one beyond 64 bits is none of samples.
pub(in crate::cli) fn number(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

#[allow(clippy::cast_precision_loss, reason = "a share")]
fn share(part: i128, whole: i128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `null` for what is no time.
#[allow(clippy::cast_precision_loss, reason = "a quotient")]
fn cpus(counts: &Counts, value: i128, covered: i64) -> Option<f64> {
    (counts.unit == "nanoseconds" && covered > 0).then(|| value as f64 / covered as f64)
}
