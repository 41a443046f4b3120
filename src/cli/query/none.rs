//! What is said where a selection leaves no sample: what its labels can be.

use std::collections::BTreeMap;

use crate::encode::ReadOptions;
use crate::profile::{KeptLabels, LabelValue, MergeOptions, PROCESS_LABEL, Profile};
use crate::store::{Limits, Plan, Query, Selector, Windows};

/// Values of a label that are listed.
const MOST: usize = 12;

/// Why nothing is selected, with the values that each label of the selector has in the time that was asked for, the most frequent first.
pub(super) fn none_selected(source: &Windows, query: &Query, plan: Plan) -> anyhow::Error {
    let mut keys: Vec<&str> = query.selector.keys().filter(|key| !Selector::is_of_window(key)).collect();
    keys.dedup();
    let everything = Query { selector: Selector::default(), ..query.clone() };
    let labels = KeptLabels::Only(keys.iter().map(|&key| key.to_owned()).collect());
    let options = MergeOptions { labels: labels.clone(), functions_only: true };
    let read = ReadOptions { labels };
    let strip = |profile: &mut Profile| {
        profile.samples.iter_mut().for_each(|sample| sample.stack.clear());
        profile.merge_equal_samples();
    };
    let sum = source.sum(&everything, plan, &options, &read, &|_| {}, &strip, &Limits::default());
    let known = match sum {
        Ok(sum) => keys.iter().map(|key| values(&sum.answer.profile, key)).collect(),
        Err(_) => Vec::new(),
    };
    let lists: Vec<String> = known.into_iter().filter(|list| !list.is_empty()).collect();
    let lists = if lists.is_empty() { String::new() } else { format!("; {}", lists.join("; ")) };
    anyhow::anyhow!("no sample of that time is selected by --where{lists}")
}

/// `process can be nginx, sshd (2 more)`.
fn values(profile: &Profile, key: &str) -> String {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for sample in &profile.samples {
        let label = sample.labels.iter().find(|label| profile.text(label.key) == key);
        let text = match label.map(|label| label.value) {
            _ if key == PROCESS_LABEL => profile.process_name(sample).unwrap_or_default().to_owned(),
            Some(LabelValue::Text(text)) => profile.text(text).to_owned(),
            Some(LabelValue::Number(number, _)) => number.to_string(),
            None => continue,
        };
        let sum = sums.entry(text).or_default();
        *sum = sum.saturating_add(sample.values.first().copied().unwrap_or(0));
    }
    if sums.is_empty() {
        return format!("no sample has a label {key}");
    }
    let mut sums: Vec<(String, i64)> = sums.into_iter().collect();
    sums.sort_by(|(name, sum), (other, more)| more.cmp(sum).then(name.cmp(other)));
    let shown: Vec<String> = sums.iter().take(MOST).map(|(name, _)| super::printable(name)).collect();
    let more = sums.len() - shown.len();
    let more = if more > 0 { format!(" ({more} more)") } else { String::new() };
    format!("{key} can be {}{more}", shown.join(", "))
}
