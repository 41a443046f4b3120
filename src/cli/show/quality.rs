//! How good a profile is, in words: the same in every command.

use super::text::amount;
use crate::profile::{Profile, Quality};

/// What is said of the quality of a profile's column: `lost 7 (6.54 %)`, `complete stacks 96.0 %`,
/// `12.0 % in stacks with an unnamed frame`; nothing of a profile whose comments tell nothing.
pub(in crate::cli) fn quality_in_words(profile: &Profile, column: usize) -> Vec<String> {
    let Some(quality) = Quality::of(profile) else { return Vec::new() };
    let counted = quality.of_column(profile, column);
    let mut parts = vec![lost(counted.lost, &counted.lost_percent())];
    parts.extend(complete(&quality));
    parts.extend(counted.unnamed_percent().map(|percent| format!("{percent} in stacks with an unnamed frame")));
    parts
}

/// `lost 7 (6.54 %)`
pub(in crate::cli) fn lost(samples: u64, percent: &str) -> String {
    format!("lost {} ({percent})", amount(samples.into(), ""))
}

/// `complete stacks 96.0 %`
pub(in crate::cli) fn complete(quality: &Quality) -> Option<String> {
    quality.complete_percent().map(|percent| format!("complete stacks {percent}"))
}
