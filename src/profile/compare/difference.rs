//! A difference as a profile, in pprof's way: the base's samples are there with negative values and a label that says whose they are.

use crate::profile::{Label, LabelValue, MergeError, MergeOptions, Merger, Profile};

/// The label of the base's samples. pprof takes shares from the sum of those that have it.
/// <https://github.com/google/pprof/blob/main/profile/profile.go> (`IsDiffBase`).
const DIFF_BASE: (&str, &str) = ("pprof::base", "true");

/// The new profile less the base, whose values are multiplied by `factor` before: what `go tool pprof -proto -diff_base BASE NEW` makes.
///
/// # Errors
/// [`MergeError`] if the two count different things, or a sum is too large.
pub fn difference(base: &Profile, new: &Profile, factor: f64) -> Result<Profile, MergeError> {
    let mut base = base.clone();
    let label =
        Label { key: base.strings.intern(DIFF_BASE.0), value: LabelValue::Text(base.strings.intern(DIFF_BASE.1)) };
    for sample in &mut base.samples {
        sample.values.iter_mut().for_each(|value| *value = scaled(*value, factor).saturating_neg());
        sample.labels.retain(|of| of.key != label.key);
        sample.labels.push(label);
    }
    let mut merger = Merger::new(MergeOptions::default());
    merger.add(new)?;
    merger.add(&base)?;
    Ok(merger.finish())
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "values are scaled as statistics need them"
)]
fn scaled(value: i64, factor: f64) -> i64 {
    if (factor - 1.0).abs() < f64::EPSILON { value } else { (value as f64 * factor).round() as i64 }
}
